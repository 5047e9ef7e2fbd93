//! A subscriber's queue, bounded in messages and in bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use metrics::Counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::registry::Topic;

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it came by.
    pub topic: Topic,
    pub channel: Bytes,
    /// The pattern that it came by; `None`: by its channel.
    pub pattern: Option<Bytes>,
    pub payload: Bytes,
}

impl Published {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.channel.len() + self.payload.len()
    }
}

/// How much a subscriber may leave unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriberLimits {
    pub queue_messages_max: usize,
    /// Payloads that several subscribers share count with each of them.
    pub queue_bytes_max: usize,
}

impl Default for SubscriberLimits {
    /// 8,192 messages, and Redis's hard output limit for pub/sub, 32 MiB.
    fn default() -> Self {
        Self { queue_messages_max: 8_192, queue_bytes_max: 32 * 1024 * 1024 }
    }
}

pub(super) struct Mailbox {
    limits: SubscriberLimits,
    queue: Mutex<Queue>,
    /// Holds a permit when something was delivered, or the mailbox closed, while nobody waited.
    changed: Notify,
    dropped_total: Counter,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Published>,
    bytes: usize,
    dropped: u64,
    closed: bool,
}

impl Mailbox {
    pub(super) fn new(limits: SubscriberLimits) -> Self {
        Self {
            limits,
            queue: Mutex::default(),
            changed: Notify::new(),
            dropped_total: metrics::counter!("leveret_pubsub_dropped_total"),
        }
    }

    /// Delivers a message. The oldest ones go until the limits hold, and that may be this one.
    pub(super) fn deliver(&self, message: Published) {
        let mut dropped = 0;
        {
            let mut queue = self.queue.lock();
            queue.bytes += message.bytes();
            queue.messages.push_back(message);
            while queue.messages.len() > self.limits.queue_messages_max
                || queue.bytes > self.limits.queue_bytes_max
            {
                let Some(oldest) = queue.messages.pop_front() else { break };
                queue.bytes -= oldest.bytes();
                dropped += 1;
            }
            queue.dropped += dropped;
        }
        if dropped > 0 {
            self.dropped_total.increment(dropped);
        }
        self.changed.notify_one();
    }

    /// Ends it: what was delivered can still be taken.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    pub(super) fn try_take(&self) -> Option<Published> {
        let mut queue = self.queue.lock();
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.bytes();
        Some(message)
    }

    /// The next message; `None` when the mailbox is closed and empty. Cancel safe, for one taker.
    pub(super) async fn take(&self) -> Option<Published> {
        // A taker that is never made to wait would keep its thread from other tasks.
        tokio::task::consume_budget().await;
        loop {
            if let Some(message) = self.try_take() {
                return Some(message);
            }
            if self.queue.lock().closed {
                return self.try_take();
            }
            self.changed.notified().await;
        }
    }
}
