//! `POST /api/v1/publish`: a message in, its confirm out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parameters::Parameters;
use super::payload::{Encoding, ShownProperties, read_body, read_headers};
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::Alarm;
use crate::http::{Json, Problem};
use crate::model::message::{Message, X_DELAY};
use crate::model::names::{ExchangeName, RoutingKey};

/// A caller is told to come again when the broker has not taken its message after this time.
const ADMITTED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Publish {
    /// Empty: the default exchange, whose keys are queues' names.
    exchange: ExchangeName,
    routing_key: RoutingKey,
    #[serde(default)]
    body: String,
    #[serde(default)]
    body_encoding: Encoding,
    #[serde(default)]
    headers: Map<String, Value>,
    /// Milliseconds until it becomes ready.
    delay_ms: Option<u64>,
    #[serde(default)]
    properties: ShownProperties,
}

/// Answers when the message is as safe as it asked to be; `routed` says whether any queue has it.
pub(super) async fn publish(
    State(shared): State<Arc<Shared>>,
    parameters: Parameters,
    Json(request): Json<Publish>,
) -> Result<Response, Problem> {
    parameters.end()?;
    let body = read_body(request.body, request.body_encoding)?;
    let mut message = Message::new(request.exchange, request.routing_key, body);
    message.properties = request.properties.read(read_headers(request.headers)?);
    if let Some(delay_ms) = request.delay_ms {
        if message.properties.headers.get(X_DELAY).is_some() {
            return Err(Problem::field("delayMs", "the header x-delay says it already"));
        }
        message = message.delayed(Duration::from_millis(delay_ms));
    }
    let persistent = message.properties.persistent;
    let holds_off =
        |alarm: &Alarm| persistent || matches!(alarm, Alarm::Memory { .. } | Alarm::Blocked(_));
    if let Some(alarm) = shared.broker.alarms().into_iter().find(holds_off) {
        return Err(held_off(alarm.to_string()));
    }
    let admitted =
        tokio::time::timeout(ADMITTED_WITHIN, shared.broker.publish_mandatory(message)).await;
    let (confirm, routed) = admitted
        .map_err(|_| held_off("The broker takes no messages at this moment"))?
        .map_err(refusal)?;
    confirm.confirmed().await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &json!({ "routed": routed })))
}

fn held_off(reason: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason).retry_after(ADMITTED_WITHIN.as_secs())
}
