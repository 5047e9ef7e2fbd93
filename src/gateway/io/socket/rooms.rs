//! The rooms that a socket notes for itself. Who is in a room the hub knows.

use std::sync::Arc;

use super::Socket;
use crate::gateway::io::JoinError;

impl Socket {
    /// The rooms that it is in; after it left, those that it was in at the end.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.0.kept.lock().rooms.to_vec()
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.0.kept.lock().rooms.iter().any(|name| &**name == room)
    }

    /// Notes a room; false: it was noted already.
    pub(crate) fn note_join(&self, room: &Arc<str>, rooms_max: usize) -> Result<bool, JoinError> {
        let mut kept = self.0.kept.lock();
        if kept.rooms.iter().any(|name| name == room) {
            return Ok(false);
        }
        if kept.rooms.len() - kept.own_rooms as usize >= rooms_max {
            return Err(JoinError::TooManyRooms { rooms_max });
        }
        kept.rooms.push(Arc::clone(room));
        Ok(true)
    }

    /// In a middleware: has the socket join a room that does not count for its bound.
    pub(crate) fn join_own(&self, room: &str) {
        let mut kept = self.0.kept.lock();
        kept.rooms.push(room.into());
        kept.own_rooms += 1;
    }

    pub(crate) fn note_leave(&self, room: &str) -> bool {
        let mut kept = self.0.kept.lock();
        let at = kept.rooms.iter().position(|name| &**name == room);
        at.map(|at| kept.rooms.swap_remove(at)).is_some()
    }
}
