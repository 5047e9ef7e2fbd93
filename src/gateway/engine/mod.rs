//! Engine.IO, protocol revision 4: sessions over HTTP long-polling and WebSocket.
//!
//! Source: <https://socket.io/docs/v4/engine-io-protocol/>; where it is silent, the stock server decides.
//! A session has one task from its handshake to its end (`driver`), which pings, and writes once there
//! is a WebSocket; a second one reads the WebSocket. Polling requests are served by their own
//! requests' tasks. What always holds: one reader at a time owns the session's connection
//! ([`session::Turn`]), and one transport at a time drains its queue.

mod addresses;
mod compression;
mod driver;
mod heartbeat;
mod polling;
pub mod request;
mod session;
mod sessions;
mod websocket_transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SEC_WEBSOCKET_VERSION};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use self::addresses::{Addresses, Place};
use self::request::{Asked, Query, SessionRequest};
use self::sessions::Sessions;
use super::close_reason::CloseReason;
use super::cors::{Cors, Origin};
use super::forwarded;
use super::io::Namespaces;
use super::options::GatewayOptions;
use super::outbound::Transport;
use super::websocket;
use crate::wire::engine_io::RequestError;

/// How long the end of a gateway waits for its sessions to write what they still have.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// How much of it clients have that poll: one that is gone must not take the time of what follows.
const LAST_POLL_MAX: Duration = Duration::from_secs(1);

pub struct Engine {
    pub namespaces: Arc<Namespaces>,
    options: GatewayOptions,
    cors: Cors,
    sessions: Sessions,
    addresses: Arc<Addresses>,
    shutting_down: AtomicBool,
}

/// An answer that is not the stock protocol's own.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Request(RequestError),
    /// The only one that is spoken here is told with the error (RFC 6455 section 4.4).
    WebSocketVersion,
    BodyTooLarge,
    /// What no session allows; the stock server says no more of it than that.
    Wordless,
    /// As many sessions as there may be, or the end of the gateway.
    Unavailable,
    /// The client's address has as many sessions as it may.
    TooManyOfAddress,
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

type Answer = Result<Response<Body>, Refused>;

impl Engine {
    pub fn new(options: GatewayOptions, namespaces: Arc<Namespaces>) -> Arc<Self> {
        Arc::new(Self {
            cors: Cors::new(&options.cors_origins, options.cors_credentials),
            addresses: Addresses::new(&options.limits),
            sessions: Sessions::new(options.limits.sessions_max),
            namespaces,
            options,
            shutting_down: AtomicBool::new(false),
        })
    }

    pub fn path(&self) -> &str {
        &self.options.path
    }

    /// Answers one HTTP request; a WebSocket goes on in a task of its own.
    pub async fn handle<B>(self: &Arc<Self>, mut request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let headers = request.headers().clone();
        let origin = self.cors.origin(&headers);
        let mut response = if request.method() == Method::OPTIONS {
            let mut response = empty(StatusCode::NO_CONTENT);
            Cors::preflight(&origin, &headers, response.headers_mut());
            response
        } else {
            self.answer(&mut request, &origin).await.unwrap_or_else(refuse)
        };
        self.cors.allow(&origin, response.headers_mut());
        response
    }

    async fn answer<B>(self: &Arc<Self>, request: &mut Request<B>, origin: &Origin<'_>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let asked = request::asked(
            request.method(),
            &Query::of(request.uri()),
            request::is_upgrade(request.headers()),
        )?;
        // A browser opens any page's WebSocket with the user's cookies, and lets the page read it.
        let may_upgrade = match origin {
            Origin::Foreign => Err(RequestError::Forbidden),
            Origin::Own | Origin::Listed(_) | Origin::Anyone => Ok(()),
        };
        let (sid, asked) = match asked {
            Asked::Handshake(Transport::Polling) => {
                let session = driver::open_polling(self, self.place(request)?)?;
                return polling::poll(self, &session, request.headers()).await;
            }
            Asked::Handshake(Transport::WebSocket) => {
                may_upgrade?;
                let place = self.place(request)?;
                return websocket_transport::handshake(self, request, place);
            }
            Asked::OfSession { sid, request } => (sid, request),
        };
        let session = self.sessions.find(&sid)?;
        let asked = asked?;
        if asked == SessionRequest::Upgrade {
            may_upgrade?;
            return websocket_transport::upgrade(self, request, session);
        }
        session.probe_looked().await;
        // The session has left polling.
        if session.outbound.transport() == Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        if asked == SessionRequest::Data {
            return polling::data(self, request, session).await;
        }
        polling::poll(self, &session, request.headers()).await
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// A place among the sessions of the client's address.
    fn place<B>(&self, request: &Request<B>) -> Result<Place, Refused> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let trusted = &self.options.trusted_proxies;
        let client = peer.map(|peer| forwarded::client(peer.0.ip(), request.headers(), trusted));
        self.addresses.take(client).ok_or_else(|| {
            self.namespaces.metrics.session_refused("address");
            Refused::TooManyOfAddress
        })
    }

    /// Waits for `before`, closes every session, waits for `after`.
    pub async fn shut_down(
        &self,
        before: impl Future<Output = ()>,
        after: impl Future<Output = ()>,
    ) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let ending = async {
            before.await;
            self.sessions.close_all(CloseReason::ShuttingDown);
            if tokio::time::timeout(LAST_POLL_MAX, self.sessions.all_gone()).await.is_err() {
                self.sessions.part_all();
                self.sessions.all_gone().await;
            }
            after.await;
        };
        if tokio::time::timeout(SHUTDOWN_MAX, ending).await.is_err() {
            tracing::warn!("sessions were cut at the end of the gateway, with writes outstanding");
            self.sessions.close_all(CloseReason::ShuttingDown);
        }
    }

    fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }
}

fn refuse(refused: Refused) -> Response<Body> {
    match refused {
        Refused::Request(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            respond(status, "application/json", error.body())
        }
        Refused::WebSocketVersion => {
            let mut response = refuse(RequestError::BadRequest.into());
            let version = HeaderValue::from_static(websocket::VERSION);
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            response
        }
        Refused::BodyTooLarge => empty(StatusCode::PAYLOAD_TOO_LARGE),
        Refused::Wordless => empty(StatusCode::BAD_REQUEST),
        Refused::Unavailable => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            r#"{"message":"The server takes no more sessions"}"#,
        ),
        Refused::TooManyOfAddress => respond(
            StatusCode::TOO_MANY_REQUESTS,
            "application/json",
            r#"{"message":"Too many connections from this address"}"#,
        ),
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
