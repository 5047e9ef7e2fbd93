//! The orders that could not be processed: `GET /api/demo/dead-letters`, and their way back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::App;
use super::fulfilment::{ORDER_TTL, save};
use super::order::{Invalid, Order};
use super::topology::failed_orders;
use crate::backend::{BackendError, Death, Edit, Peeked};
use crate::broker::BrokerError;
use crate::http::{Json, Problem};

/// Messages that are listed, and can be edited, at a time.
const LISTED_MAX: usize = 100;
/// Bytes of the bodies in one list; at least one message is listed.
const LISTED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A message that could not be redriven may be tried again after this time.
const CLAIM_TTL: Duration = Duration::from_secs(5);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetter {
    id: String,
    order_id: Option<String>,
    user_id: Option<String>,
    error: Option<String>,
    /// Deliveries that failed.
    attempts: i64,
    /// Milliseconds since the Unix epoch.
    died_at: Option<u64>,
    /// The body, when it is JSON; any event may have ended here.
    order: Option<Box<RawValue>>,
}

impl DeadLetter {
    fn new(peeked: Peeked) -> Self {
        let Peeked { id, message, .. } = peeked;
        let death = Death::newest(&message);
        let order = serde_json::from_slice::<Order>(&message.body).ok();
        Self {
            id,
            order_id: order.as_ref().map(|order| order.order_id.clone()),
            user_id: order.map(|order| order.user_id.into()),
            error: death.and_then(|death| death.error).map(str::to_owned),
            attempts: death.map_or(0, |death| death.attempts),
            died_at: death.and_then(|death| death.at_s?.checked_mul(1000)),
            order: serde_json::from_slice(&message.body).ok(),
        }
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let peeked = app.broker.peek(&failed_orders(), LISTED_MAX).await?;
    let mut bytes = 0;
    let messages: Vec<DeadLetter> = peeked
        .into_iter()
        .take_while(|peeked| {
            let fits = bytes < LISTED_BYTES_MAX;
            bytes += peeked.message.body.len();
            fits
        })
        .map(DeadLetter::new)
        .collect();
    #[derive(Serialize)]
    struct DeadLetters {
        messages: Vec<DeadLetter>,
    }
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, axum::Json(DeadLetters { messages })).into_response())
}

#[derive(Deserialize)]
pub(super) struct RedriveRequest {
    /// What takes the place of the order's members.
    order: Option<Box<RawValue>>,
}

/// Sends a dead order back to its queue, as it is or edited.
pub(super) async fn redrive(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    Json(request): Json<RedriveRequest>,
) -> Result<Response, Problem> {
    let Ok(Path(id)) = id else { return Err(no_such_message()) };
    let dead = find(&app, &id).await?.ok_or_else(no_such_message)?;
    let order = serde_json::from_slice::<Order>(&dead.message.body).ok();
    let (order, body) = match request.order {
        None => (order.map(Order::redriven), None),
        Some(edit) => {
            let none = Invalid::new("order", "can't be edited: the message holds none");
            let order = order.ok_or(none)?.edited(&edit)?;
            let body = Bytes::from(order.to_json());
            (Some(order), Some(body))
        }
    };
    claim(&app, &id).await?;
    // Before it goes: its worker may be done before this function is.
    let mut before = None;
    if let Some(order) = &order {
        let key = Order::cache_key(&order.order_id);
        before = app.cache.get(&key).await?.map(|json| (key, json));
        save(&app.cache, order).await?;
    }
    match app.broker.redrive(&failed_orders(), &id, Edit { body, ..Edit::default() }).await {
        Ok(Some(_)) => Ok(axum::Json(serde_json::json!({ "success": true })).into_response()),
        Ok(None) => Err(no_such_message()),
        Err(BackendError::Broker(error @ BrokerError::NotRedrivable { .. })) => {
            // It stays dead, and its order what it was.
            if let Some((key, json)) = before {
                app.cache.set(&key, json, Some(ORDER_TTL)).await?;
            }
            Err(Problem::new(StatusCode::CONFLICT, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn find(app: &App, id: &str) -> Result<Option<Peeked>, Problem> {
    let peeked = app.broker.peek(&failed_orders(), LISTED_MAX).await?;
    Ok(peeked.into_iter().find(|peeked| peeked.id == id))
}

/// Of two redrives of one message at once, only one may set the order's state: the other could
/// overwrite what the worker has made of it meanwhile. Counting is atomic in the cache.
async fn claim(app: &App, id: &str) -> Result<(), Problem> {
    let claim = app.cache.rate_limit(&format!("redrive:{id}"), 1, CLAIM_TTL).await?;
    if claim.allowed {
        return Ok(());
    }
    Err(Problem::new(StatusCode::CONFLICT, "Dead letter is being redriven"))
}

fn no_such_message() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "Dead letter not found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::{Headers, Message, Value};
    use crate::model::names::{ExchangeName, RoutingKey};

    fn peeked(body: &str, headers: Headers) -> Peeked {
        let exchange = ExchangeName::new("dlx").unwrap();
        let mut message =
            Message::new(exchange, RoutingKey::new("failed").unwrap(), body.to_owned());
        message.properties.headers = headers;
        Peeked { id: "m1".to_owned(), message, redelivered: false }
    }

    #[test]
    fn a_dead_letter_tells_its_death() {
        let mut death = Headers::default();
        death.set("time", Value::Timestamp(1_700_000_000));
        let mut headers = Headers::default();
        headers.set("x-death", vec![Value::Table(death)]);
        headers.set("x-last-error", "the order's total is negative: -5");
        headers.set("x-retry-count", 3_i64);
        let body = r#"{"orderId":"o1","userId":"ada","items":[1.0],"total":-5}"#;
        let json = serde_json::to_value(DeadLetter::new(peeked(body, headers))).unwrap();
        assert_eq!(json["orderId"], "o1");
        assert_eq!(json["userId"], "ada");
        assert_eq!(json["error"], "the order's total is negative: -5");
        assert_eq!(json["attempts"], 3);
        assert_eq!(json["diedAt"], 1_700_000_000_000_u64);
        assert_eq!(json["order"]["total"], -5);
    }

    #[test]
    fn a_message_that_is_no_order_is_listed_all_the_same() {
        let json =
            serde_json::to_value(DeadLetter::new(peeked("\u{1}", Headers::default()))).unwrap();
        assert_eq!(json["id"], "m1");
        assert!(json["order"].is_null() && json["orderId"].is_null() && json["diedAt"].is_null());
    }
}
