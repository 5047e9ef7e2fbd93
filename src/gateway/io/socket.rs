//! One client in one namespace.

mod ending;
mod rooms;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::acks::{AckError, PATIENCE_MAX, PendingAck, Reply, Waiting};
use super::broadcast::Broadcast;
use super::extensions::Extensions;
use super::hub::{Hub, JoinError};
use super::outgoing::{Draft, Outgoing, Parser};
use super::reason::DisconnectReason;
use super::recovery::{Audience, Pid, Recovery};
use super::socket_id::SocketId;
use crate::gateway::close_reason::CloseReason;
use crate::gateway::outbound::{Flush, Outbound};
use crate::wire::socket_io::encode::{self, EncodeError};
use crate::wire::socket_io::{Namespace as Name, ToArgs};

/// A client in a namespace. Clones are the same socket; they may outlive its connection, and then do
/// nothing.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    id: SocketId,
    hub: Arc<Hub>,
    outbound: Arc<Outbound>,
    parser: Parser,
    /// [`NEW`], [`CONNECTED`], then [`GONE`].
    state: AtomicU8,
    is_recovered: bool,
    /// The position of the last event of the log that was for it.
    last_logged: AtomicU64,
    kept: Mutex<Kept>,
}

const NEW: u8 = 0;
const CONNECTED: u8 = 1;
const GONE: u8 = 2;

#[derive(Default)]
struct Kept {
    rooms: SmallVec<[Arc<str>; 2]>,
    /// The first so many of these rooms are those that the gateway itself put the socket in.
    own_rooms: u32,
    acks: Waiting,
    extensions: Extensions,
    /// A JSON text.
    data: Option<Box<str>>,
    resume: Option<Box<Resume>>,
    pid: Option<Pid>,
}

/// What a middleware says of who may come back.
struct Resume {
    who: Box<str>,
    may_return_to: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Socket {
    pub(crate) fn new(hub: Arc<Hub>, outbound: Arc<Outbound>, parser: Parser) -> Self {
        Self::made(SocketId::random(), hub, outbound, parser, None)
    }

    /// With what is `kept` of one before.
    fn made(
        id: SocketId,
        hub: Arc<Hub>,
        outbound: Arc<Outbound>,
        parser: Parser,
        kept: Option<Kept>,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            hub,
            outbound,
            parser,
            state: AtomicU8::new(NEW),
            is_recovered: kept.is_some(),
            last_logged: AtomicU64::new(0),
            kept: Mutex::new(kept.unwrap_or_default()),
        }))
    }

    pub fn id(&self) -> SocketId {
        self.0.id
    }

    pub(super) fn id_ref(&self) -> &SocketId {
        &self.0.id
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        self.0.hub.name().as_str()
    }

    /// False before its middleware let it in, and after it left.
    pub fn is_connected(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CONNECTED
    }

    /// Whether its middleware is still being asked.
    pub(crate) fn is_new(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == NEW
    }

    /// Whether its client came back as what it was before: with its id and its rooms, and sent what it
    /// missed. Of one that did, [`on_connect`](super::Namespace::on_connect)'s handlers are waited for
    /// before anything is read.
    pub fn recovered(&self) -> bool {
        self.0.is_recovered
    }

    /// In a middleware: has only a client of the same `who` come back in its place, and only while all
    /// rooms that it was in are still allowed. Without it whoever knows the session's secret may.
    pub fn resume_as(
        &self,
        who: &str,
        may_return_to: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) {
        let resume = Resume { who: who.into(), may_return_to: Box::new(may_return_to) };
        self.0.kept.lock().resume = Some(Box::new(resume));
    }

    /// Sends an event; see [`ToArgs`] for one and for several arguments. Nobody waits: a client that does
    /// not read fast enough is cut when its queue is full. A client that may come back, or is back on
    /// another connection, is sent the event there; to others that are not connected nothing is sent.
    ///
    /// # Errors
    /// [`EncodeError`] when the name is reserved or an argument has no JSON form.
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        let draft = Draft::event(self.hub().name(), event, &args)?;
        match self.hub().recovery() {
            Some(recovery) if recovery.may_reach(self) => {
                self.hub().choose(&Audience::socket(self.id())).send(&draft);
            }
            _ => {
                self.push(&draft.finish(), false);
            }
        }
        Ok(())
    }

    /// Sends an event, unless the socket has something to read already.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn emit_volatile(&self, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        let draft = Draft::event(self.hub().name(), event, &args)?;
        match self.hub().recovery() {
            Some(recovery) => recovery.send_transient(&draft, |packet| self.push(packet, true)),
            None => self.push(&draft.finish(), true),
        };
        Ok(())
    }

    /// Sends an event and waits for its acknowledgement, at most for `timeout` and for a day. In a handler of
    /// [`on_in_order`](super::Namespace::on_in_order) it can only time out, as the client's
    /// acknowledgement waits for that handler.
    ///
    /// # Errors
    /// [`AckError`].
    pub async fn emit_with_ack(
        &self,
        event: &str,
        args: impl ToArgs,
        timeout: Duration,
    ) -> Result<Reply, AckError> {
        let timeout = timeout.min(PATIENCE_MAX);
        let deadline = Instant::now() + timeout;
        let id = self.hub().next_ack();
        let packet = Outgoing::event(self.hub().name(), event, Some(id), &args)?;
        drop(args);
        if let Some(recovery) = self.hub().recovery() {
            // What was emitted before comes before.
            let caught_up = tokio::time::timeout_at(deadline, recovery.caught_up()).await;
            caught_up.map_err(|_| AckError::TimedOut(timeout))?;
        }
        if !self.is_connected() {
            return Err(AckError::Disconnected);
        }
        let ack = self.expect_ack(id).ok_or(AckError::TooMany)?;
        if !self.push(&packet, false) {
            // Where it left before it was noted, nobody tells the note.
            return Err(AckError::Disconnected);
        }
        ack.wait(timeout, deadline).await
    }

    /// Joins a room; whether it was not in it before. In a middleware it takes effect when the socket is
    /// let in.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&self, room: &str) -> Result<bool, JoinError> {
        self.hub().join(self, room)
    }

    /// Leaves a room; whether it was in it.
    pub fn leave(&self, room: &str) -> bool {
        self.hub().leave(self, room).is_some()
    }

    /// The others of the namespace.
    pub fn broadcast<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(self.hub())).except_socket(self.id())
    }

    /// The others in a room.
    pub fn to<'a>(&self, room: &'a str) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(self.hub())).except_socket(self.id()).to(room)
    }

    /// Everybody of the namespace, itself among them.
    pub fn everybody<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(self.hub()))
    }

    /// Keeps a value of the application's, one a type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        self.insert_shared(Arc::new(value));
    }

    pub(crate) fn insert_shared<T: Send + Sync + 'static>(&self, value: Arc<T>) {
        self.0.kept.lock().extensions.insert(value);
    }

    /// The value of this type that was kept.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.kept.lock().extensions.get()
    }

    pub fn remove<T: Send + Sync + 'static>(&self) {
        self.0.kept.lock().extensions.remove::<T>();
    }

    /// Keeps a value that comes back with its client, over a restart of the server too, as `socket.data`
    /// does in Node; it takes the place of the one before.
    ///
    /// # Errors
    /// The value has no JSON form.
    pub fn set_data(&self, data: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
        let data: Box<str> = serde_json::to_string(data)?.into();
        let mut delivery = self.hub().recovery().map(Recovery::delivery);
        self.0.kept.lock().data = Some(data.clone());
        if let Some((recovery, delivery)) = self.hub().recovery().zip(delivery.as_deref_mut()) {
            recovery.has_data(delivery, self, data);
        }
        Ok(())
    }

    /// What [`Self::set_data`] kept.
    ///
    /// # Errors
    /// It is not what is asked for.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        let data = self.data_text();
        data.map(|data| serde_json::from_str(&data)).transpose()
    }

    pub(crate) fn data_text(&self) -> Option<Box<str>> {
        self.0.kept.lock().data.clone()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    pub(crate) fn admit(&self, greeting: &Outgoing) {
        self.0.state.store(CONNECTED, Ordering::Release);
        let inner = Arc::downgrade(&self.0);
        self.0.outbound.add_member(inner);
        self.hub().admit(self, greeting);
    }

    /// Takes it off its namespace. Gives what is left to do: to tell the application. `None`: it was
    /// gone already.
    pub(crate) fn depart(
        &self,
        reason: DisconnectReason,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let hub = Arc::clone(self.hub());
        let mut delivery = hub.recovery().map(Recovery::delivery);
        if self.0.state.swap(GONE, Ordering::AcqRel) != CONNECTED {
            return None;
        }
        self.0.outbound.remove_member(&self.0);
        hub.expel(self);
        if let Some((recovery, delivery)) = hub.recovery().zip(delivery.as_deref_mut()) {
            recovery.detach(delivery, self, reason);
        }
        drop(delivery);
        self.0.kept.lock().acks.clear();
        let socket = self.clone();
        Some(async move { socket.tell_gone(reason).await })
    }

    /// Tells the application that it left.
    pub(crate) async fn tell_gone(&self, reason: DisconnectReason) {
        if let Some(handlers) = self.hub().handlers() {
            handlers.disconnected(self, reason).await;
        }
    }

    /// Asks its client whether it is there, and waits for the answer, at most for `patience`.
    pub(crate) async fn ask(&self, patience: Duration) {
        self.0.outbound.ask(patience).await;
    }

    /// Whether its connection is closed, or its client was asked in vain.
    pub(crate) fn is_deserted(&self) -> bool {
        self.0.outbound.is_deserted()
    }

    /// Its client is back on another connection: this one ends.
    pub(crate) fn make_way(&self) {
        if self.0.state.swap(GONE, Ordering::AcqRel) == CONNECTED {
            self.0.outbound.remove_member(&self.0);
            self.hub().expel(self);
            self.0.kept.lock().acks.clear();
            self.0.outbound.close(CloseReason::ForcedClose);
        }
    }

    /// The socket of a session that is resumed, which has what the middleware gave to this one, and beside
    /// it these rooms and this data. This one is of no more use.
    pub(crate) fn come_back_as(
        &self,
        id: SocketId,
        pid: Pid,
        rooms: impl Iterator<Item = Arc<str>>,
        data: Option<Box<str>>,
    ) -> Self {
        self.0.state.store(GONE, Ordering::Release);
        let mut kept = std::mem::take(&mut *self.0.kept.lock());
        // Only those few can be there already: each room of a session is another one.
        let given = kept.rooms.len();
        for room in rooms {
            if !kept.rooms[..given].contains(&room) {
                kept.rooms.push(room);
            }
        }
        kept.pid = Some(pid);
        kept.data = data.or(kept.data);
        let (hub, outbound) = (Arc::clone(self.hub()), Arc::clone(&self.0.outbound));
        Self::made(id, hub, outbound, self.0.parser, Some(kept))
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.0.kept.lock().pid
    }

    pub(crate) fn set_pid(&self, pid: Pid) {
        self.0.kept.lock().pid = Some(pid);
    }

    pub(crate) fn who(&self) -> Box<str> {
        self.0.kept.lock().resume.as_ref().map(|resume| resume.who.clone()).unwrap_or_default()
    }

    pub(crate) fn may_return_to(&self, room: &str) -> bool {
        let kept = self.0.kept.lock();
        kept.resume.as_ref().is_none_or(|resume| (resume.may_return_to)(room))
    }

    /// The position of the last event of the log that was for it; 0 before the first.
    pub(crate) fn last_logged(&self) -> u64 {
        self.0.last_logged.load(Ordering::Relaxed)
    }

    /// Queues an event of the log; false: it is not connected, or cut. It was for it all the same.
    pub(crate) fn push_logged(&self, flush: &mut Flush, packet: &Outgoing, position: u64) -> bool {
        self.0.last_logged.store(position, Ordering::Relaxed);
        self.push_with(flush, packet, false)
    }

    /// Queues what somebody sent; false: it is not connected, or has no place for what is volatile.
    pub(crate) fn push(&self, packet: &Outgoing, is_volatile: bool) -> bool {
        self.is_connected() && self.0.outbound.push_all(packet.frames(self.0.parser), is_volatile)
    }

    /// As [`Self::push`], of what many are sent.
    pub(crate) fn push_with(
        &self,
        flush: &mut Flush,
        packet: &Outgoing,
        is_volatile: bool,
    ) -> bool {
        if packet.is_row() {
            // A burst: more follows while the sockets' tasks wait for their turn, and goes with it.
            return self.push(packet, is_volatile);
        }
        let outbound = &self.0.outbound;
        self.is_connected() && outbound.push_with(flush, packet.frames(self.0.parser), is_volatile)
    }

    /// Queues an answer to what the client itself asked, whatever is queued already.
    pub(crate) fn answer(&self, packet: &Outgoing) {
        if self.is_connected() {
            self.0.outbound.reply_all(packet.frames(self.0.parser));
        }
    }

    /// Notes an acknowledgement that will come. `None`: it owes too many.
    pub(crate) fn expect_ack(&self, id: u64) -> Option<PendingAck> {
        let receiver = self.0.kept.lock().acks.add(id)?;
        Some(PendingAck { socket: self.clone(), id, receiver })
    }

    pub(crate) fn forget_ack(&self, id: u64) {
        self.0.kept.lock().acks.remove(id);
    }

    pub(crate) fn acknowledged(&self, id: u64, reply: impl FnOnce() -> Reply) {
        self.0.kept.lock().acks.settle(id, reply);
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("namespace", &self.namespace())
            .finish_non_exhaustive()
    }
}

/// The answer to a client that is let in. Under its `pid` the session can be resumed.
pub(crate) fn greeting(name: Name<'_>, id: SocketId, pid: Option<Pid>) -> Outgoing {
    let (sid, pid) = (id.to_string(), pid.map(|pid| pid.to_string()));
    Outgoing::packet(|out| encode::connect(out, name, &sid, pid.as_deref()))
}
