//! What happened to durable messages lately: a window, bounded in records and in bytes of texts.
//!
//! A record names its message by its place in the log and shares its texts; it never keeps a message
//! alive and is never written. Noting down costs about as much as a third of all else that the engine does
//! for a message, so it is done for those that are asked for: durable ones with a `message_id` or a
//! cause, and any other durable one from its first failure, death or acknowledgement with effects on.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;

use super::cause::X_CAUSE;
use super::queue::{Queue, Reason};
use super::stored::Stored;
use crate::journal::Position;
use crate::model::clock::UnixMs;
use crate::model::message::{Message, Value};
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// Records that are kept; about 5 MiB.
const RECORDS_MAX: usize = 65_536;
/// Bytes of the texts that they share.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of one error's text.
const ERROR_BYTES_MAX: usize = 1_024;
/// Records that are looked at before others get the lock.
const LOOK_RECORDS_MAX: usize = 1_024;

pub(super) struct Record {
    pub position: Position,
    pub at_ms: UnixMs,
    pub what: What,
}

pub(super) enum What {
    Published {
        /// Of its `message_id`.
        id_hash: Option<u64>,
        cause: Option<Arc<str>>,
        exchange: ExchangeName,
        routing_key: RoutingKey,
    },
    Routed(QueueName),
    Delivered {
        queue: QueueName,
        deliveries: u32,
    },
    Acked(QueueName),
    Retried {
        queue: QueueName,
        failures: u32,
        due_ms: UnixMs,
        error: Option<Arc<str>>,
    },
    /// It died; `to` is the message that it goes on as.
    Died {
        queue: QueueName,
        reason: Reason,
        error: Option<Arc<str>>,
        to: Option<Position>,
    },
    Redriven {
        queue: QueueName,
        to: Position,
    },
}

impl What {
    fn text_bytes(&self) -> usize {
        let error_bytes = |error: &Option<Arc<str>>| error.as_ref().map_or(0, |text| text.len());
        match self {
            Self::Published { cause, exchange, routing_key, .. } => {
                error_bytes(cause) + exchange.as_str().len() + routing_key.as_str().len()
            }
            Self::Routed(queue) | Self::Acked(queue) => queue.as_str().len(),
            Self::Delivered { queue, .. } | Self::Redriven { queue, .. } => queue.as_str().len(),
            Self::Retried { queue, error, .. } | Self::Died { queue, error, .. } => {
                queue.as_str().len() + error_bytes(error)
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Trace {
    window: Mutex<Window>,
    hasher: RandomState,
}

#[derive(Default)]
struct Window {
    records: VecDeque<Record>,
    text_bytes: usize,
    /// Records that have left it.
    gone: u64,
}

impl Window {
    fn push(&mut self, position: Position, at_ms: UnixMs, what: What) {
        self.text_bytes += what.text_bytes();
        self.records.push_back(Record { position, at_ms, what });
        while self.records.len() > RECORDS_MAX || self.text_bytes > TEXT_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.text_bytes -= oldest.what.text_bytes();
            self.gone += 1;
        }
    }
}

impl Trace {
    pub(super) fn hash(&self, message_id: &str) -> u64 {
        self.hasher.hash_one(message_id)
    }

    /// A durable message is in the log and goes to these queues.
    pub(super) fn published<'a>(
        &self,
        message: &Message,
        position: Position,
        at_ms: UnixMs,
        queues: impl Iterator<Item = &'a Arc<Queue>>,
    ) {
        let headers = &message.properties.headers;
        let published = What::Published {
            id_hash: message.properties.message_id.as_deref().map(|id| self.hash(id)),
            cause: headers
                .get(X_CAUSE)
                .and_then(Value::as_text)
                .map(|cause| Arc::from(shortened(cause))),
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
        };
        let mut window = self.window.lock();
        window.push(position, at_ms, published);
        for queue in queues {
            window.push(position, at_ms, What::Routed(queue.spec.name.clone()));
        }
    }

    /// Something ordinary happened to a message; one that nobody follows is left out.
    pub(super) fn note(
        &self,
        stored: &Stored,
        position: Position,
        at_ms: UnixMs,
        what: impl FnOnce() -> What,
    ) {
        if stored.is_traced() {
            let what = what();
            self.window.lock().push(position, at_ms, what);
        }
    }

    /// Something happened to a message that makes it worth following from now on.
    pub(super) fn note_and_follow(
        &self,
        stored: &Stored,
        position: Position,
        at_ms: UnixMs,
        what: impl FnOnce() -> What,
    ) {
        stored.follow();
        self.note(stored, position, at_ms, what);
    }

    /// Shows every record, the oldest first. Others get their turn in between.
    pub(super) fn for_each(&self, mut look: impl FnMut(&Record)) {
        let mut next = 0_u64;
        loop {
            let window = self.window.lock();
            let skip = usize::try_from(next.saturating_sub(window.gone)).unwrap_or(usize::MAX);
            let mut looked = 0;
            for record in window.records.iter().skip(skip).take(LOOK_RECORDS_MAX) {
                look(record);
                looked += 1;
            }
            if looked == 0 {
                return;
            }
            next = next.max(window.gone) + looked;
        }
    }
}

/// An error's text as far as it is kept of many: one of a stranger's length is cut.
pub(super) fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(ERROR_BYTES_MAX)).unwrap_or(text)
}

/// An error's text, shared if it is short.
pub(super) fn shared(error: Option<&Arc<str>>) -> Option<Arc<str>> {
    error.map(|text| match text.len() > ERROR_BYTES_MAX {
        true => Arc::from(shortened(text)),
        false => text.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(name: &str) -> What {
        What::Routed(QueueName::new(name).unwrap())
    }

    fn count(trace: &Trace) -> (usize, u64) {
        let (mut records, mut first) = (0, 0);
        trace.for_each(|record| {
            if records == 0 {
                first = record.position.0;
            }
            records += 1;
        });
        (records, first)
    }

    #[test]
    fn the_window_is_bounded_in_records() {
        let trace = Trace::default();
        for position in 0..RECORDS_MAX as u64 + 10 {
            trace.window.lock().push(Position(position), 0, routed("q"));
        }
        assert_eq!(count(&trace), (RECORDS_MAX, 10));
    }

    #[test]
    fn the_window_is_bounded_in_bytes() {
        let trace = Trace::default();
        let long = "x".repeat(250);
        for position in 0..RECORDS_MAX as u64 {
            trace.window.lock().push(Position(position), 0, routed(&long));
        }
        let kept = TEXT_BYTES_MAX / 250;
        assert_eq!(count(&trace), (kept, (RECORDS_MAX - kept) as u64));
        assert_eq!(trace.window.lock().text_bytes, kept * 250);
        let error: Arc<str> = Arc::from("é".repeat(5_000));
        assert_eq!(shared(Some(&error)).unwrap().len(), ERROR_BYTES_MAX);
    }
}
