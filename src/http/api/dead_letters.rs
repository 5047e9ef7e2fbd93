//! The workbench for dead letters: groups, and the ways back.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::parameters::{Named, Of, Parameters};
use super::payload::{Encoding, read_body, read_headers};
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::{DeathFilter, Edit, Progress, RunState, Selection, Stuck, Tally};
use crate::http::{Json, Problem};
use crate::model::names::{QueueName, RoutingKey};

/// Ids of one redrive.
const IDS_MAX: usize = 10_000;
/// How long a look at a run may wait for its end.
const WAIT_SECONDS_MAX: usize = 30;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    error: Option<String>,
    reason: String,
    queue: String,
    count: u64,
    body_bytes: u64,
    /// Milliseconds since the Unix epoch.
    oldest_at: Option<u64>,
    newest_at: Option<u64>,
    /// The id of one of them.
    sample: String,
}

pub(super) async fn groups(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let found = shared.broker.dead_letter_groups(&queue).await.map_err(refusal)?;
    let ms = |seconds: Option<u64>| seconds.and_then(|seconds| seconds.checked_mul(1000));
    let groups = found.groups.into_iter().map(|group| Group {
        error: group.error,
        reason: group.reason,
        queue: group.queue,
        count: group.count,
        body_bytes: group.body_bytes,
        oldest_at: ms(group.oldest_s),
        newest_at: ms(group.newest_s),
        sample: group.sample.0.to_string(),
    });
    let document = json!({
        "groups": groups.collect::<Vec<_>>(),
        "ungrouped": found.ungrouped,
        "alive": found.alive,
        "complete": found.complete,
    });
    Ok(answer(StatusCode::OK, &document))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Redrive {
    ids: Option<Vec<String>>,
    /// Part of the error text.
    error: Option<String>,
    reason: Option<String>,
    /// The queue in which they died.
    queue: Option<String>,
    rate_per_second: Option<NonZeroU32>,
    #[serde(default)]
    dry_run: bool,
}

/// # Errors
/// Ids beside a filter, too many of them, or one that is none.
pub(super) fn selection(
    ids: Option<Vec<String>>,
    filter: DeathFilter,
) -> Result<Selection, Problem> {
    let Some(ids) = ids else { return Ok(Selection::Matching(filter)) };
    if filter != DeathFilter::default() {
        return Err(Problem::field("ids", "ids and a filter exclude each other"));
    }
    if ids.len() > IDS_MAX {
        return Err(Problem::field("ids", &format!("there are more than {IDS_MAX}")));
    }
    if let Some(bad) = ids.iter().find(|id| id.parse::<u64>().is_err()) {
        return Err(Problem::field("ids", &format!("'{bad}' is no message's id")));
    }
    Ok(Selection::Ids(ids))
}

/// 202 with the run that was started, or 200 with what it would do.
pub(super) async fn redrive(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    parameters: Parameters,
    Json(request): Json<Redrive>,
) -> Result<Response, Problem> {
    parameters.end()?;
    let (dry_run, per_second) = (request.dry_run, request.rate_per_second);
    let Redrive { ids, error, reason, queue: died_in, .. } = request;
    let selection = selection(ids, DeathFilter { error, reason, queue: died_in })?;
    if dry_run {
        let planned = shared.broker.plan_redrive(&queue, selection).await;
        let (tally, complete) = planned.map_err(refusal)?;
        return Ok(answer(StatusCode::OK, &Planned { counts: tally.into(), complete }));
    }
    let run = shared.broker.start_redrive(&queue, selection, per_second).await.map_err(refusal)?;
    Ok(answer(StatusCode::ACCEPTED, &Running::from(run.progress())))
}

pub(super) async fn progress(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = parameters.number("waitSeconds", 0..=WAIT_SECONDS_MAX, 0)?;
    parameters.end()?;
    let run = shared.broker.redrive_run(&queue).ok_or_else(|| never(&queue))?;
    // Whether it ended or not, its progress says.
    let _ = tokio::time::timeout(Duration::from_secs(wait as u64), run.ended()).await;
    Ok(answer(StatusCode::OK, &Running::from(run.progress())))
}

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let run = shared.broker.redrive_run(&queue).ok_or_else(|| never(&queue))?;
    run.cancel();
    Ok(answer(StatusCode::OK, &Running::from(run.ended().await)))
}

fn never(queue: &QueueName) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("the queue '{queue}' is not being redriven"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditRequest {
    body: Option<String>,
    #[serde(default)]
    body_encoding: Encoding,
    headers: Option<Map<String, Value>>,
    routing_key: Option<RoutingKey>,
}

/// Sends one message back, as it was or edited, and answers when that is durable.
pub(super) async fn redrive_one(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    Named(id): Named,
    parameters: Parameters,
    Json(request): Json<EditRequest>,
) -> Result<Response, Problem> {
    parameters.end()?;
    let edit = Edit {
        body: request.body.map(|body| read_body(body, request.body_encoding)).transpose()?,
        headers: request.headers.map(read_headers).transpose()?,
        routing_key: request.routing_key,
    };
    match shared.broker.redrive(&queue, &id, edit).await.map_err(refusal)? {
        Some(queues) => {
            let queues: Vec<String> = queues.into_iter().map(String::from).collect();
            Ok(answer(StatusCode::OK, &json!({ "queues": queues })))
        }
        None => {
            let error = format!("the queue '{queue}' has no ready message '{id}'");
            Err(Problem::new(StatusCode::NOT_FOUND, error))
        }
    }
}

#[derive(Serialize)]
struct Planned {
    #[serde(flatten)]
    counts: Counts,
    complete: bool,
}

#[derive(Serialize)]
struct Counts {
    moved: u64,
    kept: u64,
    missing: u64,
    queues: BTreeMap<String, u64>,
    stuck: Vec<Kept>,
}

#[derive(Serialize)]
struct Kept {
    reason: String,
    count: u64,
}

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        let kept = |(why, count): (Stuck, u64)| Kept { reason: why.to_string(), count };
        Self {
            moved: tally.moved,
            kept: tally.kept,
            missing: tally.missing,
            queues: tally.queues.into_iter().map(|(name, count)| (name.into(), count)).collect(),
            stuck: tally.stuck.into_iter().map(kept).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    waits_for: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    /// Milliseconds since the Unix epoch.
    started_at: u64,
    ended_at: Option<u64>,
}

impl From<Progress> for Running {
    fn from(progress: Progress) -> Self {
        let (state, error) = match progress.state {
            RunState::Running => ("running", None),
            RunState::Done => ("done", None),
            RunState::Cancelled => ("cancelled", None),
            RunState::Failed(reason) => ("failed", Some(reason)),
        };
        Self {
            state,
            error,
            waits_for: progress.waits_for,
            counts: progress.tally.into(),
            started_at: progress.started_ms,
            ended_at: progress.ended_ms,
        }
    }
}
