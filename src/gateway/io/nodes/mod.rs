//! Many nodes on one cache: what is sent to a namespace reaches its sockets on all of them.
//!
//! Owns: the namespace's log that all nodes append to and read (`frame` is an entry's form), its channel
//! for what is news or nothing, and for what nodes ask each other (`asking`, `answering`); what Socket.IO's Redis emitter publishes (`emitter`). May import: `backend`, and of the library what a broadcast is.
//!
//! What always holds: an event of the log is sent by every node when that reads it, by the one that
//! appended it too; so all have one order, and none hears its own echo; and an event's offset is the
//! same on all nodes: the log's epoch, and how many entries it had by then. A node that was left behind by
//! what the log keeps closes its sockets' transports, which come back and are told that they are new.

mod answering;
mod asking;
mod emitter;
mod frame;
mod remote;
mod replied;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;
use memchr::memmem;
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};
use tokio::time::sleep;

pub use self::asking::{Gathered, Items, Question};
pub use self::remote::RemoteSocket;
pub use self::replied::add as add_replies;

use self::asking::Asking;
use self::frame::{Frame, Op};
use super::broadcast::Broadcast;
use super::hub::Hub;
use super::outgoing::{Draft, Outgoing};
use super::recovery::{Audience, Pid, Recent, Recovery, SharedSessions};
use crate::backend::{
    BackendError, Cache, LogEntry, Place, Post, Posting, Push, Read, Saying, Sent, SharedLog,
    Subscription,
};
use crate::gateway::close_reason::CloseReason;
use crate::model::names::UserId;

/// Between two attempts to listen to the channel.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);

/// What precedes the payload in a room's message as it is sent.
const MESSAGE_EVENT: &[u8] = b"[\"message:new\",";

/// The other nodes of one namespace.
pub struct Nodes {
    cache: Cache,
    log: SharedLog,
    channel: String,
    /// Names this node to the others.
    node: Arc<str>,
    namespace: Box<str>,
    /// Through where the log was sent to the sockets here. Held while that goes on.
    sent_through: Arc<Mutex<Place>>,
    asking: Asking,
    leaving: Leaving,
}

/// How often this node had sockets leave a room, and how much of that was done here.
#[derive(Default)]
struct Leaving {
    said: AtomicU64,
    done: AtomicU64,
}

/// A message that a room keeps.
pub struct RoomPost {
    pub audience: Audience,
    pub list: Push,
    pub id: String,
    /// Who sent it, and what it called it.
    pub name: Option<(UserId, Box<str>)>,
    /// How long its name is known.
    pub remembered: Duration,
}

/// The log is not sent to the sockets here while this lives.
pub struct Halt<'a> {
    nodes: &'a Nodes,
    through: MutexGuard<'a, Place>,
}

/// A room's list, with those of it that its members are still to be sent.
pub struct History {
    pub list: Vec<Bytes>,
    entries: Vec<Bytes>,
}

impl Nodes {
    /// `None`: there is one node.
    pub fn of(cache: &Cache, namespace: &str) -> Option<Self> {
        let log = cache.shared_log(namespace)?;
        let channel = format!("leveret:nodes:{namespace}");
        let node = uuid::Uuid::new_v4().simple().to_string().into();
        let (cache, namespace) = (cache.clone(), namespace.into());
        let (sent_through, asking, leaving) = Default::default();
        Some(Self { cache, log, channel, node, namespace, sent_through, asking, leaving })
    }

    /// The sessions that all nodes know.
    pub fn sessions(&self, window: Duration) -> Option<SharedSessions> {
        let kind = format!("session:{}", self.namespace);
        let hashes = self.cache.owned_hashes(&kind, &self.node)?;
        Some(SharedSessions::new(hashes, Arc::clone(&self.node), window))
    }

    /// That this node has a session now.
    pub fn taken_saying(&self, pid: Pid, takes: u64) -> Saying {
        let op = Op::Taken { pid: pid.to_string(), node: self.node.to_string(), takes };
        let frame = Frame { op, audience: Audience::default(), packet: Default::default() };
        self.log.saying(frame.encode())
    }

    /// Starts to listen. Needs a Tokio runtime.
    pub fn start(&self, hub: &Arc<Hub>) {
        // Who joins before the log is read from somewhere waits for that.
        let Ok(through) = Arc::clone(&self.sent_through).try_lock_owned() else { return };
        tokio::spawn(follow_log(Arc::downgrade(hub), self.log.clone(), through));
        let (cache, channel) = (self.cache.clone(), self.channel.clone());
        tokio::spawn(follow_channel(Arc::downgrade(hub), cache, channel));
        let namespace = hub.name().as_str().to_owned();
        let (cache, node) = (self.cache.clone(), Arc::clone(&self.node));
        let inbox = answering::follow_inbox(Arc::downgrade(hub), cache, node, namespace.clone());
        tokio::spawn(inbox);
        tokio::spawn(emitter::follow(Arc::downgrade(hub), self.cache.clone(), namespace));
    }

    /// Sends an event to the sockets of all nodes. False: it is not sent, as too much waits.
    pub fn send(
        &self,
        audience: Audience,
        draft: &Draft,
        is_logged: bool,
        is_volatile: bool,
    ) -> bool {
        let frame =
            Frame { op: Op::Event { is_logged, is_volatile }, audience, packet: draft.parts() };
        let sent = match is_logged {
            true => self.log.send(frame.encode()).map(drop),
            false => self.log.publish(&self.channel, frame.encode()).map(drop),
        };
        sent.inspect_err(|error| tracing::error!(%error, "an event was not sent")).is_ok()
    }

    /// As [`Self::send`], to be said beside a change of the cache.
    pub fn saying(
        &self,
        audience: Audience,
        draft: &Draft,
        is_logged: bool,
        is_volatile: bool,
    ) -> Saying {
        let op = Op::Event { is_logged, is_volatile };
        let payload = Frame { op, audience, packet: draft.parts() }.encode();
        match is_logged {
            true => self.log.saying(payload),
            false => Saying::Publish { channel: self.channel.clone(), payload },
        }
    }

    /// Names this node to the others.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Sends an event to the sockets of all nodes and waits until the log has it. False: nobody gets it, or
    /// whether anybody does is unknown.
    pub async fn send_durably(&self, audience: Audience, draft: &Draft) -> bool {
        let op = Op::Event { is_logged: true, is_volatile: false };
        let frame = Frame { op, audience, packet: draft.parts() };
        let sent = match self.log.send(frame.encode()) {
            Ok(sent) => sent.durable().await,
            Err(error) => Err(error),
        };
        sent.inspect_err(|error| tracing::error!(%error, "an event was not sent")).is_ok()
    }

    /// Sends packets that are news or nothing. False: they are not sent, as too much waits.
    pub fn tell(&self, audience: &Audience, row: &Outgoing) -> bool {
        row.singles().iter().all(|packet| {
            let op = Op::Event { is_logged: false, is_volatile: false };
            let frame = Frame { op, audience: audience.clone(), packet: packet.parts() };
            let told = self.log.publish(&self.channel, frame.encode());
            told.inspect_err(|error| tracing::error!(%error, "an event was not sent")).is_ok()
        })
    }

    /// Ends the sessions of sockets, on whichever node they are.
    ///
    /// # Errors
    /// Too much waits to be sent.
    pub fn close(&self, audience: Audience) -> Result<Sent, BackendError> {
        let frame = Frame { op: Op::Close, audience, packet: Default::default() };
        self.log.send(frame.encode())
    }

    /// Takes sockets off the namespace, on whichever node they are.
    pub fn disconnect(&self, audience: Audience) {
        let _ = self.have_done(Op::Disconnect, audience);
    }

    /// Has sockets of other nodes join a room, and those of this one that are still to leave it before.
    pub fn join(&self, audience: Audience, room: &str) {
        let Leaving { said, done } = &self.leaving;
        let is_leaving = said.load(Ordering::Acquire) > done.load(Ordering::Acquire);
        let node = if is_leaving { String::new() } else { self.node.to_string() };
        let room = room.to_owned();
        let _ = self.have_done(Op::Join { room, node }, audience);
    }

    /// Has sockets leave a room, on whichever node they are: those of this one also where the log does not take
    /// it, or nobody knows whether it did.
    pub fn leave(&self, hub: &Arc<Hub>, audience: Audience, room: &str) {
        let nth = self.leaving.said.fetch_add(1, Ordering::AcqRel) + 1;
        let op = Op::Leave { room: room.to_owned(), node: self.node.to_string(), nth };
        let sent = self.have_done(op, audience.clone());
        let (leaving, room) = (Arc::clone(hub), room.to_owned());
        hub.spawn(async move {
            let is_done = match sent {
                Some(sent) => sent.durable().await.is_ok(),
                None => false,
            };
            if !is_done {
                leaving.choose(&audience).leave_in_place(room);
            }
        });
    }

    /// Between the events before and those behind it. `None`: it is not, as too much waits.
    fn have_done(&self, op: Op, audience: Audience) -> Option<Sent> {
        let frame = Frame { op, audience, packet: Default::default() };
        let sent = self.log.send(frame.encode());
        sent.inspect_err(|error| {
            tracing::error!(%error, op = ?frame.op, "sockets of other nodes were not reached");
        })
        .ok()
    }

    fn is(&self, node: &str) -> bool {
        *self.node == *node
    }

    /// Keeps a room's message and sends it to its members, in one step.
    ///
    /// # Errors
    /// Too much waits to be kept.
    pub fn post(&self, draft: &Draft, post: RoomPost) -> Result<Posting, BackendError> {
        let RoomPost { audience, list, id, name, remembered } = post;
        let op = Op::Event { is_logged: true, is_volatile: false };
        let frame = Frame { op, audience, packet: draft.parts() };
        let room = String::from_utf8_lossy(&list.key).into_owned();
        // Colons may be anywhere in all three: with their lengths no two are one.
        let name = name.map(|(user, name)| {
            let (of_room, of_user) = (room.len(), user.as_str().len());
            format!("leveret:named:{of_room}:{of_user}:{room}:{user}:{name}")
        });
        self.log.post(frame.encode(), Post { push: list, name, id, remembered })
    }

    /// Halts what is sent from the log to the sockets here.
    pub async fn halt(&self) -> Halt<'_> {
        Halt { nodes: self, through: self.sent_through.lock().await }
    }
}

impl Halt<'_> {
    /// A room's newest messages.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn history(&self, key: &str, count: usize) -> Result<History, BackendError> {
        let around = self.nodes.log.around(*self.through, key, count).await?;
        Ok(History { list: around.list, entries: around.entries })
    }
}

impl History {
    /// Those that nobody here was sent yet, as they are in the list.
    pub fn untold(&self) -> AHashSet<&[u8]> {
        self.entries.iter().filter_map(message).collect()
    }
}

/// What a room's list has of an entry.
fn message(entry: &Bytes) -> Option<&[u8]> {
    let at = memmem::find(entry, MESSAGE_EVENT)? + MESSAGE_EVENT.len();
    entry.get(at..)?.strip_suffix(b"]")
}

/// Sends what the log holds, for as long as there is the namespace.
async fn follow_log(hub: Weak<Hub>, log: SharedLog, mut through: OwnedMutexGuard<Place>) {
    let kept = hub.upgrade().and_then(|hub| Some(hub.recovery()?.kept()));
    let (window, bytes_max) =
        kept.map_or((Duration::ZERO, 0), |kept| (kept.window, kept.bytes_max));
    let (mut reader, before) = log.reader(window, bytes_max).await;
    *through = reader.place();
    if let Some(hub) = hub.upgrade()
        && let Some(recovery) = hub.recovery()
    {
        let recent = before.into_iter().map(|entry| recent(&hub, entry)).collect();
        recovery.stand_at(reader.epoch(), reader.position(), recent);
    }
    let gate = Arc::clone(OwnedMutexGuard::mutex(&through));
    drop(through);
    loop {
        let read = reader.read().await;
        let Some(hub) = hub.upgrade() else { return };
        let mut through = gate.lock().await;
        match read {
            Read::Entries(entries) => {
                for LogEntry { place, position, bytes } in entries {
                    if let Some(recovery) = hub.recovery() {
                        recovery.has_room().await;
                    }
                    deliver(&hub, &bytes);
                    if let Some(recovery) = hub.recovery() {
                        recovery.fill_through(&hub, position);
                    }
                    *through = place;
                    tokio::task::consume_budget().await;
                }
            }
            Read::Gap => {
                tracing::error!("this node was left behind: its sockets have to come back");
                metrics::counter!("leveret_nodes_gaps_total").increment(1);
                if let Some(recovery) = hub.recovery() {
                    recovery.caught_up().await;
                    recovery.break_off(reader.epoch(), reader.position());
                }
                hub.each(|socket| socket.close_for(CloseReason::LeftBehind));
                *through = reader.place();
            }
        }
    }
}

/// What resumes need of an entry that was there before; of one that is no event, its place.
fn recent(hub: &Hub, LogEntry { place, position, bytes }: LogEntry) -> Recent {
    let time_ms = place.ms;
    match Frame::decode(&bytes) {
        Some(Frame {
            op: Op::Event { is_logged: true, .. },
            audience,
            packet: (text, attachments),
        }) => Recent { position, time_ms, audience, draft: Draft::of_parts(&text, attachments) },
        _ => {
            let (audience, draft) = Recovery::nothing(hub);
            Recent { position, time_ms, audience, draft }
        }
    }
}

/// Sends what comes over the channel, for as long as there is the namespace.
async fn follow_channel(hub: Weak<Hub>, cache: Cache, channel: String) {
    let mut subscription: Option<Subscription> = None;
    loop {
        let Some(listening) = &mut subscription else {
            match cache.subscribe(&channel).await {
                Ok(listening) => {
                    subscription = Some(listening);
                    let hub = hub.upgrade();
                    let nodes = hub.as_deref().and_then(Hub::nodes);
                    nodes.iter().for_each(|nodes| nodes.asking.note_reached());
                }
                Err(error) => {
                    tracing::debug!(%error, "other nodes are not listened to");
                    sleep(LISTEN_AGAIN).await;
                }
            }
            if hub.strong_count() == 0 {
                return;
            }
            continue;
        };
        let Some(message) = listening.next().await else { return };
        let Some(hub) = hub.upgrade() else { return };
        deliver(&hub, &message);
    }
}

fn deliver(hub: &Arc<Hub>, entry: &Bytes) {
    let Some(frame) = Frame::decode(entry) else {
        tracing::warn!("another node sent what this version does not read");
        metrics::counter!("leveret_nodes_unread_total").increment(1);
        return;
    };
    if matches!(frame.op, Op::Ask { .. }) {
        return Nodes::answer(hub, frame);
    }
    let Frame { op, audience, packet: (text, attachments) } = frame;
    let chosen = Broadcast::new(Arc::clone(hub)).for_audience(&audience).local();
    let is_own = |node: &str| hub.nodes().is_some_and(|nodes| nodes.is(node));
    match op {
        Op::Event { is_logged: true, .. } if let Some(recovery) = hub.recovery() => {
            hub.count_deliveries(chosen.count());
            recovery.append(audience.clone(), &Draft::of_parts(&text, attachments), None);
        }
        Op::Event { is_logged, is_volatile } => {
            let chosen = if is_volatile { chosen.volatile() } else { chosen };
            let chosen = if is_logged { chosen } else { chosen.unlogged() };
            let sockets = chosen.send(&Draft::of_parts(&text, attachments));
            hub.count_deliveries(sockets);
        }
        Op::Close => chosen.close_in_place(),
        Op::Disconnect => chosen.disconnect_in_place(),
        Op::Join { node, .. } if is_own(&node) => {}
        Op::Join { room, .. } => chosen.join_in_place(room),
        Op::Leave { room, node, nth } => {
            let own = Arc::clone(hub);
            chosen.in_place(move |chosen| {
                chosen.leave_at_once(&room);
                if let Some(nodes) = own.nodes().filter(|nodes| nodes.is(&node)) {
                    nodes.leaving.done.fetch_max(nth, Ordering::AcqRel);
                }
            });
        }
        Op::Taken { pid, node, takes } => {
            if let (Some(recovery), Some(pid), false) =
                (hub.recovery(), Pid::parse(&pid), is_own(&node))
            {
                recovery.let_go(pid, takes);
            }
        }
        Op::GiveUp { id, node } => {
            hub.nodes().iter().for_each(|nodes| nodes.asking.give_up(&(node.clone(), id)));
        }
        // See above.
        Op::Ask { .. } => {}
    }
}
