//! Acknowledgements that the server waits for.

use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::extract::{self, ArgError};
use super::socket::Socket;
use super::socket_id::SocketId;
use crate::wire::socket_io::encode::EncodeError;

/// Acknowledgements that one socket may owe at a time.
pub const ACKS_WAITING_MAX: usize = 1024;

/// Nobody waits longer for an acknowledgement.
pub const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an event brought no acknowledgement.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the client did not acknowledge within {0:?}")]
    TimedOut(Duration),
    #[error("the socket disconnected before it acknowledged")]
    Disconnected,
    #[error("the socket owes {ACKS_WAITING_MAX} acknowledgements already")]
    TooMany,
}

/// The arguments of an acknowledgement.
#[derive(Debug, Clone)]
pub struct Reply {
    args: Vec<Box<RawValue>>,
    attachments: Vec<Bytes>,
}

impl Reply {
    pub(crate) fn new(args: &[&RawValue], attachments: &[Bytes]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { args, attachments: attachments.to_vec() }
    }

    pub(super) fn of_parts(args: Vec<Box<RawValue>>, attachments: Vec<Bytes>) -> Self {
        Self { args, attachments }
    }

    pub(super) fn into_parts(self) -> (Vec<Box<RawValue>>, Vec<Bytes>) {
        (self.args, self.attachments)
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The argument at `index`, from 0; a missing one reads as null.
    ///
    /// # Errors
    /// [`ArgError`] when it is not what is asked for.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgError> {
        extract::argument(self.args.get(index).map(|arg| &**arg), index, &self.attachments)
    }
}

/// What a broadcast brought back.
#[derive(Debug, Default)]
pub struct Replies {
    /// Of those that acknowledged in time.
    pub replies: Vec<(Socket, Reply)>,
    /// The others: too late, or gone.
    pub missing: Vec<Socket>,
}

/// What a broadcast brought back from the sockets of all nodes.
#[derive(Debug, Default)]
pub struct AllReplies {
    /// Of those that acknowledged in time.
    pub replies: Vec<(SocketId, Reply)>,
    /// The others: too late, or gone.
    pub missing: Vec<SocketId>,
}

impl From<Replies> for AllReplies {
    fn from(Replies { replies, missing }: Replies) -> Self {
        Self {
            replies: replies.into_iter().map(|(socket, reply)| (socket.id(), reply)).collect(),
            missing: missing.iter().map(Socket::id).collect(),
        }
    }
}

/// The acknowledgements that one socket owes.
#[derive(Default)]
pub struct Waiting(Option<Box<AHashMap<u64, oneshot::Sender<Reply>>>>);

impl Waiting {
    /// `None`: it owes too many.
    pub fn add(&mut self, id: u64) -> Option<oneshot::Receiver<Reply>> {
        let waiting = self.0.get_or_insert_default();
        if waiting.len() >= ACKS_WAITING_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert(id, sender);
        Some(receiver)
    }

    /// One that comes in; late ones change nothing.
    pub fn settle(&mut self, id: u64, reply: impl FnOnce() -> Reply) {
        if let Some(sender) = self.remove(id) {
            // Whoever waited may have given up at this moment.
            let _ = sender.send(reply());
        }
    }

    pub fn remove(&mut self, id: u64) -> Option<oneshot::Sender<Reply>> {
        let waiting = self.0.as_mut()?;
        let sender = waiting.remove(&id);
        if waiting.is_empty() {
            self.0 = None;
        }
        sender
    }

    /// The socket is gone: everybody who waits is told.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

/// Waits for one acknowledgement; dropped, it is not waited for any more.
pub struct PendingAck {
    pub socket: Socket,
    pub id: u64,
    pub receiver: oneshot::Receiver<Reply>,
}

impl PendingAck {
    pub async fn wait(mut self, timeout: Duration, deadline: Instant) -> Result<Reply, AckError> {
        match tokio::time::timeout_at(deadline, &mut self.receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(AckError::Disconnected),
            Err(_) => Err(AckError::TimedOut(timeout)),
        }
    }
}

impl Drop for PendingAck {
    fn drop(&mut self) {
        self.socket.forget_ack(self.id);
    }
}
