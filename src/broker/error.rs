//! What the broker refuses, in RabbitMQ's words, with AMQP's reply codes.

use super::alarm::Alarm;
use super::redrive::Stuck;
use crate::journal::{JournalError, ReadError};
use crate::model::names::{NameError, VhostName};

/// Why an operation was refused. Nothing was changed.
///
/// What a message answers to its publisher is no error: an unroutable mandatory one comes back in
/// [`super::ChannelPublished::returned`] (312 NO_ROUTE), a refused one as a nack. RabbitMQ never sends 311
/// CONTENT_TOO_LARGE (a body that is too large is 406) nor 313 NO_CONSUMERS (`immediate` is 540).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    #[error("no {what} '{name}' in vhost '{vhost}'")]
    NotFound { what: &'static str, name: String, vhost: VhostName },
    #[error("vhost {0} not found")]
    NoVhost(VhostName),
    /// It exists with another value of `property`.
    #[error("inequivalent arg '{property}' for {what} '{name}' in vhost '{vhost}': {difference}")]
    Inequivalent {
        what: &'static str,
        name: String,
        vhost: VhostName,
        property: &'static str,
        difference: String,
    },
    /// A name that the broker keeps, an internal exchange, an exclusive consumer.
    #[error("{0}")]
    AccessRefused(String),
    /// An exclusive queue belongs to another connection.
    #[error(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be \
         originally declared on another connection or the exclusive property value does not match \
         that of the original declaration."
    )]
    ResourceLocked { name: String, vhost: VhostName },
    /// if-unused of a deletion did not hold.
    #[error("{what} '{name}' in vhost '{vhost}' in use")]
    InUse { what: &'static str, name: String, vhost: VhostName },
    /// if-empty of a deletion did not hold.
    #[error("queue '{name}' in vhost '{vhost}' not empty")]
    NotEmpty { name: String, vhost: VhostName },
    /// An argument or property that can't be accepted, or a state that does not allow the call.
    #[error("{0}")]
    Precondition(String),
    #[error("unknown delivery tag {0}")]
    UnknownDeliveryTag(u64),
    /// A mistake of the client that ends its connection, as RabbitMQ has it.
    #[error("{0}")]
    NotAllowed(String),
    #[error("{0}")]
    NotImplemented(String),
    #[error("{0}")]
    CommandInvalid(String),
    /// A queue at its maximum length refused the message: its confirm is a basic.nack.
    #[error("queue '{name}' is full and refused the message")]
    Nacked { name: String },
    /// A resource is short, and the call does not wait.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// The message stays where it is.
    #[error("the message in '{queue}' can't be redriven: {why}")]
    NotRedrivable { queue: String, why: Stuck },
    /// A run over this queue is under way: it has to end, or to be cancelled, first.
    #[error("the queue '{queue}' is being redriven already")]
    Redriving { queue: String },
    #[error("{0} queues are being redriven: no more are at once")]
    RedrivesMax(usize),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Messages of a queue that are on the disk can't be read from there.
    #[error(transparent)]
    Unreadable(ReadError),
}

impl BrokerError {
    /// AMQP 0-9-1's reply code (section 1.3 of the definitions) and RabbitMQ's name for it. `None` for
    /// what AMQP has no code for: a nack, and operations that only this broker has.
    pub fn reply(&self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::NotFound { .. } => (404, "NOT_FOUND"),
            Self::NoVhost(_) => (530, "NOT_ALLOWED"),
            Self::AccessRefused(_) => (403, "ACCESS_REFUSED"),
            Self::ResourceLocked { .. } => (405, "RESOURCE_LOCKED"),
            Self::Inequivalent { .. }
            | Self::InUse { .. }
            | Self::NotEmpty { .. }
            | Self::Precondition(_)
            | Self::UnknownDeliveryTag(_) => (406, "PRECONDITION_FAILED"),
            Self::NotAllowed(_) => (530, "NOT_ALLOWED"),
            Self::NotImplemented(_) => (540, "NOT_IMPLEMENTED"),
            Self::CommandInvalid(_) => (503, "COMMAND_INVALID"),
            Self::Alarm(_) | Self::Journal(JournalError::DiskAlarm { .. }) => {
                (506, "RESOURCE_ERROR")
            }
            Self::Journal(_) | Self::Unreadable(_) => (541, "INTERNAL_ERROR"),
            Self::Nacked { .. }
            | Self::NotRedrivable { .. }
            | Self::Redriving { .. }
            | Self::RedrivesMax(_) => return None,
        })
    }

    /// AMQP's reply code.
    pub fn reply_code(&self) -> Option<u16> {
        self.reply().map(|(code, _)| code)
    }

    /// The reply text as RabbitMQ writes it: `NOT_FOUND - no queue 'q' in vhost '/'`.
    pub fn reply_text(&self) -> String {
        match self.reply() {
            Some((_, name)) => format!("{name} - {self}"),
            None => self.to_string(),
        }
    }

    /// Whether RabbitMQ closes the whole connection over it, not just the channel ("hard errors").
    pub fn closes_connection(&self) -> bool {
        self.reply_code().is_some_and(|code| code >= 500)
    }
}

impl From<NameError> for BrokerError {
    fn from(error: NameError) -> Self {
        Self::Precondition(error.to_string())
    }
}
