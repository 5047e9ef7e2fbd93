//! Queues: their counts and rates, a look into them, and emptying one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::dead_letters::selection;
use super::parameters::{Of, Page, Parameters};
use super::payload::Shown;
use super::rates::Rate;
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::{DeathFilter, Peeked, QueueStatus, Selection};
use crate::http::Problem;
use crate::model::names::QueueName;

const PEEKED_MAX: usize = 1_000;
const PEEKED_DEFAULT: usize = 10;
/// Bytes of one body that are shown.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const BODY_BYTES_DEFAULT: usize = 4 * 1024;
/// A list of messages ends with the one that passes this, so at least one is shown.
const PEEKED_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    name: String,
    ready: usize,
    ready_bytes: u64,
    unacked: usize,
    delayed: usize,
    consumers: usize,
    rates: Rate,
}

impl Queue {
    fn new(status: &QueueStatus, rates: Rate) -> Self {
        Self {
            name: status.name.to_string(),
            ready: status.ready,
            ready_bytes: status.ready_bytes,
            unacked: status.unacked,
            delayed: status.delayed,
            consumers: status.consumers,
            rates,
        }
    }
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let page = Page::read(&mut parameters)?;
    parameters.end()?;
    let all = shared.broker.queues().await.map_err(refusal)?;
    let (queues, more) = page.of(all, |queue| queue.name.as_str());
    let shown = |queue: &QueueStatus| Queue::new(queue, shared.rates.of(queue));
    let queues: Vec<_> = queues.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &json!({ "queues": queues, "more": more })))
}

pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let status = shared.broker.queue(&queue).await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &Queue::new(&status, shared.rates.of(&status))))
}

#[derive(Serialize)]
struct Listed {
    id: String,
    #[serde(flatten)]
    message: Shown,
}

pub(super) async fn peek(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let count = parameters.number("count", 1..=PEEKED_MAX, PEEKED_DEFAULT)?;
    let body_bytes_max = parameters.number("bodyBytes", 0..=BODY_BYTES_MAX, BODY_BYTES_DEFAULT)?;
    let after = parameters.text("after");
    parameters.end()?;
    let peeked = match after {
        Some(after) => {
            if after.parse::<u64>().is_err() {
                return Err(Problem::field("after", &format!("'{after}' is no message's id")));
            }
            shared.broker.peek_after(&queue, &after, count).await
        }
        None => shared.broker.peek(&queue, count).await,
    };
    let mut bytes = 0;
    let fits = |peeked: &Peeked| {
        let fits = bytes < PEEKED_BYTES_MAX;
        let body = peeked.message.body.len();
        bytes += peeked.message.weight() - body + body.min(body_bytes_max);
        fits
    };
    let listed = |peeked: Peeked| Listed {
        message: Shown::new(&peeked.message, peeked.redelivered, body_bytes_max),
        id: peeked.id,
    };
    let peeked = peeked.map_err(refusal)?;
    let messages: Vec<_> = peeked.into_iter().take_while(fits).map(listed).collect();
    Ok(answer(StatusCode::OK, &json!({ "messages": messages })))
}

/// Everything that is ready, or what the query names.
pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let ids = parameters.text("ids").map(|ids| ids.split(',').map(str::to_owned).collect());
    let filter = DeathFilter {
        error: parameters.text("error"),
        reason: parameters.text("reason"),
        queue: parameters.text("queue"),
    };
    parameters.end()?;
    let purged = match selection(ids, filter)? {
        Selection::Matching(filter) if filter == DeathFilter::default() => {
            shared.broker.purge(&queue).await.map(|purged| purged as u64)
        }
        selected => shared.broker.discard(&queue, selected).await,
    };
    let purged = purged.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &json!({ "purged": purged })))
}
