//! What `serve` is told about the gateway.

use std::time::Duration;

use super::layer::Layer;
use super::settings::{DEFAULT_CLIENT_ORIGIN, check, duration, origin, switch};
use super::{Error, amount};
use crate::gateway::{Authenticator, EventBridge, GatewayOptions, Network, PATH, Recovery};

/// A time on a connection that is longer than this is a slip of the pen; `off` says it where it may be.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The largest message, whatever is set: what a frame announces is reserved before it comes.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// The handshake, the largest packet of the protocol that is not the application's, has to fit.
const PAYLOAD_BYTES_MIN: usize = 1 << 10;

/// First segments of the paths of the other routes.
const TAKEN: [&str; 7] = ["", "api", "demo", "health", "leveret.js", "metrics", "ready"];

/// Settings of the gateway, checked.
#[derive(Clone)]
pub struct GatewaySettings {
    /// Begins and ends with a slash.
    pub path: String,
    /// Origins (RFC 6454) of web pages that may connect; `*` is every page.
    pub cors_origins: Vec<String>,
    pub cors_credentials: bool,
    pub presence_grace: Duration,
    pub lease: Duration,
    /// How long a client may be away and still get what it missed. `None`: not at all.
    pub recovery: Option<Duration>,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// `None`: a session may stay without a namespace.
    pub connect_timeout: Option<Duration>,
    pub payload_bytes_max: usize,
    /// `None`: polling answers are not compressed.
    pub compression_bytes_min: Option<usize>,
    /// `None`: there is no such bound, here and below.
    pub queue_bytes_max: Option<usize>,
    pub user_sockets_max: Option<usize>,
    pub address_sockets_max: Option<usize>,
    pub loopback_sockets_max: Option<usize>,
    pub socket_rooms_max: Option<usize>,
    pub attachments_max: Option<usize>,
    /// How deep a packet's data may be nested. `None`: as it likes.
    pub depth_max: Option<usize>,
    pub trusted_proxies: Vec<Network>,
    /// Client events that are published. `None`: none are.
    pub event_bridge: Option<EventBridge>,
}

impl Default for GatewaySettings {
    /// The library's, and recovery.
    fn default() -> Self {
        let stock = GatewayOptions::new(Authenticator::new([]));
        Self {
            path: stock.path,
            cors_origins: vec![DEFAULT_CLIENT_ORIGIN.to_owned()],
            cors_credentials: stock.cors_credentials,
            presence_grace: stock.presence_grace,
            lease: stock.lease,
            recovery: Some(Recovery::default().window),
            ping_interval: stock.ping_interval,
            ping_timeout: stock.ping_timeout,
            connect_timeout: Some(stock.connect_timeout),
            payload_bytes_max: stock.limits.payload_bytes_max,
            compression_bytes_min: stock.compression_bytes_min,
            queue_bytes_max: Some(stock.limits.queue_bytes_max),
            user_sockets_max: Some(stock.limits.user_sockets_max),
            address_sockets_max: stock.limits.address_sockets_max,
            loopback_sockets_max: stock.limits.loopback_sockets_max,
            socket_rooms_max: Some(stock.limits.socket_rooms_max),
            attachments_max: Some(stock.limits.attachments_max),
            depth_max: Some(stock.limits.depth_max),
            trusted_proxies: stock.trusted_proxies,
            event_bridge: None,
        }
    }
}

impl GatewaySettings {
    /// `client_origins` are those of `--client-url`, which count unless `--cors-origin` says others.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting and what it may be.
    pub(super) fn of(
        layer: &Layer,
        client_origins: &[String],
        presence_grace: Duration,
    ) -> Result<Self, Error> {
        let defaults = Self::default();
        let from_address =
            check("max-sockets-per-address", layer.max_sockets_per_address.as_ref(), count)?;
        let settings = Self {
            path: check("path", layer.path.as_ref(), path)?.unwrap_or(defaults.path),
            cors_origins: check("cors-origin", layer.cors_origin.as_ref(), cors_origins)?
                .unwrap_or_else(|| client_origins.to_vec()),
            cors_credentials: check("cors-credentials", layer.cors_credentials.as_ref(), switch)?
                .unwrap_or(defaults.cors_credentials),
            presence_grace,
            lease: check("lease", layer.lease.as_ref(), lease)?.unwrap_or(defaults.lease),
            recovery: check("recovery", layer.recovery.as_ref(), |text| unless_off(text, time))?
                .unwrap_or(defaults.recovery),
            ping_interval: check("ping-interval", layer.ping_interval.as_ref(), time)?
                .unwrap_or(defaults.ping_interval),
            ping_timeout: check("ping-timeout", layer.ping_timeout.as_ref(), time)?
                .unwrap_or(defaults.ping_timeout),
            connect_timeout: check("connect-timeout", layer.connect_timeout.as_ref(), |text| {
                unless_off(text, time)
            })?
            .unwrap_or(defaults.connect_timeout),
            payload_bytes_max: check("max-payload", layer.max_payload.as_ref(), |text| {
                unless_off(text, payload_bytes)
            })?
            .map_or(defaults.payload_bytes_max, |bytes| bytes.unwrap_or(PAYLOAD_BYTES_MAX)),
            compression_bytes_min: check(
                "http-compression",
                layer.http_compression.as_ref(),
                |text| unless_off(text, bytes),
            )?
            .unwrap_or(defaults.compression_bytes_min),
            queue_bytes_max: check("max-outbound", layer.max_outbound.as_ref(), |text| {
                unless_off(text, bytes)
            })?
            .unwrap_or(defaults.queue_bytes_max),
            user_sockets_max: check(
                "max-sockets-per-user",
                layer.max_sockets_per_user.as_ref(),
                count,
            )?
            .unwrap_or(defaults.user_sockets_max),
            address_sockets_max: from_address.unwrap_or(defaults.address_sockets_max),
            // Loopback is free until somebody names a number.
            loopback_sockets_max: from_address.unwrap_or(defaults.loopback_sockets_max),
            socket_rooms_max: check(
                "max-rooms-per-socket",
                layer.max_rooms_per_socket.as_ref(),
                |text| if text == "0" { Ok(None) } else { count(text) },
            )?
            .unwrap_or(defaults.socket_rooms_max),
            attachments_max: check("max-attachments", layer.max_attachments.as_ref(), count)?
                .unwrap_or(defaults.attachments_max),
            depth_max: check("max-nesting", layer.max_nesting.as_ref(), count)?
                .unwrap_or(defaults.depth_max),
            event_bridge: event_bridge(layer)?,
            trusted_proxies: check("trusted-proxy", layer.trusted_proxy.as_ref(), networks)?
                .unwrap_or(defaults.trusted_proxies),
        };
        Ok(settings)
    }

    pub fn options(&self, authenticator: Authenticator) -> GatewayOptions {
        let mut options = GatewayOptions {
            path: self.path.clone(),
            cors_origins: self.cors_origins.clone(),
            cors_credentials: self.cors_credentials,
            presence_grace: self.presence_grace,
            lease: self.lease,
            recovery: self.recovery.map(|window| Recovery { window, ..Recovery::default() }),
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            connect_timeout: self.connect_timeout.unwrap_or(Duration::MAX),
            compression_bytes_min: self.compression_bytes_min,
            trusted_proxies: self.trusted_proxies.clone(),
            ..GatewayOptions::new(authenticator)
        };
        let limits = &mut options.limits;
        limits.payload_bytes_max = self.payload_bytes_max;
        limits.queue_bytes_max = self.queue_bytes_max.unwrap_or(usize::MAX);
        limits.user_sockets_max = self.user_sockets_max.unwrap_or(usize::MAX);
        limits.address_sockets_max = self.address_sockets_max;
        limits.loopback_sockets_max = self.loopback_sockets_max;
        limits.socket_rooms_max = self.socket_rooms_max.unwrap_or(usize::MAX);
        limits.attachments_max = self.attachments_max.unwrap_or(usize::MAX);
        limits.depth_max = self.depth_max.unwrap_or(usize::MAX);
        options
    }
}

/// A node that is busy for a moment is not gone.
fn lease(text: &str) -> Result<Duration, String> {
    match time(text)? {
        lease if lease >= Duration::from_secs(1) => Ok(lease),
        _ => Err(format!("'{text}' is shorter than a second")),
    }
}

/// What `--bridge-events` and its companions say.
fn event_bridge(layer: &Layer) -> Result<Option<EventBridge>, Error> {
    let companions = [
        ("bridge-namespace", &layer.bridge_namespace),
        ("bridge-exchange", &layer.bridge_exchange),
        ("bridge-timeout", &layer.bridge_timeout),
    ];
    let of = |namespace: &str, events: &mut dyn Iterator<Item = &str>| {
        EventBridge::new(namespace, events).map_err(|error| error.to_string())
    };
    let namespace = check("bridge-namespace", layer.bridge_namespace.as_ref(), |text| {
        of(text, &mut std::iter::empty()).map(|_| text.to_owned())
    })?;
    let namespace = namespace.as_deref().unwrap_or("/");
    let Some(bridge) = check("bridge-events", layer.bridge_events.as_ref(), |text| {
        of(namespace, &mut text.split(',').map(str::trim))
    })?
    else {
        let given = companions.iter().find_map(|(key, text)| Some(text.as_ref()?.origin.name(key)));
        return given.map_or(Ok(None), |name| {
            Err(Error::Usage(format!("{name} says nothing without bridge-events")))
        });
    };
    let bridge = check("bridge-exchange", layer.bridge_exchange.as_ref(), |text| {
        bridge.clone().to_exchange(text).map_err(|error| error.to_string())
    })?
    .unwrap_or(bridge);
    let timeout = check("bridge-timeout", layer.bridge_timeout.as_ref(), time)?;
    let timeout = timeout.unwrap_or(bridge.reply_timeout());
    Ok(Some(bridge.with_reply_timeout(timeout)))
}

pub(super) fn unless_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        "off" => Ok(None),
        _ => parse(text).map(Some).map_err(|reason| format!("{reason}, nor off")),
    }
}

/// A path as the stock client's `path`, with the slash at its end that it adds.
fn path(text: &str) -> Result<String, String> {
    let wrong = |why| Err(format!("'{text}' {why}, such as {PATH}"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !text.starts_with('/') || text.contains("//") || !text.bytes().all(plain) {
        return wrong("is not a plain path");
    }
    let inside = text.trim_matches('/');
    let first = inside.split('/').next().unwrap_or_default();
    if TAKEN.contains(&first) || inside.split('/').any(|segment| segment.starts_with('.')) {
        return wrong("is not a path of its own");
    }
    Ok(format!("/{inside}/"))
}

fn cors_origins(text: &str) -> Result<Vec<String>, String> {
    let origin = |part: &str| match part.trim() {
        "*" => Ok("*".to_owned()),
        part => origin(part),
    };
    text.split(',').map(origin).collect()
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time.is_zero() => Err(format!("'{text}' is no time")),
        time if time > TIME_MAX => Err(format!("'{text}' is longer than a day")),
        time => Ok(time),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    amount::parse(text).ok_or_else(|| format!("'{text}' is no amount such as 4MiB"))
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        bytes if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("'{text}' is not between 1KiB and 1GiB")),
    }
}

fn count(text: &str) -> Result<Option<usize>, String> {
    unless_off(text, |text| match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("'{text}' is not a number above 0")),
    })
}

fn networks(text: &str) -> Result<Vec<Network>, String> {
    let network = |part: &str| {
        let part = part.trim();
        part.parse().map_err(|error| format!("'{part}' is {error}"))
    };
    text.split(',').map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layer::{Origin, Text};
    use super::*;

    fn gather(set: impl FnOnce(&mut Layer)) -> Result<GatewaySettings, String> {
        let mut layer = Layer::default();
        set(&mut layer);
        let client = ["http://client".to_owned()];
        GatewaySettings::of(&layer, &client, Duration::ZERO).map_err(|error| error.line())
    }

    fn flag(value: &str) -> Option<Text> {
        Some(Text { value: value.to_owned(), origin: Origin::Flag })
    }

    #[test]
    fn nothing_given_is_the_stock_server_s() {
        let settings = gather(|_| {}).unwrap();
        assert_eq!(settings.path, "/socket.io/");
        assert_eq!(settings.cors_origins, ["http://client"]);
        assert_eq!(settings.ping_interval, Duration::from_secs(25));
        assert_eq!(settings.connect_timeout, Some(Duration::from_secs(45)));
        assert_eq!(settings.compression_bytes_min, Some(1024));
        assert_eq!(settings.loopback_sockets_max, None);
        assert!(settings.address_sockets_max.is_some() && settings.trusted_proxies.is_empty());
    }

    #[test]
    fn each_setting_reaches_the_gateway() {
        let settings = gather(|layer| {
            layer.path = flag("/chat");
            layer.cors_origin = flag("https://A.example, *");
            layer.cors_credentials = flag("false");
            layer.ping_interval = flag("2s");
            layer.ping_timeout = flag("500ms");
            layer.connect_timeout = flag("3s");
            layer.max_payload = flag("2MB");
            layer.http_compression = flag("64KiB");
            layer.max_outbound = flag("8MiB");
            layer.max_sockets_per_user = flag("5");
            layer.max_sockets_per_address = flag("6");
            layer.max_rooms_per_socket = flag("7");
            layer.max_attachments = flag("8");
            layer.bridge_events = flag("order:*, ping");
            layer.bridge_namespace = flag("/orders");
            layer.bridge_exchange = flag("clients");
            layer.bridge_timeout = flag("9s");
            layer.trusted_proxy = flag("10.0.0.0/8,::1");
        });
        let settings = settings.unwrap();
        let bridge = settings.event_bridge.clone().unwrap();
        assert!(bridge.takes("order:new") && bridge.takes("ping") && !bridge.takes("pong"));
        assert_eq!((bridge.namespace(), bridge.exchange().as_str()), ("/orders", "clients"));
        assert_eq!(bridge.reply_timeout(), Duration::from_secs(9));
        let options = settings.options(Authenticator::new("secret"));
        assert_eq!(options.path, "/chat/");
        assert_eq!(options.cors_origins, ["https://a.example", "*"]);
        assert!(!options.cors_credentials);
        assert_eq!(options.ping_interval, Duration::from_secs(2));
        assert_eq!(options.ping_timeout, Duration::from_millis(500));
        assert_eq!(options.connect_timeout, Duration::from_secs(3));
        assert_eq!(options.limits.payload_bytes_max, 2_000_000);
        assert_eq!(options.compression_bytes_min, Some(64 << 10));
        assert_eq!(options.limits.queue_bytes_max, 8 << 20);
        assert_eq!(options.limits.user_sockets_max, 5);
        assert_eq!(options.limits.address_sockets_max, Some(6));
        assert_eq!(options.limits.loopback_sockets_max, Some(6));
        assert_eq!(options.limits.socket_rooms_max, 7);
        assert_eq!(options.limits.attachments_max, 8);
        assert_eq!(options.trusted_proxies.len(), 2);
    }

    #[test]
    fn rooms_are_bounded_unless_that_is_off() {
        let rooms_max = |text: Option<Text>| {
            let settings = gather(|layer| layer.max_rooms_per_socket = text).unwrap();
            settings.options(Authenticator::new("secret")).limits.socket_rooms_max
        };
        assert_eq!(rooms_max(None), 256);
        assert_eq!(rooms_max(flag("off")), usize::MAX);
        assert_eq!(rooms_max(flag("0")), usize::MAX);
    }

    #[test]
    fn what_can_be_off_can_be_off() {
        let settings = gather(|layer| {
            layer.connect_timeout = flag("off");
            layer.http_compression = flag("off");
            layer.max_outbound = flag("off");
            layer.max_sockets_per_user = flag("off");
            layer.max_sockets_per_address = flag("off");
            layer.max_attachments = flag("off");
            layer.max_nesting = flag("off");
            layer.max_payload = flag("off");
        });
        let options = settings.unwrap().options(Authenticator::new("secret"));
        assert_eq!(options.connect_timeout, Duration::MAX);
        assert_eq!(options.compression_bytes_min, None);
        assert_eq!(options.limits.queue_bytes_max, usize::MAX);
        assert_eq!(options.limits.user_sockets_max, usize::MAX);
        assert_eq!(options.limits.address_sockets_max, None);
        assert_eq!(options.limits.attachments_max, usize::MAX);
        assert_eq!(options.limits.depth_max, usize::MAX);
        assert_eq!(options.limits.payload_bytes_max, PAYLOAD_BYTES_MAX);
    }

    #[test]
    fn a_wrong_value_is_named() {
        type Set = fn(&mut Layer, Option<Text>);
        let cases: [(Set, &str, &str); 19] = [
            (|l, t| l.path = t, "socket.io", "--path: 'socket.io' is not a plain path"),
            (|l, t| l.path = t, "/a b", "--path: '/a b' is not a plain path"),
            (|l, t| l.path = t, "/", "--path: '/' is not a path of its own"),
            (|l, t| l.path = t, "/api/x", "--path: '/api/x' is not a path of its own"),
            (|l, t| l.path = t, "/a/../b", "--path: '/a/../b' is not a path of its own"),
            (|l, t| l.cors_origin = t, "a.example", "--cors-origin: 'a.example' is not an origin"),
            (|l, t| l.ping_interval = t, "0s", "--ping-interval: '0s' is no time"),
            (|l, t| l.ping_timeout = t, "2days", "--ping-timeout: '2days' is longer than a day"),
            (|l, t| l.connect_timeout = t, "x", "--connect-timeout: 'x' is not a duration"),
            (|l, t| l.max_payload = t, "10B", "--max-payload: '10B' is not between 1KiB and 1GiB"),
            (
                |l, t| l.max_payload = t,
                "x",
                "--max-payload: 'x' is no amount such as 4MiB, nor off",
            ),
            (|l, t| l.max_outbound = t, "1", "--max-outbound: '1' is no amount such as 4MiB, nor"),
            (
                |l, t| l.max_sockets_per_address = t,
                "0",
                "--max-sockets-per-address: '0' is not a number above 0, nor off",
            ),
            (
                |l, t| l.max_rooms_per_socket = t,
                "many",
                "--max-rooms-per-socket: 'many' is not a number above 0, nor off",
            ),
            (
                |l, t| l.bridge_events = t,
                "a,message:send",
                "--bridge-events: 'message:send' is an event of the application itself",
            ),
            (|l, t| l.bridge_events = t, "a,", "--bridge-events: an event's name is empty"),
            (
                |l, t| l.bridge_namespace = t,
                "orders",
                "--bridge-namespace: 'orders' is not a namespace",
            ),
            (
                |l, t| l.bridge_timeout = t,
                "1s",
                "--bridge-timeout says nothing without bridge-events",
            ),
            (|l, t| l.trusted_proxy = t, "proxy", "--trusted-proxy: 'proxy' is not an address"),
        ];
        for (set, value, expected) in cases {
            let line = gather(|layer| set(layer, flag(value))).err().unwrap();
            assert!(line.starts_with(expected), "{line:?} should say {expected:?}");
        }
    }
}
