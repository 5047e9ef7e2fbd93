//! One client in one namespace.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;
use uuid::Uuid;

use super::acks::{AckError, PendingAck, Reply, Waiting};
use super::broadcast::Broadcast;
use super::extensions::Extensions;
use super::hub::{Hub, JoinError};
use super::outgoing::{Outgoing, Parser};
use super::reason::DisconnectReason;
use crate::gateway::outbound::{CloseReason, Outbound};
use crate::wire::socket_io::encode::{self, EncodeError};
use crate::wire::socket_io::{Namespace as Name, ToArgs};

/// A Socket.IO socket's public name. Not the Engine.IO session's id, which is a secret of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(Uuid);

impl SocketId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// `None`: the text is no socket's id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    kept: Mutex<Kept>,
}

const NEW: u8 = 0;
const CONNECTED: u8 = 1;
const GONE: u8 = 2;

#[derive(Default)]
struct Kept {
    rooms: SmallVec<[Arc<str>; 2]>,
    /// Of these rooms, those that the gateway itself put the socket in.
    own_rooms: usize,
    acks: Waiting,
    extensions: Extensions,
}

impl Socket {
    pub(crate) fn new(hub: Arc<Hub>, outbound: Arc<Outbound>, parser: Parser) -> Self {
        Self(Arc::new(Inner {
            id: SocketId::random(),
            hub,
            outbound,
            parser,
            state: AtomicU8::new(NEW),
            kept: Mutex::default(),
        }))
    }

    pub fn id(&self) -> SocketId {
        self.0.id
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

    /// Sends an event; see [`ToArgs`] for one and for several arguments. Nobody waits: a client that does
    /// not read fast enough is cut when its queue is full. To a socket that is not connected nothing is
    /// sent.
    ///
    /// # Errors
    /// [`EncodeError`] when the name is reserved or an argument has no JSON form.
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        let packet = Outgoing::event(self.hub().name(), event, None, &args)?;
        self.push(&packet, false);
        Ok(())
    }

    /// Sends an event, unless the socket has something to read already.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn emit_volatile(&self, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        let packet = Outgoing::event(self.hub().name(), event, None, &args)?;
        self.push(&packet, true);
        Ok(())
    }

    /// Sends an event and waits for its acknowledgement, at most for `timeout`. In a handler of
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
        let id = self.hub().next_ack();
        let packet = Outgoing::event(self.hub().name(), event, Some(id), &args)?;
        drop(args);
        if !self.is_connected() {
            return Err(AckError::Disconnected);
        }
        let ack = self.expect_ack(id).ok_or(AckError::TooMany)?;
        self.push(&packet, false);
        if !self.is_connected() {
            // It left before it was noted, so that nobody told the note.
            return Err(AckError::Disconnected);
        }
        ack.wait(timeout, Instant::now() + timeout).await
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
        self.hub().leave(self, room)
    }

    /// The rooms that it is in; after it left, those that it was in at the end.
    pub fn rooms(&self) -> Vec<Arc<str>> {
        self.0.kept.lock().rooms.to_vec()
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.0.kept.lock().rooms.iter().any(|name| &**name == room)
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

    /// Disconnects it from its namespace; the client's other namespaces stay. The stock client does not
    /// come back by itself.
    pub fn disconnect(&self) {
        if !self.is_connected() {
            return;
        }
        let name = self.hub().name();
        self.answer(&Outgoing::packet(|out| encode::disconnect(out, name)));
        if let Some(told) = self.depart(DisconnectReason::ServerNamespace) {
            tokio::spawn(told);
        }
    }

    /// Ends the client's session, and every namespace with it, after what is queued. The stock client
    /// does not come back by itself.
    pub fn close(&self) {
        self.disconnect();
        self.0.outbound.close(CloseReason::ForcedClose);
    }

    /// Keeps a value of the application's, one a type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        self.0.kept.lock().extensions.insert(Arc::new(value));
    }

    /// The value of this type that was kept.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.kept.lock().extensions.get()
    }

    pub fn remove<T: Send + Sync + 'static>(&self) {
        self.0.kept.lock().extensions.remove::<T>();
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    pub(crate) fn admit(&self, greeting: &Outgoing) {
        self.0.state.store(CONNECTED, Ordering::Release);
        self.hub().admit(self, greeting);
    }

    /// Takes it off its namespace. Gives what is left to do: to tell the application. `None`: it was
    /// gone already.
    pub(crate) fn depart(
        &self,
        reason: DisconnectReason,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.0.state.swap(GONE, Ordering::AcqRel) != CONNECTED {
            return None;
        }
        self.hub().expel(self);
        self.0.kept.lock().acks.clear();
        let socket = self.clone();
        Some(async move {
            if let Some(handlers) = socket.hub().handlers() {
                handlers.disconnected(&socket, reason).await;
            }
        })
    }

    /// Queues what somebody sent; false: it is not connected, or has no place for what is volatile.
    pub(crate) fn push(&self, packet: &Outgoing, is_volatile: bool) -> bool {
        self.is_connected() && self.0.outbound.push_all(packet.frames(self.0.parser), is_volatile)
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

    /// Notes a room; false: it was noted already.
    pub(crate) fn note_join(&self, room: &Arc<str>, rooms_max: usize) -> Result<bool, JoinError> {
        let mut kept = self.0.kept.lock();
        if kept.rooms.iter().any(|name| name == room) {
            return Ok(false);
        }
        if kept.rooms.len() - kept.own_rooms >= rooms_max {
            return Err(JoinError::TooManyRooms { rooms_max });
        }
        kept.rooms.push(Arc::clone(room));
        Ok(true)
    }

    /// In a middleware: has the socket join a room that does not count for its bound.
    pub(crate) fn join_own(&self, room: &str) {
        let mut kept = self.0.kept.lock();
        kept.rooms.push(room.into());
        kept.own_rooms += 1;
    }

    pub(crate) fn note_leave(&self, room: &str) -> bool {
        let mut kept = self.0.kept.lock();
        let at = kept.rooms.iter().position(|name| &**name == room);
        at.map(|at| kept.rooms.swap_remove(at)).is_some()
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

/// The answer to a client that is let in. A session that can be resumed would be named here, by its `pid`.
pub(crate) fn greeting(name: Name<'_>, id: SocketId) -> Outgoing {
    let sid = id.to_string();
    Outgoing::packet(|out| encode::connect(out, name, &sid, None))
}
