//! HTTP: connections, the routes that every installation has, and the form of every error.
//!
//! Owns: the accept loop and its limits, `/health`, `/ready`, `/metrics`, the browser client at `/leveret.js`, problem documents, and the
//! reading of JSON bodies. May import: the gateway and what is below it. What always holds: whatever
//! a stranger sends is bounded in bytes and in time, and an error is a problem document with the
//! member `error`.

mod admitted;
mod api;
mod arrival;
mod asset;
mod json;
mod listener;
mod metrics;
mod probes;
mod problem;
mod router;
pub mod same_site;
mod turn;

pub use api::{Access, Api, ApiKey, ApiKeyError};
pub use asset::{Asset, SCRIPT};
pub use json::Json;
pub use listener::{Limits, Listener, Open, serve_connection};
pub use metrics::Metrics;
pub use probes::Readiness;
pub use problem::Problem;
pub use router::router;
