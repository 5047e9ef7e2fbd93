//! A room whose members are on several nodes.

use bytes::Bytes;

use super::posts::Durable;
use super::{Post, Room};
use crate::backend::{BackendError, Push};
use crate::gateway::error::Refusal;
use crate::gateway::history::MESSAGES_KEPT;
use crate::gateway::io::{Nodes, Noted, RoomPost};
use crate::gateway::member::Peer;
use crate::gateway::repeats;

impl Room {
    /// Sends the history and makes the peer a member, while nothing is sent to the members here.
    pub(super) async fn admit_among_nodes(
        &mut self,
        nodes: &Nodes,
        peer: &Peer,
    ) -> Result<Noted, Refusal> {
        let halt = nodes.halt().await;
        if let Some(recovery) = self.hub.recovery() {
            recovery.caught_up().await;
        }
        let history = halt.history(&self.key, MESSAGES_KEPT).await.map_err(Refusal::NoHistory)?;
        self.admit(peer, &history.list, history.untold())
    }

    /// Appends a message to the room's list and to the log that the nodes share. It is told when this node
    /// reads it there, as on every other: nothing of it is untold here.
    pub(super) fn append_among_nodes(
        &self,
        nodes: &Nodes,
        post: &Post,
        json: Bytes,
    ) -> Result<(u64, String, Durable), BackendError> {
        let list = Push { key: self.key.clone().into(), value: json, keep: MESSAGES_KEPT };
        let name = post.named.as_ref().map(|named| (named.user.clone(), named.client_id.clone()));
        let posting = nodes.post(
            &self.draft(post),
            RoomPost {
                audience: self.members().audience(),
                list,
                id: post.id.clone(),
                name,
                remembered: repeats::WINDOW,
            },
        )?;
        Ok((0, String::new(), Box::pin(async move { posting.posted().await.map(Some) })))
    }
}
