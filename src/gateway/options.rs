//! What the gateway can be told.

use std::time::Duration;

use super::auth::Authenticator;
use super::forwarded::Network;
use super::rate::EventRate;
use crate::wire::socket_io::DEPTH_MAX;

/// Where the stock client looks for a server.
pub const PATH: &str = "/socket.io/";

/// Settings of a gateway; [`GatewayOptions::new`] gives the stock server's where it has one.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Who may use [`Gateway`](super::Gateway); without it nobody. An [`Io`](super::Io) asks its middleware.
    pub authenticator: Option<Authenticator>,
    /// Where the gateway is mounted; it begins and ends with a slash.
    pub path: String,
    /// Origins (`scheme://host[:port]`) that may use the gateway from a browser, with credentials,
    /// beside the gateway's own. `*` among them is every page, without credentials.
    pub cors_origins: Vec<String>,
    /// Whether pages of the listed origins may send cookies and the like.
    pub cors_credentials: bool,
    /// How long a user without a socket still counts as online.
    pub presence_grace: Duration,
    /// On a cache that several nodes share: how long after a node was last heard of its users are offline.
    /// It renews that three times as often.
    pub lease: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// How long a session may exist without having joined a namespace; [`Duration::MAX`] is for ever.
    pub connect_timeout: Duration,
    /// How long an upgrade to WebSocket may take.
    pub upgrade_timeout: Duration,
    /// Has a client that comes back get what it missed. `None`: it is a new client, as in Socket.IO.
    pub recovery: Option<Recovery>,
    /// A polling answer of this many bytes or more is compressed for a client that takes it. `None`:
    /// none is.
    pub compression_bytes_min: Option<usize>,
    /// Proxies whose `X-Forwarded-For` says where a client is.
    pub trusted_proxies: Vec<Network>,
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
            path: PATH.to_owned(),
            cors_origins: vec!["http://localhost:3000".to_owned()],
            cors_credentials: true,
            presence_grace: Duration::ZERO,
            lease: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            recovery: None,
            compression_bytes_min: Some(1024),
            trusted_proxies: Vec::new(),
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
    /// Of one user, in all namespaces that take tokens together.
    pub user_sockets_max: usize,
    /// Sessions of one address (of one /64 in IPv6) that is not this machine's own. `None`: as many as
    /// there are. Not counted where the request does not say its peer
    /// (`axum::extract::ConnectInfo<SocketAddr>`).
    pub address_sockets_max: Option<usize>,
    /// The same for each loopback address.
    pub loopback_sockets_max: Option<usize>,
    pub socket_rooms_max: usize,
    /// Rooms with at least one member.
    pub rooms_max: usize,
    /// The content of one message.
    pub content_bytes_max: usize,
    /// What one client may send, connections to namespaces counted; without it, whatever it can.
    pub event_rate: Option<EventRate>,
    /// Binary attachments of a packet; the stock parser's default is 10.
    pub attachments_max: usize,
    /// How deep arrays and objects may be nested in a packet. Whatever it is, what is deeper than
    /// [`DEPTH_MAX`] is not read into a handler's argument, and has no form in MessagePack.
    pub depth_max: usize,
}

impl Limits {
    /// The most bytes of all attachments of a packet together: of ten messages of the largest size,
    /// which is as much as the stock parser takes by default, and at least 4 MB.
    pub fn attachments_bytes_max(&self) -> usize {
        self.payload_bytes_max.saturating_mul(10).max(4_000_000)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1_000_000,
            // A history of 50 messages of the largest content fits.
            queue_bytes_max: 4 << 20,
            sessions_max: 100_000,
            user_sockets_max: 10_000,
            address_sockets_max: Some(1_000),
            loopback_sockets_max: None,
            socket_rooms_max: 256,
            rooms_max: 100_000,
            content_bytes_max: 64 << 10,
            event_rate: Some(EventRate::default()),
            attachments_max: 10,
            depth_max: DEPTH_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_have_room_for_ten_full_messages() {
        let bytes_max = |payload_bytes_max| {
            Limits { payload_bytes_max, ..Limits::default() }.attachments_bytes_max()
        };
        assert_eq!(Limits::default().attachments_bytes_max(), 10_000_000);
        assert_eq!(bytes_max(20_000_000), 200_000_000);
        assert_eq!(bytes_max(1 << 10), 4_000_000);
        assert_eq!(bytes_max(usize::MAX), usize::MAX);
    }
}
