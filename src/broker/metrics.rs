//! `rabbitmq_messages_total{queue,status}`: handles made once a queue, so that counting costs an add.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, counter};

use crate::model::topology::QueueSpec;

/// What all queues are counted under that clients make without end: those that the server names, or that go
/// by themselves.
const TEMPORARY_LABEL: &str = "temporary";

pub(super) struct QueueCounters {
    /// These two are incremented under the lock of the queue.
    pub published: Count,
    pub delivered: Count,
    pub acked: Count,
    pub retried: Counter,
    pub dead_lettered: Counter,
    pub expired: Counter,
    pub redriven: Counter,
}

impl QueueCounters {
    pub(super) fn new(spec: &QueueSpec) -> Self {
        let goes = spec.exclusive || spec.auto_delete || spec.settings.expires_ms.is_some();
        let name = spec.name.as_str();
        let label = if goes || name.starts_with("amq.") { TEMPORARY_LABEL } else { name };
        let status = |status: &'static str| counter!("rabbitmq_messages_total", "queue" => label.to_owned(), "status" => status);
        Self {
            published: Count::new(status("published")),
            delivered: Count::new(status("delivered")),
            acked: Count::new(status("acked")),
            retried: status("retried"),
            dead_lettered: status("dead_lettered"),
            expired: status("expired"),
            redriven: status("redriven"),
        }
    }
}

/// A counter that can be read back: the exported one can't, and counts some queues together.
pub(super) struct Count {
    total: AtomicU64,
    exported: Counter,
}

impl Count {
    fn new(exported: Counter) -> Self {
        Self { total: AtomicU64::new(0), exported }
    }

    pub(super) fn increment(&self, by: u64) {
        self.total.fetch_add(by, Ordering::Relaxed);
        self.exported.increment(by);
    }

    /// As [`Count::increment`], where one caller at a time does: a plain addition is a tenth of an atomic one.
    pub(super) fn increment_alone(&self, by: u64) {
        self.total.store(self.total.load(Ordering::Relaxed) + by, Ordering::Relaxed);
        self.exported.increment(by);
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
