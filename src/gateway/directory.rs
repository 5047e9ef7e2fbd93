//! What a back end asks the gateway: who is there, who is in a room, what was said there.

use ahash::AHashMap;
use serde_json::value::RawValue;

use super::Gateway;
use super::roster::OFFLINE;
use crate::backend::BackendError;
use crate::model::names::{RoomId, UserId};

/// A user, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    pub user: UserId,
    /// `offline` for a user that is not there.
    pub status: String,
    /// None of them is left while the user's grace runs.
    pub sockets: usize,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub user: UserId,
    /// The display name in the token of one of the sockets.
    pub username: String,
    /// The user's sockets in the room, one at least.
    pub sockets: usize,
}

impl Gateway {
    /// A user's presence, also of one that is not there.
    pub fn presence(&self, user: &UserId) -> Presence {
        self.application.presence_of(user).unwrap_or_else(|| Presence {
            user: user.clone(),
            status: OFFLINE.to_owned(),
            sockets: 0,
        })
    }

    /// The users that are there, in no order.
    pub fn present(&self) -> Vec<Presence> {
        self.application.present()
    }

    /// Who is in a room, in no order; nobody is in a room that does not exist.
    pub fn members(&self, room: &RoomId) -> Vec<Member> {
        let mut members: AHashMap<UserId, Member> = AHashMap::new();
        for peer in self.application.members(room) {
            let member = members.entry(peer.user().clone()).or_insert_with(|| Member {
                user: peer.user().clone(),
                username: peer.member.username.to_string(),
                sockets: 0,
            });
            member.sockets += 1;
        }
        members.into_values().collect()
    }

    /// The newest `count` messages of a room, the newest first: those that everybody in the room has
    /// been told of.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn history(
        &self,
        room: &RoomId,
        count: usize,
    ) -> Result<Vec<Box<RawValue>>, BackendError> {
        self.application.rooms.history(room, count).await
    }

    /// Disconnects a user's sockets, and closes their connections; how many there were. Stock clients
    /// find the reason `io server disconnect` and do not reconnect by themselves.
    pub fn disconnect_user(&self, user: &UserId) -> usize {
        self.application.disconnect_user(user)
    }
}
