//! What an application does in one namespace: its middleware and its handlers.

use std::pin::Pin;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::RwLock;
use serde_json::Value;
use serde_json::value::RawValue;

use super::extract::{ArgError, Call, Running};
use super::reason::DisconnectReason;
use super::socket::Socket;

/// Why a client may not connect to a namespace; it finds both in the error of `connect_error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub message: String,
    pub data: Option<Value>,
}

impl ConnectError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// More for the client to go by, in `error.data`.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Value>) -> Self {
        self.data = Some(data.into());
        self
    }
}

pub type Admitting = Pin<Box<dyn Future<Output = Result<(), ConnectError>> + Send>>;
pub type Middleware = dyn Fn(&Socket, Option<&RawValue>) -> Admitting + Send + Sync;
pub type OnConnect = dyn Fn(Socket) -> Running + Send + Sync;
pub type OnDisconnect = dyn Fn(Socket, DisconnectReason) -> Running + Send + Sync;
pub type OnEvent = dyn Fn(&mut Call<'_>) -> Result<Running, ArgError> + Send + Sync;

/// Whether a socket's next event waits for the handler of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Concurrent,
    InOrder,
}

#[derive(Clone)]
pub struct EventHandler {
    pub run: Arc<OnEvent>,
    pub order: Order,
}

#[derive(Default)]
pub struct Handlers {
    pub(super) middleware: RwLock<Vec<Arc<Middleware>>>,
    pub(super) on_connect: RwLock<Vec<Arc<OnConnect>>>,
    pub(super) on_disconnect: RwLock<Vec<Arc<OnDisconnect>>>,
    pub(super) events: RwLock<AHashMap<Box<str>, EventHandler>>,
    pub(super) on_any_other: RwLock<Option<EventHandler>>,
}

impl Handlers {
    /// Asks the middleware, in the order in which it was added.
    pub async fn admit(
        &self,
        socket: &Socket,
        auth: Option<&RawValue>,
    ) -> Result<(), ConnectError> {
        let middleware = self.middleware.read().clone();
        for each in middleware {
            each(socket, auth).await?;
        }
        Ok(())
    }

    /// What is to be done for a socket that has connected.
    pub fn connected(&self, socket: &Socket) -> Vec<Running> {
        self.on_connect.read().iter().map(|each| each(socket.clone())).collect()
    }

    pub async fn disconnected(&self, socket: &Socket, reason: DisconnectReason) {
        let handlers = self.on_disconnect.read().clone();
        for each in handlers {
            each(socket.clone(), reason).await;
        }
    }

    pub fn of(&self, event: &str) -> Option<EventHandler> {
        let handler = self.events.read().get(event).cloned();
        handler.or_else(|| self.on_any_other.read().clone())
    }
}
