//! What the broker refuses, as a problem document.

use http::StatusCode;

use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::http::Problem;

/// When a caller may look again whether there is room.
const ALARM_RETRY_AFTER_S: u64 = 5;

pub(super) fn refusal(error: BackendError) -> Problem {
    let status = match &error {
        _ if error.is_retryable() => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            return problem.retry_after(ALARM_RETRY_AFTER_S);
        }
        BackendError::Journal(_) => StatusCode::SERVICE_UNAVAILABLE,
        BackendError::Broker(error) => status_of(error),
        BackendError::Unreachable { .. }
        | BackendError::CacheUnreachable(_)
        | BackendError::CacheLost(_) => StatusCode::SERVICE_UNAVAILABLE,
        BackendError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        BackendError::Cache(_) | BackendError::CacheServer(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, error.to_string())
}

fn status_of(error: &BrokerError) -> StatusCode {
    match error {
        BrokerError::NotFound { .. } | BrokerError::NoVhost(_) => StatusCode::NOT_FOUND,
        BrokerError::AccessRefused(_) | BrokerError::NotAllowed(_) => StatusCode::FORBIDDEN,
        BrokerError::ResourceLocked { .. }
        | BrokerError::Inequivalent { .. }
        | BrokerError::InUse { .. }
        | BrokerError::NotEmpty { .. }
        | BrokerError::Nacked { .. }
        | BrokerError::NotRedrivable { .. }
        | BrokerError::Redriving { .. } => StatusCode::CONFLICT,
        BrokerError::RedrivesMax(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    }
}
