//! A room whose members are on several nodes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::posts::Durable;
use super::{Post, Room};
use crate::backend::{BackendError, Push, Saying};
use crate::gateway::application::personal_room;
use crate::gateway::error::Refusal;
use crate::gateway::events::UserRef;
use crate::gateway::history::MESSAGES_KEPT;
use crate::gateway::io::{Broadcast, Draft, Hub, Nodes, Noted, RoomPost, SocketId};
use crate::gateway::member::Peer;
use crate::gateway::repeats;
use crate::model::names::{RoomId, UserId};

/// That a user came into a room or left it, to those in it on all nodes: without this socket, or without the
/// user's.
pub fn user_sayings(
    hub: &Arc<Hub>,
    room: &RoomId,
    event: &'static str,
    user: &UserId,
    name: &str,
    except: Option<SocketId>,
) -> Vec<Saying> {
    let payload = UserRef { user_id: user.as_str(), username: Some(name) };
    let others = Broadcast::new(Arc::clone(hub)).to(room.as_str());
    let own = personal_room(user);
    let others = match except {
        Some(socket) => others.except_socket(socket),
        None => others.except(&own),
    };
    match Draft::event(hub.name(), event, &&payload) {
        Ok(event) => others.saying(&event).into_iter().collect(),
        Err(error) => {
            tracing::error!(event, %error, "an event could not be encoded");
            Vec::new()
        }
    }
}

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

    /// Notes that a user's first socket here came into the room, or its last one left: then the cache tells the
    /// others, if there is none on any other node. False: there are no other nodes.
    pub(super) fn note_among_nodes(&self, peer: &Peer) -> bool {
        self.note_user(peer.user(), &peer.member.username, Some(peer.id()), None)
    }

    fn note_user(
        &self,
        user: &UserId,
        name: &str,
        except: Option<SocketId>,
        place: Option<OwnedSemaphorePermit>,
    ) -> bool {
        let Some(lease) = &self.lease else { return false };
        let says = |event| user_sayings(&self.hub, &self.id, event, user, name, except);
        match self.users.contains_key(user) {
            true => lease.attend(&self.id, user, name, &says("user:joined"), place),
            false => lease.part(&self.id, user, name, &says("user:left"), place),
        }
        true
    }

    pub(super) fn recount(&self, user: &UserId, name: &str, place: OwnedSemaphorePermit) {
        self.note_user(user, name, None, Some(place));
    }

    pub(super) fn recount_all(&self) {
        let Some(lease) = &self.lease else { return };
        lease
            .doubt(&self.id, self.members.values().map(|member| (&member.user, &*member.username)));
    }
}
