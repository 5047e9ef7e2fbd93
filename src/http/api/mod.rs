//! The server API under `/api/v1`: what an operator, a script or a back end without an AMQP client calls.
//!
//! Owns: the routes of queues, messages, dead letters and policies, who may call them, and consumers over HTTP. May
//! import: the broker's port and the forms of bodies and errors beside it. What always holds: nobody
//! gets in without the key, or, where there is none, from a page of another site; every parameter is
//! checked and named in the refusal; every answer is bounded; a delivery whose consumer is gone returns to
//! its queue.

mod access;
mod consumers;
mod dead_letters;
mod explain;
mod parameters;
mod payload;
mod policies;
mod publish;
mod queues;
mod rates;
mod refusal;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::backend::Broker;
use consumers::Consumers;
use rates::Rates;

pub use access::{Access, ApiKey, ApiKeyError};

/// Bytes of the request that publishes or edits a message; base64 takes a third more than the message.
const MESSAGE_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often the queues' counts are sampled for their rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// The API of one server. Clones share it.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    access: Access,
    rates: Rates,
    consumers: Arc<Consumers>,
}

impl Api {
    pub fn new(broker: Broker, access: Access) -> Self {
        let (rates, consumers) = (Rates::default(), Arc::default());
        Self { shared: Arc::new(Shared { broker, access, rates, consumers }) }
    }

    pub fn router(&self) -> Router {
        let large = || DefaultBodyLimit::max(MESSAGE_REQUEST_BYTES_MAX);
        Router::new()
            .route("/api/v1/publish", post(publish::publish).layer(large()))
            .route("/api/v1/explain/{id}", get(explain::explain))
            .route("/api/v1/policies", get(policies::list))
            .route("/api/v1/policies/{policy}", {
                get(policies::one).put(policies::put).delete(policies::delete)
            })
            .route("/api/v1/queues", get(queues::list))
            .route("/api/v1/queues/{queue}", get(queues::one))
            .route("/api/v1/queues/{queue}/messages", get(queues::peek).delete(queues::purge))
            .route("/api/v1/queues/{queue}/messages/{id}/redrive", {
                post(dead_letters::redrive_one).layer(large())
            })
            .route("/api/v1/queues/{queue}/groups", get(dead_letters::groups))
            .route("/api/v1/queues/{queue}/redrive", {
                get(dead_letters::progress).post(dead_letters::redrive).delete(dead_letters::cancel)
            })
            .route("/api/v1/queues/{queue}/consume", post(stream::consume))
            .route("/api/v1/consumers/{consumer}/settle", post(stream::settle))
            .route("/api/v1/consumers/{consumer}", delete(stream::cancel))
            .layer(from_fn_with_state(self.shared.clone(), access::guard))
            .with_state(self.shared.clone())
    }

    /// Keeps what rates are computed from. Never ends.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.shared.broker.queues().await {
                Ok(queues) => self.shared.rates.sample(&queues),
                Err(error) => tracing::debug!(%error, "the queues' rates were not sampled"),
            }
        }
    }

    /// Ends every consumer over HTTP, and lets no more in: what they hold returns to its queues.
    pub fn stop(&self) {
        self.shared.consumers.stop();
    }
}

fn answer(status: StatusCode, document: &impl Serialize) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, axum::Json(document)).into_response()
}
