//! `rabbitmq_messages_total{queue,status}`: handles made once a queue, so that counting costs an add.

use metrics::{Counter, counter};

/// What all server-named queues are counted under: clients make them without end.
const GENERATED_LABEL: &str = "amq.gen";

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
        let label = if queue.starts_with("amq.") { GENERATED_LABEL } else { queue };
        let status = |status: &'static str| counter!("rabbitmq_messages_total", "queue" => label.to_owned(), "status" => status);
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
