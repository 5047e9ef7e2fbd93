//! The way from the sockets to the broker: client events are published, and replies acknowledge them.
//!
//! What always holds: who sent an event stands in the message's headers, which the gateway alone writes;
//! events of one socket are published in their order; whatever keeps an event from being published, or
//! answered, is told to its client.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Gateway;
use super::bridge::{consume_own_queue, declare_own_queue};
use super::error::{GatewayError, Refusal};
use super::event_bridge::EventBridge;
use super::events::{is_personal, refuse, unknown};
use super::guard::Caller;
use super::io::{Ack, ArgError, Call, Contextual, EventName, FromCall, Socket};
use super::metrics::Metrics;
use super::replies::{Replies, ReplyArgs};
use crate::backend::{BackendError, Broker};
use crate::model::clock::SharedClock;
use crate::model::message::{Headers, Message, Value};
use crate::model::names::RoutingKey;
use crate::model::topology::{ExchangeKind, ExchangeSpec};
use crate::wire::socket_io::check_payload;

/// What the queue of replies is called, before a name of its own.
const REPLIES: &str = "leveret.replies";

impl Gateway {
    /// Publishes client events from now on: durable, with the event's name as routing key and type, the
    /// arguments as a JSON array for body, and the sender in the headers `user-id`, `username`,
    /// `socket-id`, `namespace` and `rooms`. For a client that asked for an acknowledgement the message
    /// has `reply_to` and `correlation_id`, and the reply's body becomes the acknowledgement's arguments
    /// (an array is the list of them). The future takes the replies for as long as the broker lives; it
    /// is to be spawned.
    ///
    /// A namespace other than `/` is made, and lets in who has a token. Its events are those of the
    /// bridge alone.
    ///
    /// # Errors
    /// A broker that does not answer; an exchange that takes no messages of clients.
    pub async fn bridge_events(
        &self,
        broker: &Broker,
        bridge: EventBridge,
    ) -> Result<impl Future<Output = ()> + Send + use<>, GatewayError> {
        match broker.exchange(bridge.exchange()).await {
            Ok(Some(spec)) if spec.internal => {
                return Err(GatewayError::InternalExchange { exchange: spec.name });
            }
            // A server that does not tell how it was declared has it.
            Ok(Some(_)) | Err(BackendError::Unsupported { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(None) => {
                let exchange = bridge.exchange().clone();
                broker
                    .declare_exchange(ExchangeSpec::durable(exchange, ExchangeKind::Topic))
                    .await?;
            }
        }
        let queue = declare_own_queue(broker, REPLIES).await?;
        let consumer = consume_own_queue(broker, &queue).await?;
        let replies = Arc::new(Replies::new(queue));
        let namespace = match bridge.namespace() {
            "/" => self.io.root().clone(),
            name => {
                let namespace = self.io.of(name).map_err(GatewayError::Namespace)?;
                self.application.guard(&namespace);
                namespace
            }
        };
        let publisher = Arc::new(Publisher {
            broker: broker.clone(),
            bridge,
            replies: Arc::clone(&replies),
            metrics: Arc::clone(&self.application.metrics),
            clock: Arc::clone(&self.application.clock),
        });
        namespace.on_any_other(
            move |socket: Socket, EventName(event): EventName, body: Body, ack: Ack| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.handle(socket, event, body, ack).await }
            },
        );
        Ok(replies.take_all(consumer))
    }
}

/// An event's arguments as a JSON array; or why they are none that a worker could read.
struct Body(Result<Bytes, Refusal>);

impl FromCall<Contextual> for Body {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        Ok(Self(body(call)))
    }
}

fn body(call: &Call<'_>) -> Result<Bytes, Refusal> {
    if !call.attachments.is_empty() {
        return Err(Refusal::Binary { event: shown(call.name) });
    }
    let mut body = Vec::with_capacity(call.args.iter().map(|arg| arg.get().len() + 1).sum());
    body.push(b'[');
    for (at, arg) in call.args.iter().enumerate() {
        check_payload(arg).map_err(|source| Refusal::Payload { number: at + 1, source })?;
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(arg.get().as_bytes());
    }
    body.push(b']');
    Ok(body.into())
}

struct Publisher {
    broker: Broker,
    bridge: EventBridge,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

impl Publisher {
    async fn handle(&self, socket: Socket, event: String, body: Body, ack: Ack) {
        let outcome = match self.bridge.takes(&event) {
            true => self.publish(&socket, &event, body, ack.is_wanted()).await,
            false => Err(unknown(&event)),
        };
        match outcome {
            Ok(None) => {}
            // What was JSON before is JSON now.
            Ok(Some(reply)) => drop(ack.send(reply)),
            Err(refusal) => refuse(&self.metrics, &socket, &refusal, ack),
        }
    }

    /// Publishes an event; the reply to it if one is wanted, otherwise returns when the event is durable.
    /// Nothing is waited for before it is published: the broker would have it behind a later one.
    async fn publish(
        &self,
        socket: &Socket,
        event: &str,
        body: Body,
        wants_reply: bool,
    ) -> Result<Option<ReplyArgs>, Refusal> {
        let caller = Caller::of(socket).ok_or(Refusal::AccessDenied)?;
        let mut message = self.message(socket, &caller, event, body.0?)?;
        let awaited = wants_reply.then(|| self.replies.expect(&caller.user)).transpose()?;
        if let Some(awaited) = &awaited {
            message.properties.reply_to = Some(self.replies.queue().as_str().to_owned());
            message.properties.correlation_id = Some(awaited.correlation_id.to_string());
        }
        let published = self.broker.try_publish_mandatory(message).await;
        let (confirm, is_routed) = published.map_err(Refusal::NotPublished)?;
        if !is_routed {
            return Err(Refusal::NobodyTakes { event: shown(event) });
        }
        self.metrics.bridged.increment(1);
        let confirmed = async { confirm.confirmed().await.map_err(Refusal::NotPublished) };
        let Some(mut awaited) = awaited else {
            confirmed.await?;
            return Ok(None);
        };
        let timeout = self.bridge.reply_timeout();
        let replied = async {
            // A worker may be done before the disk is: its reply says as much.
            let body = tokio::select! {
                biased;
                body = &mut awaited.body => body,
                failed = async { confirmed.await.err() } => match failed {
                    Some(refusal) => return Err(refusal),
                    None => (&mut awaited.body).await,
                },
            };
            // Its sender is dropped only with what is awaited.
            body.map_err(|_| Refusal::NoReply { event: shown(event), timeout })
        };
        let replied = tokio::time::timeout(timeout, replied).await;
        let body =
            replied.unwrap_or_else(|_| Err(Refusal::NoReply { event: shown(event), timeout }))?;
        let args = ReplyArgs::read(&body);
        args.map(Some).map_err(|reason| Refusal::ReplyUnreadable { event: shown(event), reason })
    }

    fn message(
        &self,
        socket: &Socket,
        caller: &Caller,
        event: &str,
        body: Bytes,
    ) -> Result<Message, Refusal> {
        let routing_key = RoutingKey::new(event).map_err(Refusal::EventName)?;
        let mut message =
            Message::new(self.bridge.exchange().clone(), routing_key, body).persistent();
        let properties = &mut message.properties;
        properties.headers = identity(socket, caller);
        properties.kind = Some(event.to_owned());
        properties.content_type = Some("application/json".to_owned());
        properties.message_id = Some(Uuid::new_v4().to_string());
        properties.timestamp_s = Some(self.clock.now_ms() / 1000);
        Ok(message)
    }
}

/// Who sent an event, as its token and the gateway know it.
fn identity(socket: &Socket, caller: &Caller) -> Headers {
    let rooms = socket.rooms();
    let rooms = rooms.iter().filter(|room| !is_personal(room));
    let mut headers = Headers::default();
    headers.set("user-id", caller.user.as_str());
    headers.set("username", &*caller.username);
    headers.set("socket-id", socket.id().to_string().as_str());
    headers.set("namespace", socket.namespace());
    headers.set("rooms", Value::List(rooms.map(|room| Value::from(&**room)).collect()));
    headers
}

/// As much of a name as is repeated to its sender.
fn shown(event: &str) -> String {
    event.chars().take(super::events::NAME_SHOWN_CHARS_MAX).collect()
}
