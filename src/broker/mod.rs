//! The embedded broker: RabbitMQ's semantics in process.
//!
//! Owns: exchanges, bindings, queues, deliveries, retries, dead letters, expiry. May import: `model`
//! and `journal`. What always holds:
//! - a message is in the journal before it is in a queue, so its end is always later than itself;
//! - a queue's ready messages are sorted by log position, so a returned one finds its old place;
//! - leaving one queue and entering another (a dead letter, a redrive) is one journal group;
//! - no lock is held across an await, and no queue's lock while another queue's is taken.

mod consumer;
mod dead_letter;
mod declare;
mod delivery;
mod error;
mod metrics;
mod publish;
mod queue;
mod recovery;
mod redrive;
mod routing;
mod stored;
mod timer;
mod topic;

use std::sync::Arc;

use parking_lot::RwLock;

pub use consumer::{ConsumeOptions, Consumer};
pub use delivery::Delivery;
pub use error::BrokerError;
pub use publish::{Confirm, Published};
pub use recovery::Recovery;
pub use redrive::Peeked;
pub use topic::TopicTrie;

use crate::journal::Journal;
use crate::model::clock::{SharedClock, UnixMs};
use crate::model::names::QueueName;
use queue::Queue;
use routing::Topology;
use timer::Timers;

/// The broker. Clones share it; it stops when the last clone and consumer are gone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    clock: SharedClock,
    topology: RwLock<Topology>,
    timers: Arc<Timers>,
}

/// A queue's counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    pub name: QueueName,
    pub ready: usize,
    pub unacked: usize,
    /// Failed deliveries that wait for their next attempt.
    pub delayed: usize,
    pub consumers: usize,
}

impl Broker {
    /// A broker on `journal`, with what `recovery` collected while the journal was opened.
    pub fn new(journal: Journal, clock: SharedClock, recovery: Recovery) -> Self {
        let inner = Inner {
            journal,
            clock,
            topology: RwLock::new(Topology::default()),
            timers: Arc::default(),
        };
        let broker = Self { inner: Arc::new(inner) };
        recovery.restore(&broker.inner);
        broker
    }

    /// The counts of every queue, sorted by name.
    pub fn queues(&self) -> Vec<QueueStatus> {
        let queues: Vec<Arc<Queue>> = self.inner.topology.read().queues().cloned().collect();
        let mut status: Vec<_> = queues.iter().map(|queue| queue.status()).collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// Ends every consumer: its next call gives `None`, and what it did not take returns to the queue.
    pub fn cancel_consumers(&self) {
        let queues: Vec<Arc<Queue>> = self.inner.topology.read().queues().cloned().collect();
        for queue in queues {
            queue.cancel_all();
        }
    }

    /// Whether the broker takes durable messages now.
    ///
    /// # Errors
    /// What the journal says stands in the way.
    pub fn ready(&self) -> Result<(), BrokerError> {
        self.inner.journal.writable().map_err(BrokerError::from)
    }
}

impl Inner {
    fn now_ms(&self) -> UnixMs {
        self.clock.now_ms()
    }

    fn queue(&self, name: &QueueName) -> Result<Arc<Queue>, BrokerError> {
        self.topology
            .read()
            .queue(name.as_str())
            .cloned()
            .ok_or_else(|| BrokerError::NotFound { what: "queue", name: name.to_string() })
    }
}
