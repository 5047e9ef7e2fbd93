//! What the server, or the way to it, gives as errors.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::backend::BackendError;
use crate::cache::CacheError;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    #[error("it is not the URL of a Redis server: {0}")]
    Url(Arc<str>),
    /// It will refuse the next attempt as well.
    #[error("Redis refused the connection: {0}")]
    Refused(Arc<str>),
    #[error("Redis can't be reached: {0}")]
    Unreachable(Arc<str>),
}

impl ConnectError {
    pub(super) fn of(error: &RedisError) -> Self {
        let text = text(error).into();
        match error.kind() {
            ErrorKind::InvalidClientConfig => Self::Url(text),
            ErrorKind::AuthenticationFailed
            | ErrorKind::RESP3NotSupported
            | ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => {
                Self::Refused(text)
            }
            ErrorKind::Extension if !is_passing(error) => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }
}

/// The server is there, but not yet what it will be.
fn is_passing(error: &RedisError) -> bool {
    matches!(error.code(), Some("LOADING" | "BUSY" | "MASTERDOWN"))
}

/// In the server's words, its code first; or what the system says.
pub fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

/// Whether nothing more can be expected of the connection.
pub fn ends_connection(error: &RedisError) -> bool {
    error.is_timeout() || error.is_io_error() || error.is_unrecoverable_error()
}

/// Errors that the embedded cache has too are the same here.
pub fn of_server(error: &RedisError) -> BackendError {
    if ends_connection(error) {
        let text = if error.is_timeout() { "no answer in time".to_owned() } else { text(error) };
        return BackendError::CacheLost(text.into());
    }
    let text = text(error);
    // A script's errors carry where in the script they were raised.
    let said = text.split(" script: ").next().unwrap_or(&text).trim_end_matches(',');
    let known = [
        CacheError::WrongType,
        CacheError::NotAnInteger,
        CacheError::IncrementOverflow,
        CacheError::OutOfMemory,
        CacheError::StringTooLong,
        CacheError::InvalidExpireTime { command: "set" },
        CacheError::InvalidExpireTime { command: "pexpire" },
    ];
    let known = known.into_iter().find(|known| said.starts_with(&known.to_string()));
    known.map_or_else(|| BackendError::CacheServer(said.into()), BackendError::Cache)
}
