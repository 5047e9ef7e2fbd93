//! Namespaces beside the application's own: who has a token is let in, until it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use serde_json::Value;

use super::application::{AUTHENTICATION_FAILED, Application, personal_room};
use super::error::Refusal;
use super::events;
use super::io::{ConnectError, Namespace, Socket};
use super::member::Peer;
use crate::model::names::{RoomId, UserId};

/// Whose a socket is.
pub struct Caller {
    pub user: UserId,
    pub username: Box<str>,
}

/// What a socket of a guarded namespace is given. It is counted as its user's until it departs.
struct Guest {
    user: UserId,
    username: Box<str>,
    /// When its token ends, in seconds since the Unix epoch, as its `exp`.
    expires_at_s: AtomicU64,
    application: Weak<Application>,
    has_departed: AtomicBool,
}

impl Guest {
    fn depart(&self) {
        if let Some(application) = self.application.upgrade()
            && !self.has_departed.swap(true, Ordering::AcqRel)
        {
            application.roster.lock().depart_as_guest(&self.user);
        }
    }
}

impl Drop for Guest {
    /// One that was counted, but whose socket was not let in after all.
    fn drop(&mut self) {
        self.depart();
    }
}

impl Caller {
    /// `None`: no token let this socket in.
    pub fn of(socket: &Socket) -> Option<Self> {
        if let Some(peer) = Peer::of(socket.clone()) {
            let username = peer.member.username.clone();
            return Some(Self { user: peer.user().clone(), username });
        }
        let guest = socket.get::<Guest>()?;
        Some(Self { user: guest.user.clone(), username: guest.username.clone() })
    }
}

impl Application {
    /// Has a namespace let in who has a token, with the bounds of the application's own, and know
    /// `auth:refresh`.
    pub fn guard(self: &Arc<Self>, namespace: &Namespace) {
        let (admitting, arriving, departing) = (self.clone(), self.clone(), self.clone());
        self.watch(namespace.hub());
        namespace
            .middleware(move |socket: Socket, auth: Value| {
                std::future::ready(admitting.admit_guest(&socket, &auth))
            })
            .on_connect(move |socket| {
                arriving.guest_arrived(&socket);
                std::future::ready(())
            })
            .on_disconnect(move |socket, _| {
                departing.guest_departed(&socket);
                std::future::ready(())
            });
        events::register_refresh(namespace, self);
    }

    fn admit_guest(self: &Arc<Self>, socket: &Socket, auth: &Value) -> Result<(), ConnectError> {
        let token = auth.get("token").and_then(Value::as_str);
        let claims = token.and_then(|token| self.verify(token));
        let claims = claims.ok_or_else(|| ConnectError::new(AUTHENTICATION_FAILED))?;
        let sockets_max = self.sockets_max(socket, auth, &claims);
        if !self.roster.lock().arrive_as_guest(&claims.user, sockets_max) {
            return Err(ConnectError::new("Too many connections"));
        }
        socket.insert(Guest {
            user: claims.user.clone(),
            username: claims.username.as_str().into(),
            expires_at_s: AtomicU64::new(claims.expires_at_s),
            application: Arc::downgrade(self),
            has_departed: AtomicBool::new(false),
        });
        let own_room = personal_room(&claims.user);
        socket.join_own(&own_room);
        let user = claims.user.clone();
        socket.resume_as(user.as_str(), move |room| {
            room == own_room || RoomId::new(room).is_ok_and(|room| claims.allow(&room))
        });
        Ok(())
    }

    fn guest_arrived(&self, socket: &Socket) {
        let Some(guest) = socket.get::<Guest>() else { return };
        self.expiries.add(guest.expires_at_s.load(Ordering::Acquire), socket.id());
    }

    /// Has a socket stay until another token of its user ends; the second at which that is.
    ///
    /// # Errors
    /// As [`Self::verify_of`].
    pub fn refresh_guest(&self, socket: &Socket, token: &str) -> Result<u64, Refusal> {
        let guest = socket.get::<Guest>().ok_or(Refusal::AccessDenied)?;
        let claims = self.verify_of(&guest.user, token)?;
        let before_s = guest.expires_at_s.swap(claims.expires_at_s, Ordering::AcqRel);
        self.expiries.replace(before_s, claims.expires_at_s, socket.id());
        Ok(claims.expires_at_s)
    }

    fn guest_departed(&self, socket: &Socket) {
        let Some(guest) = socket.get::<Guest>() else { return };
        guest.depart();
        self.expiries.remove(guest.expires_at_s.load(Ordering::Acquire), socket.id());
    }
}
