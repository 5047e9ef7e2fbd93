//! The sockets of one namespace and the rooms that they are in.
//!
//! What always holds: a room has a member; a member is a connected socket; a socket that is gone is in
//! no room. The lock of the namespace is taken before a room's, and a room's before a socket's.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ahash::{AHashMap, AHashSet};
use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::broadcast::Broadcast;
use super::handlers::Handlers;
use super::nodes::Nodes;
use super::outgoing::Outgoing;
use super::recovery::{self, Audience, Delivery, Keeping, Noted, Recovery};
use super::socket::Socket;
use super::socket_id::SocketId;
use crate::gateway::metrics::Metrics;
use crate::gateway::shrink;
use crate::wire::socket_io::{Namespace as Name, ParseError};

/// Why a socket did not join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("the socket is not connected")]
    Disconnected,
    #[error("a socket may be in {rooms_max} rooms at most")]
    TooManyRooms { rooms_max: usize },
    #[error("the room would have the name of another socket")]
    AnotherSocket,
}

pub struct Hub {
    name: Box<str>,
    state: RwLock<State>,
    next_ack: AtomicU64,
    socket_rooms_max: usize,
    handlers: Weak<Handlers>,
    metrics: Arc<Metrics>,
    /// Absent where no session is resumed.
    recovery: OnceLock<Recovery>,
    /// Absent where this process is the only node.
    nodes: OnceLock<Nodes>,
    /// The runtime that its sockets are served on, for what is begun by a thread of none.
    runtime: OnceLock<Handle>,
}

#[derive(Default)]
struct State {
    sockets: AHashSet<ById>,
    rooms: AHashMap<Arc<str>, Arc<Room>>,
}

/// The members of one room.
#[derive(Default)]
pub struct Room {
    members: RwLock<AHashSet<ById>>,
}

/// A socket that is found by its id, which is not kept beside it once more: idle ones are many.
struct ById(Socket);

impl Borrow<SocketId> for ById {
    fn borrow(&self) -> &SocketId {
        self.0.id_ref()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id_ref().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id_ref() == other.0.id_ref()
    }
}

impl Eq for ById {}

impl Hub {
    /// # Errors
    /// [`ParseError::Namespace`] when the name is none.
    pub fn new(
        name: &str,
        socket_rooms_max: usize,
        handlers: Weak<Handlers>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ParseError> {
        Ok(Self {
            name: Name::new(name)?.as_str().into(),
            state: RwLock::default(),
            next_ack: AtomicU64::new(0),
            socket_rooms_max,
            handlers,
            metrics,
            recovery: OnceLock::new(),
            nodes: OnceLock::new(),
            runtime: OnceLock::new(),
        })
    }

    pub fn name(&self) -> Name<'_> {
        // It was checked when the hub was made.
        Name::new(&self.name).unwrap_or(Name::ROOT)
    }

    pub fn handlers(&self) -> Option<Arc<Handlers>> {
        self.handlers.upgrade()
    }

    /// Has its sessions be resumed from now on, if that is asked for, and its events reach the sockets of
    /// all nodes on the cache. Needs a Tokio runtime.
    pub fn recover(self: &Arc<Self>, keeping: &Keeping) {
        self.note_runtime();
        if let Some(nodes) = keeping.cache().and_then(|cache| Nodes::of(cache, &self.name)) {
            self.nodes.get_or_init(|| nodes);
        }
        match keeping {
            // What other nodes keep is not this one's to load or to remove.
            Keeping::On(store) if let Some(nodes) = self.nodes.get() => {
                let shared = nodes.sessions(store.options.window);
                let store = recovery::Store { cache: None, shared, ..store.clone() };
                self.recovery.get_or_init(|| Recovery::load(&self.name, store)).start(self);
            }
            Keeping::Off(_) if self.nodes.get().is_some() => {}
            Keeping::On(store) => {
                self.recovery.get_or_init(|| Recovery::load(&self.name, store.clone())).start(self);
            }
            Keeping::Off(cache) => {
                cache.iter().for_each(|cache| recovery::forget(&self.name, cache))
            }
        }
        if let Some(nodes) = self.nodes.get() {
            nodes.start(self);
        }
    }

    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.get()
    }

    pub fn nodes(&self) -> Option<&Nodes> {
        self.nodes.get()
    }

    fn note_runtime(&self) {
        if self.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            self.runtime.get_or_init(|| runtime);
        }
    }

    /// Starts a task, also from a thread that is none of a runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Who calls may be on a runtime that ends before the task does.
        match self.runtime.get().cloned().or_else(|| Handle::try_current().ok()) {
            Some(runtime) => drop(runtime.spawn(task)),
            // Neither a socket nor another node has been here.
            None => tracing::error!(namespace = %self.name, "there is no runtime for a task"),
        }
    }

    pub fn count_deliveries(&self, sockets: usize) {
        self.metrics.deliveries.increment(sockets.try_into().unwrap_or(u64::MAX));
    }

    /// The sockets that an event of the log is for.
    pub fn choose<'a>(self: &Arc<Self>, audience: &'a Audience) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(self)).for_audience(audience)
    }

    pub fn next_ack(&self) -> u64 {
        self.next_ack.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets a socket in, and sends it `greeting` before anything that others send it.
    pub fn admit(&self, socket: &Socket, greeting: &Outgoing) {
        self.note_runtime();
        let mut state = self.state.write();
        socket.answer(greeting);
        state.sockets.replace(ById(socket.clone()));
        for room in socket.rooms() {
            state.enter(room, socket);
        }
        self.metrics.websocket_connections.increment(1.0);
    }

    /// Takes a socket off, out of its rooms. False: it was not there.
    pub fn expel(&self, socket: &Socket) -> bool {
        let mut state = self.state.write();
        if !state.has(socket) {
            return false;
        }
        state.sockets.remove(&socket.id());
        shrink::set(&mut state.sockets);
        for room in socket.rooms() {
            state.leave(&room, socket.id());
        }
        self.metrics.websocket_connections.decrement(1.0);
        true
    }

    /// Whether the socket was not in the room before.
    pub fn join(&self, socket: &Socket, room: &str) -> Result<bool, JoinError> {
        let mut delivery = self.recovery().map(Recovery::delivery);
        let joined = self.join_within(delivery.as_deref_mut(), socket, room)?;
        Ok(joined.is_some())
    }

    /// As [`Self::join`], for who has the log of events wait. `None`: it was in the room before.
    pub fn join_within(
        &self,
        delivery: Option<&mut Delivery>,
        socket: &Socket,
        room: &str,
    ) -> Result<Option<Noted>, JoinError> {
        // Its own id, by which it is chosen already, is no room either.
        match SocketId::parse(room) {
            Some(id) if id == socket.id() => return Ok(None),
            Some(_) => return Err(JoinError::AnotherSocket),
            None => {}
        }
        let mut state = self.state.write();
        let is_new = socket.is_new();
        if !is_new && !state.has(socket) {
            return Err(JoinError::Disconnected);
        }
        let name = match state.rooms.get_key_value(room) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(room),
        };
        if !socket.note_join(&name, self.socket_rooms_max)? {
            return Ok(None);
        }
        if !is_new {
            state.enter(Arc::clone(&name), socket);
        }
        drop(state);
        let noted = self.recovery().zip(delivery);
        let noted = noted.map(|(recovery, delivery)| recovery.joined(delivery, socket, &name));
        Ok(Some(noted.unwrap_or_else(Noted::nothing)))
    }

    /// `None`: the socket was not in the room.
    pub fn leave(&self, socket: &Socket, room: &str) -> Option<Noted> {
        let mut delivery = self.recovery().map(Recovery::delivery);
        let mut state = self.state.write();
        // One that is gone keeps its list, to tell where it was.
        let is_there = socket.is_new() || state.has(socket);
        if !is_there || !socket.note_leave(room) {
            return None;
        }
        state.leave(room, socket.id());
        drop(state);
        let noted = self.recovery().zip(delivery.as_deref_mut());
        let noted = noted.map(|(recovery, delivery)| recovery.left(delivery, socket, room));
        Some(noted.unwrap_or_else(Noted::nothing))
    }

    pub fn find(&self, id: SocketId) -> Option<Socket> {
        self.state.read().sockets.get(&id).map(|ById(socket)| socket.clone())
    }

    pub fn len(&self) -> usize {
        self.state.read().sockets.len()
    }

    pub fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.state.read().rooms.get(name).cloned()
    }

    /// Every socket. None comes or goes meanwhile.
    pub fn each(&self, mut visit: impl FnMut(&Socket)) {
        self.state.read().sockets.iter().for_each(|ById(socket)| visit(socket));
    }
}

impl State {
    /// Whether this socket is there: another one may have come back under its id.
    fn has(&self, socket: &Socket) -> bool {
        self.sockets.get(&socket.id()).is_some_and(|ById(there)| there == socket)
    }

    fn enter(&mut self, room: Arc<str>, socket: &Socket) {
        let room = self.rooms.entry(room).or_default();
        room.members.write().replace(ById(socket.clone()));
    }

    fn leave(&mut self, name: &str, id: SocketId) {
        let Some(room) = self.rooms.get(name) else { return };
        let mut members = room.members.write();
        members.remove(&id);
        let is_empty = members.is_empty();
        shrink::set(&mut members);
        drop(members);
        if is_empty {
            self.rooms.remove(name);
            shrink::table(&mut self.rooms);
        }
    }
}

impl Room {
    pub fn len(&self) -> usize {
        self.members.read().len()
    }

    /// Every member. None joins or leaves meanwhile.
    pub fn each(&self, mut visit: impl FnMut(&Socket)) {
        self.members.read().iter().for_each(|ById(socket)| visit(socket));
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name).finish()
    }
}
