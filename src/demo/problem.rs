//! What went wrong, as the problem documents that every HTTP error is.

use http::StatusCode;

use super::order::Invalid;
use crate::backend::BackendError;
use crate::http::Problem;

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::new(StatusCode::BAD_REQUEST, invalid.to_string()).with("field", invalid.field)
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        match error {
            _ if error.is_retryable() => unavailable(&error.to_string()),
            BackendError::Journal(_)
            | BackendError::Unreachable { .. }
            | BackendError::CacheUnreachable(_)
            | BackendError::CacheLost(_) => unavailable(&error.to_string()),
            BackendError::Broker(_)
            | BackendError::Cache(_)
            | BackendError::CacheServer(_)
            | BackendError::Unsupported { .. } => {
                tracing::error!(%error, "a back end refused a call of the demo");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
                    .detail(error.to_string())
            }
        }
    }
}

/// Nothing was accepted that has to be kept: the same call may succeed later.
pub(super) fn unavailable(reason: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable").detail(reason)
}

/// `reset_ms`: until the next call is allowed.
pub(super) fn too_many_requests(reset_ms: u64) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests")
        .retry_after(reset_ms.div_ceil(1000).max(1))
}
