//! What a message is called, and what it came from.

use super::Inner;
use super::dead_letter::X_DEATH;
use crate::journal::Position;
use crate::model::message::Message;

/// The id of the message that a message came from: set on what an acknowledgement publishes, unless its
/// publisher has set it.
pub(super) const X_CAUSE: &str = "x-cause";

impl Inner {
    /// A message's `message_id`. One that has none is called by its place in the log.
    pub(super) fn message_id(&self, message: &Message, position: Position) -> String {
        match &message.properties.message_id {
            Some(id) => id.clone(),
            None => self.place(position),
        }
    }

    /// A place in the log as a text, with the log's epoch: unique over the life of the data folder, and
    /// the same after a restart.
    pub(super) fn place(&self, position: Position) -> String {
        format!("{}-{}", self.journal.epoch_of(position), position.0)
    }

    /// Reads such a text; `None`: nothing was ever at that place.
    pub(super) fn position_of(&self, place: &str) -> Option<Position> {
        let (epoch, position) = place.split_once('-')?;
        let (epoch, position): (u64, u64) = (epoch.parse().ok()?, position.parse().ok()?);
        let position = Position(position);
        (self.journal.epoch_of(position) == epoch).then_some(position)
    }
}

/// Whether somebody may ask for the message from the start: it has a name, or a cause that has it, or
/// it died.
pub(super) fn is_followed(message: &Message) -> bool {
    let properties = &message.properties;
    let has = |header| properties.headers.get(header).is_some();
    properties.message_id.is_some()
        || (!properties.headers.is_empty() && (has(X_CAUSE) || has(X_DEATH)))
}

/// Says what a message came from.
pub(super) fn set_cause(message: &mut Message, cause: &str) {
    let headers = &mut message.properties.headers;
    if headers.get(X_CAUSE).is_none() {
        headers.set(X_CAUSE, cause);
    }
}
