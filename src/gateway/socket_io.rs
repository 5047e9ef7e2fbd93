//! Socket.IO, protocol 5, over one session: what each packet does to the connection.
//!
//! Source: <https://socket.io/docs/v4/socket-io-protocol/>; where it is silent, the stock server decides.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::close_reason::CloseReason;
use super::io::{
    Ack, ArgError, Call, Claim, ConnectError, DisconnectReason, Handlers, Namespaces, Order,
    Outgoing, Parser, Reply, Running, Socket, greeting,
};
use super::outbound::Outbound;
use super::rate::Bucket;
use crate::wire::socket_io::{
    Body, Decoder, Limits, Namespace, Packet, ParseError, encode, msgpack, without_lone_surrogates,
};

/// Handlers of one session that may wait for something at a time; then its messages wait too.
const HANDLERS_WAITING_MAX: usize = 64;

/// The receiving side of a session. Whoever reads the session's messages owns it for that time.
pub struct Connection {
    namespaces: Arc<Namespaces>,
    outbound: Arc<Outbound>,
    decoder: Decoder,
    limits: Limits,
    /// Its first message tells.
    parser: Option<Parser>,
    joined: SmallVec<[Joined; 1]>,
    /// Of the handlers that wait; made for the first one.
    waiting: Option<Arc<Semaphore>>,
    bucket: Bucket,
}

/// A namespace that the client has connected to. It stays here when the server disconnects it, since
/// the client may not know yet, and what it still sends there is no mistake of its.
struct Joined {
    socket: Socket,
    handlers: Arc<Handlers>,
}

impl Connection {
    pub fn new(namespaces: Arc<Namespaces>, outbound: Arc<Outbound>) -> Self {
        let limits = Limits {
            attachments_max: namespaces.limits.attachments_max,
            attachments_bytes_max: namespaces.limits.attachments_bytes_max(),
            depth_max: namespaces.limits.depth_max,
        };
        Self {
            namespaces,
            outbound,
            decoder: Decoder::new(limits),
            limits,
            parser: None,
            joined: SmallVec::new(),
            waiting: None,
            bucket: Bucket::default(),
        }
    }

    /// Takes a text message. Waits while the session or a handler is behind.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub async fn text(&mut self, text: &str) -> Result<(), CloseReason> {
        if *self.parser.get_or_insert(Parser::Text) != Parser::Text {
            return Err(unreadable(ParseError::MessagePack("it is text")));
        }
        let text = without_lone_surrogates(text);
        match self.decoder.text(&text).map_err(unreadable)? {
            Some(packet) => self.packet(packet, &[]).await,
            // Nothing that has attachments is allowed before: none of them is kept for a stranger.
            None if self.joined.is_empty() => Err(CloseReason::ForcedClose),
            None => Ok(()),
        }
    }

    /// Takes a binary message: an attachment, or a whole packet of the MessagePack parser.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub async fn binary(&mut self, message: Bytes) -> Result<(), CloseReason> {
        match *self.parser.get_or_insert(Parser::MessagePack) {
            Parser::Text => match self.decoder.binary(message).map_err(unreadable)? {
                Some(complete) => {
                    let packet = complete.packet().map_err(unreadable)?;
                    self.packet(packet, complete.attachments()).await
                }
                None => Ok(()),
            },
            Parser::MessagePack => {
                let (text, attachments) =
                    msgpack::decode(&message, self.limits).map_err(unreadable)?;
                let packet = Packet::parse(&text, attachments.len()).map_err(unreadable)?;
                self.packet(packet, &attachments).await
            }
        }
    }

    /// The session ended.
    pub async fn closed(&mut self) {
        let reason = self.outbound.close_reason().unwrap_or(CloseReason::TransportClose);
        for Joined { socket, .. } in std::mem::take(&mut self.joined) {
            if let Some(told) = socket.depart(DisconnectReason::Session(reason)) {
                told.await;
            }
        }
    }

    async fn packet(
        &mut self,
        packet: Packet<'_>,
        attachments: &[Bytes],
    ) -> Result<(), CloseReason> {
        self.outbound.has_room().await;
        self.log_has_room(&packet).await;
        let name = packet.namespace;
        let at = self.joined.iter().position(|joined| joined.socket.namespace() == &*name);
        let is_connected = at.is_some_and(|at| self.joined[at].socket.is_connected());
        if matches!(packet.body, Body::Connect { .. } | Body::Event { .. }) && !self.may_send() {
            self.refuse_rate(at);
            return Err(CloseReason::TooManyEvents);
        }
        match (packet.body, at) {
            (Body::Connect { auth }, at) if !is_connected => {
                at.map(|at| self.joined.swap_remove(at));
                self.connect(name, auth).await;
                Ok(())
            }
            (Body::Disconnect, Some(at)) => {
                let Joined { socket, .. } = self.joined.swap_remove(at);
                if let Some(told) = socket.depart(DisconnectReason::ClientNamespace) {
                    told.await;
                }
                Ok(())
            }
            (Body::Event { .. } | Body::Ack { .. }, Some(_)) if !is_connected => Ok(()),
            (Body::Event { id, name, args, .. }, Some(at)) => {
                self.event(at, &name, &args, attachments, id).await;
                Ok(())
            }
            (Body::Ack { id, args, .. }, Some(at)) => {
                let socket = &self.joined[at].socket;
                socket.acknowledged(id, || Reply::new(&args, attachments));
                Ok(())
            }
            // As the stock server: a packet that the state does not allow ends the session.
            _ => Err(CloseReason::ForcedClose),
        }
    }

    /// Waits while the log of events is behind, which this client's events may add to.
    async fn log_has_room(&self, packet: &Packet<'_>) {
        let namespace = packet.namespace;
        let joined = self.joined.iter().find(|joined| joined.socket.namespace() == &*namespace);
        let recovery = joined.and_then(|joined| joined.socket.hub().recovery());
        if let (Some(recovery), Body::Event { .. }) = (recovery, &packet.body) {
            self.outbound.set_held(true);
            tokio::select! {
                () = recovery.has_room() => {}
                _ = self.outbound.closed() => {}
            }
            self.outbound.set_held(false);
        }
    }

    fn may_send(&mut self) -> bool {
        let rate = self.namespaces.limits.event_rate;
        rate.is_none_or(|rate| self.bucket.take(rate, Instant::now()))
    }

    fn refuse_rate(&self, at: Option<usize>) {
        self.namespaces.metrics.refusals.increment(1);
        if let Some(Joined { socket, .. }) = at.and_then(|at| self.joined.get(at)) {
            tell_error(socket, "Too many events");
        }
    }

    async fn event(
        &mut self,
        at: usize,
        name: &str,
        args: &[&RawValue],
        attachments: &[Bytes],
        ack: Option<u64>,
    ) {
        self.namespaces.metrics.events.increment(1);
        let Joined { socket, handlers } = &self.joined[at];
        let Some(handler) = handlers.of(name) else { return };
        let mut call = Call { socket, name, args, attachments, ack, next: 0 };
        match (handler.run)(&mut call) {
            Ok(running) if handler.order == Order::InOrder => {
                self.outbound.set_held(true);
                guarded(running).await;
                self.outbound.set_held(false);
            }
            Ok(running) => self.begin(running).await,
            Err(error) => self.refuse_event(socket, name, &error, ack),
        }
    }

    /// Runs a handler until it waits for something, and lets it go on by itself.
    async fn begin(&mut self, running: Running) {
        let mut running = Box::pin(guarded(running));
        let is_done = std::future::poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready()));
        if is_done.await {
            return;
        }
        let waiting =
            self.waiting.get_or_insert_with(|| Semaphore::new(HANDLERS_WAITING_MAX).into());
        let place = match Arc::clone(waiting).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                self.outbound.set_held(true);
                let place = tokio::select! {
                    place = Arc::clone(waiting).acquire_owned() => place.ok(),
                    _ = self.outbound.closed() => None,
                };
                self.outbound.set_held(false);
                place
            }
        };
        tokio::spawn(async move {
            running.await;
            drop(place);
        });
    }

    fn refuse_event(&self, socket: &Socket, name: &str, error: &ArgError, ack: Option<u64>) {
        self.namespaces.metrics.refusals.increment(1);
        let text = format!("{name}: {error}");
        tell_error(socket, &text);
        // A text always has a JSON form.
        let _ = Ack::new(socket.clone(), ack).send(json!({ "error": text }));
    }

    async fn connect(&mut self, name: Namespace<'_>, auth: Option<&RawValue>) {
        let Some(namespace) = self.namespaces.find(&name) else {
            return self.refuse_connect(name, &ConnectError::new("Invalid namespace"));
        };
        let (hub, parser) = (Arc::clone(namespace.hub()), self.parser.unwrap_or_default());
        let socket = Socket::new(hub, Arc::clone(&self.outbound), parser);
        let handlers = Arc::clone(namespace.handlers());
        let claim = Claim::of(auth);
        self.outbound.set_held(true);
        let asked = match (socket.hub().recovery(), &claim) {
            (Some(recovery), Some(claim)) => recovery.ask_holder(claim).await,
            _ => None,
        };
        let admitted = guarded(handlers.admit(&socket, auth)).await;
        self.outbound.set_held(false);
        match admitted {
            Some(Ok(())) => {}
            Some(Err(refusal)) => return self.refuse_connect(name, &refusal),
            None => return self.refuse_connect(name, &ConnectError::new("Internal server error")),
        }
        let hub = Arc::clone(socket.hub());
        let socket = match hub.recovery() {
            None => {
                socket.admit(&greeting(name, socket.id(), None));
                socket
            }
            Some(recovery) => {
                self.outbound.set_held(true);
                let admitted = recovery.admit(&hub, &socket, claim.as_ref(), asked).await;
                self.outbound.set_held(false);
                if let Some(replaced) = admitted.replaced {
                    guarded(replaced.tell_gone(DisconnectReason::Resumed)).await;
                }
                admitted.socket
            }
        };
        self.outbound.mark_joined();
        self.joined.push(Joined { socket: socket.clone(), handlers: Arc::clone(&handlers) });
        for running in handlers.connected(&socket) {
            if socket.recovered() {
                guarded(running).await;
            } else {
                self.begin(running).await;
            }
        }
    }

    fn refuse_connect(&self, name: Namespace<'_>, refusal: &ConnectError) {
        let data =
            refusal.data.as_ref().and_then(|data| serde_json::value::to_raw_value(data).ok());
        let packet = Outgoing::packet(|out| {
            encode::connect_error(out, name, &refusal.message, data.as_deref());
        });
        self.outbound.reply_all(packet.frames(self.parser.unwrap_or_default()));
    }
}

/// An answer to what the client did, which nobody is told of later.
fn tell_error(socket: &Socket, text: &str) {
    let told = Outgoing::event(socket.hub().name(), "error", None, &json!({ "message": text }));
    // A text always has a JSON form.
    if let Ok(event) = told {
        socket.answer(&event);
    }
}

/// Runs what an application wrote. `None`: it panicked, which ends nothing but itself.
async fn guarded<T>(running: impl Future<Output = T>) -> Option<T> {
    let mut running = std::pin::pin!(running);
    std::future::poll_fn(move |cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Some),
            Err(_) => {
                tracing::error!("a handler panicked");
                Poll::Ready(None)
            }
        }
    })
    .await
}

fn unreadable(error: ParseError) -> CloseReason {
    tracing::debug!(%error, "a packet could not be read");
    CloseReason::ParseError
}
