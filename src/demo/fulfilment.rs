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
}

/// The `notification` of a completed order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderCompleted<'a> {
    r#type: &'static str,
    order_id: &'a str,
    user_id: &'a UserId,
}

impl Handler for Fulfilment {
    async fn handle(&self, message: &Message, failures: u32) -> Result<Tx, Failure> {
        let order: Order = serde_json::from_slice(&message.body)
            .map_err(|error| Failure::Message(format!("the body is no order: {error}")))?;
        let mut tx = Tx::new();
        // The same order published twice: its user was told already.
        if is_completed(&self.cache, &order.order_id).await? {
            return Ok(tx);
        }
        if let Err(error) = order.check() {
            let attempts = failures.saturating_add(1);
            save(&self.cache, &order.failed(attempts, ATTEMPTS_MAX, &error)).await?;
            return Err(Failure::Message(error));
        }
        let order = order.completed();
        tx.set_ex(Order::cache_key(&order.order_id), order.to_json(), ORDER_TTL);
        tx.notify(ORDER_UPDATES, update(&order));
        let (order_id, user_id) = (order.order_id.as_str(), &order.user_id);
        let completed = OrderCompleted { r#type: "order_completed", order_id, user_id };
        tx.emit(&Audience::User(user_id.clone()), "notification", &completed);
        Ok(tx)
    }
}

/// Reading and then writing is enough: an order's event is one message, which one worker holds.
async fn is_completed(cache: &Cache, order_id: &str) -> Result<bool, BackendError> {
    let cached = cache.get(&Order::cache_key(order_id)).await?;
    let order = cached.and_then(|json| serde_json::from_slice::<Order>(&json).ok());
    Ok(order.is_some_and(|order| order.status == Status::Completed))
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
