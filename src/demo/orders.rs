//! `POST /api/orders` and `GET /api/orders/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::value::RawValue;

use super::App;
use super::fulfilment::{announce, save};
use super::order::{Order, OrderRequest};
use super::problem::{too_many_requests, unavailable};
use super::topology;
use crate::backend::BackendError;
use crate::http::{Json, Problem};
use crate::model::names::UserId;

const ORDERS_PER_WINDOW: u32 = 10;
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// A disk that is slower than this is as good as one that fails.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts an order: 201 once its event is confirmed, so that it ends completed or dead-lettered
/// whatever happens to this process.
pub(super) async fn place(
    State(app): State<Arc<App>>,
    Json(body): Json<Box<RawValue>>,
) -> Result<Response, Problem> {
    let request = OrderRequest::parse(&body)?;
    count_request(&app, &request.user_id()?).await?;
    let order_id = uuid::Uuid::new_v4().to_string();
    let order = request.accept(order_id, app.clock.now_ms())?;

    // Before the event: its worker may be done before this function is.
    save(&app.cache, &order).await?;
    match tokio::time::timeout(CONFIRM_TIMEOUT, publish_created(&app, &order)).await {
        Ok(confirmed) => confirmed?,
        Err(_) => return Err(unavailable("the order was not confirmed in time")),
    }
    announce(&app.cache, &order).await;

    let accepted = serde_json::json!({
        "success": true, "orderId": order.order_id, "status": order.status,
    });
    Ok((StatusCode::CREATED, axum::Json(accepted)).into_response())
}

/// Counts a request against its user, valid or not.
async fn count_request(app: &App, user_id: &UserId) -> Result<(), Problem> {
    let key = format!("ratelimit:orders:{user_id}");
    let limit = app.cache.rate_limit(&key, ORDERS_PER_WINDOW, RATE_WINDOW).await?;
    if limit.allowed { Ok(()) } else { Err(too_many_requests(limit.reset_ms)) }
}

/// When this fails the event may still have been kept: then the order is processed though its client was
/// told to try again. Nobody learned its id, and its cached state expires by itself.
async fn publish_created(app: &App, order: &Order) -> Result<(), BackendError> {
    let (id, now_ms) = (order.order_id.clone(), app.clock.now_ms());
    let event = topology::event("order.created", id, now_ms, order.to_json());
    // Not `publish`, which would wait for a full disk: the client hears of it.
    app.broker.try_publish(event).await?.confirmed().await
}

pub(super) async fn find(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Ok(Path(id)) = id else { return Err(no_such_order()) };
    let cached = app.cache.get(&Order::cache_key(&id)).await?;
    let json = cached.ok_or_else(no_such_order)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, json).into_response())
}

fn no_such_order() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "Order not found")
}
