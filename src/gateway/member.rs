//! A socket of the application: whose it is, and the rooms it is in.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::application::{Application, personal_room};
use super::auth::{Claims, Permit};
use super::channels::Source;
use super::error::Refusal;
use super::events::{is_personal, refuse};
use super::io::{Ack, Socket, SocketId};
use super::rooms::RoomHandle;
use crate::model::names::{RoomId, UserId};

/// What the application keeps beside each of its sockets.
pub struct Member {
    pub user: UserId,
    pub username: Box<str>,
    application: Weak<Application>,
    state: Mutex<State>,
}

struct State {
    permit: Permit,
    rooms: Vec<RoomHandle>,
    has_departed: bool,
}

/// A socket and who it belongs to.
#[derive(Clone)]
pub struct Peer {
    pub socket: Socket,
    pub member: Arc<Member>,
}

impl Member {
    pub fn new(application: &Arc<Application>, claims: Claims) -> Self {
        Self {
            application: Arc::downgrade(application),
            state: Mutex::new(State {
                permit: claims.permit(),
                rooms: Vec::new(),
                has_departed: false,
            }),
            user: claims.user,
            username: claims.username.into(),
        }
    }

    /// True the first time: then the user has a socket less.
    pub fn begin_to_depart(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().has_departed, true)
    }

    /// When the claims end, in seconds since the Unix epoch.
    pub fn expires_at_s(&self) -> u64 {
        self.state.lock().permit.expires_at_s
    }

    /// Whether it may come back into a room that it was in: its own, or one that its claims allow.
    pub fn may_return_to(&self, room: &str) -> bool {
        room == personal_room(&self.user) || RoomId::new(room).is_ok_and(|room| self.allow(&room))
    }

    fn allow(&self, room: &RoomId) -> bool {
        self.state.lock().permit.allow(room)
    }
}

impl Drop for Member {
    /// A member that was counted, but whose socket was not let in after all.
    fn drop(&mut self) {
        if self.begin_to_depart()
            && let Some(application) = self.application.upgrade()
        {
            application.vacate(&self.user);
        }
    }
}

impl Peer {
    /// `None`: the application did not let this socket in.
    pub fn of(socket: Socket) -> Option<Self> {
        let member = socket.get()?;
        Some(Self { socket, member })
    }

    pub fn id(&self) -> SocketId {
        self.socket.id()
    }

    pub fn user(&self) -> &UserId {
        &self.member.user
    }

    /// Joins a room that the claims allow; none is named like a socket, connected or not. A second time only sends the history again.
    pub async fn join(&self, application: &Application, room: &RoomId) -> Result<(), Refusal> {
        if !self.member.allow(room) || SocketId::parse(room.as_str()).is_some() {
            return Err(Refusal::AccessDenied);
        }
        if let Some(handle) = self.find(room) {
            return handle.join(self.clone()).await;
        }
        let rooms_max = application.limits.socket_rooms_max;
        if self.member.state.lock().rooms.len() >= rooms_max {
            return Err(Refusal::TooManyRooms { rooms_max });
        }
        let handle = application.rooms.open(room)?;
        let Some(recovery) = self.socket.hub().recovery() else {
            handle.join(self.clone()).await?;
            self.member.state.lock().rooms.push(handle);
            return Ok(());
        };
        // It is told nothing of the room that it would not be told after a crash.
        recovery.will_join(&self.socket, room.as_str()).await.map_err(Refusal::NotStored)?;
        let joined = handle.join(self.clone()).await;
        if joined.is_err() {
            recovery.will_not_join(&self.socket, room.as_str());
        }
        joined?;
        self.member.state.lock().rooms.push(handle);
        Ok(())
    }

    /// It came back, into the rooms that it was in.
    pub async fn rejoin(&self, application: &Application) {
        for name in self.socket.rooms() {
            let Some(room) = RoomId::new(&name).ok().filter(|_| !is_personal(&name)) else {
                continue;
            };
            match application.rooms.open(&room) {
                Ok(handle) => {
                    // A room whose task ended is opened again by the next event.
                    let _ = handle.rejoin(self.clone()).await;
                    self.member.state.lock().rooms.push(handle);
                }
                Err(refusal) => {
                    self.socket.leave(&name);
                    let ack = Ack::new(self.socket.clone(), None);
                    refuse(&application.metrics, &self.socket, &refusal, ack);
                }
            }
        }
    }

    pub async fn leave(&self, room: &RoomId) -> Result<(), Refusal> {
        let handle = {
            let mut state = self.member.state.lock();
            let at = state.rooms.iter().position(|handle| handle.room() == room);
            at.map(|at| state.rooms.swap_remove(at))
        };
        handle.ok_or_else(|| self.not_in(room))?.leave(self.clone()).await
    }

    /// The room, if the socket is in it.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`] when the claims do not allow it, [`Refusal::NotMember`].
    pub fn room(&self, room: &RoomId) -> Result<RoomHandle, Refusal> {
        self.find(room).ok_or_else(|| self.not_in(room))
    }

    /// Puts other claims in the place of its own, and leaves the rooms that they do not allow; the second
    /// at which the claims before would have ended.
    pub async fn renew(&self, claims: Claims) -> u64 {
        let (before, forbidden) = {
            let mut state = self.member.state.lock();
            let before = std::mem::replace(&mut state.permit, claims.permit());
            let State { permit, rooms, .. } = &mut *state;
            let forbidden = rooms.extract_if(.., |handle| !permit.allow(handle.room()));
            (before, forbidden.collect::<Vec<RoomHandle>>())
        };
        for handle in forbidden {
            // A room that ended has forgotten its members.
            let _ = handle.leave(self.clone()).await;
        }
        before.expires_at_s
    }

    /// The socket is gone: leaves its rooms.
    pub async fn leave_all(&self) {
        let rooms = std::mem::take(&mut self.member.state.lock().rooms);
        for handle in rooms {
            // A room that ended has forgotten its members.
            let _ = handle.depart(self.clone()).await;
        }
    }

    /// Its message was told the room: tells the channel.
    pub fn publish(&self, room: &RoomId, message: &RawValue) {
        if let Some(application) = self.member.application.upgrade() {
            application.channels.message(Source::Here, room, message);
        }
    }

    fn find(&self, room: &RoomId) -> Option<RoomHandle> {
        self.member.state.lock().rooms.iter().find(|handle| handle.room() == room).cloned()
    }

    fn not_in(&self, room: &RoomId) -> Refusal {
        if self.member.allow(room) {
            Refusal::NotMember { room: room.clone() }
        } else {
            Refusal::AccessDenied
        }
    }
}
