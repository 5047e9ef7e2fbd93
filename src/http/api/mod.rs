//! The server API under `/api/v1`: what an operator, a script or a back end without an AMQP client calls.
//!
//! Owns: the routes of queues, messages, dead letters, policies and sockets, who may call them, and
//! consumers over HTTP. May import: the broker's port, the gateway, and the forms of bodies and errors
//! beside it. What always holds: nobody
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
mod sockets;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::backend::Broker;
use crate::gateway::Gateway;
use crate::http::Problem;
use consumers::Consumers;
use parameters::Parameters;
use rates::Rates;

pub use access::{Access, ApiKey, ApiKeyError};

/// Bytes of the request that publishes or edits a message; base64 takes a third more than the message.
const MESSAGE_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often the queues' counts are sampled for their rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Before every path of the API.
const PREFIX: &str = "/api/v1";

/// What the API is, for people's tools and generators of clients.
const OPENAPI: &str = include_str!("openapi.json");

type Routes = Vec<(&'static str, MethodRouter<Arc<Shared>>)>;

/// As `openapi.json` describes them.
fn routes() -> Routes {
    let large = || DefaultBodyLimit::max(MESSAGE_REQUEST_BYTES_MAX);
    vec![
        ("/openapi.json", get(openapi)),
        ("/publish", post(publish::publish).layer(large())),
        ("/explain/{id}", get(explain::explain)),
        ("/policies", get(policies::list)),
        ("/policies/{policy}", { get(policies::one).put(policies::put).delete(policies::delete) }),
        ("/queues", get(queues::list)),
        ("/queues/{queue}", get(queues::one)),
        ("/queues/{queue}/messages", get(queues::peek).delete(queues::purge)),
        ("/queues/{queue}/messages/{id}/redrive", {
            post(dead_letters::redrive_one).layer(large())
        }),
        ("/queues/{queue}/groups", get(dead_letters::groups)),
        ("/queues/{queue}/redrive", {
            get(dead_letters::progress).post(dead_letters::redrive).delete(dead_letters::cancel)
        }),
        ("/queues/{queue}/consume", post(stream::consume)),
        ("/consumers/{consumer}/settle", post(stream::settle)),
        ("/consumers/{consumer}", delete(stream::cancel)),
        ("/emit", post(sockets::emit)),
        ("/rooms/{room}/messages", get(sockets::history)),
        ("/rooms/{room}/members", get(sockets::members)),
        ("/presence", get(sockets::present)),
        ("/presence/{user}", get(sockets::presence)),
        ("/users/{user}/sockets", delete(sockets::disconnect)),
    ]
}

async fn openapi(parameters: Parameters) -> Result<Response, Problem> {
    parameters.end()?;
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, OPENAPI).into_response())
}

/// The API of one server. Clones share it.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    gateway: Gateway,
    access: Access,
    rates: Rates,
    consumers: Arc<Consumers>,
}

impl Api {
    pub fn new(broker: Broker, gateway: Gateway, access: Access) -> Self {
        let (rates, consumers) = (Rates::default(), Arc::default());
        Self { shared: Arc::new(Shared { broker, gateway, access, rates, consumers }) }
    }

    pub fn router(&self) -> Router {
        let routes = routes().into_iter().fold(Router::new(), |router, (path, methods)| {
            router.route(&format!("{PREFIX}{path}"), methods)
        });
        let guard = from_fn_with_state(self.shared.clone(), access::guard);
        routes.layer(guard).with_state(self.shared.clone())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    use axum::body::Body;
    use http::Request;
    use serde_json::Value;
    use tower::ServiceExt;

    use crate::backend::Embedded;
    use crate::gateway::{Authenticator, GatewayOptions};
    use crate::model::clock::SystemClock;

    /// The methods of each path, as the router itself tells them: in the answer to a method that no
    /// route has (RFC 9110, section 15.5.6).
    #[tokio::test]
    async fn the_openapi_document_names_every_route_and_no_other() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["servers"][0]["url"], PREFIX);
        let mut described = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys().map(|name| name.to_uppercase());
            described.insert(path.clone(), methods.collect::<BTreeSet<_>>());
        }
        let mut served = BTreeMap::new();
        let (engines, clock) = (Embedded::in_memory(SystemClock::shared()), SystemClock::shared());
        let options = GatewayOptions::new(Authenticator::new(b"a secret"));
        let gateway = Gateway::new(options, engines.cache(), clock);
        let api = Api::new(engines.broker(), gateway, Access::Loopback);
        for (path, methods) in routes() {
            let router = Router::new().route(path, methods).with_state(api.shared.clone());
            let concrete = path.replace(['{', '}'], "");
            let request = Request::builder().method("TRACE").uri(concrete).body(Body::empty());
            let answer = router.oneshot(request.unwrap()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            let allowed = answer.headers()[header::ALLOW].to_str().unwrap();
            let methods = allowed.split(',').filter(|method| *method != "HEAD").map(str::to_owned);
            served.insert(path.to_owned(), methods.collect());
        }
        assert_eq!(described, served);
    }
}
