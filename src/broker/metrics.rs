//! `rabbitmq_messages_total{queue,status}`: handles made once a queue, so that counting costs an add.

use metrics::{Counter, counter};

pub(super) struct QueueCounters {
    pub published: Counter,
    pub delivered: Counter,
    pub acked: Counter,
    pub retried: Counter,
    pub dead_lettered: Counter,
    pub expired: Counter,
}

impl QueueCounters {
    pub(super) fn new(queue: &str) -> Self {
        let status = |status: &'static str| counter!("rabbitmq_messages_total", "queue" => queue.to_owned(), "status" => status);
        Self {
            published: status("published"),
            delivered: status("delivered"),
            acked: status("acked"),
            retried: status("retried"),
            dead_lettered: status("dead_lettered"),
            expired: status("expired"),
        }
    }
}
