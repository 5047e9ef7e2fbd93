//! The way from the broker to the sockets: what is published on `leveret.emit` is sent.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::Gateway;
use super::channels::Source;
use crate::backend::{Audience, BackendError, Broker, ConsumeOptions, Consumer};
use crate::broker::BrokerError;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};
use crate::model::topology::{EMIT_EXCHANGE, ExchangeKind, ExchangeSpec, QueueSpec};
use crate::wire::socket_io::{PayloadError, check_payload};

/// Messages that wait for the gateway; the oldest go first, as it takes each at most once.
const WAITING_BYTES_MAX: u64 = 64 << 20;

/// The queue of nodes that share a broker and a cache.
const SHARED_QUEUE: &str = "leveret.emit.nodes";

impl Gateway {
    /// Takes every event that is published from now on. The future sends them to the sockets for as long
    /// as the broker lives; it is to be spawned.
    ///
    /// The routing key says who gets an event (`room.<id>`, `user.<id>`, `all`), the message's type is
    /// its name, the body its payload in JSON. What is not of that form is logged and dropped.
    ///
    /// # Errors
    /// A broker that does not answer.
    pub async fn bridge(
        &self,
        broker: &Broker,
    ) -> Result<impl Future<Output = ()> + Send + use<>, BackendError> {
        let exchange = ExchangeName::new(EMIT_EXCHANGE).map_err(BrokerError::from)?;
        broker
            .declare_exchange(ExchangeSpec::durable(exchange.clone(), ExchangeKind::Topic))
            .await?;
        // Each gateway has its own queue; of nodes that share their sockets too one takes all.
        let queue = match broker.is_shared() && self.application.is_among_nodes() {
            true => declare_shared_queue(broker).await?,
            false => declare_own_queue(broker, EMIT_EXCHANGE).await?,
        };
        let everything = RoutingKey::new("#").map_err(BrokerError::from)?;
        broker.bind(&queue, &exchange, &everything).await?;
        let events = consume_own_queue(broker, &queue).await?;
        Ok(send_all(self.clone(), events))
    }
}

/// The queue of which one node at a time sends the events to all; the next one takes over when that is gone.
async fn declare_shared_queue(broker: &Broker) -> Result<QueueName, BackendError> {
    let queue = QueueName::new(SHARED_QUEUE).map_err(BrokerError::from)?;
    let mut spec = QueueSpec::durable(queue.clone()).auto_delete().single_active_consumer();
    spec.settings.length_bytes_max = Some(WAITING_BYTES_MAX);
    broker.declare_queue(spec).await?;
    Ok(queue)
}

/// A queue of this process alone, which is gone with it.
pub async fn declare_own_queue(broker: &Broker, prefix: &str) -> Result<QueueName, BackendError> {
    let queue = QueueName::new(format!("{prefix}.{}", Uuid::new_v4().simple()));
    let queue = queue.map_err(BrokerError::from)?;
    let mut spec = QueueSpec::transient(queue.clone()).exclusive().auto_delete();
    spec.settings.length_bytes_max = Some(WAITING_BYTES_MAX);
    broker.declare_queue(spec).await?;
    Ok(queue)
}

/// Its messages, each of which is settled as it is taken.
pub async fn consume_own_queue(
    broker: &Broker,
    queue: &QueueName,
) -> Result<Consumer, BackendError> {
    let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    broker.consume_with(queue, options).await
}

async fn send_all(gateway: Gateway, mut events: Consumer) {
    while let Some(event) = events.next().await {
        let message = event.message();
        if let Err(reason) = send(&gateway, message).await {
            let key = message.routing_key.as_str();
            tracing::warn!(routing_key = key, reason, "an event for sockets is dropped");
        }
    }
}

async fn send(gateway: &Gateway, message: &Message) -> Result<(), &'static str> {
    let audience = Audience::of_routing_key(message.routing_key.as_str())
        .ok_or("the routing key is none of room.<id>, user.<id> and all")?;
    let name = message.properties.kind.as_deref().ok_or("it has no type")?;
    let payload: &RawValue =
        serde_json::from_slice(&message.body).map_err(|_| "the body is no JSON")?;
    check_payload(payload).map_err(|error| match error {
        PayloadError::TooDeep => "the body is nested too deeply",
        PayloadError::Unreadable(_) => "the body has a number or text that can't be read",
    })?;
    gateway.has_room().await;
    let application = &gateway.application;
    match &audience {
        Audience::Room(room) => {
            // Its place in the room's order is enough.
            let _ = application.emit_to_room(room, name, payload).await;
        }
        Audience::User(user) => drop(application.emit_to_user(user, name, payload)),
        Audience::All => drop(application.emit_to_all(name, payload)),
    }
    application.channels.event(Source::Broker, &audience, name, payload);
    Ok(())
}
