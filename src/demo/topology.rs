//! The exchanges and queues of the application.

use crate::backend::{BackendError, Broker};
use crate::model::message::Message;
use crate::model::names::{ExchangeName, NameError, QueueName, RoutingKey};
use crate::model::topology::{Backoff, ExchangeKind, ExchangeSpec, QueueSpec, RetryPolicy};

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
    let events = exchange(EVENTS_EXCHANGE);
    let dead_letters = exchange(DEAD_LETTER_EXCHANGE);
    for (name, kind) in [(&events, ExchangeKind::Topic), (&dead_letters, ExchangeKind::Direct)] {
        broker.declare_exchange(ExchangeSpec::durable(name.clone(), kind)).await?;
    }

    let failed_orders = failed_orders();
    broker.declare_queue(QueueSpec::durable(failed_orders.clone())).await?;
    broker.bind(&failed_orders, &dead_letters, &key(FAILED_ORDERS_KEY)).await?;
    let orders = queue(ORDERS_QUEUE);
    broker
        .declare_queue(
            QueueSpec::durable(orders.clone())
                .dead_letter(dead_letters.clone(), Some(key(FAILED_ORDERS_KEY)))
                .retry(retry()),
        )
        .await?;
    broker.bind(&orders, &events, &key("order.*")).await?;

    // A queue of its own: an event that failed is no order, and a key that nothing is bound to would
    // lose it.
    let failed_user_events = queue(FAILED_USER_EVENTS_QUEUE);
    broker.declare_queue(QueueSpec::durable(failed_user_events.clone())).await?;
    broker.bind(&failed_user_events, &dead_letters, &key(FAILED_USER_EVENTS_QUEUE)).await?;
    let user_events = queue(USER_EVENTS_QUEUE);
    broker
        .declare_queue(
            QueueSpec::durable(user_events.clone())
                .message_ttl_ms(USER_EVENTS_TTL_MS)
                .dead_letter(dead_letters.clone(), Some(key(FAILED_USER_EVENTS_QUEUE)))
                .retry(retry()),
        )
        .await?;
    for event in ["user.registered", "user.updated", "user.deleted"] {
        broker.bind(&user_events, &events, &key(event)).await?;
    }
    Ok(Queues { orders, user_events })
}

/// The queue of the orders that could not be processed.
pub(super) fn failed_orders() -> QueueName {
    queue(FAILED_ORDERS_QUEUE)
}

/// A persistent JSON event for the exchange `events`.
pub(super) fn event(
    routing_key: &'static str,
    message_id: String,
    now_ms: u64,
    body: Vec<u8>,
) -> Message {
    let mut message = Message::new(exchange(EVENTS_EXCHANGE), key(routing_key), body).persistent();
    message.properties.content_type = Some("application/json".to_owned());
    message.properties.kind = Some(routing_key.to_owned());
    message.properties.message_id = Some(message_id);
    message.properties.timestamp_s = Some(now_ms / 1000);
    message
}

fn retry() -> RetryPolicy {
    RetryPolicy {
        attempts_max: ATTEMPTS_MAX,
        backoff: Backoff::Exponential { first_ms: 2_000, max_ms: 30_000 },
        jitter: 0.1,
    }
}

fn exchange(name: &'static str) -> ExchangeName {
    checked(name)
}

fn queue(name: &'static str) -> QueueName {
    checked(name)
}

fn key(name: &'static str) -> RoutingKey {
    checked(name)
}

#[expect(clippy::expect_used, reason = "the names above are literals; a test makes all of them")]
fn checked<N: TryFrom<&'static str, Error = NameError>>(name: &'static str) -> N {
    N::try_from(name).expect("a literal that the rule of its kind of name admits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker;
    use crate::journal::Journal;
    use crate::model::clock::SystemClock;

    fn broker() -> Broker {
        let clock = SystemClock::shared();
        let recovery = broker::Recovery::default();
        Broker::Embedded(broker::Broker::new(Journal::in_memory(), clock, recovery))
    }

    #[tokio::test]
    async fn events_reach_the_queue_of_their_kind() {
        let broker = broker();
        let queues = declare(&broker).await.unwrap();
        for kind in ["order.created", "user.registered", "user.updated", "user.deleted"] {
            let message = event(kind, "m1".to_owned(), 1_000, b"{}".to_vec());
            broker.publish(message).await.unwrap().confirmed().await.unwrap();
        }
        assert_eq!(broker.peek(&queues.orders, 10).await.unwrap().len(), 1);
        assert_eq!(broker.peek(&queues.user_events, 10).await.unwrap().len(), 3);
        assert_eq!(broker.peek(&failed_orders(), 10).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_restart_declares_the_same_again() {
        let broker = broker();
        declare(&broker).await.unwrap();
        declare(&broker).await.unwrap();
    }
}
