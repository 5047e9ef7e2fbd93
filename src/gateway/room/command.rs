//! What a room is told.

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::backend::BackendError;
use crate::gateway::error::Refusal;
use crate::gateway::io::{Ack, Noted, Outgoing, SocketId};
use crate::gateway::member::Peer;
use crate::gateway::repeats::Named;
use crate::gateway::rooms::RoomHandle;

pub enum Command {
    /// Answered when the newcomer has been sent the history and is a member.
    Join {
        peer: Peer,
        done: oneshot::Sender<Result<Noted, Refusal>>,
    },
    /// Brings the leaver's handle back, so that the room knows when nobody can send to it any more.
    Leave {
        peer: Peer,
        handle: RoomHandle,
        done: Option<oneshot::Sender<Noted>>,
    },
    /// Of a peer that came back into the room, and follows it.
    Rejoin {
        peer: Peer,
    },
    Post(Box<Post>),
    /// Sends an event to the members; `done` is told to how many.
    Relay {
        packet: Box<Outgoing>,
        except: Option<SocketId>,
        done: Option<oneshot::Sender<usize>>,
    },
    /// The newest messages that were broadcast.
    History {
        count: usize,
        done: oneshot::Sender<Result<Vec<Box<RawValue>>, BackendError>>,
    },
    /// Answered when everything before it was broadcast.
    Flush {
        done: oneshot::Sender<()>,
    },
}

/// A message on its way to the log.
pub struct Post {
    pub sender: Peer,
    /// The acknowledgement that the sender waits for.
    pub ack: Ack,
    pub id: String,
    /// What the history keeps and `message:new` carries.
    pub json: Box<RawValue>,
    /// What its sender calls it.
    pub named: Option<Named>,
}
