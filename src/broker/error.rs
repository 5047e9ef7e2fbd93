//! What the broker refuses, with what a listener needs to answer with AMQP's reply codes.

use crate::journal::JournalError;

/// Why an operation was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// AMQP 404.
    #[error("no {what} '{name}'")]
    NotFound { what: &'static str, name: String },
    /// AMQP 406: it exists with another value of `property`.
    #[error("{what} '{name}' is declared with another {property}")]
    Inequivalent { what: &'static str, name: String, property: &'static str },
    /// AMQP 403.
    #[error("{what} '{name}': {reason}")]
    AccessRefused { what: &'static str, name: String, reason: &'static str },
    /// The message has no usable record of the queue that it died in.
    #[error("the message in '{queue}' can't be redriven: {reason}")]
    NotRedrivable { queue: String, reason: &'static str },
    #[error(transparent)]
    Journal(#[from] JournalError),
}
