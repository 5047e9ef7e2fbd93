//! One room: a task that owns its members and the order of its messages.
//!
//! Everything that happens in a room passes through its task, so the order in which messages are pushed
//! to the log, become durable and are broadcast is one order, and a newcomer is put exactly between two
//! of them. A message is broadcast when its commit has resolved; many may be in flight.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::error::Refusal;
use super::fanout::{self, UserRef};
use super::history::{self, MESSAGES_KEPT, MESSAGES_SHOWN};
use super::metrics::Metrics;
use super::rooms::{RoomHandle, Rooms};
use super::roster::{Peer, SocketId};
use super::websocket::Frame;
use crate::backend::{BackendError, Cache};
use crate::model::names::{RoomId, UserId};

/// Commands that may wait for a room; then those who send them wait.
pub const COMMANDS_WAITING_MAX: usize = 64;

/// Messages that may wait for their commit; then the room takes no commands.
const PENDING_COUNT_MAX: usize = 1024;
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Frames for everybody that are there at the same time go out as one, up to this and one frame more:
/// then a member costs a queue slot for all of them, and a write.
const ROW_BYTES_MAX: usize = 16 << 10;

/// How long an empty room's task stays.
const IDLE_MAX: Duration = Duration::from_secs(1);

pub enum Command {
    /// Answered when the newcomer has been sent the history and is a member.
    Join {
        peer: Arc<Peer>,
        done: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Brings the leaver's handle back, so that the room knows when nobody can send to it any more.
    Leave {
        peer: Arc<Peer>,
        handle: RoomHandle,
    },
    Post(Post),
    /// Sends a frame to the members.
    Relay {
        frame: Frame,
        except: Option<SocketId>,
    },
    /// Answered when everything before it was broadcast.
    Flush {
        done: oneshot::Sender<()>,
    },
}

/// A message on its way to the log.
pub struct Post {
    pub sender: Arc<Peer>,
    /// The acknowledgement that the sender waits for.
    pub ack: Option<u64>,
    pub id: String,
    /// What the history keeps and `message:new` carries.
    pub json: Box<RawValue>,
}

struct Pending {
    post: Post,
    offset: String,
    durable: Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>>,
}

#[derive(Serialize)]
struct Stored<'a> {
    ok: bool,
    id: &'a str,
    offset: &'a str,
}

pub struct Room {
    id: RoomId,
    key: String,
    cache: Cache,
    metrics: Arc<Metrics>,
    members: AHashMap<SocketId, Arc<Peer>>,
    /// Sockets a user has in the room.
    users: AHashMap<UserId, usize>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Messages in the list whose commit failed. Their senders were told, so nobody is shown them,
    /// though a restart may find that they were written. No more come once the journal has failed.
    failed: Vec<Box<RawValue>>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Room {
    pub fn new(id: RoomId, cache: Cache, metrics: Arc<Metrics>) -> Self {
        Self {
            key: history::key(&id),
            id,
            cache,
            metrics,
            members: AHashMap::new(),
            users: AHashMap::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            failed: Vec::new(),
            flushes: Vec::new(),
        }
    }

    /// Runs until nobody is in the room and nobody can send to it.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, rooms: Weak<Rooms>) {
        let mut open = true;
        while open || !self.pending.is_empty() {
            let takes_commands = open
                && self.pending.len() < PENDING_COUNT_MAX
                && self.pending_bytes < PENDING_BYTES_MAX;
            let idle = self.members.is_empty() && self.pending.is_empty() && self.failed.is_empty();
            tokio::select! {
                biased;
                outcome = first_durable(&mut self.pending), if !self.pending.is_empty() => {
                    self.settle(outcome).await;
                    // Commits may all be resolved already; the members' writers need the thread too.
                    tokio::task::consume_budget().await;
                }
                command = commands.recv(), if takes_commands => match command {
                    Some(command) => self.obey_all(command, &mut commands).await,
                    None => open = false,
                },
                () = tokio::time::sleep(IDLE_MAX), if idle => {
                    let retired = rooms.upgrade().is_none_or(|rooms| rooms.retire(&self.id, &commands));
                    open = !retired;
                }
            }
        }
    }

    /// Obeys a command; when it is a broadcast, with those that wait behind it.
    async fn obey_all(&mut self, command: Command, commands: &mut mpsc::Receiver<Command>) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match command {
                Command::Relay { frame, except: None } => {
                    let mut row = Row::default();
                    row.add(frame);
                    while next.is_none() && !row.is_full() {
                        match commands.try_recv() {
                            Ok(Command::Relay { frame, except: None }) => row.add(frame),
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.broadcast_row(&row);
                }
                command => self.obey(command).await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { peer, done } => {
                let joined = self.join(peer).await;
                // The joiner may be gone by now; then its leave follows.
                let _ = done.send(joined);
            }
            Command::Leave { peer, handle } => {
                self.leave(&peer);
                drop(handle);
            }
            Command::Post(post) => self.push(post).await,
            Command::Relay { frame, except } => self.broadcast(&frame, except),
            Command::Flush { done } if self.pending.is_empty() => {
                let _ = done.send(());
            }
            Command::Flush { done } => self.flushes.push(done),
        }
    }

    /// Sends the history, then makes the peer a member: whatever is broadcast from here on follows it.
    async fn join(&mut self, peer: Arc<Peer>) -> Result<(), Refusal> {
        // What was not broadcast is among the newest of the list, and is not shown.
        let entries = self.pending.len() + self.failed.len() + MESSAGES_SHOWN;
        let last = i64::try_from(entries).unwrap_or(i64::MAX) - 1;
        let list = self.cache.list_range(&self.key, 0, last).await.map_err(Refusal::NoHistory)?;
        let pending = self.pending.iter().map(|pending| &pending.post.json);
        let untold: AHashSet<&[u8]> =
            pending.chain(&self.failed).map(|json| json.get().as_bytes()).collect();
        peer.outbound.reply(history::frame(&self.id, &list, &untold));

        if self.members.insert(peer.id, Arc::clone(&peer)).is_some() {
            return Ok(());
        }
        let sockets = self.users.entry(peer.user.clone()).or_default();
        *sockets += 1;
        if *sockets == 1 {
            self.tell_of_user("user:joined", &peer);
        }
        Ok(())
    }

    fn leave(&mut self, peer: &Peer) {
        if self.members.remove(&peer.id).is_none() {
            return;
        }
        let Some(sockets) = self.users.get_mut(&peer.user) else { return };
        *sockets -= 1;
        if *sockets == 0 {
            self.users.remove(&peer.user);
            self.tell_of_user("user:left", peer);
        }
    }

    fn tell_of_user(&self, event: &'static str, peer: &Peer) {
        let user = UserRef { user_id: peer.user.as_str(), username: Some(&peer.username) };
        self.broadcast(&fanout::own_event(event, &user), Some(peer.id));
    }

    /// Appends the message to the log. It is broadcast once it is durable.
    async fn push(&mut self, post: Post) {
        let json = Bytes::copy_from_slice(post.json.get().as_bytes());
        match self.cache.push_capped(&self.key, json, MESSAGES_KEPT).await {
            Ok(pushed) => {
                self.pending_bytes += post.json.get().len();
                let offset = pushed.offset.clone();
                self.pending.push_back(Pending {
                    post,
                    offset,
                    durable: Box::pin(pushed.durable()),
                });
            }
            Err(error) => self.refuse(&post, error),
        }
    }

    /// The first pending message's commit resolved, and with it often those of the next: tells everybody,
    /// or its sender that it failed.
    async fn settle(&mut self, outcome: Result<(), BackendError>) {
        let (mut row, mut answers) = (Row::default(), Vec::new());
        let mut settled = Some(outcome);
        while let Some(outcome) = settled.take() {
            let Some(Pending { post, offset, .. }) = self.pending.pop_front() else { break };
            self.pending_bytes -= post.json.get().len();
            match outcome {
                Ok(()) => {
                    row.add(fanout::own_event("message:new", &post.json));
                    self.metrics.messages.increment(1);
                    if let Some(ack) = post.ack {
                        let stored = Stored { ok: true, id: &post.id, offset: &offset };
                        answers.push((Arc::clone(&post.sender), fanout::ack(ack, &stored)));
                    }
                }
                Err(error) => {
                    answers.extend(self.refusal(&post, error));
                    self.failed.push(post.json);
                }
            }
            if !row.is_full() {
                settled = poll_fn(|cx| Poll::Ready(poll_first(&mut self.pending, cx))).await;
            }
        }
        self.broadcast_row(&row);
        for (sender, answer) in answers {
            sender.outbound.push(&answer);
        }
        if self.pending.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    fn refuse(&self, post: &Post, error: BackendError) {
        for (sender, frame) in self.refusal(post, error) {
            sender.outbound.push(&frame);
        }
    }

    fn refusal(&self, post: &Post, error: BackendError) -> Vec<(Arc<Peer>, Frame)> {
        self.metrics.refusals.increment(1);
        let refusal = Refusal::NotStored(error);
        let frames = fanout::refusal(&refusal, post.ack);
        frames.map(|frame| (Arc::clone(&post.sender), frame)).collect()
    }

    fn broadcast_row(&self, row: &Row) {
        if row.frames.is_empty() {
            return;
        }
        let together = Frame::joined(&row.frames);
        for member in self.members.values() {
            member.outbound.push(&together);
        }
        let deliveries = self.members.len() * row.frames.len();
        self.metrics.deliveries.increment(deliveries as u64);
    }

    fn broadcast(&self, frame: &Frame, except: Option<SocketId>) {
        let mut deliveries = 0;
        for (id, member) in &self.members {
            if Some(*id) != except {
                member.outbound.push(frame);
                deliveries += 1;
            }
        }
        self.metrics.deliveries.increment(deliveries);
    }
}

/// Frames for everybody, with nothing between them.
#[derive(Default)]
struct Row {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Row {
    fn add(&mut self, frame: Frame) {
        self.bytes += frame.wire_bytes();
        self.frames.push(frame);
    }

    fn is_full(&self) -> bool {
        self.bytes >= ROW_BYTES_MAX
    }
}

/// What became of the first pending message, if that is known.
fn poll_first(
    pending: &mut VecDeque<Pending>,
    cx: &mut Context<'_>,
) -> Option<Result<(), BackendError>> {
    match pending.front_mut()?.durable.as_mut().poll(cx) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Resolves when the first pending message's commit does. Cancel safe.
async fn first_durable(pending: &mut VecDeque<Pending>) -> Result<(), BackendError> {
    match pending.front_mut() {
        Some(first) => first.durable.as_mut().await,
        None => std::future::pending().await,
    }
}
