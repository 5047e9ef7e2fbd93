//! A socket as another node tells of it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gateway::io::{Socket, SocketId};

/// A client on whichever node: what it is when it is asked for. It is sent something by
/// [`Namespace::to`](crate::gateway::Namespace::to) with its id.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
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

    pub(in crate::gateway::io) fn of(socket: &Socket) -> Self {
        let Shown { rooms, data, .. } = Shown::of(socket);
        Self { id: socket.id(), rooms, data }
    }

    /// `None`: it is none.
    pub(in crate::gateway::io) fn read(text: &RawValue) -> Option<Self> {
        let Shown { id, rooms, data } = serde_json::from_str(text.get()).ok()?;
        Some(Self { id: SocketId::parse(&id)?, rooms, data })
    }
}

impl Shown {
    pub fn of(socket: &Socket) -> Self {
        let rooms = socket.rooms().iter().map(|room| Box::from(&**room)).collect();
        let data = socket.data_text().and_then(|data| RawValue::from_string(data.into()).ok());
        Self { id: socket.id().to_string(), rooms, data }
    }
}
