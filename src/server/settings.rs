//! Settings, checked: what is here can be used as it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::back_ends::{self, BackEndUrl};
use super::broker_url::{BrokerUrl, broker_url};
use super::gateway_settings::{time, unless_off};
use super::layer::{Layer, Text};
use super::logs::{LogFilter, LogFormat};
use super::memory::MemoryLimit;
use super::public_keys::PublicKeys;
use super::{Environment, Error, GatewaySettings, Secret};
use crate::cache::AppendFsync;
use crate::gateway::EventRate;
use crate::http::{ApiKey, Limits};
use crate::journal::Durability;

const DEFAULT_DATA_DIR: &str = "./leveret-data";
const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3001);
/// Redis's own, for those who ask for one.
const DEFAULT_RESP: &str = "127.0.0.1:6379";
pub(super) const DEFAULT_CLIENT_ORIGIN: &str = "http://localhost:3000";

/// A presence key lives no longer than this without a socket, so a longer grace would not be kept.
const PRESENCE_GRACE_MAX: Duration = Duration::from_secs(300);

/// Where state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    Memory,
    Folder { path: PathBuf, durability: Durability },
}

/// What `serve` does.
#[derive(Clone)]
pub struct Settings {
    pub storage: Storage,
    /// The RabbitMQ that is the broker. `None`: the broker of this process.
    pub broker_url: Option<BrokerUrl>,
    /// Where the cache is a server. `None`: in this process.
    pub cache_url: Option<BackEndUrl>,
    /// Port 0 takes a free one.
    pub http: SocketAddr,
    /// How long a connection may take to a request's head. `None`: as long as it likes.
    pub header_timeout: Option<Duration>,
    /// Where Redis clients are served. `None`: nowhere. Port 0 takes a free one.
    pub resp: Option<SocketAddr>,
    /// What they have to show. `None`: nothing, on a loopback address only.
    pub resp_password: Option<String>,
    /// When the cache's changes have to be on disk.
    pub appendfsync: AppendFsync,
    /// Signs and verifies tokens. `None` is development mode: a secret is made once and kept in the
    /// data folder. Only on a loopback address.
    pub secret: Option<Secret>,
    /// Verify tokens too; without a secret they alone do.
    pub public_keys: Option<PublicKeys>,
    /// What one Socket.IO client may send. `None`: whatever it can.
    pub event_rate: Option<EventRate>,
    /// What callers of `/api/v1` have to show. `None`: nothing, on a loopback address only.
    pub api_key: Option<ApiKey>,
    /// Origins (RFC 6454) of web pages that may connect.
    pub client_origins: Vec<String>,
    pub gateway: GatewaySettings,
    /// How much memory messages may take before publishers wait.
    pub memory_limit: MemoryLimit,
    /// Whether the demo application is served.
    pub demo: bool,
    pub log_format: LogFormat,
    pub log_filter: LogFilter,
}

impl Default for Settings {
    /// What `leveret serve` does without flags.
    fn default() -> Self {
        Self {
            storage: Storage::Folder {
                path: PathBuf::from(DEFAULT_DATA_DIR),
                durability: Durability::Strict,
            },
            cache_url: None,
            broker_url: None,
            http: DEFAULT_HTTP,
            header_timeout: Limits::default().head_read_timeout,
            resp: None,
            resp_password: None,
            appendfsync: AppendFsync::EverySec,
            secret: None,
            public_keys: None,
            event_rate: Some(EventRate::default()),
            api_key: None,
            client_origins: vec![DEFAULT_CLIENT_ORIGIN.to_owned()],
            gateway: GatewaySettings::default(),
            memory_limit: MemoryLimit::default(),
            demo: false,
            log_format: LogFormat::Pretty,
            log_filter: LogFilter::default(),
        }
    }
}

impl Settings {
    /// Checks what the flags, the environment and the file (named by `config`) say together.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting, as whoever gave it wrote it, and what it may be.
    pub(super) fn gather(
        flags: Layer,
        config: Option<&Text>,
        environment: Environment<'_>,
    ) -> Result<Self, Error> {
        let layer = Layer::gather(flags, config, environment)?;
        back_ends::refuse_what_needs_the_embedded_cache(&layer)?;
        back_ends::refuse_durability_of_servers(&layer)?;
        let defaults = Self::default();
        let client_origins = check("client-url", layer.client_url.as_ref(), origins)?
            .unwrap_or(defaults.client_origins);
        let presence_grace = check("presence-grace", layer.presence_grace.as_ref(), grace)?
            .unwrap_or(defaults.gateway.presence_grace);
        let settings = Self {
            broker_url: broker_url(&layer)?,
            gateway: GatewaySettings::of(&layer, &client_origins, presence_grace)?,
            cache_url: back_ends::cache_url(&layer)?,
            http: check("http", layer.http.as_ref(), address)?.unwrap_or(defaults.http),
            header_timeout: check("header-timeout", layer.header_timeout.as_ref(), |text| {
                unless_off(text, time)
            })?
            .unwrap_or(defaults.header_timeout),
            resp: check("resp", layer.resp.as_ref(), address_or_off)?.flatten(),
            resp_password: check("resp-password", layer.resp_password.as_ref(), password)?,
            appendfsync: check("appendfsync", layer.appendfsync.as_ref(), appendfsync)?
                .unwrap_or(defaults.appendfsync),
            secret: check("jwt-secret", layer.jwt_secret.as_ref(), Secret::given)?,
            public_keys: check(
                "jwt-public-key",
                layer.jwt_public_key.as_ref(),
                PublicKeys::of_file,
            )?,
            event_rate: check("event-rate", layer.event_rate.as_ref(), event_rate)?
                .unwrap_or(defaults.event_rate),
            api_key: check("api-key", layer.api_key.as_ref(), api_key)?,
            client_origins,
            memory_limit: check("memory-limit", layer.memory_limit.as_ref(), MemoryLimit::parse)?
                .unwrap_or(defaults.memory_limit),
            demo: check("demo", layer.demo.as_ref(), switch)?.unwrap_or(defaults.demo),
            log_format: check("log-format", layer.log_format.as_ref(), LogFormat::parse)?
                .unwrap_or(defaults.log_format),
            log_filter: check("log", layer.log.as_ref(), LogFilter::parse)?
                .unwrap_or(defaults.log_filter),
            storage: storage(&layer)?,
        };
        let lacks_keys = settings.secret.is_none() && settings.public_keys.is_none();
        // Any token is enough to guess a short secret without asking the server.
        let is_guessable = settings.secret.as_ref().is_some_and(Secret::is_short);
        let lacks_a_credential = lacks_keys || is_guessable || settings.api_key.is_none();
        if lacks_a_credential && !settings.http.ip().is_loopback() {
            return Err(Error::Usage(format!(
                "{} is not a loopback address: listening there takes a secret for tokens \
                 (--jwt-secret, at least 32 bytes, or --jwt-public-key) and a key for the API (--api-key)",
                settings.http
            )));
        }
        if let Some(resp) = settings.resp
            && settings.resp_password.is_none()
            && !resp.ip().is_loopback()
        {
            return Err(Error::Usage(format!(
                "{resp} is not a loopback address: Redis clients there take a password \
                 (--resp-password)"
            )));
        }
        if settings.demo && !settings.http.ip().is_loopback() {
            return Err(Error::Usage(format!(
                "{} is not a loopback address: --demo asks nobody for a credential, so it runs on \
                 loopback only",
                settings.http
            )));
        }
        Ok(settings)
    }
}

/// Applies `parse` to a setting that was given; its error says what the setting may be.
pub(super) fn check<T>(
    key: &str,
    text: Option<&Text>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |reason| Error::Usage(format!("{}: {reason}", text.origin.name(key)));
    parse(&text.value).map(Some).map_err(wrong)
}

/// The stronger of `data-dir` and `in-memory` wins; from one place they contradict each other, and so
/// does a durability for what is kept in memory.
fn storage(layer: &Layer) -> Result<Storage, Error> {
    let in_memory = match check("in-memory", layer.in_memory.as_ref(), switch)? {
        Some(true) => layer.in_memory.as_ref().map(|text| text.origin),
        _ => None,
    };
    let folder = check("data-dir", layer.data_dir.as_ref(), folder)?;
    let durability = check("durability", layer.durability.as_ref(), durability)?;

    let origin = |text: &Option<Text>| text.as_ref().map(|text| text.origin);
    let (data_dir, durable) = (origin(&layer.data_dir), origin(&layer.durability));
    match in_memory {
        Some(in_memory) if data_dir <= Some(in_memory) => {
            let contradiction = [
                ("data-dir", data_dir == Some(in_memory)),
                ("durability", durable >= Some(in_memory)),
            ]
            .into_iter()
            .find(|(_, contradicts)| *contradicts);
            match contradiction {
                None => Ok(Storage::Memory),
                Some((key, _)) => Err(Error::Usage(format!(
                    "{} and {key} contradict each other",
                    in_memory.name("in-memory")
                ))),
            }
        }
        _ => Ok(Storage::Folder {
            path: folder.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)),
            durability: durability.unwrap_or(Durability::Strict),
        }),
    }
}

/// The data folder alone, for the commands that need no more.
pub(super) fn data_dir(layer: &Layer) -> Result<PathBuf, Error> {
    let given = check("data-dir", layer.data_dir.as_ref(), folder)?;
    Ok(given.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)))
}

/// The secret alone, for the commands that need no more.
pub(super) fn secret(layer: &Layer) -> Result<Option<Secret>, Error> {
    check("jwt-secret", layer.jwt_secret.as_ref(), Secret::given)
}

pub(super) fn api_key(text: &str) -> Result<ApiKey, String> {
    ApiKey::new(text).map_err(|error| error.to_string())
}

fn event_rate(text: &str) -> Result<Option<EventRate>, String> {
    if text == "off" {
        return Ok(None);
    }
    match text.parse() {
        Ok(per_second @ 1..) => {
            Ok(Some(EventRate { per_second, burst: per_second.saturating_mul(2) }))
        }
        _ => Err(format!("'{text}' is neither a number of events a second nor off")),
    }
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("a folder's path is empty".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "strict" => Ok(Durability::Strict),
        "relaxed" => Ok(Durability::Relaxed),
        _ => Err(format!("'{text}' is neither strict nor relaxed")),
    }
}

fn appendfsync(text: &str) -> Result<AppendFsync, String> {
    AppendFsync::of_name(text)
        .ok_or_else(|| format!("'{text}' is neither always nor everysec nor no"))
}

fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            format!("'{text}' is neither off nor an address and port, such as {DEFAULT_RESP}")
        }),
    }
}

fn password(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a password is empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is not an address and port, such as {DEFAULT_HTTP}"))
}

/// A duration in words, such as `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("'{text}' is not a duration such as 30s or 1h: {error}"))
}

fn grace(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        grace if grace <= PRESENCE_GRACE_MAX => Ok(grace),
        _ => Err(format!("'{text}' is longer than {} s", PRESENCE_GRACE_MAX.as_secs())),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|part| origin(part.trim())).collect()
}

/// An origin as browsers write it: lower case, without path and default port (RFC 6454, section 6.2).
pub(super) fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is not an origin such as {DEFAULT_CLIENT_ORIGIN}");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (scheme, host) = (uri.scheme_str().ok_or_else(wrong)?, uri.host().ok_or_else(wrong)?);
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err(wrong()),
    };
    let names_more = uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        || !matches!(uri.path(), "" | "/")
        || uri.query().is_some();
    if names_more || host.is_empty() {
        return Err(wrong());
    }
    let host = host.to_ascii_lowercase();
    Ok(match uri.port_u16() {
        Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// Gathers with these flags, variables and, when there is one, this file.
    fn gather(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leveret.toml");
        std::fs::write(&path, file).unwrap();

        let arguments = ["leveret", "serve"].iter().chain(flags).map(OsString::from);
        let super::super::command::Cli { command: super::super::Command::Serve(arguments) } =
            super::super::command::parse(arguments).map_err(|error| error.line())?
        else {
            unreachable!()
        };
        let environment = |name: &str| match name {
            "LEVERET_CONFIG" => Some(path.clone().into_os_string()),
            _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
        };
        Settings::gather(arguments.settings, arguments.config.as_ref(), &environment)
            .map_err(|error| error.line())
    }

    fn folder_of(settings: &Settings) -> &str {
        match &settings.storage {
            Storage::Folder { path, .. } => path.to_str().unwrap(),
            Storage::Memory => "memory",
        }
    }

    #[test]
    fn nothing_given_is_the_default() {
        let settings = gather(&[], &[], "").unwrap();
        assert_eq!(settings.http.to_string(), "127.0.0.1:3001");
        assert_eq!(folder_of(&settings), "./leveret-data");
        assert_eq!(settings.client_origins, ["http://localhost:3000"]);
        assert!(
            settings.secret.is_none()
                && !settings.demo
                && settings.gateway.presence_grace.is_zero()
        );
    }

    /// Each setting in each place, and what shows that it arrived.
    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        type Shown = fn(&Settings) -> String;
        let cases: [(&str, [&str; 3], Shown); 32] = [
            ("event-rate", ["1", "off", "300"], |s| {
                s.event_rate.map_or("off".to_owned(), |rate| rate.per_second.to_string())
            }),
            ("path", ["/f/", "/e/", "/c/"], |s| s.gateway.path.clone()),
            ("cors-origin", ["http://f", "*", "http://c"], |s| s.gateway.cors_origins.join(",")),
            ("cors-credentials", ["false", "true", "false"], |s| {
                s.gateway.cors_credentials.to_string()
            }),
            ("ping-interval", ["1s", "2s", "3s"], |s| {
                format!("{}s", s.gateway.ping_interval.as_secs())
            }),
            ("ping-timeout", ["1s", "2s", "3s"], |s| {
                format!("{}s", s.gateway.ping_timeout.as_secs())
            }),
            ("header-timeout", ["1s", "off", "3s"], |s| {
                s.header_timeout.map_or("off".into(), |time| format!("{}s", time.as_secs()))
            }),
            ("connect-timeout", ["1s", "off", "3s"], |s| {
                s.gateway
                    .connect_timeout
                    .map_or("off".into(), |time| format!("{}s", time.as_secs()))
            }),
            ("max-payload", ["2000B", "3000B", "4000B"], |s| {
                format!("{}B", s.gateway.payload_bytes_max)
            }),
            ("http-compression", ["1B", "off", "3B"], |s| {
                s.gateway.compression_bytes_min.map_or("off".into(), |bytes| format!("{bytes}B"))
            }),
            ("max-outbound", ["1B", "off", "3B"], |s| {
                s.gateway.queue_bytes_max.map_or("off".into(), |bytes| format!("{bytes}B"))
            }),
            ("max-sockets-per-user", ["1", "off", "3"], |s| {
                s.gateway.user_sockets_max.map_or("off".into(), |count| count.to_string())
            }),
            ("max-sockets-per-address", ["1", "off", "3"], |s| {
                s.gateway.loopback_sockets_max.map_or("off".into(), |count| count.to_string())
            }),
            ("max-rooms-per-socket", ["1", "off", "3"], |s| {
                s.gateway.socket_rooms_max.map_or("off".into(), |count| count.to_string())
            }),
            ("max-attachments", ["1", "off", "3"], |s| {
                s.gateway.attachments_max.map_or("off".into(), |count| count.to_string())
            }),
            ("max-nesting", ["1", "off", "3"], |s| {
                s.gateway.depth_max.map_or("off".into(), |levels| levels.to_string())
            }),
            ("bridge-events", ["a", "b", "c"], |s| {
                let takes = |event: &&str| s.gateway.event_bridge.as_ref().unwrap().takes(event);
                ["a", "b", "c"].into_iter().find(takes).unwrap_or_default().to_owned()
            }),
            ("trusted-proxy", ["10.0.0.1", "10.0.0.2", "10.0.0.3"], |s| {
                let proxy = |last| format!("10.0.0.{last}");
                let trusts = |text: &String| text.parse() == Ok(s.gateway.trusted_proxies[0]);
                (1..=3).map(proxy).find(trusts).unwrap_or_default()
            }),
            ("resp", ["127.0.0.1:1", "off", "127.0.0.1:3"], |s| {
                s.resp.map_or("off".to_owned(), |address| address.to_string())
            }),
            ("resp-password", ["flag", "variable", "file"], |s| {
                s.resp_password.clone().unwrap_or_default()
            }),
            ("appendfsync", ["always", "no", "everysec"], |s| s.appendfsync.name().to_owned()),
            ("memory-limit", ["0.5", "1MiB", "off"], |s| match s.memory_limit {
                MemoryLimit::Share(share) => share.to_string(),
                MemoryLimit::Bytes(bytes) => format!("{}MiB", bytes >> 20),
                MemoryLimit::Off => "off".to_owned(),
            }),
            ("data-dir", ["/f", "/e", "/c"], |s| folder_of(s).to_owned()),
            ("http", ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], |s| s.http.to_string()),
            ("durability", ["relaxed", "strict", "relaxed"], |s| match s.storage {
                Storage::Folder { durability: Durability::Strict, .. } => "strict".to_owned(),
                Storage::Folder { .. } => "relaxed".to_owned(),
                Storage::Memory => unreachable!(),
            }),
            ("api-key", ["flag", "variable", "file"], |s| {
                s.api_key.as_ref().map(|key| key.as_str().to_owned()).unwrap_or_default()
            }),
            ("jwt-secret", ["flag", "variable", "file"], |s| {
                String::from_utf8(s.secret.as_ref().unwrap().as_bytes().to_vec()).unwrap()
            }),
            ("client-url", ["http://f", "http://e", "http://c"], |s| s.client_origins.join(",")),
            ("recovery", ["1s", "off", "3s"], |s| {
                s.gateway
                    .recovery
                    .map_or("off".to_owned(), |window| format!("{}s", window.as_secs()))
            }),
            ("presence-grace", ["1s", "2s", "3s"], |s| {
                format!("{}s", s.gateway.presence_grace.as_secs())
            }),
            ("log-format", ["json", "pretty", "json"], |s| {
                match s.log_format {
                    LogFormat::Json => "json",
                    LogFormat::Pretty => "pretty",
                }
                .to_owned()
            }),
            ("log", ["error", "warn", "debug"], |s| s.log_filter.as_str().to_owned()),
        ];
        for (key, [flag, variable, in_file], shown) in cases {
            let name = format!("LEVERET_{}", key.to_uppercase().replace('-', "_"));
            let file = format!("{key} = \"{in_file}\"");
            let long = format!("--{key}");
            let by_file = gather(&[], &[], &file).unwrap();
            assert_eq!(shown(&by_file), in_file, "{key} by the file");
            let by_variable = gather(&[], &[(&name, variable)], &file).unwrap();
            assert_eq!(shown(&by_variable), variable, "{key} by the environment");
            let by_flag = gather(&[&long, flag], &[(&name, variable)], &file).unwrap();
            assert_eq!(shown(&by_flag), flag, "{key} by the flag");
        }
    }

    #[test]
    fn switches_have_the_same_precedence() {
        let demo = |flags: &[&str], variables: &[(&str, &str)], file: &str| {
            gather(flags, variables, file).unwrap().demo
        };
        assert!(demo(&[], &[], "demo = true"));
        assert!(demo(&[], &[("LEVERET_DEMO", "1")], "demo = false"));
        assert!(!demo(&[], &[("LEVERET_DEMO", "false")], "demo = true"));
        assert!(demo(&["--demo"], &[("LEVERET_DEMO", "no")], "demo = false"));
    }

    #[test]
    fn the_stronger_of_folder_and_memory_wins() {
        let stored = |flags: &[&str], variables: &[(&str, &str)], file: &str| {
            gather(flags, variables, file).map(|settings| folder_of(&settings).to_owned())
        };
        assert_eq!(stored(&["--in-memory"], &[("LEVERET_DATA_DIR", "/e")], "").unwrap(), "memory");
        assert_eq!(stored(&["--data-dir", "/f"], &[], "in-memory = true").unwrap(), "/f");
        assert_eq!(stored(&["--data-dir", "/f"], &[], "in-memory = false").unwrap(), "/f");
        let line = stored(&["--in-memory", "--data-dir", "/f"], &[], "").unwrap_err();
        assert_eq!(line, "--in-memory and data-dir contradict each other");
        let line = stored(&["--in-memory", "--durability", "strict"], &[], "").unwrap_err();
        assert_eq!(line, "--in-memory and durability contradict each other");
        assert_eq!(stored(&["--in-memory"], &[], "durability = \"strict\"").unwrap(), "memory");
    }

    #[test]
    fn client_url_is_read_from_the_name_of_the_application_too() {
        let origins = |variables: &[(&str, &str)], file: &str| {
            gather(&[], variables, file).unwrap().client_origins.join(" ")
        };
        let list = "https://a.example:443/, http://B.example:80,http://c.example:8080";
        assert_eq!(
            origins(&[("CLIENT_URL", list)], "client-url = \"http://file\""),
            "https://a.example http://b.example http://c.example:8080"
        );
        let both = [("CLIENT_URL", "http://theirs"), ("LEVERET_CLIENT_URL", "http://ours")];
        assert_eq!(origins(&both, ""), "http://ours");
        assert_eq!(origins(&[("CLIENT_URL", "")], ""), "http://localhost:3000");
    }

    #[test]
    fn a_wrong_value_is_named_as_it_was_given() {
        #[expect(clippy::type_complexity, reason = "a table, read once")]
        let cases: [(&[&str], &[(&str, &str)], &str, &str); 21] = [
            (&["--http", "localhost"], &[], "", "--http: 'localhost' is not an address and port"),
            (&[], &[("LEVERET_HTTP", "3001")], "", "LEVERET_HTTP: '3001' is not an address"),
            (&[], &[], "http = \"x\"", "http in the configuration file: 'x' is not an address"),
            (
                &["--durability", "safe"],
                &[],
                "",
                "--durability: 'safe' is neither strict nor relaxed",
            ),
            (
                &[],
                &[("LEVERET_DEMO", "maybe")],
                "",
                "LEVERET_DEMO: 'maybe' is neither true nor false",
            ),
            (&["--presence-grace", "5"], &[], "", "--presence-grace: '5' is not a duration"),
            (&["--presence-grace", "1h"], &[], "", "--presence-grace: '1h' is longer than 300 s"),
            (&["--recovery", "48h"], &[], "", "--recovery: '48h' is longer than a day"),
            (&["--recovery", "0s"], &[], "", "--recovery: '0s' is no time"),
            (&["--memory-limit", "much"], &[], "", "--memory-limit: 'much' is no share"),
            (&["--jwt-secret", ""], &[], "", "--jwt-secret: the secret is empty"),
            (&["--event-rate", "0"], &[], "", "--event-rate: '0' is neither"),
            (&["--jwt-public-key", "/no"], &[], "", "--jwt-public-key: /no: No such file"),
            (&["--jwt-public-key", "/dev/null"], &[], "", "it holds no PEM block"),
            (&["--api-key", "a b"], &[], "", "--api-key: a key consists of visible ASCII"),
            (&["--client-url", "*"], &[], "", "--client-url: '*' is not an origin"),
            (&[], &[("CLIENT_URL", "http://a/b")], "", "CLIENT_URL: 'http://a/b' is not an origin"),
            (&["--log-format", "xml"], &[], "", "--log-format: 'xml' is neither pretty nor json"),
            (&["--log", "a=b=c"], &[], "", "--log: 'a=b=c' is not a filter"),
            (&["--data-dir", ""], &[], "", "--data-dir: a folder's path is empty"),
            (
                &[],
                &[],
                "\n\nhtpp = \"x\"",
                "leveret.toml, line 3: unknown field `htpp`, expected one of",
            ),
        ];
        for (flags, variables, file, expected) in cases {
            match gather(flags, variables, file) {
                Err(line) => {
                    assert!(line.contains(expected), "{line:?} should say {expected:?}");
                    assert!(!line.contains('\n'), "{line:?}");
                }
                Ok(_) => panic!("{expected:?} was not said"),
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_no_toml_is_refused() {
        let missing = gather(&["--config", "/nowhere/leveret.toml"], &[], "").err().unwrap();
        assert!(missing.starts_with("the configuration file /nowhere/leveret.toml: "), "{missing}");
        let broken = gather(&[], &[], "demo = true\nhttp = ").err().unwrap();
        assert!(broken.contains("leveret.toml, line 2: "), "{broken}");
        let number = gather(&[], &[], "http = 3001").err().unwrap();
        assert!(number.contains("expected a string or a boolean"), "{number}");
        let secret = gather(&[], &[], "resp-password = 123456").err().unwrap();
        assert!(!secret.contains("123456"), "{secret}");
    }

    #[test]
    fn the_demo_is_refused_on_a_public_address() {
        let secret = "s".repeat(32);
        let public =
            ["--http", "0.0.0.0:3001", "--jwt-secret", &secret, "--api-key", "key", "--demo"];
        let line = gather(&public, &[], "").err().unwrap();
        assert!(line.contains("on loopback only"), "{line}");
        assert!(gather(&public[..6], &[], "").is_ok());
        assert!(gather(&["--demo"], &[], "").is_ok());
    }

    #[test]
    fn a_public_address_takes_a_secret_and_an_api_key() {
        for address in ["0.0.0.0:3001", "192.0.2.1:80", "[::]:3001"] {
            let line = gather(&["--http", address], &[], "").err().unwrap();
            assert!(line.contains("is not a loopback address"), "{line}");
            let secret = "a secret that has thirty-two bytes";
            for one in [["--jwt-secret", secret], ["--api-key", "key"]] {
                let line = gather(&["--http", address, one[0], one[1]], &[], "").err().unwrap();
                assert!(line.contains("--jwt-secret") && line.contains("--api-key"), "{line}");
            }
            let short = ["--http", address, "--jwt-secret", "short", "--api-key", "key"];
            let line = gather(&short, &[], "").err().unwrap();
            assert!(line.contains("at least 32 bytes"), "{line}");
            let both = ["--http", address, "--jwt-secret", secret, "--api-key", "key"];
            assert!(gather(&both, &[], "").is_ok());
        }
        assert!(gather(&["--http", "[::1]:0"], &[], "").is_ok());
    }

    #[test]
    fn a_back_end_that_this_build_lacks_is_refused() {
        let shown = |url: &str| {
            gather(&[], &[("RABBITMQ_URL", url)], "")
                .map(|settings| settings.broker_url.unwrap().shown())
        };
        if cfg!(feature = "rabbitmq") {
            assert_eq!(shown("amqp://me:secret@mq/v").unwrap(), "amqp://mq:5672/v");
            let line = shown("mq:5672").unwrap_err();
            assert!(line.starts_with("RABBITMQ_URL: it is no URL such as amqp://"), "{line}");
        } else {
            let line = shown("amqp://mq").unwrap_err();
            assert!(line.starts_with("RABBITMQ_URL: this build has no client for"), "{line}");
            assert!(line.contains("--features rabbitmq"), "{line}");
        }
        assert!(gather(&[], &[("REDIS_URL", ""), ("RABBITMQ_URL", "")], "").is_ok());
        let redis = gather(&[], &[("REDIS_URL", "redis://r")], "");
        if cfg!(feature = "redis") {
            assert!(redis.unwrap().cache_url.is_some());
        } else {
            let line = redis.err().unwrap();
            assert!(line.starts_with("REDIS_URL names a Redis server"), "{line}");
            assert!(line.contains("--features redis"), "{line}");
        }
    }

    #[test]
    fn what_is_no_redis_url_is_refused_and_not_repeated() {
        for url in ["localhost:6379", "amqp://me:s3cret@mq", ""] {
            let line = gather(&["--cache-url", url], &[], "").err().unwrap();
            assert!(line.starts_with("--cache-url: it begins with redis://"), "{line}");
            assert!(!line.contains("s3cret"), "{line}");
        }
    }

    #[test]
    fn what_the_embedded_cache_gives_alone_is_refused_beside_a_server() {
        let url = ("REDIS_URL", "redis://r");
        let line = gather(&["--resp", "127.0.0.1:0"], &[url], "").err().unwrap();
        assert!(line.starts_with("--resp serves the embedded cache, but REDIS_URL has"), "{line}");
        let line = gather(&[], &[url], "appendfsync = \"always\"").err().unwrap();
        assert!(line.contains("is of the embedded cache, but REDIS_URL has"), "{line}");
        assert_eq!(gather(&["--resp", "off"], &[url], "").is_ok(), cfg!(feature = "redis"));
    }

    #[test]
    fn a_durability_is_refused_where_servers_keep_everything() {
        let broker = ("RABBITMQ_URL", "amqp://mq");
        let both = [broker, ("LEVERET_CACHE_URL", "redis://r")];
        let line = gather(&["--durability", "strict"], &both, "").err().unwrap();
        assert!(line.starts_with("--durability is of the embedded broker and cache"), "{line}");
        assert!(line.contains("RABBITMQ_URL and LEVERET_CACHE_URL have both on servers"), "{line}");
        // The cache of this process is on its journal.
        let alone = gather(&["--durability", "strict"], &[broker], "");
        assert_eq!(alone.is_ok(), cfg!(feature = "rabbitmq"));
    }
}
