//! Namespaces beside the application's own: who has a token is let in, until it ends.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::application::{AUTHENTICATION_FAILED, Application, personal_room};
use super::auth::Claims;
use super::io::{Broadcast, ConnectError, Namespace, Socket};
use super::member::Peer;
use crate::model::names::{RoomId, UserId};

/// Whose a socket is.
pub struct Caller {
    pub user: UserId,
    pub username: Box<str>,
}

/// What a socket of a guarded namespace is given.
struct Guest {
    claims: Claims,
    /// When the claims end, as far as a clock can tell.
    expires_at: Mutex<Option<Instant>>,
}

impl Caller {
    /// `None`: no token let this socket in.
    pub fn of(socket: &Socket) -> Option<Self> {
        if let Some(peer) = Peer::of(socket.clone()) {
            let username = peer.member.username.clone();
            return Some(Self { user: peer.user().clone(), username });
        }
        let guest = socket.get::<Guest>()?;
        let username = guest.claims.username.as_str().into();
        Some(Self { user: guest.claims.user.clone(), username })
    }
}

impl Application {
    /// Has a namespace let in who has a token, with the bounds of the application's own.
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
    }

    fn admit_guest(&self, socket: &Socket, auth: &Value) -> Result<(), ConnectError> {
        let token = auth.get("token").and_then(Value::as_str);
        let claims = token.and_then(|token| self.verify(token));
        let claims = claims.ok_or_else(|| ConnectError::new(AUTHENTICATION_FAILED))?;
        let own_room = personal_room(&claims.user);
        let others = Broadcast::new(Arc::clone(socket.hub())).to(&own_room).count();
        if others >= self.limits.user_sockets_max {
            return Err(ConnectError::new("Too many connections"));
        }
        socket.join_own(&own_room);
        let allowed = claims.clone();
        socket.resume_as(claims.user.as_str(), move |room| {
            room == own_room || RoomId::new(room).is_ok_and(|room| allowed.allow(&room))
        });
        socket.insert(Guest { claims, expires_at: Mutex::default() });
        Ok(())
    }

    fn guest_arrived(&self, socket: &Socket) {
        let Some(guest) = socket.get::<Guest>() else { return };
        let at = self.expiry_of(guest.claims.expires_at_s);
        *guest.expires_at.lock() = at;
        if let Some(at) = at {
            self.expiries.add(at, socket.id());
        }
    }

    fn guest_departed(&self, socket: &Socket) {
        let at = socket.get::<Guest>().and_then(|guest| guest.expires_at.lock().take());
        if let Some(at) = at {
            self.expiries.remove(at, socket.id());
        }
    }
}
