//! Settings as text, from the three places that they come from: flags, environment, file.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::{Environment, Error};
use crate::server::error::one_line;

/// Where a setting was given, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File,
    /// A variable that is not ours but means the same, such as `CLIENT_URL`.
    ForeignVariable(&'static str),
    Environment,
    Flag,
}

impl Origin {
    /// The name of the setting `key` as whoever gave it knows it.
    pub fn name(self, key: &str) -> String {
        match self {
            Self::File => format!("{key} in the configuration file"),
            Self::ForeignVariable(name) => name.to_owned(),
            Self::Environment => variable(key),
            Self::Flag => format!("--{key}"),
        }
    }
}

fn variable(key: &str) -> String {
    format!("LEVERET_{}", key.replace('-', "_").to_uppercase())
}

/// A value that nobody has checked yet. It may be a secret, so it has no `Debug`.
#[derive(Clone)]
pub struct Text {
    pub value: String,
    pub origin: Origin,
}

impl Text {
    /// For clap.
    pub fn flag(value: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self { value: value.to_owned(), origin: Origin::Flag })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FromFile;

        impl Visitor<'_> for FromFile {
            type Value = Text;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a boolean")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text { value: value.to_owned(), origin: Origin::File })
            }

            // serde's own errors would show the value, which may be a secret.
            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Text, E> {
                Err(E::custom("expected a string or a boolean"))
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Text, E> {
                self.visit_i64(0)
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Text, E> {
                self.visit_i64(0)
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Text, E> {
                self.visit_str(if value { "true" } else { "false" })
            }
        }

        deserializer.deserialize_any(FromFile)
    }
}

/// The settings of `serve` that one place gave. The fields' names are the flags', the variables' and the
/// keys'; their documentation is the help text.
#[derive(Clone, Default, clap::Args, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layer {
    /// Keep everything durable in this folder [default: ./leveret-data]
    #[arg(long, value_name = "DIR", value_parser = Text::flag)]
    pub data_dir: Option<Text>,
    /// Keep everything in memory: nothing outlives the process
    #[arg(long, num_args = 0, default_missing_value = "true", value_parser = Text::flag)]
    pub in_memory: Option<Text>,
    /// Confirm a write when it is on the disk, or up to 100 ms before [default: strict]
    #[arg(long, value_name = "strict|relaxed", value_parser = Text::flag)]
    pub durability: Option<Text>,
    /// Have this RabbitMQ be the broker (amqp://, amqps://); also RABBITMQ_URL [default: this process]
    #[arg(long, value_name = "URL", value_parser = Text::flag)]
    pub broker_url: Option<Text>,
    /// Keep the cache, and what nodes share, on this Redis server [default: in this process]
    #[arg(long, value_name = "URL", value_parser = Text::flag)]
    pub cache_url: Option<Text>,
    /// Listen here for HTTP and Socket.IO; port 0 takes a free one [default: 127.0.0.1:3001]
    #[arg(long, value_name = "ADDR", value_parser = Text::flag)]
    pub http: Option<Text>,
    /// Listen here for Redis clients (RESP), or not: off [default: off]
    #[arg(long, value_name = "ADDR|off", value_parser = Text::flag)]
    pub resp: Option<Text>,
    /// Let only Redis clients in that know this password [default on loopback: anyone may]
    #[arg(long, value_name = "PASSWORD", value_parser = Text::flag)]
    pub resp_password: Option<Text>,
    /// Write the cache's changes to the disk at once, every second, or in passing [default: everysec]
    #[arg(long, value_name = "always|everysec|no", value_parser = Text::flag)]
    pub appendfsync: Option<Text>,
    /// Verify tokens (HS256) with this secret [default on loopback: one made for development]
    #[arg(long, value_name = "SECRET", value_parser = Text::flag)]
    pub jwt_secret: Option<Text>,
    /// Verify tokens (RS256, EdDSA) with the public keys in this PEM file too [default: none]
    #[arg(long, value_name = "FILE", value_parser = Text::flag)]
    pub jwt_public_key: Option<Text>,
    /// Cut a client that sends more events a second, in bursts of twice as many [default: 200]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub event_rate: Option<Text>,
    /// Let only who shows this key call /api/v1 [default on loopback: programs on this machine may]
    #[arg(long, value_name = "KEY", value_parser = Text::flag)]
    pub api_key: Option<Text>,
    /// Let web pages of these origins connect (a,b); also CLIENT_URL [default: http://localhost:3000]
    #[arg(long, value_name = "URLS", value_parser = Text::flag)]
    pub client_url: Option<Text>,
    /// Count a user without a socket as online for this long [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = Text::flag)]
    pub presence_grace: Option<Text>,
    /// With a cache on a server: take a node's users for gone when it is silent for this long [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = Text::flag)]
    pub lease: Option<Text>,
    /// Have a client that comes back within this time get what it missed, or not: off [default: 120s]
    #[arg(long, value_name = "DURATION|off", value_parser = Text::flag)]
    pub recovery: Option<Text>,
    /// Serve Socket.IO here [default: /socket.io/]
    #[arg(long, value_name = "PATH", value_parser = Text::flag)]
    pub path: Option<Text>,
    /// Let these web pages use Socket.IO instead of those of --client-url; * is every page
    #[arg(long, value_name = "URLS|*", value_parser = Text::flag)]
    pub cors_origin: Option<Text>,
    /// Let listed pages send cookies and the like [default: true]
    #[arg(long, value_name = "true|false", value_parser = Text::flag)]
    pub cors_credentials: Option<Text>,
    /// Ping each Socket.IO client this often [default: 25s]
    #[arg(long, value_name = "DURATION", value_parser = Text::flag)]
    pub ping_interval: Option<Text>,
    /// Drop a client whose pong takes longer [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = Text::flag)]
    pub ping_timeout: Option<Text>,
    /// Close a connection on which a request's head takes longer, or none comes, or not: off [default: 30s]
    #[arg(long, value_name = "DURATION|off", value_parser = Text::flag)]
    pub header_timeout: Option<Text>,
    /// Close a session that joins no namespace in this time, or not: off [default: 45s]
    #[arg(long, value_name = "DURATION|off", value_parser = Text::flag)]
    pub connect_timeout: Option<Text>,
    /// Refuse larger messages and polling bodies, between 1KiB and 1GiB, which is also off [default: 1MB]
    #[arg(long, value_name = "AMOUNT|off", value_parser = Text::flag)]
    pub max_payload: Option<Text>,
    /// Compress polling answers from this size on, or not: off [default: 1KiB]
    #[arg(long, value_name = "AMOUNT|off", value_parser = Text::flag)]
    pub http_compression: Option<Text>,
    /// Cut a socket for which more than this waits to be sent [default: 4MiB]
    #[arg(long, value_name = "AMOUNT|off", value_parser = Text::flag)]
    pub max_outbound: Option<Text>,
    /// Refuse a user more sockets than this, in all namespaces together [default: 10000]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub max_sockets_per_user: Option<Text>,
    /// Refuse an address more sockets than this [default: 1000, but off for loopback]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub max_sockets_per_address: Option<Text>,
    /// Let a socket be in no more rooms than this; 0 is off [default: 256]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub max_rooms_per_socket: Option<Text>,
    /// Refuse a packet with more binary attachments than this [default: 10]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub max_attachments: Option<Text>,
    /// Cut clients whose packets are nested deeper, or not: off [default: 127]
    #[arg(long, value_name = "N|off", value_parser = Text::flag)]
    pub max_nesting: Option<Text>,
    /// Publish these events of clients (a,b), by name or pattern such as order:* [default: none]
    #[arg(long, value_name = "EVENTS", value_parser = Text::flag)]
    pub bridge_events: Option<Text>,
    /// Take the events of --bridge-events from this namespace [default: /]
    #[arg(long, value_name = "NAMESPACE", value_parser = Text::flag)]
    pub bridge_namespace: Option<Text>,
    /// Publish them to this exchange [default: leveret.events]
    #[arg(long, value_name = "EXCHANGE", value_parser = Text::flag)]
    pub bridge_exchange: Option<Text>,
    /// Give the reply to such an event this long to become its acknowledgement [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = Text::flag)]
    pub bridge_timeout: Option<Text>,
    /// Believe X-Forwarded-For of proxies at these addresses (a,b), such as 10.0.0.0/8 [default: none]
    #[arg(long, value_name = "NETWORKS", value_parser = Text::flag)]
    pub trusted_proxy: Option<Text>,
    /// Let publishers wait above this much memory in messages: a share, an amount, off [default: 0.4]
    #[arg(long, value_name = "LIMIT", value_parser = Text::flag)]
    pub memory_limit: Option<Text>,
    /// Serve the demo application: an orders API, and a page at /demo
    #[arg(long, num_args = 0, default_missing_value = "true", value_parser = Text::flag)]
    pub demo: Option<Text>,
    /// Write log lines for people, or as JSON [default: pretty]
    #[arg(long, value_name = "pretty|json", value_parser = Text::flag)]
    pub log_format: Option<Text>,
    /// Log what passes this filter, such as warn or leveret=debug [default: info]
    #[arg(long, value_name = "FILTER", value_parser = Text::flag)]
    pub log: Option<Text>,
}

impl Layer {
    /// # Errors
    /// When a variable is not valid Unicode.
    pub fn from_environment(environment: Environment<'_>) -> Result<Self, Error> {
        let get = |key| read_variable(environment, &variable(key), Origin::Environment);
        // Ours says it more exactly. Compose files pass variables on that are empty when nobody set
        // them, so an empty foreign one is not set.
        let or_foreign = |key, name| match get(key)? {
            None => read_variable(environment, name, Origin::ForeignVariable(name))
                .map(|text| text.filter(|text| !text.value.is_empty())),
            ours => Ok(ours),
        };
        let client_url = or_foreign("client-url", "CLIENT_URL")?;
        let broker_url = or_foreign("broker-url", "RABBITMQ_URL")?;
        let cache_url = or_foreign("cache-url", "REDIS_URL")?;
        Ok(Self {
            data_dir: get("data-dir")?,
            in_memory: get("in-memory")?,
            durability: get("durability")?,
            broker_url,
            cache_url,
            http: get("http")?,
            resp: get("resp")?,
            resp_password: get("resp-password")?,
            appendfsync: get("appendfsync")?,
            jwt_secret: get("jwt-secret")?,
            jwt_public_key: get("jwt-public-key")?,
            event_rate: get("event-rate")?,
            api_key: get("api-key")?,
            client_url,
            presence_grace: get("presence-grace")?,
            lease: get("lease")?,
            recovery: get("recovery")?,
            path: get("path")?,
            cors_origin: get("cors-origin")?,
            cors_credentials: get("cors-credentials")?,
            ping_interval: get("ping-interval")?,
            ping_timeout: get("ping-timeout")?,
            header_timeout: get("header-timeout")?,
            connect_timeout: get("connect-timeout")?,
            max_payload: get("max-payload")?,
            http_compression: get("http-compression")?,
            max_outbound: get("max-outbound")?,
            max_sockets_per_user: get("max-sockets-per-user")?,
            max_sockets_per_address: get("max-sockets-per-address")?,
            max_rooms_per_socket: get("max-rooms-per-socket")?,
            max_attachments: get("max-attachments")?,
            max_nesting: get("max-nesting")?,
            bridge_events: get("bridge-events")?,
            bridge_namespace: get("bridge-namespace")?,
            bridge_exchange: get("bridge-exchange")?,
            bridge_timeout: get("bridge-timeout")?,
            trusted_proxy: get("trusted-proxy")?,
            memory_limit: get("memory-limit")?,
            demo: get("demo")?,
            log_format: get("log-format")?,
            log: get("log")?,
        })
    }

    /// # Errors
    /// When the file can't be read, is no TOML, or has a key that is none of ours.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Usage(format!("the configuration file {name}: {error}")))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            Error::Usage(format!("{name}, line {line}: {}", one_line(error.message())))
        })
    }

    /// What the three places say together; `config` names the file.
    ///
    /// # Errors
    /// As the two above.
    pub fn gather(
        flags: Self,
        config: Option<&Text>,
        environment: Environment<'_>,
    ) -> Result<Self, Error> {
        let from_environment = Self::from_environment(environment)?;
        let config = match config {
            Some(flag) => Some(flag.clone()),
            None => read_variable(environment, &variable("config"), Origin::Environment)?,
        };
        let from_file = match config {
            Some(path) => Self::from_file(Path::new(&path.value))?,
            None => Self::default(),
        };
        Ok(flags.over(from_environment).over(from_file))
    }

    /// Each setting of `self`, or else that of `weaker`.
    fn over(self, weaker: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(weaker.data_dir),
            in_memory: self.in_memory.or(weaker.in_memory),
            durability: self.durability.or(weaker.durability),
            broker_url: self.broker_url.or(weaker.broker_url),
            cache_url: self.cache_url.or(weaker.cache_url),
            http: self.http.or(weaker.http),
            resp: self.resp.or(weaker.resp),
            resp_password: self.resp_password.or(weaker.resp_password),
            appendfsync: self.appendfsync.or(weaker.appendfsync),
            jwt_secret: self.jwt_secret.or(weaker.jwt_secret),
            jwt_public_key: self.jwt_public_key.or(weaker.jwt_public_key),
            event_rate: self.event_rate.or(weaker.event_rate),
            api_key: self.api_key.or(weaker.api_key),
            client_url: self.client_url.or(weaker.client_url),
            presence_grace: self.presence_grace.or(weaker.presence_grace),
            lease: self.lease.or(weaker.lease),
            recovery: self.recovery.or(weaker.recovery),
            path: self.path.or(weaker.path),
            cors_origin: self.cors_origin.or(weaker.cors_origin),
            cors_credentials: self.cors_credentials.or(weaker.cors_credentials),
            ping_interval: self.ping_interval.or(weaker.ping_interval),
            ping_timeout: self.ping_timeout.or(weaker.ping_timeout),
            header_timeout: self.header_timeout.or(weaker.header_timeout),
            connect_timeout: self.connect_timeout.or(weaker.connect_timeout),
            max_payload: self.max_payload.or(weaker.max_payload),
            http_compression: self.http_compression.or(weaker.http_compression),
            max_outbound: self.max_outbound.or(weaker.max_outbound),
            max_sockets_per_user: self.max_sockets_per_user.or(weaker.max_sockets_per_user),
            max_sockets_per_address: self
                .max_sockets_per_address
                .or(weaker.max_sockets_per_address),
            max_rooms_per_socket: self.max_rooms_per_socket.or(weaker.max_rooms_per_socket),
            max_attachments: self.max_attachments.or(weaker.max_attachments),
            max_nesting: self.max_nesting.or(weaker.max_nesting),
            bridge_events: self.bridge_events.or(weaker.bridge_events),
            bridge_namespace: self.bridge_namespace.or(weaker.bridge_namespace),
            bridge_exchange: self.bridge_exchange.or(weaker.bridge_exchange),
            bridge_timeout: self.bridge_timeout.or(weaker.bridge_timeout),
            trusted_proxy: self.trusted_proxy.or(weaker.trusted_proxy),
            memory_limit: self.memory_limit.or(weaker.memory_limit),
            demo: self.demo.or(weaker.demo),
            log_format: self.log_format.or(weaker.log_format),
            log: self.log.or(weaker.log),
        }
    }
}

fn read_variable(
    environment: Environment<'_>,
    name: &str,
    origin: Origin,
) -> Result<Option<Text>, Error> {
    environment(name)
        .map(|value| match value.into_string() {
            Ok(value) => Ok(Text { value, origin }),
            Err(_) => Err(Error::Usage(format!("{name} is not valid UTF-8"))),
        })
        .transpose()
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
