//! Consuming over HTTP: deliveries as lines of JSON, settled by requests beside them.
//!
//! The consumer lives as long as the answer: when its connection ends, what is not settled returns to
//! its queue. `prefetch` deliveries are out at once, so a slow reader holds up nobody but itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::consumers::{Registered, Unsettled};
use super::parameters::{Named, Of, Parameters};
use super::payload::Shown;
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::{ConsumeOptions, Consumer, ConsumerEnd, Delivery};
use crate::http::{Json, Problem};
use crate::model::names::QueueName;

const PREFETCH_MAX: usize = 1_000;
const PREFETCH_DEFAULT: usize = 100;
/// Lines that wait for the connection.
const LINES_MAX: usize = 4;
/// An empty line is sent after so long a silence, so that a peer that is gone is noticed.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Tags in one request.
const SETTLED_MAX: usize = 10_000;

/// The first line names the consumer, then each is a delivery with its tag, the last says why it ended.
pub(super) async fn consume(
    State(shared): State<Arc<Shared>>,
    Of(queue): Of<QueueName>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let prefetch = parameters.number("prefetch", 1..=PREFETCH_MAX, PREFETCH_DEFAULT)?;
    let limit = parameters.number("limit", 1..=usize::MAX, usize::MAX)? as u64;
    let no_ack = parameters.switch("noAck")?;
    parameters.end()?;
    let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX);
    let options = ConsumeOptions { prefetch, no_ack, ..ConsumeOptions::default() };
    // First, since a consumer that leaves may take its queue along.
    let registered = shared.consumers.register().ok_or_else(|| {
        let error = "Too many consume over HTTP, or the server stops";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let consumer = shared.broker.consume_with(&queue, options).await.map_err(refusal)?;
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let consumer = Some(consumer);
    tokio::spawn(Stream { consumer, limit, registered, lines, no_ack }.run());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(Lines(receiver))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settle {
    #[serde(default)]
    ack: Vec<u64>,
    #[serde(default)]
    requeue: Vec<u64>,
    #[serde(default)]
    fail: Vec<Failed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    tag: u64,
    error: String,
}

/// Answers when the acknowledgements are durable. Tags that are settled already are listed, not refused:
/// a request may be repeated.
pub(super) async fn settle(
    State(shared): State<Arc<Shared>>,
    Named(consumer): Named,
    parameters: Parameters,
    Json(request): Json<Settle>,
) -> Result<Response, Problem> {
    parameters.end()?;
    let unsettled = shared.consumers.find(&consumer).ok_or_else(|| gone(&consumer))?;
    let named = request.ack.len() + request.requeue.len() + request.fail.len();
    if named > SETTLED_MAX {
        let error = format!("more than {SETTLED_MAX} tags are named");
        return Err(Problem::new(StatusCode::BAD_REQUEST, error));
    }
    let mut unknown = Vec::new();
    let mut take = |tag| {
        let delivery = unsettled.take(tag);
        if delivery.is_none() {
            unknown.push(tag);
        }
        delivery
    };
    let acked: Vec<Delivery> = request.ack.into_iter().filter_map(&mut take).collect();
    let requeued: Vec<Delivery> = request.requeue.into_iter().filter_map(&mut take).collect();
    let failed: Vec<(Delivery, String)> = request
        .fail
        .into_iter()
        .filter_map(|failed| Some((take(failed.tag)?, failed.error)))
        .collect();
    let settled = acked.len() + requeued.len() + failed.len();
    for (delivery, error) in failed {
        delivery.fail(&error).await.map_err(refusal)?;
    }
    for delivery in requeued {
        delivery.requeue().await.map_err(refusal)?;
    }
    Delivery::ack_all(acked).await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &json!({ "settled": settled, "unknown": unknown })))
}

/// Ends the stream; answers when what it did not settle is back in its queue.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Named(consumer): Named,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let unsettled = shared.consumers.find(&consumer).ok_or_else(|| gone(&consumer))?;
    unsettled.cancel().await;
    Ok(answer(StatusCode::OK, &json!({ "consumer": consumer })))
}

fn gone(consumer: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no consumer '{consumer}'"))
}

/// A consumer and the connection that it writes to.
struct Stream {
    /// `None`: it has taken as many as it was to.
    consumer: Option<Consumer>,
    limit: u64,
    registered: Registered,
    lines: mpsc::Sender<Bytes>,
    no_ack: bool,
}

#[derive(Serialize)]
struct Delivered {
    tag: u64,
    #[serde(flatten)]
    message: Shown,
}

impl Stream {
    async fn run(mut self) {
        let unsettled = self.registered.unsettled.clone();
        let reason = self.deliver(&unsettled).await;
        // Whoever reads no more learns nothing more.
        let _ = self.lines.try_send(line(&json!({ "ended": reason })));
        drop(self.consumer);
        for delivery in unsettled.take_all().into_values().rev() {
            if let Err(error) = delivery.requeue().await {
                tracing::warn!(%error, "a delivery could not be returned to its queue");
            }
        }
        // Registered until here: a cancellation waits for the returns.
        drop(self.registered);
    }

    /// Why it ended.
    async fn deliver(&mut self, unsettled: &Unsettled) -> &'static str {
        let Self { consumer, limit, registered, lines, no_ack } = self;
        let Registered { id, cancelled, stopped, .. } = registered;
        let first = json!({ "consumer": id });
        if lines.send(line(&first)).await.is_err() {
            return "the connection is gone";
        }
        let mut tag = 0;
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, next(consumer));
            let text = tokio::select! {
                biased;
                () = lines.closed() => return "the connection is gone",
                _ = cancelled.wait_for(|cancelled| *cancelled) => {
                    return "cancelled";
                }
                _ = stopped.wait_for(|stopped| *stopped) => {
                    return "the server stops";
                }
                next = next => match next {
                    Err(_) => Bytes::from_static(b"\n"),
                    Ok(None) => return why_ended(consumer.as_ref()),
                    Ok(Some(delivery)) => {
                        tag += 1;
                        if tag == *limit {
                            // What waits behind it was not looked at, and returns as if never sent.
                            *consumer = None;
                        }
                        let shown =
                            Shown::new(delivery.message(), delivery.redelivered(), usize::MAX);
                        if !*no_ack {
                            unsettled.add(tag, delivery);
                        }
                        line(&Delivered { tag, message: shown })
                    }
                },
            };
            tokio::select! {
                sent = lines.send(text) => match sent {
                    Ok(()) => {}
                    Err(_) => return "the connection is gone",
                },
                // A peer that reads nothing must not hold up the end.
                _ = cancelled.wait_for(|cancelled| *cancelled) => {
                    return "cancelled";
                }
                _ = stopped.wait_for(|stopped| *stopped) => {
                    return "the server stops";
                }
            }
        }
    }
}

async fn next(consumer: &mut Option<Consumer>) -> Option<Delivery> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

fn why_ended(consumer: Option<&Consumer>) -> &'static str {
    match consumer.and_then(Consumer::ended) {
        Some(ConsumerEnd::QueueDeleted) => "the queue was deleted",
        Some(ConsumerEnd::TimedOut) => "a delivery was held too long",
        Some(ConsumerEnd::Cancelled) | None => "cancelled",
    }
}

fn line(document: &impl Serialize) -> Bytes {
    // The documents above have text keys only, which is all that could fail.
    let mut bytes = serde_json::to_vec(document).unwrap_or_default();
    bytes.push(b'\n');
    Bytes::from(bytes)
}

/// What is sent, as it comes.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
