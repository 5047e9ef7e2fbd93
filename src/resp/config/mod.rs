//! CONFIG: the parameters that mean something here, in Redis's words.
//!
//! Owns the parameters' values. What always holds: a value is one that its parameter takes, and what is
//! set together is set as a whole or not at all.

mod parameter;

use std::time::Duration;

use parameter::{PARAMETERS, Parameter};

use super::shared::Options;
use crate::cache::{AppendFsync, Cache, Events, EvictionPolicy, Settings};
use crate::model::glob;
use crate::model::text::Text;

pub(super) struct Config {
    /// One for each of [`PARAMETERS`], as that takes it.
    values: Vec<String>,
    pub password: Option<String>,
    pub clients_max: usize,
    /// After so long without a request a client is closed.
    pub timeout: Option<Duration>,
    /// After so long without a word a new client's peer is asked whether it is still there.
    pub tcp_keepalive: Option<Duration>,
    pub pubsub_limit: OutputLimit,
    pub request_bytes_max: usize,
    /// Bytes; 0 is no limit.
    pub maxmemory: u64,
    pub slow_log_us: Option<u64>,
    pub slow_log_len: usize,
    /// Zero: for ever.
    pub script_time_limit: Duration,
}

/// How much a client may leave unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutputLimit {
    pub hard_bytes: usize,
    pub soft_bytes: usize,
    pub soft_for: Duration,
}

impl Config {
    pub(super) fn new(cache: &Cache, options: &Options) -> Self {
        let settings = cache.settings();
        let values = PARAMETERS.iter().map(|parameter| match parameter.name {
            "appendfsync" => settings.appendfsync.name().to_owned(),
            "maxmemory" => settings.maxmemory_bytes.to_string(),
            "maxmemory-policy" => settings.maxmemory_policy.name().to_owned(),
            "maxmemory-samples" => settings.maxmemory_samples.to_string(),
            "notify-keyspace-events" => settings.notify_keyspace_events.letters(),
            "appendonly" => if cache.journal().keeps() { "yes" } else { "no" }.to_owned(),
            "busy-reply-threshold" => cache.script_time_limit().as_millis().to_string(),
            "port" => options.port.to_string(),
            "bind" => options.address.clone(),
            "requirepass" => options.password.clone().unwrap_or_default(),
            _ => parameter.default.to_owned(),
        });
        Self::of(values.collect())
    }

    /// Reads what the values say. They were checked, so what can't be read is not there.
    fn of(values: Vec<String>) -> Self {
        let get = |name| {
            let at = PARAMETERS.iter().position(|parameter| parameter.name == name);
            at.and_then(|at| values.get(at)).map_or("", String::as_str)
        };
        let number = |name| get(name).parse::<u64>().ok();
        let count = |name| get(name).parse::<usize>().ok();
        let seconds = |name| number(name).filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Self {
            password: Some(get("requirepass").to_owned()).filter(|password| !password.is_empty()),
            clients_max: count("maxclients").unwrap_or(usize::MAX),
            timeout: seconds("timeout"),
            tcp_keepalive: seconds("tcp-keepalive"),
            pubsub_limit: parameter::pubsub_limit(get("client-output-buffer-limit")),
            request_bytes_max: count("client-query-buffer-limit").unwrap_or(usize::MAX),
            maxmemory: number("maxmemory").unwrap_or(0),
            slow_log_us: number("slowlog-log-slower-than"),
            slow_log_len: count("slowlog-max-len").unwrap_or(0),
            script_time_limit: Duration::from_millis(number("busy-reply-threshold").unwrap_or(0)),
            values,
        }
    }

    /// What of it is the cache's.
    pub(super) fn apply(&self, settings: &mut Settings) {
        if let Some(fsync) = AppendFsync::of_name(self.value("appendfsync")) {
            settings.appendfsync = fsync;
        }
        settings.maxmemory_bytes = usize::try_from(self.maxmemory).unwrap_or(usize::MAX);
        if let Some(policy) = EvictionPolicy::of_name(self.maxmemory_policy()) {
            settings.maxmemory_policy = policy;
        }
        if let Ok(samples) = self.value("maxmemory-samples").parse() {
            settings.maxmemory_samples = samples;
        }
        if let Some(events) = Events::parse(self.value("notify-keyspace-events")) {
            settings.notify_keyspace_events = events;
        }
    }

    fn value(&self, name: &str) -> &str {
        let at = PARAMETERS.iter().position(|parameter| parameter.name == name);
        at.and_then(|at| self.values.get(at)).map_or("", String::as_str)
    }

    pub(super) fn port(&self) -> &str {
        self.value("port")
    }

    pub(super) fn maxmemory_policy(&self) -> &str {
        self.value("maxmemory-policy")
    }

    /// The parameters whose names one of the patterns matches, each once. One that is named without a
    /// wildcard is called as the pattern has it.
    pub(super) fn get(&self, patterns: &[Text]) -> impl Iterator<Item = (Text, String)> {
        let values = PARAMETERS.iter().zip(&self.values);
        let named = values.flat_map(|(parameter, value)| {
            parameter.names().map(move |name| (name, parameter, value))
        });
        named.filter_map(|(name, parameter, value)| {
            let matching = patterns
                .iter()
                .find(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))?;
            let is_named = matching.eq_ignore_ascii_case(name.as_bytes());
            let name = if is_named { matching.clone() } else { name.into() };
            Some((name, parameter.shown(value)))
        })
    }

    /// CONFIG SET.
    ///
    /// # Errors
    /// In Redis's words; nothing is set then.
    pub(super) fn set(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), String> {
        let mut values = self.values.clone();
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in pairs {
            let found = Parameter::find(name).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            })?;
            let (at, parameter) = found;
            let is_called = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
            let name = parameter.names().find(is_called).unwrap_or(parameter.name);
            let failed = |reason: String| {
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            };
            if seen.contains(&name) {
                return Err(failed("duplicate parameter".to_owned()));
            }
            seen.push(name);
            if let Some(slot) = values.get_mut(at) {
                *slot = parameter.check(value, slot).map_err(failed)?;
            }
        }
        *self = Self::of(values);
        Ok(())
    }
}
