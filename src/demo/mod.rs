//! The application that Leveret came from: orders and chat, written as a user of the library would.
//!
//! Owns: the orders API, its worker and dead letters, the user events' worker, the page at `/demo`. May
//! import: every lower floor, through the handles that any application has ([`Broker`], [`Cache`]).
//! What always holds: an order is answered with 201 only after its event is confirmed; an order is
//! completed at most once; a delivery is settled once; no route here asks for a credential, so
//! [`Demo::router`] belongs on a loopback address only, and [`same_site`] keeps other sites' pages out.

mod dead_letters;
mod fulfilment;
mod guest;
mod order;
mod orders;
mod page;
mod presence;
mod problem;
#[cfg(test)]
mod tests;
mod topology;
mod users;
mod worker;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_http::cors::CorsLayer;

use crate::backend::{BackendError, Broker, Cache};
use crate::gateway::Authenticator;
use crate::http::{Problem, same_site};
use crate::model::clock::SharedClock;

/// The running application: its topology is declared and its workers consume.
pub struct Demo {
    app: Arc<App>,
    client_origins: Arc<[String]>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

/// What the routes work with.
struct App {
    broker: Broker,
    cache: Cache,
    clock: SharedClock,
    /// Mints guest tokens; only in development mode.
    guest: Option<Authenticator>,
}

impl Demo {
    /// Declares exchanges and queues and starts the workers. With `guest`, anybody who reaches the routes
    /// gets a token under a name of their choice: give it in development mode only.
    ///
    /// # Errors
    /// When a declaration is refused: a queue or an exchange of that name and other properties exists.
    pub async fn start(
        broker: Broker,
        cache: Cache,
        clock: SharedClock,
        guest: Option<Authenticator>,
    ) -> Result<Self, BackendError> {
        let names = topology::declare(&broker).await?;
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        let settling = worker::Settling::between(&broker, &cache);

        let orders = broker.consume(&names.orders, topology::PREFETCH).await?;
        let in_one_commit = broker.commits_with(&cache);
        let fulfilment = fulfilment::Fulfilment { cache: cache.clone(), in_one_commit };
        workers.spawn(worker::run("orders", orders, stopped.clone(), settling.clone(), fulfilment));

        let user_events = broker.consume(&names.user_events, topology::PREFETCH).await?;
        let directory = users::Directory { cache: cache.clone() };
        workers.spawn(worker::run("user events", user_events, stopped, settling, directory));

        let app = Arc::new(App { broker, cache, clock, guest });
        Ok(Self { app, client_origins: Arc::from([]), stop, workers })
    }

    /// Lets pages of these origins (`https://shop.example`) call the API from a browser; without it only
    /// pages that this server served may.
    #[must_use]
    pub fn with_client_origins(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.client_origins = origins.into_iter().collect();
        self
    }

    /// The page and the API. Bodies are limited here; header and connection limits are the server's.
    pub fn router(&self) -> Router {
        let origins: Vec<HeaderValue> = self
            .client_origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok())
            .collect();
        let cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::CONTENT_TYPE]);
        let guard = axum::middleware::from_fn_with_state(
            Arc::clone(&self.client_origins),
            same_site::guard,
        );
        let api = Router::new()
            .route("/api/orders", post(orders::place))
            .route("/api/orders/{id}", get(orders::find))
            .route("/api/demo/guest", post(guest::sign_in))
            .route("/api/demo/presence", post(presence::look_up))
            .route("/api/demo/dead-letters", get(dead_letters::list))
            .route("/api/demo/dead-letters/{id}/redrive", post(dead_letters::redrive))
            // Set here, inside of the layers: the server's own would answer a preflight before CORS does.
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            })
            .layer(guard)
            .layer(cors)
            .with_state(Arc::clone(&self.app));
        page::router().merge(api)
    }

    /// Stops the workers; each finishes the delivery that it has in hand.
    pub async fn stop(mut self) {
        // An error means that every worker has ended already.
        let _ = self.stop.send(true);
        while let Some(ended) = self.workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a demo worker did not end cleanly");
            }
        }
    }
}
