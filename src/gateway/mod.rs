//! Socket.IO version 4: stock clients over HTTP long-polling and WebSocket; rooms, presence, history.
//!
//! Owns: Engine.IO sessions (`engine`), the Socket.IO connection on top of each (`socket_io`), the
//! library that a Rust program builds namespaces with (`io`), and on it the application: its events
//! (`events`), rooms, presence and history, who may connect (`auth`, `cors`), and the ways to the broker
//! and back (`client_events`, `bridge`), and to pub/sub (`channels`).
//! May import: `model`, `wire`, `backend`. Only `websocket` names fastwebsockets.
//!
//! What always holds: a session has one queue, bounded in bytes, and nobody waits for another session;
//! a message is broadcast after it is durable, in the order of its room's log; a newcomer's history and
//! what it is sent after it are that log without a gap or a duplicate; a client that comes back in time
//! is sent all that it missed, or is told that it is new (`io/recovery`); personal rooms and sockets cannot
//! be named by clients.

mod application;
mod auth;
mod bridge;
mod channels;
mod client_events;
mod close_reason;
mod cors;
mod directory;
mod engine;
mod error;
mod event_bridge;
mod events;
mod expiry;
mod forwarded;
mod guard;
mod history;
mod io;
mod leases;
mod member;
mod metrics;
mod options;
mod outbound;
mod presence;
mod rate;
mod repeats;
mod replies;
mod room;
mod rooms;
mod roster;
mod shrink;
mod socket_io;
pub mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use serde::Serialize;
use serde_json::value::RawValue;

pub use auth::{Authenticator, Claims};
pub use close_reason::CloseReason;
pub use directory::{Member, Part, Presence};
pub use error::GatewayError;
pub use event_bridge::{EVENTS_EXCHANGE, EventBridge, EventBridgeError};
pub use forwarded::{Network, NetworkError};
pub use io::{
    Ack, AckError, AllReplies, ArgError, Attachments, Broadcast, Call, ConnectError, Contextual,
    DisconnectReason, EventName, FromCall, Gathered, Handler, Io, JoinError, Namespace, Positional,
    RemoteSocket, Replies, Reply, Running, Socket, SocketId,
};
pub use options::{GatewayOptions, Limits, PATH, Recovery};
pub use rate::EventRate;

pub use crate::wire::socket_io::{Binary, PayloadError, ToArgs, check_payload, is_reserved};

use self::application::Application;
use self::channels::Source;
use crate::backend::{Audience, Cache};
use crate::model::clock::SharedClock;
use crate::model::names::{RoomId, UserId};

/// The application of rooms, presence and history, on a Socket.IO server's namespace `/`. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    io: Io,
    application: Arc<Application>,
}

impl Gateway {
    /// Starts a gateway on a cache. Needs a Tokio runtime; metrics go to the recorder of this moment.
    pub fn new(options: GatewayOptions, cache: Cache, clock: SharedClock) -> Self {
        let io = Io::with_cache(options.clone(), cache.clone(), Arc::clone(&clock));
        let metrics = Arc::clone(&io.engine().namespaces.metrics);
        let application = Application::start(&options, cache, clock, metrics, io.root());
        Self { io, application }
    }

    /// The server that it is on: more namespaces, and more events in its own.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// See [`Io::handle`].
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        self.io.handle(request).await
    }

    /// The gateway at the path of its options, [`PATH`] if nothing else was said.
    pub fn router(&self) -> Router {
        self.io.router()
    }

    /// Sends an event to a user's sockets, as the personal room `user:<id>`; how many there are. An event
    /// with a reserved name, or a payload without a JSON form, is logged and reaches nobody.
    pub fn emit_to_user(
        &self,
        user: &UserId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> usize {
        let sockets = self.application.emit_to_user(user, event, payload);
        let user = Audience::User(user.clone());
        self.application.channels.event(Source::Here, &user, event, payload);
        sockets
    }

    /// Sends an event to a room's members, after the messages that were broadcast before; how many
    /// there are. Waits while the room is behind.
    pub async fn emit_to_room(
        &self,
        room: &RoomId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> usize {
        let sent = self.application.emit_to_room(room, event, payload).await;
        let to = Audience::Room(room.clone());
        self.application.channels.event(Source::Here, &to, event, payload);
        match sent {
            // A room that ended in between had no members.
            Some(sent) => sent.await.unwrap_or_default(),
            None => 0,
        }
    }

    /// Sends an event to sockets and waits until it is sent, which with recovery is when it is durable; to
    /// how many.
    ///
    /// # Errors
    /// [`GatewayError::NotSent`].
    pub async fn emit(
        &self,
        to: &Audience,
        event: &str,
        payload: &RawValue,
    ) -> Result<usize, GatewayError> {
        let sent = self.application.emit(to, event, payload).await;
        let sockets = sent.ok_or(GatewayError::NotSent)?;
        self.application.channels.event(Source::Here, to, event, payload);
        Ok(sockets)
    }

    /// Waits while what is emitted waits for its commit, and is much already. Whoever emits for strangers
    /// waits here first.
    pub async fn has_room(&self) {
        self.application.log_has_room().await;
    }

    /// Sends an event to every socket; how many there are.
    pub fn emit_to_all(&self, event: &str, payload: &(impl Serialize + ?Sized)) -> usize {
        let sockets = self.application.emit_to_all(event, payload);
        self.application.channels.event(Source::Here, &Audience::All, event, payload);
        sockets
    }

    /// Sockets that are connected.
    pub fn connections(&self) -> usize {
        self.application.connections()
    }

    /// Engine.IO sessions that are open, whether they have connected a socket or not.
    pub fn sessions(&self) -> usize {
        self.io.engine().sessions()
    }

    /// Broadcasts what is on its way, then closes every transport, in a few seconds at most. No
    /// Socket.IO DISCONNECT is sent, so stock clients reconnect.
    pub async fn shutdown(&self) {
        let after = async {
            // Who was cut has left its rooms, which those hear who come back.
            self.application.flush_rooms().await;
            self.application.flush_presence().await;
            self.application.part_from_nodes().await;
        };
        self.io.engine().shut_down(self.application.flush_rooms(), after).await;
        self.application.end_lease().await;
    }
}
