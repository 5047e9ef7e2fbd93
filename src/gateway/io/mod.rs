//! Socket.IO for Rust programs: namespaces, their handlers, their sockets and rooms.
//!
//! Owns: what a Socket.IO server's API is in Node ([`Io`], [`Namespace`], [`Socket`], [`Broadcast`]); the
//! application's own events are written on it, as a user's are. May import: `wire`, and of the gateway
//! what is below it (`outbound`, `websocket`, `metrics`, `options`) and the engine that serves it.
//!
//! What always holds: an event is encoded once, whoever gets it; nobody waits for another's socket; what
//! is sent to a room costs its members, not the sockets of others.

mod ack;
mod acks;
mod broadcast;
mod extensions;
mod extract;
mod handlers;
mod hub;
mod namespace;
mod namespaces;
mod nodes;
mod outgoing;
mod reason;
mod recovery;
mod socket;
mod socket_id;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::routing::any;
use bytes::Bytes;
use http::{Request, Response};

pub use ack::Ack;
pub use acks::{AckError, AllReplies, Replies, Reply};
pub use broadcast::Broadcast;
pub use extract::{
    ArgError, Attachments, Call, Contextual, EventName, FromCall, Handler, Positional, Running,
};
pub use handlers::ConnectError;
pub use hub::JoinError;
pub use namespace::Namespace;
pub use reason::DisconnectReason;
pub use socket::Socket;
pub use socket_id::SocketId;

pub(super) use handlers::{Handlers, Order};
pub(super) use hub::Hub;
pub(super) use namespaces::Namespaces;
pub use nodes::{Gathered, RemoteSocket};
pub(super) use nodes::{Items, Nodes, Question, RoomPost};
pub(super) use outgoing::{Draft, Outgoing, Parser, ROW_BYTES_MAX};
pub(super) use recovery::{Claim, Keeping, Noted, Recovery, Store};
pub(super) use socket::greeting;

use super::engine::Engine;
use super::metrics::Metrics;
use super::options::GatewayOptions;
use crate::backend::Cache;
use crate::model::clock::{SharedClock, SystemClock};
use crate::wire::socket_io::ParseError;

/// A Socket.IO server, to be mounted in a program's own axum router. Clones are the same server.
///
/// ```no_run
/// use std::time::Duration;
/// use leveret::gateway::{Ack, ConnectError, GatewayOptions, Io, Socket};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Auth { name: String }
/// struct Name(String);
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let io = Io::new(GatewayOptions::default());
/// io.of("/chat")?
///     .middleware(|socket: Socket, auth: Auth| async move {
///         if auth.name.is_empty() {
///             return Err(ConnectError::new("no name").with_data("say who you are"));
///         }
///         socket.insert(Name(auth.name));
///         Ok(())
///     })
///     .on("join", |socket: Socket, room: String, ack: Ack| async move {
///         let joined = socket.join(&room).is_ok();
///         ack.send(&joined).ok();
///     })
///     .on("say", |socket: Socket, room: String, text: String, urgent: Option<bool>| async move {
///         let name = socket.get::<Name>().map(|name| name.0.clone());
///         socket.to(&room).emit("said", (name, text, urgent)).ok();
///     })
///     .on("ask me", |socket: Socket| async move {
///         let reply = socket.emit_with_ack("how are you?", (), Duration::from_secs(5)).await;
///         if let Ok(mood) = reply.map(|reply| reply.arg::<String>(0)) {
///             println!("{mood:?}");
///         }
///     });
/// let app = axum::Router::new().merge(io.router());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// // With the addresses of the clients: see `Io::router`.
/// let app = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
/// axum::serve(listener, app).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Io {
    engine: Arc<Engine>,
}

impl Io {
    /// A server with the namespace `/`. Needs a Tokio runtime; metrics go to the recorder of this moment.
    /// It asks nobody who they are before a [`Namespace::middleware`] does.
    /// With [`GatewayOptions::recovery`] a client that comes back gets what it missed; only
    /// [`Self::with_cache`] also has that outlive the process.
    pub fn new(options: GatewayOptions) -> Self {
        Self::over(options, None, SystemClock::shared())
    }

    /// As [`Self::new`], on a cache that keeps what recovery needs.
    pub fn with_cache(options: GatewayOptions, cache: Cache, clock: SharedClock) -> Self {
        Self::over(options, Some(cache), clock)
    }

    fn over(options: GatewayOptions, cache: Option<Cache>, clock: SharedClock) -> Self {
        let queue_bytes_max = options.limits.queue_bytes_max;
        let keeping = match options.recovery.clone() {
            Some(options) => {
                Keeping::On(Store { options, cache, shared: None, clock, queue_bytes_max })
            }
            None => Keeping::Off(cache),
        };
        let namespaces = Namespaces::new(options.limits.clone(), Arc::new(Metrics::new()), keeping);
        Self { engine: Engine::new(options, Arc::new(namespaces)) }
    }

    /// The namespace of this name, made if there is none; the slash in front may be left out.
    ///
    /// # Errors
    /// [`ParseError::Namespace`] when the name is too long, or holds a comma or a control character.
    pub fn of(&self, name: &str) -> Result<Namespace, ParseError> {
        self.engine.namespaces.of(name)
    }

    /// The namespace `/`.
    pub fn root(&self) -> &Namespace {
        self.engine.namespaces.root()
    }

    /// Answers one HTTP request, whatever its path. For a WebSocket the connection must be served with
    /// upgrades.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        self.engine.handle(request).await
    }

    /// The server at its path, [`PATH`](super::PATH) unless the options say otherwise.
    ///
    /// It has to be served by `into_make_service_with_connect_info::<SocketAddr>()`: without the client's
    /// address (`axum::extract::ConnectInfo`) no socket counts for one, and no proxy is trusted.
    pub fn router(&self) -> Router {
        let io = self.clone();
        let handler = move |request: Request<Body>| {
            let io = io.clone();
            async move { io.handle(request).await }
        };
        Router::new().route(self.engine.path(), any(handler))
    }

    /// Closes every transport after what is queued, in a few seconds at most. No Socket.IO DISCONNECT is
    /// sent, so stock clients reconnect.
    pub async fn shutdown(&self) {
        self.engine.shut_down(self.engine.namespaces.caught_up(), async {}).await;
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}
