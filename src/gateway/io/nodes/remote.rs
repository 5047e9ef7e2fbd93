//! A socket as another node tells of it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gateway::io::hub::{Hub, JoinError};
use crate::gateway::io::recovery::Audience;
use crate::gateway::io::{Socket, SocketId};
use crate::wire::socket_io::ToArgs;
use crate::wire::socket_io::encode::EncodeError;

/// A client on whichever node: what it is when it is asked for, and what can be done with it there.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    hub: Arc<Hub>,
    id: SocketId,
    rooms: Vec<Box<str>>,
    data: Option<Box<RawValue>>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Shown {
    id: String,
    rooms: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

impl RemoteSocket {
    pub fn id(&self) -> SocketId {
        self.id
    }

    pub fn rooms(&self) -> &[Box<str>] {
        &self.rooms
    }

    /// What [`Socket::set_data`] kept.
    ///
    /// # Errors
    /// It is not what is asked for.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.data.as_ref().map(|data| serde_json::from_str(data.get())).transpose()
    }

    /// Sends it an event.
    ///
    /// # Errors
    /// As [`Broadcast::emit`](crate::gateway::Broadcast::emit).
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Result<(), EncodeError> {
        self.hub.choose(&self.itself()).emit(event, args).map(drop)
    }

    /// Makes it join a room.
    ///
    /// # Errors
    /// As [`Broadcast::join`](crate::gateway::Broadcast::join): of a socket of this node.
    pub fn join(&self, room: &str) -> Result<(), JoinError> {
        self.hub.choose(&self.itself()).join(room)
    }

    /// Makes it leave a room.
    pub fn leave(&self, room: &str) {
        self.hub.choose(&self.itself()).leave(room);
    }

    /// Disconnects it from its namespace.
    pub fn disconnect(&self) {
        self.hub.choose(&self.itself()).disconnect();
    }

    /// Ends its client's session, and every namespace with it.
    pub fn close(&self) {
        self.hub.choose(&self.itself()).close();
    }

    fn itself(&self) -> Audience {
        Audience::socket(self.id)
    }

    pub(in crate::gateway::io) fn of(socket: &Socket) -> Self {
        let Shown { rooms, data, .. } = Shown::of(socket);
        Self { hub: Arc::clone(socket.hub()), id: socket.id(), rooms, data }
    }

    /// `None`: it is none.
    pub(in crate::gateway::io) fn read(hub: &Arc<Hub>, text: &RawValue) -> Option<Self> {
        let Shown { id, rooms, data } = serde_json::from_str(text.get()).ok()?;
        Some(Self { hub: Arc::clone(hub), id: SocketId::parse(&id)?, rooms, data })
    }
}

impl Shown {
    pub fn of(socket: &Socket) -> Self {
        let rooms = socket.rooms().iter().map(|room| Box::from(&**room)).collect();
        let data = socket.data_text().and_then(|data| RawValue::from_string(data.into()).ok());
        Self { id: socket.id().to_string(), rooms, data }
    }
}
