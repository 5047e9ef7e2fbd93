//! One room: a task that owns its members and the order of its messages.
//!
//! Everything that happens in a room passes through its task, so the order in which messages are pushed
//! to the log, become durable and are broadcast is one order, and a newcomer is put exactly between two
//! of them. A message is broadcast when its commit has resolved; many may be in flight. Where other nodes
//! have members too, all of them broadcast it when they read it from the log that they share (`nodes`).

mod nodes;
mod posts;

pub use nodes::user_sayings;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use self::posts::{Pending, first_durable};
use super::error::Refusal;
use super::events::UserRef;
use super::history::{self, MESSAGES_SHOWN};
use super::io::{
    Ack, Broadcast, Draft, Hub, JoinError, Noted, Outgoing, ROW_BYTES_MAX, Recovery, SocketId,
};
use super::leases::NodeLease;
use super::member::{Member, Peer};
use super::metrics::Metrics;
use super::outbound::TOGETHER_MAX;
use super::repeats::{Named, Repeats};
use super::rooms::{RoomHandle, Rooms};
use super::shrink;
use crate::backend::{BackendError, Cache};
use crate::model::names::{RoomId, UserId};
use crate::wire::socket_io::ToArgs;

/// Commands that may wait for a room; then those who send them wait.
pub const COMMANDS_WAITING_MAX: usize = 64;

/// Messages that may wait for their commit; then the room takes no commands.
const PENDING_COUNT_MAX: usize = 1024;
const PENDING_BYTES_MAX: usize = 4 << 20;

/// How long an empty room's task stays.
const IDLE_MAX: Duration = Duration::from_secs(1);

pub enum Command {
    /// Answered when the newcomer has been sent the history and is a member.
    Join {
        peer: Peer,
        done: oneshot::Sender<Result<Change, Refusal>>,
    },
    /// Brings the leaver's handle back, so that the room knows when nobody can send to it any more.
    Leave {
        peer: Peer,
        handle: RoomHandle,
        done: Option<oneshot::Sender<Change>>,
    },
    /// Of a peer that came back into the room, and follows it.
    Rejoin {
        peer: Peer,
    },
    /// Tells the cache once more whether a user is in the room here.
    Recount {
        user: UserId,
        name: Box<str>,
        /// Kept until the cache has answered.
        place: OwnedSemaphorePermit,
    },
    /// Has everybody here be recounted.
    RecountAll,
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

/// Somebody came or left, on its way to where sessions are kept and to the others.
pub struct Change {
    pub noted: Noted,
    /// The place in the log of what the others are told of it, if they are.
    pub told: Option<u64>,
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

pub struct Room {
    id: RoomId,
    key: String,
    cache: Cache,
    metrics: Arc<Metrics>,
    hub: Arc<Hub>,
    /// Whose users are counted; what is sent goes to the namespace's room of the same name.
    members: AHashMap<SocketId, Arc<Member>>,
    /// Sockets a user has in the room.
    users: AHashMap<UserId, usize>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Messages in the list whose commit failed. Their senders were told, so nobody is shown them,
    /// though a restart may find that they were written. No more come once the journal has failed.
    failed: Vec<Box<RawValue>>,
    flushes: Vec<oneshot::Sender<()>>,
    repeats: Arc<Repeats>,
    /// The names of the messages in the list were read.
    knows_names: bool,
    /// Absent where this process is the only node.
    lease: Option<Arc<NodeLease>>,
}

impl Room {
    pub fn new(
        id: RoomId,
        cache: Cache,
        metrics: Arc<Metrics>,
        hub: Arc<Hub>,
        repeats: Arc<Repeats>,
        lease: Option<Arc<NodeLease>>,
    ) -> Self {
        Self {
            key: history::key(&id),
            id,
            cache,
            metrics,
            hub,
            members: AHashMap::new(),
            users: AHashMap::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            failed: Vec::new(),
            flushes: Vec::new(),
            repeats,
            knows_names: false,
            lease,
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
                outcomes = first_durable(&mut self.pending), if !self.pending.is_empty() => {
                    self.settle(outcomes);
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

    /// Obeys a command; when it is a broadcast, with those that wait right behind it.
    async fn obey_all(&mut self, command: Command, commands: &mut mpsc::Receiver<Command>) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match command {
                Command::Relay { packet, except: None, done } => {
                    let sockets;
                    (next, sockets) = self.relay(*packet, done, commands);
                    spend(sockets).await;
                }
                command => self.obey(command).await,
            }
        }
    }

    /// Gives back the command behind the broadcasts, if one was taken, and to how many sockets they went.
    fn relay(
        &self,
        first: Outgoing,
        done: Option<oneshot::Sender<usize>>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> (Option<Command>, usize) {
        let mut bytes = first.wire_bytes();
        let (mut row, mut told) = (vec![first], vec![done]);
        let mut next = None;
        while next.is_none() && bytes < ROW_BYTES_MAX {
            match commands.try_recv() {
                Ok(Command::Relay { packet, except: None, done }) => {
                    bytes += packet.wire_bytes();
                    row.push(*packet);
                    told.push(done);
                }
                Ok(command) => next = Some(command),
                Err(_) => break,
            }
        }
        let packets = row.len();
        let sockets = self.broadcast_row(&Outgoing::joined(row), packets, None);
        for done in told.into_iter().flatten() {
            let _ = done.send(sockets);
        }
        (next, sockets)
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { peer, done } => {
                let joined = self.join(peer).await;
                // The joiner may be gone by now; then its leave follows.
                let _ = done.send(joined);
            }
            Command::Leave { peer, handle, done } => {
                let left = self.leave(&peer);
                drop(handle);
                if let Some(done) = done {
                    // Who asked may be gone.
                    let _ = done.send(left);
                }
            }
            Command::Post(post) => self.push(*post).await,
            Command::Rejoin { peer } => _ = self.count_in(&peer),
            Command::Recount { user, name, place } => self.recount(&user, &name, place),
            Command::RecountAll => self.recount_all(),
            Command::Relay { packet, except, done } => {
                let sockets = self.broadcast(&packet, except);
                if let Some(done) = done {
                    let _ = done.send(sockets);
                }
                spend(sockets).await;
            }
            Command::History { count, done } => {
                let untold = self.pending.len() + self.failed.len();
                let list = history::newest(&self.cache, &self.id, count, untold).await;
                let told = self.told_through();
                let shown = |list: Vec<_>| history::shown(&list, &self.untold(told), count);
                let _ = done.send(list.map(shown));
            }
            Command::Flush { done } if self.pending.is_empty() => {
                let _ = done.send(());
            }
            Command::Flush { done } => self.flushes.push(done),
        }
    }

    /// Sends the history, then makes the peer a member: whatever is broadcast from here on follows it.
    async fn join(&mut self, peer: Peer) -> Result<Change, Refusal> {
        let hub = Arc::clone(&self.hub);
        let noted = if let Some(nodes) = hub.nodes() {
            self.admit_among_nodes(nodes, &peer).await?
        } else {
            let untold = self.pending.len() + self.failed.len();
            let list = history::newest(&self.cache, &self.id, MESSAGES_SHOWN, untold).await;
            self.admit(&peer, &list.map_err(Refusal::NoHistory)?, AHashSet::new())?
        };
        Ok(Change { noted, told: self.count_in(&peer) })
    }

    /// As [`Self::join`], with the log of events halted meanwhile.
    fn admit(
        &self,
        peer: &Peer,
        list: &[Bytes],
        elsewhere: AHashSet<&[u8]>,
    ) -> Result<Noted, Refusal> {
        let mut delivery = self.hub.recovery().map(Recovery::delivery);
        let told = delivery.as_ref().map_or(0, |delivery| delivery.position);
        let mut untold = self.untold(told);
        untold.extend(elsewhere);
        let messages = history::shown(list, &untold, MESSAGES_SHOWN);
        if let Some(history) = history::packet(self.hub.name(), &self.id, &messages) {
            peer.socket.answer(&history);
        }
        let room = self.id.as_str();
        match self.hub.join_within(delivery.as_deref_mut(), &peer.socket, room) {
            Ok(joined) => Ok(joined.unwrap_or_else(Noted::nothing)),
            Err(JoinError::TooManyRooms { rooms_max }) => Err(Refusal::TooManyRooms { rooms_max }),
            Err(JoinError::Disconnected) => Err(Refusal::RoomGone),
            Err(JoinError::AnotherSocket) => Err(Refusal::AccessDenied),
        }
    }

    /// A socket's second member is the same socket, back again: it takes the first one's place. Gives the
    /// place in the log of what the others are told, if they are.
    fn count_in(&mut self, peer: &Peer) -> Option<u64> {
        if self.members.insert(peer.id(), Arc::clone(&peer.member)).is_some() {
            return None;
        }
        let sockets = self.users.entry(peer.user().clone()).or_default();
        *sockets += 1;
        let tells = *sockets == 1 && !self.note_among_nodes(peer);
        if tells { self.tell_of_user("user:joined", peer) } else { None }
    }

    /// The position in the log of events up to which everybody was told.
    fn told_through(&self) -> u64 {
        self.hub.recovery().map_or(0, |recovery| recovery.delivery().position)
    }

    /// Messages in the list that nobody was told of, when the log of events is told up to `told`.
    fn untold(&self, told: u64) -> AHashSet<&[u8]> {
        let pending = self.pending.iter().filter(|pending| pending.position > told);
        let pending = pending.map(|pending| &pending.post.json);
        pending.chain(&self.failed).map(|json| json.get().as_bytes()).collect()
    }

    fn leave(&mut self, peer: &Peer) -> Change {
        let left = self.hub.leave(&peer.socket, self.id.as_str());
        let noted = left.unwrap_or_else(Noted::nothing);
        let tells = self.take_off(peer) && !self.note_among_nodes(peer);
        let told = if tells { self.tell_of_user("user:left", peer) } else { None };
        Change { noted, told }
    }

    /// Whether its user has no socket in the room any more.
    fn take_off(&mut self, peer: &Peer) -> bool {
        // Another one may be back in its place.
        let is_there = |member: &Arc<Member>| Arc::ptr_eq(member, &peer.member);
        if !self.members.get(&peer.id()).is_some_and(is_there) {
            return false;
        }
        self.members.remove(&peer.id());
        shrink::table(&mut self.members);
        let Some(sockets) = self.users.get_mut(peer.user()) else { return false };
        *sockets -= 1;
        let was_last = *sockets == 0;
        if was_last {
            self.users.remove(peer.user());
            shrink::table(&mut self.users);
        }
        was_last
    }

    /// Gives the event's place in the log of this process, where there is one.
    fn tell_of_user(&self, event: &'static str, peer: &Peer) -> Option<u64> {
        let user = UserRef { user_id: peer.user().as_str(), username: Some(&peer.member.username) };
        self.tell(event, &user, Some(peer.id()));
        self.hub.recovery().filter(|_| self.hub.nodes().is_none()).map(Recovery::appended)
    }

    fn tell(&self, event: &'static str, payload: impl ToArgs, except: Option<SocketId>) {
        match Draft::event(self.hub.name(), event, &payload) {
            Ok(event) => {
                let sockets = self.members_except(except).send(&event);
                if self.hub.nodes().is_none() {
                    count_deliveries(&self.metrics, sockets);
                }
            }
            Err(error) => tracing::error!(event, %error, "an event could not be encoded"),
        }
    }

    /// To how many sockets.
    fn broadcast(&self, packet: &Outgoing, except: Option<SocketId>) -> usize {
        self.broadcast_row(packet, 1, except)
    }

    /// Not to who comes back later: it is news or nothing. With a log of events only typing comes here.
    fn broadcast_row(&self, row: &Outgoing, packets: usize, except: Option<SocketId>) -> usize {
        let sockets = self.members_except(except).tell(row);
        if self.hub.nodes().is_some() {
            // Counted where it is sent.
            return sockets;
        }
        count_deliveries(&self.metrics, sockets * packets);
        sockets
    }

    fn members_except(&self, except: Option<SocketId>) -> Broadcast<'_> {
        let members = self.members();
        match except {
            Some(except) => members.except_socket(except),
            None => members,
        }
    }

    fn members(&self) -> Broadcast<'_> {
        Broadcast::new(Arc::clone(&self.hub)).to(self.id.as_str())
    }
}

fn count_deliveries(metrics: &Metrics, sockets: usize) {
    metrics.deliveries.increment(sockets.try_into().unwrap_or(u64::MAX));
}

/// Sockets are written to in the room's task without any of its budget: as many as take about as long as
/// another command count as one, so that a room that is told much lets others have its thread.
async fn spend(sockets: usize) {
    const SOCKETS_A_UNIT: usize = 8;
    for _ in 0..sockets.min(TOGETHER_MAX).div_ceil(SOCKETS_A_UNIT) {
        tokio::task::consume_budget().await;
    }
}
