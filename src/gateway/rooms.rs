//! The rooms that are alive, by name.
//!
//! A room is alive while it has members or something to do. Whoever wants to send to it holds a
//! [`RoomHandle`]; handles are only given under the registry's lock, so a room that finds there that its
//! own handle is the last one can go, and no two tasks ever order the messages of one room.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::Refusal;
use super::history;
use super::io::{Ack, Hub, Outgoing, Socket, SocketId};
use super::leases::NodeLease;
use super::member::Peer;
use super::metrics::Metrics;
use super::repeats::Repeats;
use super::room::{COMMANDS_WAITING_MAX, Change, Command, Post, Room};
use super::shrink;
use crate::backend::{BackendError, Cache};
use crate::model::names::{RoomId, UserId};

pub struct Rooms {
    alive: Mutex<AHashMap<RoomId, RoomHandle>>,
    rooms_max: usize,
    cache: Cache,
    metrics: Arc<Metrics>,
    hub: Arc<Hub>,
    repeats: Arc<Repeats>,
    /// Absent where this process is the only node.
    lease: Option<Arc<NodeLease>>,
}

/// Sends to one room. Commands are obeyed in the order in which they were sent; when the room is
/// behind, the sender waits.
#[derive(Clone)]
pub struct RoomHandle(Arc<Address>);

struct Address {
    room: RoomId,
    commands: mpsc::Sender<Command>,
}

impl Rooms {
    pub fn new(
        rooms_max: usize,
        cache: Cache,
        metrics: Arc<Metrics>,
        hub: Arc<Hub>,
        lease: Option<Arc<NodeLease>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            alive: Mutex::default(),
            rooms_max,
            cache,
            metrics,
            hub,
            repeats: Arc::default(),
            lease,
        })
    }

    /// The room, started if it is not alive.
    ///
    /// # Errors
    /// [`Refusal::RoomsExhausted`].
    pub fn open(self: &Arc<Self>, room: &RoomId) -> Result<RoomHandle, Refusal> {
        let mut alive = self.alive.lock();
        if let Some(handle) = alive.get(room).filter(|handle| !handle.0.commands.is_closed()) {
            return Ok(handle.clone());
        }
        if alive.len() >= self.rooms_max {
            return Err(Refusal::RoomsExhausted);
        }
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (metrics, hub) = (Arc::clone(&self.metrics), Arc::clone(&self.hub));
        let repeats = Arc::clone(&self.repeats);
        let lease = self.lease.clone();
        let task = Room::new(room.clone(), self.cache.clone(), metrics, hub, repeats, lease);
        tokio::spawn(task.run(commands, Arc::downgrade(self)));
        let handle = RoomHandle(Arc::new(Address { room: room.clone(), commands: sender }));
        alive.insert(room.clone(), handle.clone());
        Ok(handle)
    }

    /// The room, if it is alive.
    pub fn find(&self, room: &RoomId) -> Option<RoomHandle> {
        self.alive.lock().get(room).cloned()
    }

    /// The newest `count` messages that were broadcast, the newest first.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn history(
        &self,
        room: &RoomId,
        count: usize,
    ) -> Result<Vec<Box<RawValue>>, BackendError> {
        if let Some(handle) = self.find(room) {
            let (done, history) = oneshot::channel();
            // A room that ended in between has broadcast everything.
            if handle.send(Command::History { count, done }).await.is_ok()
                && let Ok(history) = history.await
            {
                return history;
            }
        }
        let list = history::newest(&self.cache, room, count, 0).await?;
        Ok(history::shown(&list, &AHashSet::new(), count))
    }

    /// Has the cache be told once more whether a user is in a room here; `place` is kept until it was.
    ///
    /// # Errors
    /// There is no place for the room now; with what was given.
    pub async fn recount(
        self: &Arc<Self>,
        room: &RoomId,
        user: UserId,
        name: Box<str>,
        place: OwnedSemaphorePermit,
    ) -> Result<(), (UserId, Box<str>)> {
        // Also of a room that nobody is in: the order of what is told of it is its task's.
        let Ok(handle) = self.open(room) else { return Err((user, name)) };
        let again = Command::Recount { user: user.clone(), name: name.clone(), place };
        handle.send(again).await.map_err(|_| (user, name))
    }

    /// Has the cache be told once more who is in the rooms here, some at a time.
    pub async fn recount_all(&self) {
        let handles: Vec<RoomHandle> = self.alive.lock().values().cloned().collect();
        for handle in handles {
            // Of a room that ended there is nothing to tell.
            let _ = handle.send(Command::RecountAll).await;
        }
    }

    /// Takes an empty room off. False: somebody can still send to it, or has.
    pub fn retire(&self, room: &RoomId, commands: &mpsc::Receiver<Command>) -> bool {
        let mut alive = self.alive.lock();
        let unused = alive.get(room).is_none_or(|handle| Arc::strong_count(&handle.0) == 1);
        let retires = unused && commands.is_empty();
        if retires {
            alive.remove(room);
            shrink::table(&mut alive);
        }
        retires
    }

    /// Waits until everything that was sent to the rooms before was broadcast.
    pub async fn flush(&self) {
        let handles: Vec<RoomHandle> = self.alive.lock().values().cloned().collect();
        for handle in handles {
            let (done, flushed) = oneshot::channel();
            if handle.send(Command::Flush { done }).await.is_ok() {
                // A room that ended has nothing left to broadcast.
                let _ = flushed.await;
            }
        }
    }
}

impl RoomHandle {
    pub fn room(&self) -> &RoomId {
        &self.0.room
    }

    /// Makes the peer a member; when this returns it has been sent `room:history` and comes back into the room
    /// after a crash. The others have been told, unless there are other nodes: then they are when the cache that
    /// these share has noted it.
    ///
    /// # Errors
    /// [`Refusal::NoHistory`], [`Refusal::RoomGone`].
    pub async fn join(&self, peer: Peer) -> Result<(), Refusal> {
        let (done, joined) = oneshot::channel();
        let socket = peer.socket.clone();
        self.send(Command::Join { peer, done }).await?;
        settled(&socket, joined.await.map_err(|_| Refusal::RoomGone)??).await;
        Ok(())
    }

    /// Returns when the peer is out of the room, also after a crash. For when the others are told see
    /// [`Self::join`].
    ///
    /// # Errors
    /// [`Refusal::RoomGone`].
    pub async fn leave(self, peer: Peer) -> Result<(), Refusal> {
        let (done, left) = oneshot::channel();
        let socket = peer.socket.clone();
        self.send_leave(peer, Some(done)).await?;
        settled(&socket, left.await.map_err(|_| Refusal::RoomGone)?).await;
        Ok(())
    }

    /// The peer's socket is gone; nobody waits for what it leaves.
    ///
    /// # Errors
    /// [`Refusal::RoomGone`].
    pub async fn depart(self, peer: Peer) -> Result<(), Refusal> {
        self.send_leave(peer, None).await
    }

    async fn send_leave(
        self,
        peer: Peer,
        done: Option<oneshot::Sender<Change>>,
    ) -> Result<(), Refusal> {
        let commands = self.0.commands.clone();
        let leave = Command::Leave { peer, handle: self, done };
        commands.send(leave).await.map_err(|_| Refusal::RoomGone)
    }

    /// Hands a message over; the sender's acknowledgement comes when it is durable.
    ///
    /// # Errors
    /// [`Refusal::RoomGone`], and the acknowledgement, which is still owed.
    pub async fn post(&self, post: Post) -> Result<(), (Refusal, Ack)> {
        match self.0.commands.send(Command::Post(Box::new(post))).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(Command::Post(post))) => Err((Refusal::RoomGone, post.ack)),
            // A command comes back as it was sent.
            Err(_) => Ok(()),
        }
    }

    /// Sends an event to the members, in order with the messages that were broadcast before; `done` is
    /// told to how many. It is not sent to members that come back later.
    ///
    /// # Errors
    /// [`Refusal::RoomGone`].
    pub async fn relay(
        &self,
        packet: Outgoing,
        except: Option<SocketId>,
        done: Option<oneshot::Sender<usize>>,
    ) -> Result<(), Refusal> {
        self.send(Command::Relay { packet: Box::new(packet), except, done }).await
    }

    /// Counts a peer again that came back, and is in the room already.
    ///
    /// # Errors
    /// [`Refusal::RoomGone`].
    pub async fn rejoin(&self, peer: Peer) -> Result<(), Refusal> {
        self.send(Command::Rejoin { peer }).await
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.0.commands.send(command).await.map_err(|_| Refusal::RoomGone)
    }
}

/// Waits until a session's change is durable, and then until the others were told, or somebody who comes
/// after the acknowledgement would be told as well. When it fails the journal has, and no more events are
/// sent that the session as it was before would make a client miss.
async fn settled(socket: &Socket, Change { noted, told }: Change) {
    if let Err(error) = noted.durable().await {
        tracing::debug!(%error, "a session was not kept");
    }
    if let (Some(recovery), Some(told)) = (socket.hub().recovery(), told) {
        recovery.sent_through(told).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Weak;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::gateway::io::{Broadcast, Draft, Keeping, Noted, Parser, Store};
    use crate::gateway::options;
    use crate::gateway::outbound::{Outbound, Transport};
    use crate::model::clock::SystemClock;

    #[tokio::test]
    async fn a_join_is_settled_once_the_others_were_told() {
        let hub = Arc::new(Hub::new("/", 10, Weak::new(), Arc::new(Metrics::new())).unwrap());
        hub.recover(&Keeping::On(Store {
            options: options::Recovery::default(),
            cache: None,
            shared: None,
            clock: SystemClock::shared(),
            queue_bytes_max: 1 << 20,
        }));
        let outbound = Arc::new(Outbound::new(Transport::WebSocket, 1 << 20));
        let socket = Socket::new(Arc::clone(&hub), outbound, Parser::Text);
        let recovery = hub.recovery().unwrap();
        let draft = Draft::event(hub.name(), "user:joined", &()).unwrap();
        // Nothing is told before something is awaited.
        Broadcast::new(Arc::clone(&hub)).send(&draft);
        let change = Change { noted: Noted::nothing(), told: Some(recovery.appended()) };
        let mut settling = pin!(settled(&socket, change));
        let mut context = Context::from_waker(Waker::noop());
        assert!(settling.as_mut().poll(&mut context).is_pending());
        recovery.caught_up().await;
        assert_eq!(settling.as_mut().poll(&mut context), Poll::Ready(()));
    }
}
