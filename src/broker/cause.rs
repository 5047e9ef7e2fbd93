//! What a message is called, and what it came from.

use super::Inner;
use crate::journal::Position;
use crate::model::message::Message;

/// The id of the message that a message came from: set on what an acknowledgement publishes, unless its
/// publisher has set it.
pub(super) const X_CAUSE: &str = "x-cause";

impl Inner {
    /// A message's `message_id`. One that has none is called by its place in the log, with the log's
    /// epoch: unique over the life of the data folder.
    pub(super) fn message_id(&self, message: &Message, position: Position) -> String {
        match &message.properties.message_id {
            Some(id) => id.clone(),
            None => format!("{}-{}", self.journal.epoch(), position.0),
        }
    }
}

/// Says what a message came from.
pub(super) fn set_cause(message: &mut Message, cause: &str) {
    let headers = &mut message.properties.headers;
    if headers.get(X_CAUSE).is_none() {
        headers.set(X_CAUSE, cause);
    }
}
