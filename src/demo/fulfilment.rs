//! The worker of the queue `orders`.

use std::time::Duration;

use serde::Serialize;

use super::order::{Order, Status};
use super::topology::ATTEMPTS_MAX;
use super::worker::{Failure, Handler};
use crate::backend::{Audience, BackendError, Cache, Tx};
use crate::model::message::Message;
use crate::model::names::UserId;

/// How long an order can be asked for after it last changed.
pub(super) const ORDER_TTL: Duration = Duration::from_secs(60 * 60);
const ORDER_UPDATES: &str = "order-updates";

/// Processes orders: completes each and tells its user.
pub(super) struct Fulfilment {
    pub cache: Cache,
    /// Whether what follows from an order is one commit with its acknowledgement.
    pub in_one_commit: bool,
}

/// The `notification` of a completed order. Who gets it twice knows it by the order's id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderCompleted<'a> {
    r#type: &'static str,
    order_id: &'a str,
    user_id: &'a UserId,
}

impl Handler for Fulfilment {
    async fn handle(&self, message: &Message, failures: u32) -> Result<Tx, Failure> {
        let order = read(message)
            .map_err(|error| Failure::Message(format!("the body is no order: {error}")))?;
        let key = Order::cache_key(&order.order_id);
        let mut tx = Tx::new();
        loop {
            let cached = self.cache.get(&key).await?;
            if is_completed(cached.as_deref()) {
                // Its user was told, unless whoever completed it went away before that.
                if !self.in_one_commit && !self.is_told(&order).await? {
                    tell(&mut tx, &order);
                }
                return Ok(tx);
            }
            if let Err(error) = order.check() {
                let attempts = failures.saturating_add(1);
                save(&self.cache, &order.failed(attempts, ATTEMPTS_MAX, &error)).await?;
                return Err(Failure::Message(error));
            }
            let completed = order.clone().completed().to_json();
            if self.in_one_commit {
                tx.set_ex(key, completed, ORDER_TTL);
                break;
            }
            // A broker that lost sight of a worker gives its order to a second one.
            let expected = cached.as_deref();
            if self.cache.compare_and_set(&key, expected, completed, ORDER_TTL).await? {
                break;
            }
        }
        tell(&mut tx, &order);
        tx.notify(ORDER_UPDATES, update(&order.completed()));
        Ok(tx)
    }

    /// Its user was told: a second delivery, as by who redrives it, need not tell again.
    async fn applied(&self, message: &Message) -> Result<(), BackendError> {
        let Ok(order) = read(message) else { return Ok(()) };
        self.cache.set(&told_key(&order), "1", Some(ORDER_TTL)).await
    }
}

impl Fulfilment {
    async fn is_told(&self, order: &Order) -> Result<bool, BackendError> {
        Ok(self.cache.get(&told_key(order)).await?.is_some())
    }
}

fn read(message: &Message) -> Result<Order, serde_json::Error> {
    serde_json::from_slice(&message.body)
}

fn told_key(order: &Order) -> String {
    format!("order-told:{}", order.order_id)
}

fn tell(tx: &mut Tx, order: &Order) {
    let (order_id, user_id) = (order.order_id.as_str(), &order.user_id);
    let completed = OrderCompleted { r#type: "order_completed", order_id, user_id };
    tx.emit(&Audience::User(user_id.clone()), "notification", &completed);
}

fn is_completed(cached: Option<&[u8]>) -> bool {
    let order = cached.and_then(|json| serde_json::from_slice::<Order>(json).ok());
    order.is_some_and(|order| order.status == Status::Completed)
}

/// Puts the order where `GET /api/orders/{id}` finds it.
pub(super) async fn save(cache: &Cache, order: &Order) -> Result<(), BackendError> {
    cache.set(&Order::cache_key(&order.order_id), order.to_json(), Some(ORDER_TTL)).await
}

/// Publishes {orderId, userId, status} on `order-updates`. At most once, as pub/sub is: whoever must know
/// asks for the order.
pub(super) async fn announce(cache: &Cache, order: &Order) {
    if let Err(error) = cache.publish(ORDER_UPDATES, update(order)).await {
        tracing::warn!(%error, "an order's update was not published");
    }
}

fn update(order: &Order) -> String {
    let update = serde_json::json!({
        "orderId": order.order_id,
        "userId": order.user_id,
        "status": order.status,
    });
    update.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Embedded, Subscription};
    use crate::model::clock::SystemClock;
    use crate::model::names::{ExchangeName, QueueName, RoutingKey};
    use crate::model::topology::{EMIT_EXCHANGE, ExchangeKind, ExchangeSpec, QueueSpec};

    /// What was published on a channel so far.
    async fn heard(updates: &mut Subscription, cache: &Cache) -> usize {
        cache.publish(ORDER_UPDATES, "end").await.unwrap();
        let mut count = 0;
        while updates.next().await.unwrap() != "end" {
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn an_order_that_two_workers_have_is_completed_once_and_told_again_under_its_id() {
        let engines = Embedded::in_memory(SystemClock::shared());
        let (broker, cache) = (engines.broker(), engines.cache());
        let exchange = ExchangeName::new(EMIT_EXCHANGE).unwrap();
        let declared = ExchangeSpec::durable(exchange.clone(), ExchangeKind::Topic);
        broker.declare_exchange(declared).await.unwrap();
        let queue = QueueName::new("told").unwrap();
        broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
        broker.bind(&queue, &exchange, &RoutingKey::new("#").unwrap()).await.unwrap();
        let mut told = broker.consume(&queue, 100).await.unwrap();
        let mut updates = cache.subscribe(ORDER_UPDATES).await.unwrap();

        let json = r#"{"orderId":"o-1","userId":"ada","items":[],"total":1}"#;
        cache.set(&Order::cache_key("o-1"), json, None).await.unwrap();
        let message = Message::new("".try_into().unwrap(), "orders".try_into().unwrap(), json);
        let fulfilment = Fulfilment { cache: cache.clone(), in_one_commit: false };
        let (one, other) =
            tokio::join!(fulfilment.handle(&message, 0), fulfilment.handle(&message, 0));
        let (one, other) = (one.unwrap(), other.unwrap());
        // The first went away before it told anybody: the second does.
        drop(one);
        other.apply(&broker, &cache).await.unwrap();
        assert_eq!(heard(&mut updates, &cache).await, 0);
        // That one went away before it could say so, and the event was redriven, which leaves no trace on it.
        fulfilment.handle(&message, 0).await.unwrap().apply(&broker, &cache).await.unwrap();
        fulfilment.applied(&message).await.unwrap();
        fulfilment.handle(&message, 0).await.unwrap().apply(&broker, &cache).await.unwrap();
        assert_eq!(heard(&mut updates, &cache).await, 0);
        let (first, second) = (told.next().await.unwrap(), told.next().await.unwrap());
        assert_eq!(first.message().body, second.message().body);
        assert!(str::from_utf8(&first.message().body).unwrap().contains(r#""orderId":"o-1""#));
        let status = broker.queue(&queue).await.unwrap();
        assert_eq!((status.ready, status.unacked), (0, 2));
    }
}
