//! The exchanges and queues of the application.

use crate::backend::{BackendError, Broker};
use crate::model::message::Message;
use crate::model::names::{ExchangeName, NameError, QueueName, RoutingKey};
use crate::model::topology::{
    Backoff, DeadLetter, ExchangeKind, ExchangeSpec, QueueSpec, RetryPolicy,
};

pub(super) const EVENTS_EXCHANGE: &str = "events";
const DEAD_LETTER_EXCHANGE: &str = "dlx";
const ORDERS_QUEUE: &str = "orders";
const FAILED_ORDERS_QUEUE: &str = "orders.failed";
const FAILED_ORDERS_KEY: &str = "failed";
const USER_EVENTS_QUEUE: &str = "user-events-queue";
const FAILED_USER_EVENTS_QUEUE: &str = "user-events.failed";
const USER_EVENTS_TTL_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) const PREFETCH: u16 = 10;
/// Deliveries in all, before a message is dead-lettered.
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// The queues that are consumed.
pub(super) struct Queues {
    pub orders: QueueName,
    pub user_events: QueueName,
}

/// Declares everything; the same declaration again changes nothing.
pub(super) async fn declare(broker: &Broker) -> Result<Queues, BackendError> {
    let events = exchange(EVENTS_EXCHANGE)?;
    let dead_letters = exchange(DEAD_LETTER_EXCHANGE)?;
    for (name, kind) in [(&events, ExchangeKind::Topic), (&dead_letters, ExchangeKind::Direct)] {
        broker.declare_exchange(ExchangeSpec { name: name.clone(), kind, durable: true }).await?;
    }

    let failed_orders = failed_orders()?;
    broker.declare_queue(QueueSpec::durable(failed_orders.clone())).await?;
    broker.bind(&failed_orders, &dead_letters, &key(FAILED_ORDERS_KEY)?).await?;
    let orders = queue(ORDERS_QUEUE)?;
    broker
        .declare_queue(QueueSpec {
            dead_letter: Some(dead_letter(&dead_letters, FAILED_ORDERS_KEY)?),
            retry: Some(retry()),
            ..QueueSpec::durable(orders.clone())
        })
        .await?;
    broker.bind(&orders, &events, &key("order.*")?).await?;

    // A queue of its own: an event that failed is no order, and a key that nothing is bound to would
    // lose it.
    let failed_user_events = queue(FAILED_USER_EVENTS_QUEUE)?;
    broker.declare_queue(QueueSpec::durable(failed_user_events.clone())).await?;
    broker.bind(&failed_user_events, &dead_letters, &key(FAILED_USER_EVENTS_QUEUE)?).await?;
    let user_events = queue(USER_EVENTS_QUEUE)?;
    broker
        .declare_queue(QueueSpec {
            message_ttl_ms: Some(USER_EVENTS_TTL_MS),
            dead_letter: Some(dead_letter(&dead_letters, FAILED_USER_EVENTS_QUEUE)?),
            retry: Some(retry()),
            ..QueueSpec::durable(user_events.clone())
        })
        .await?;
    for event in ["user.registered", "user.updated", "user.deleted"] {
        broker.bind(&user_events, &events, &key(event)?).await?;
    }
    Ok(Queues { orders, user_events })
}

/// The queue of the orders that could not be processed.
pub(super) fn failed_orders() -> Result<QueueName, BackendError> {
    queue(FAILED_ORDERS_QUEUE)
}

/// A persistent JSON event for the exchange `events`.
pub(super) fn event(
    routing_key: &str,
    message_id: String,
    now_ms: u64,
    body: Vec<u8>,
) -> Result<Message, BackendError> {
    let mut message =
        Message::new(exchange(EVENTS_EXCHANGE)?, key(routing_key)?, body).persistent();
    message.properties.content_type = Some("application/json".to_owned());
    message.properties.kind = Some(routing_key.to_owned());
    message.properties.message_id = Some(message_id);
    message.properties.timestamp_s = Some(now_ms / 1000);
    Ok(message)
}

fn retry() -> RetryPolicy {
    RetryPolicy {
        attempts_max: ATTEMPTS_MAX,
        backoff: Backoff::Exponential { first_ms: 2_000, max_ms: 30_000 },
        jitter: 0.1,
    }
}

fn dead_letter(exchange: &ExchangeName, routing_key: &str) -> Result<DeadLetter, BackendError> {
    Ok(DeadLetter { exchange: exchange.clone(), routing_key: Some(key(routing_key)?) })
}

fn exchange(name: &str) -> Result<ExchangeName, BackendError> {
    ExchangeName::new(name).map_err(refused)
}

fn queue(name: &str) -> Result<QueueName, BackendError> {
    QueueName::new(name).map_err(refused)
}

fn key(name: &str) -> Result<RoutingKey, BackendError> {
    RoutingKey::new(name).map_err(refused)
}

fn refused(error: NameError) -> BackendError {
    BackendError::Refused(error.to_string())
}
