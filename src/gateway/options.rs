//! What the gateway can be told.

use std::time::Duration;

use super::auth::Authenticator;
use super::rate::EventRate;

/// Settings of a gateway; [`GatewayOptions::new`] gives the stock server's where it has one.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Who may use [`Gateway`](super::Gateway); without it nobody. An [`Io`](super::Io) asks its middleware.
    pub authenticator: Option<Authenticator>,
    /// Origins (`scheme://host[:port]`) that may use the gateway from a browser, with credentials,
    /// beside the gateway's own.
    pub cors_origins: Vec<String>,
    /// How long a user without a socket still counts as online.
    pub presence_grace: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// How long a session may exist without having joined a namespace.
    pub connect_timeout: Duration,
    /// How long an upgrade to WebSocket may take.
    pub upgrade_timeout: Duration,
    /// Has a client that comes back get what it missed. `None`: it is a new client, as in Socket.IO.
    pub recovery: Option<Recovery>,
    pub limits: Limits,
}

impl GatewayOptions {
    pub fn new(authenticator: Authenticator) -> Self {
        Self { authenticator: Some(authenticator), ..Self::default() }
    }
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            authenticator: None,
            cors_origins: vec!["http://localhost:3000".to_owned()],
            presence_grace: Duration::ZERO,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            recovery: None,
            limits: Limits::default(),
        }
    }
}

/// How far back a client may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How long after its connection was lost.
    pub window: Duration,
    /// The events of a namespace that are kept for that, in memory, and once more in the cache.
    pub bytes_max: usize,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { window: Duration::from_secs(120), bytes_max: 16 << 20 }
    }
}

/// Bounds on what a stranger can make the gateway hold and do. A number at its maximum is no bound.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A polling body, and a WebSocket message (`maxPayload` of the handshake).
    pub payload_bytes_max: usize,
    /// What may wait for one session before it is cut as a slow consumer.
    pub queue_bytes_max: usize,
    /// Engine.IO sessions, whether they have authenticated or not.
    pub sessions_max: usize,
    pub user_sockets_max: usize,
    pub socket_rooms_max: usize,
    /// Rooms with at least one member.
    pub rooms_max: usize,
    /// The content of one message.
    pub content_bytes_max: usize,
    /// What one client may send, connections to namespaces counted; without it, whatever it can.
    pub event_rate: Option<EventRate>,
    /// Binary attachments of a packet; the stock parser's default is 10.
    pub attachments_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1_000_000,
            // A history of 50 messages of the largest content fits.
            queue_bytes_max: 4 << 20,
            sessions_max: 100_000,
            user_sockets_max: 10_000,
            socket_rooms_max: 256,
            rooms_max: 100_000,
            content_bytes_max: 64 << 10,
            event_rate: Some(EventRate::default()),
            attachments_max: 10,
        }
    }
}
