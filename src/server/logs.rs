//! Structured logs on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Settings;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("'{text}' is neither pretty nor json")),
        }
    }
}

/// Which events are logged, in the directives of `tracing_subscriber::EnvFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    /// No line a message at this level.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl LogFilter {
    /// # Errors
    /// When a directive is not valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                Err(format!("'{text}' is not a filter such as info or leveret=debug: {error}"))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Starts logging for the process. A program that embeds the server has its own, which then stays.
pub(super) fn start(settings: &Settings) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let filter = EnvFilter::new(settings.log_filter.as_str());
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match settings.log_format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Pretty => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_ansi(colour)).try_init()
        }
    };
}
