//! A connected socket, as its own connection has it: who it is, and the rooms it is in.

use std::sync::Arc;

use super::application::Application;
use super::auth::Claims;
use super::error::Refusal;
use super::rooms::RoomHandle;
use super::roster::Peer;
use crate::model::names::RoomId;

pub struct Socket {
    pub peer: Arc<Peer>,
    claims: Claims,
    rooms: Vec<RoomHandle>,
}

impl Socket {
    pub fn new(peer: Arc<Peer>, claims: Claims) -> Self {
        Self { peer, claims, rooms: Vec::new() }
    }

    /// Joins a room that the claims allow. A second time only sends the history again.
    pub async fn join(&mut self, application: &Application, room: &RoomId) -> Result<(), Refusal> {
        if !self.claims.allow(room) || application.is_socket(room.as_str()) {
            return Err(Refusal::AccessDenied);
        }
        if let Some(at) = self.position(room) {
            return self.rooms[at].join(Arc::clone(&self.peer)).await;
        }
        let rooms_max = application.limits.socket_rooms_max;
        if self.rooms.len() >= rooms_max {
            return Err(Refusal::TooManyRooms { rooms_max });
        }
        let handle = application.rooms.open(room)?;
        handle.join(Arc::clone(&self.peer)).await?;
        self.rooms.push(handle);
        Ok(())
    }

    pub async fn leave(&mut self, room: &RoomId) -> Result<(), Refusal> {
        let at = self.position(room).ok_or_else(|| self.not_in(room))?;
        self.rooms.swap_remove(at).leave(Arc::clone(&self.peer)).await
    }

    /// The room, if the socket is in it.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`] when the claims do not allow it, [`Refusal::NotMember`].
    pub fn room(&self, room: &RoomId) -> Result<&RoomHandle, Refusal> {
        self.rooms.iter().find(|handle| handle.room() == room).ok_or_else(|| self.not_in(room))
    }

    /// The socket is gone: leaves its rooms, then the roster.
    pub async fn depart(self, application: &Application) {
        for handle in self.rooms {
            // A room that ended has forgotten its members.
            let _ = handle.leave(Arc::clone(&self.peer)).await;
        }
        application.depart(&self.peer);
    }

    fn not_in(&self, room: &RoomId) -> Refusal {
        if self.claims.allow(room) {
            Refusal::NotMember { room: room.clone() }
        } else {
            Refusal::AccessDenied
        }
    }

    fn position(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|handle| handle.room() == room)
    }
}
