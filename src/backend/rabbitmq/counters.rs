//! `rabbitmq_messages_total{queue,status}`, of what passed through this process.

use ahash::AHashMap;
use metrics::{Counter, counter};
use parking_lot::Mutex;

use crate::model::names::QueueName;

/// Queues that are counted apart; those beyond count together.
const QUEUES_MAX: usize = 4_096;
const OTHERS: &str = "others";

#[derive(Default)]
pub(super) struct Counters(Mutex<AHashMap<QueueName, OfQueue>>);

#[derive(Clone)]
struct OfQueue {
    delivered: Counter,
    acked: Counter,
    retried: Counter,
    dead_lettered: Counter,
    redriven: Counter,
}

impl OfQueue {
    fn new(queue: &str) -> Self {
        let status = |status: &'static str| counter!("rabbitmq_messages_total", "queue" => queue.to_owned(), "status" => status);
        Self {
            delivered: status("delivered"),
            acked: status("acked"),
            retried: status("retried"),
            dead_lettered: status("dead_lettered"),
            redriven: status("redriven"),
        }
    }
}

impl Counters {
    pub fn delivered(&self, queue: &QueueName) {
        self.count(queue, |of| &of.delivered);
    }

    pub fn acked(&self, queue: &QueueName) {
        self.count(queue, |of| &of.acked);
    }

    pub fn retried(&self, queue: &QueueName) {
        self.count(queue, |of| &of.retried);
    }

    pub fn dead_lettered(&self, queue: &QueueName) {
        self.count(queue, |of| &of.dead_lettered);
    }

    pub fn redriven(&self, queue: &QueueName) {
        self.count(queue, |of| &of.redriven);
    }

    fn count(&self, queue: &QueueName, which: impl FnOnce(&OfQueue) -> &Counter) {
        let mut queues = self.0.lock();
        if let Some(of) = queues.get(queue) {
            return which(of).increment(1);
        }
        let of = match queues.len() < QUEUES_MAX {
            true => queues.entry(queue.clone()).or_insert_with(|| OfQueue::new(queue.as_str())),
            false => return which(&OfQueue::new(OTHERS)).increment(1),
        };
        which(of).increment(1);
    }
}
