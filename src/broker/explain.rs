//! The path of a message: what happened to it, and what it caused.

use ahash::AHashSet;

use super::trace::{Record, What};
use super::{Broker, Inner};
use crate::journal::Position;
use crate::model::clock::UnixMs;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// Steps of one explanation, and messages that it names as caused.
const STEPS_MAX: usize = 1_000;

/// What is known of a message that was durable: from the start when it has a `message_id` or a cause, else
/// from its first failure, death or acknowledgement with effects on. The window of what is known is bounded, and does not
/// outlive the process: a path may lack its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// In the order in which they happened.
    pub steps: Vec<Step>,
    /// The messages that say that this one is their cause (`x-cause`).
    pub caused: Vec<Caused>,
    /// There are more of either than are shown.
    pub is_cut: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub at_ms: UnixMs,
    /// Which message of this id it happened to, by its place in the log: a dead letter is another one
    /// than what died.
    pub message: String,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Published {
        exchange: ExchangeName,
        routing_key: RoutingKey,
        cause: Option<String>,
    },
    Routed {
        queue: QueueName,
    },
    Delivered {
        queue: QueueName,
        deliveries: u32,
    },
    Acked {
        queue: QueueName,
    },
    /// A delivery failed, for the `attempt`-th time; the next one comes at `due_ms`.
    Retried {
        queue: QueueName,
        attempt: u32,
        due_ms: UnixMs,
        error: Option<String>,
    },
    /// It died and goes on as the message `to`; `None`: it is gone.
    DeadLettered {
        queue: QueueName,
        reason: &'static str,
        error: Option<String>,
        to: Option<String>,
    },
    /// It went back to where it died, as the message `to`.
    Redriven {
        queue: QueueName,
        to: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caused {
    /// By its place in the log.
    pub message: String,
    pub exchange: ExchangeName,
    pub routing_key: RoutingKey,
}

impl Broker {
    /// What is known of the message with this `message_id`, or of the one at this place in the log
    /// (`Delivery::id`), and of what it went on as. Empty when nothing is known.
    pub fn explain(&self, id: &str) -> Explanation {
        let trace = &self.inner.trace;
        let mut search = Search {
            inner: &self.inner,
            id_hashes: AHashSet::from_iter([trace.hash(id)]),
            positions: self.inner.position_of(id).into_iter().collect(),
            found: Explanation::default(),
        };
        trace.for_each(|record| search.look(record));
        search.found
    }
}

/// One walk through the window: whatever follows from a record comes after it.
struct Search<'a> {
    inner: &'a Inner,
    /// What the messages of the path are called.
    id_hashes: AHashSet<u64>,
    positions: AHashSet<Position>,
    found: Explanation,
}

impl Search<'_> {
    fn look(&mut self, record: &Record) {
        if let What::Published { id_hash, cause, exchange, routing_key } = &record.what {
            if id_hash.is_some_and(|hash| self.id_hashes.contains(&hash)) {
                self.positions.insert(record.position);
            }
            if self.positions.contains(&record.position) {
                self.id_hashes.extend(id_hash);
            }
            let is_caused = cause.as_deref().is_some_and(|cause| {
                self.id_hashes.contains(&self.inner.trace.hash(cause))
                    || self.inner.position_of(cause).is_some_and(|at| self.positions.contains(&at))
            });
            if is_caused {
                if self.found.caused.len() < STEPS_MAX {
                    let message = self.inner.place(record.position);
                    let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
                    self.found.caused.push(Caused { message, exchange, routing_key });
                } else {
                    self.found.is_cut = true;
                }
            }
        }
        if !self.positions.contains(&record.position) {
            return;
        }
        if let What::Died { to: Some(to), .. } | What::Redriven { to, .. } = &record.what {
            self.positions.insert(*to);
        }
        if self.found.steps.len() < STEPS_MAX {
            let step = self.step(record);
            self.found.steps.push(step);
        } else {
            self.found.is_cut = true;
        }
    }

    fn step(&self, record: &Record) -> Step {
        let text = |text: &std::sync::Arc<str>| text.to_string();
        let event = match &record.what {
            What::Published { cause, exchange, routing_key, .. } => Event::Published {
                exchange: exchange.clone(),
                routing_key: routing_key.clone(),
                cause: cause.as_ref().map(text),
            },
            What::Routed(queue) => Event::Routed { queue: queue.clone() },
            What::Delivered { queue, deliveries } => {
                Event::Delivered { queue: queue.clone(), deliveries: *deliveries }
            }
            What::Acked(queue) => Event::Acked { queue: queue.clone() },
            What::Retried { queue, failures, due_ms, error } => Event::Retried {
                queue: queue.clone(),
                attempt: *failures,
                due_ms: *due_ms,
                error: error.as_ref().map(text),
            },
            What::Died { queue, reason, error, to } => Event::DeadLettered {
                queue: queue.clone(),
                reason: reason.as_str(),
                error: error.as_ref().map(text),
                to: to.map(|to| self.inner.place(to)),
            },
            What::Redriven { queue, to } => {
                Event::Redriven { queue: queue.clone(), to: self.inner.place(*to) }
            }
        };
        Step { at_ms: record.at_ms, message: self.inner.place(record.position), event }
    }
}
