//! Liveness and readiness, for whoever restarts the process and for whoever sends it traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use crate::backend::{BackendError, Broker, Cache};
use crate::journal::Journal;

/// A back end that has not answered after this time is not ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whether this process should get traffic. Clones share it.
#[derive(Clone)]
pub struct Readiness {
    journal: Journal,
    broker: Broker,
    cache: Cache,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub fn new(journal: Journal, broker: Broker, cache: Cache) -> Self {
        Self { journal, broker, cache, draining: Arc::default() }
    }

    /// From now on not ready, for good.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What stands in the way of traffic; empty when nothing does.
    pub async fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("draining".to_owned());
        }
        if let Err(error) = self.journal.writable() {
            reasons.push(format!("journal: {error}"));
        }
        let (broker, cache) = tokio::join!(answer(self.broker.ready()), answer(self.cache.ready()));
        reasons.extend(broker.map(|reason| format!("broker: {reason}")));
        reasons.extend(cache.map(|reason| format!("cache: {reason}")));
        reasons
    }

    /// `GET /ready`: 200, or 503 with the reasons.
    pub(super) async fn respond(&self) -> Response {
        let reasons = self.reasons().await;
        let (status, word) = match reasons.first().map(String::as_str) {
            None => (StatusCode::OK, "ready"),
            Some("draining") => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        respond(status, &json!({ "status": word, "reasons": reasons }))
    }
}

async fn answer(ready: impl Future<Output = Result<(), BackendError>>) -> Option<String> {
    match tokio::time::timeout(ANSWER_WITHIN, ready).await {
        // The journal's own state is a reason of its own already.
        Ok(Ok(()) | Err(BackendError::Journal(_))) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

/// `GET /health`: the process runs and answers, whatever it waits for.
pub(super) fn health() -> Response {
    respond(StatusCode::OK, &json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

fn respond(status: StatusCode, document: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, document.to_string()).into_response()
}
