//! One error of both back ends.

use crate::journal::JournalError;

/// Why a back end did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The call was wrong: an unknown name, another declaration, a key of another type.
    #[error("{0}")]
    Refused(String),
}

impl BackendError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Journal(JournalError::DiskAlarm { .. }))
    }
}
