//! Messages that go to the disk alone: what is published to a queue that is long already.

use super::Inner;
use super::publish::has_times;
use super::records::KIND_MESSAGE;
use super::routing::Targets;
use super::stored::Outline;
use crate::journal::{Commits, SMALL_WEIGHT_MAX, Urgency};
use crate::model::clock::UnixMs;
use crate::model::message::Message;

impl Inner {
    /// Writes client's messages that all go to `targets`, if that is one long queue. It gives them back
    /// by reading them, so they take no memory and need not be taken out of it again. `None`: they have to
    /// go the usual way.
    pub(super) fn write_behind(
        &self,
        messages: &[Message],
        now_ms: UnixMs,
        targets: &Targets,
    ) -> Option<Commits> {
        let [queue] = targets.as_slice() else { return None };
        if !queue.is_long() || !queue.is_durable() || !messages.iter().all(is_plain) {
            return None;
        }
        // Who does not wait for that is bound by memory, where these would not count.
        if !self.journal.has_room(messages.len() * SMALL_WEIGHT_MAX as usize) {
            return None;
        }
        let queues = std::slice::from_ref(&queue.id);
        let outlines = messages.iter().map(|message| Outline {
            queues,
            published_ms: now_ms,
            due_ms: None,
            message,
        });
        let append = || self.journal.append_small(KIND_MESSAGE, outlines.clone(), Urgency::Now);
        queue.write_behind(outlines.clone(), append)
    }
}

/// Whether the log says all of it, and gives it back at once.
fn is_plain(message: &Message) -> bool {
    message.properties.persistent
        && !has_times(message)
        && message.weight() <= SMALL_WEIGHT_MAX as usize
}
