//! One error of all back ends.

use std::sync::Arc;

use crate::broker::BrokerError;
use crate::cache::CacheError;
use crate::journal::JournalError;

/// Why a back end did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The broker refused the call: an unknown name, another declaration.
    #[error(transparent)]
    Broker(BrokerError),
    /// The cache refused the call, in Redis's words.
    #[error(transparent)]
    Cache(CacheError),
    /// The cache's server refused the call, in its own words.
    #[error("{0}")]
    CacheServer(Arc<str>),
    /// The cache's server could not be asked: nothing was done.
    #[error("the cache can't be reached: {0}")]
    CacheUnreachable(Arc<str>),
    /// The cache's server was asked and did not answer: whether it was done is unknown.
    #[error("the connection to the cache was lost, what was asked may have been done: {0}")]
    CacheLost(Arc<str>),
    /// A server that stands behind this port can't be asked, or its answer was lost: whether it did what
    /// it was asked to is unknown then.
    #[error("{server} can't be reached: {reason}")]
    Unreachable { server: &'static str, reason: String },
    /// What the embedded engine can do and this server can't.
    #[error("{server} can't do this: {reason}")]
    Unsupported { server: &'static str, reason: String },
}

impl BackendError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Journal(JournalError::DiskAlarm { .. })
                | Self::Broker(BrokerError::Alarm(_))
                | Self::CacheUnreachable(_)
                | Self::CacheLost(_)
                | Self::Unreachable { .. }
        )
    }
}

impl From<BrokerError> for BackendError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Journal(error) => Self::Journal(error),
            error => Self::Broker(error),
        }
    }
}

impl From<CacheError> for BackendError {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Journal(error) => Self::Journal(error),
            error => Self::Cache(error),
        }
    }
}
