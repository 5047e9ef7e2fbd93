//! The routes of every installation around those of the application.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use http::{Method, StatusCode, Uri};

use super::asset;
use super::{Metrics, Problem, Readiness, probes};

/// Bytes of a request body, unless a route sets its own limit; past it 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Adds `/health`, `/ready`, `/metrics`, `/leveret.js`, the answers to unknown routes and methods, and the body limit
/// to the routes of `application`, which has no fallback of its own. `gateway_path` is where `application`
/// serves Socket.IO; it begins and ends with a slash, and nothing in it needs an escape.
pub fn router(
    readiness: Readiness,
    metrics: Metrics,
    gateway_path: &str,
    application: Router,
) -> Router {
    Router::new()
        .route("/health", get(async || probes::health()))
        .route("/ready", get(async move || readiness.respond().await))
        .route("/metrics", get(async move || metrics.render()))
        .merge(asset::client(gateway_path))
        .merge(application)
        .fallback(async |method: Method, uri: Uri| {
            Problem::new(StatusCode::NOT_FOUND, "Not found")
                .detail(format!("there is no {method} {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
                .detail(format!("{} does not take {method}", uri.path()))
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}
