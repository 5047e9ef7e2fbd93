//! The path of one message.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::parameters::Parameters;
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::{Caused, Event, Step};
use crate::http::Problem;

/// One step; the members beside `at`, `message` and `event` depend on the event.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Milliseconds since the Unix epoch.
    at: u64,
    message: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// When the next attempt is, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The message that it goes on as.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl Shown {
    fn new(step: Step) -> Self {
        let Step { at_ms: at, message, event } = step;
        let name = |queue: crate::model::names::QueueName| Some(queue.to_string());
        let shown = match event {
            Event::Published { exchange, routing_key, cause } => Self {
                event: "published",
                exchange: Some(exchange.to_string()),
                routing_key: Some(routing_key.as_str().to_owned()),
                cause,
                ..Self::default()
            },
            Event::Routed { queue } => {
                Self { event: "routed", queue: name(queue), ..Self::default() }
            }
            Event::Delivered { queue, deliveries } => Self {
                event: "delivered",
                queue: name(queue),
                deliveries: Some(deliveries),
                ..Self::default()
            },
            Event::Acked { queue } => {
                Self { event: "acked", queue: name(queue), ..Self::default() }
            }
            Event::Retried { queue, attempt, due_ms, error } => Self {
                event: "retried",
                queue: name(queue),
                attempt: Some(attempt),
                due_at: Some(due_ms),
                error,
                ..Self::default()
            },
            Event::DeadLettered { queue, reason, error, to } => Self {
                event: "deadLettered",
                queue: name(queue),
                reason: Some(reason),
                error,
                to,
                ..Self::default()
            },
            Event::Redriven { queue, to } => {
                Self { event: "redriven", queue: name(queue), to: Some(to), ..Self::default() }
            }
        };
        Self { at, message, ..shown }
    }
}

pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "Nothing is known of this message");
    let Ok(Path(id)) = id else { return Err(unknown()) };
    let path = shared.broker.explain(&id).await.map_err(refusal)?;
    if path.steps.is_empty() && path.caused.is_empty() {
        return Err(unknown());
    }
    let caused = |caused: Caused| {
        json!({
            "message": caused.message,
            "exchange": caused.exchange.as_str(),
            "routingKey": caused.routing_key.as_str(),
        })
    };
    let steps: Vec<_> = path.steps.into_iter().map(Shown::new).collect();
    let caused: Vec<_> = path.caused.into_iter().map(caused).collect();
    let more = path.is_cut;
    Ok(answer(StatusCode::OK, &json!({ "steps": steps, "caused": caused, "more": more })))
}
