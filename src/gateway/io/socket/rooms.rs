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
        let at = kept.own_rooms as usize;
        kept.rooms.insert(at, room.into());
        kept.own_rooms += 1;
    }

    pub(crate) fn note_leave(&self, room: &str) -> bool {
        let mut kept = self.0.kept.lock();
        let Some(at) = kept.rooms.iter().position(|name| &**name == room) else { return false };
        if at < kept.own_rooms as usize {
            kept.own_rooms -= 1;
            kept.rooms.remove(at);
        } else {
            kept.rooms.swap_remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::gateway::io::{Hub, Parser};
    use crate::gateway::metrics::Metrics;
    use crate::gateway::outbound::{Outbound, Transport};

    #[test]
    fn a_room_of_the_gateways_own_counts_as_little_when_it_was_left() {
        let hub = Arc::new(Hub::new("/", 10, Weak::new(), Arc::new(Metrics::new())).unwrap());
        let outbound = Arc::new(Outbound::new(Transport::WebSocket, 1 << 20));
        let socket = Socket::new(hub, outbound, Parser::Text);
        let join = |room: &str| socket.note_join(&room.into(), 2);
        // A middleware before the gateway's may have joined one.
        assert_eq!(join("first"), Ok(true));
        socket.join_own("user:ada");
        assert_eq!(join("second"), Ok(true));
        let too_many = Err(JoinError::TooManyRooms { rooms_max: 2 });
        assert_eq!(join("third"), too_many);
        assert!(socket.note_leave("first"));
        assert!(socket.note_leave("user:ada") && !socket.note_leave("user:ada"));
        assert_eq!(join("third"), Ok(true));
        assert_eq!(join("fourth"), too_many);
        assert!(socket.note_leave("second") && socket.note_leave("third"));
        assert_eq!((socket.rooms().len(), join("user:ada")), (0, Ok(true)));
    }
}
