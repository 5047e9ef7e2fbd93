//! A namespace as an application builds it.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::acks::Replies;
use super::broadcast::Broadcast;
use super::extract::{self, Handler};
use super::handlers::{Admitting, ConnectError, EventHandler, Handlers, Order};
use super::hub::Hub;
use super::reason::DisconnectReason;
use super::socket::Socket;
use super::socket_id::SocketId;
use crate::gateway::metrics::Metrics;
use crate::wire::socket_io::encode::EncodeError;
use crate::wire::socket_io::{ParseError, ToArgs};

/// A namespace, where clients connect with `io("/name")`. Clones are the same namespace. What is added
/// while clients are connected holds for what they do next.
#[derive(Clone)]
pub struct Namespace {
    hub: Arc<Hub>,
    handlers: Arc<Handlers>,
}

impl Namespace {
    pub(crate) fn new(
        name: &str,
        socket_rooms_max: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ParseError> {
        let handlers = Arc::new(Handlers::default());
        let hub = Hub::new(name, socket_rooms_max, Arc::downgrade(&handlers), metrics)?;
        Ok(Self { hub: Arc::new(hub), handlers })
    }

    pub fn name(&self) -> &str {
        self.hub.name().as_str()
    }

    /// Asks `middleware` before a client is let in, with what the client gave as `auth`: without any an
    /// empty object, as in Node, or null where `Auth` can't be read from that. Several are asked in the order in which they were added, until one refuses. The socket is
    /// not connected yet: it can be given values, but not be sent anything.
    pub fn middleware<Auth, Function, Done>(&self, middleware: Function) -> &Self
    where
        Auth: DeserializeOwned,
        Function: Fn(Socket, Auth) -> Done + Send + Sync + 'static,
        Done: Future<Output = Result<(), ConnectError>> + Send + 'static,
    {
        let ask = move |socket: &Socket, auth: Option<&_>| -> Admitting {
            match extract::auth(auth) {
                Ok(auth) => Box::pin(middleware(socket.clone(), auth)),
                Err(error) => {
                    let refusal = ConnectError::new(format!("auth is not valid: {error}"));
                    Box::pin(std::future::ready(Err(refusal)))
                }
            }
        };
        self.handlers.middleware.write().push(Arc::new(ask));
        self
    }

    /// Calls `handler` for each client that was let in.
    pub fn on_connect<Function, Done>(&self, handler: Function) -> &Self
    where
        Function: Fn(Socket) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(move |socket| Box::pin(handler(socket)) as _);
        self.handlers.on_connect.write().push(handler);
        self
    }

    /// Calls `handler` for each socket that has left; it is in no room any more, and
    /// [`Socket::rooms`] tells where it was.
    pub fn on_disconnect<Function, Done>(&self, handler: Function) -> &Self
    where
        Function: Fn(Socket, DisconnectReason) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(move |socket, reason| Box::pin(handler(socket, reason)) as _);
        self.handlers.on_disconnect.write().push(handler);
        self
    }

    /// Calls `handler` for each such event of a client, instead of one that was named before. Handlers
    /// of one socket begin in the order of its events; as in Node, one that waits does not hold up the
    /// next. Arguments that are not what the handler takes are refused: the client gets an event
    /// `error`, and `{error}` as the acknowledgement if it waits for one.
    pub fn on<Kinds>(&self, event: &str, handler: impl Handler<Kinds>) -> &Self {
        self.add(event, Order::Concurrent, handler)
    }

    /// As [`Self::on`], but nothing more is read of this client before the handler is done.
    pub fn on_in_order<Kinds>(&self, event: &str, handler: impl Handler<Kinds>) -> &Self {
        self.add(event, Order::InOrder, handler)
    }

    /// Calls `handler` for events that no other handler was named for. Without it they are ignored, as in
    /// Socket.IO.
    pub fn on_any_other<Kinds>(&self, handler: impl Handler<Kinds>) -> &Self {
        let run = Arc::new(move |call: &mut extract::Call<'_>| handler.call(call));
        let handler = EventHandler { run, order: Order::Concurrent };
        *self.handlers.on_any_other.write() = Some(handler);
        self
    }

    fn add<Kinds>(&self, event: &str, order: Order, handler: impl Handler<Kinds>) -> &Self {
        let run = Arc::new(move |call: &mut extract::Call<'_>| handler.call(call));
        self.handlers.events.write().insert(event.into(), EventHandler { run, order });
        self
    }

    /// Everybody; for more choice see [`Broadcast`].
    pub fn everybody<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(&self.hub))
    }

    /// The members of a room.
    pub fn to<'a>(&self, room: &'a str) -> Broadcast<'a> {
        self.everybody().to(room)
    }

    /// Everybody but the members of a room.
    pub fn except<'a>(&self, room: &'a str) -> Broadcast<'a> {
        self.everybody().except(room)
    }

    /// Sends an event to everybody; to how many.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Result<usize, EncodeError> {
        self.everybody().emit(event, args)
    }

    /// Sends an event to everybody and waits for the acknowledgements.
    ///
    /// # Errors
    /// As [`Broadcast::emit_with_ack`].
    pub async fn emit_with_ack(
        &self,
        event: &str,
        args: impl ToArgs,
        timeout: Duration,
    ) -> Result<Replies, EncodeError> {
        self.everybody().emit_with_ack(event, args, timeout).await
    }

    /// The sockets that are connected.
    pub fn fetch_sockets(&self) -> Vec<Socket> {
        self.everybody().fetch_sockets()
    }

    /// How many sockets are connected.
    pub fn connections(&self) -> usize {
        self.hub.len()
    }

    pub fn socket(&self, id: SocketId) -> Option<Socket> {
        self.hub.find(id)
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn handlers(&self) -> &Arc<Handlers> {
        &self.handlers
    }
}
