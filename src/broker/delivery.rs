//! A message in a consumer's hands, and the ways to settle it.

use std::sync::Arc;

use super::error::BrokerError;
use super::queue::{Held, Parcel, Queue, Reason};
use super::stored::{KIND_RETRY, RetryRecord, Stored, record};
use super::{Broker, Inner};
use crate::journal::{Commit, Group, Urgency};
use crate::model::message::Message;
use crate::model::names::QueueName;
use crate::model::topology::RetryPolicy;

/// The text with which a delivery fails that its consumer dropped.
const DROPPED_ERROR: &str = "the consumer dropped the delivery without settling it";

/// A message that is its holder's until it is settled. Dropped unsettled, it counts as failed, as
/// if its consumer had crashed.
pub struct Delivery {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    parcel: Parcel,
    settled: bool,
}

impl Delivery {
    pub(super) fn new(inner: Arc<Inner>, queue: Arc<Queue>, parcel: Parcel) -> Self {
        Self { inner, queue, parcel, settled: false }
    }

    /// Acknowledged by being taken.
    pub(super) fn taken(mut self) -> Self {
        self.settled = true;
        let _commit = self.inner.ack(&self.queue, &self.parcel);
        self
    }

    pub fn message(&self) -> &Message {
        &self.parcel.stored.message
    }

    pub fn queue(&self) -> &QueueName {
        &self.queue.spec.name
    }

    /// It may have been delivered before.
    pub fn redelivered(&self) -> bool {
        self.parcel.redelivered
    }

    /// Failed deliveries before this one, as the retry policy counts them (`x-retry-count`).
    pub fn retry_count(&self) -> u32 {
        self.parcel.failures
    }

    /// Settles it for good. The future, if it is a durable message, resolves when that is committed:
    /// from then on no crash brings it back.
    pub fn ack(mut self) -> Option<Commit> {
        self.settled = true;
        self.inner.ack(&self.queue, &self.parcel)
    }

    /// Returns it to its old place in the queue (basic.nack with requeue).
    pub fn requeue(mut self) {
        self.settled = true;
        let effects = self.queue.requeue(self.parcel.tag, true, self.inner.now_ms());
        self.inner.run(&self.queue, effects);
    }

    /// Says that it failed (basic.reject without requeue): the queue's retry policy holds it for a
    /// while; without one, or at its limit, it is dead-lettered with `error` in `x-last-error`.
    pub fn fail(mut self, error: &str) {
        self.settled = true;
        self.inner.fail(&self.queue, &self.parcel, error);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            self.inner.fail(&self.queue, &self.parcel, DROPPED_ERROR);
        }
    }
}

impl Broker {
    /// Takes one ready message, if there is one (basic.get).
    ///
    /// # Errors
    /// An unknown queue.
    pub fn get(&self, queue: &QueueName) -> Result<Option<Delivery>, BrokerError> {
        let queue = self.inner.queue(queue)?;
        let (parcel, effects) = queue.get(self.inner.now_ms());
        self.inner.run(&queue, effects);
        Ok(parcel.map(|parcel| Delivery::new(self.inner.clone(), queue, parcel)))
    }
}

impl Inner {
    pub(super) fn ack(&self, queue: &Arc<Queue>, parcel: &Parcel) -> Option<Commit> {
        let (held, effects) = queue.take_unacked(parcel.tag, self.now_ms())?;
        let appended = held.stored.settle(&self.journal, queue.id, held.retry, Group::new());
        queue.counters.acked.increment(1);
        self.run(queue, effects);
        appended.map(|appended| appended.commit)
    }

    fn fail(&self, queue: &Arc<Queue>, parcel: &Parcel, error: &str) {
        let Some((mut held, mut effects)) = queue.take_unacked(parcel.tag, self.now_ms()) else {
            return;
        };
        held.failures += 1;
        held.redelivered = true;
        held.last_error = Some(Arc::from(error));
        match &queue.spec.retry {
            Some(policy) if held.failures < policy.attempts_max => {
                self.run(queue, effects);
                self.retry_later(queue, held, policy, error);
            }
            _ => {
                effects.dead.push((held, Reason::Rejected));
                self.run(queue, effects);
            }
        }
    }

    /// Holds a failed delivery until its time, durably, before the queue shows it again.
    fn retry_later(&self, queue: &Arc<Queue>, mut held: Held, policy: &RetryPolicy, error: &str) {
        let now_ms = self.now_ms();
        let due_ms = now_ms.saturating_add(policy.delay_ms(held.failures, random_fraction()));
        if is_durable_in(&held.stored, queue) {
            let retry = RetryRecord {
                message: held.position,
                queue: queue.id,
                failures: held.failures,
                due_ms,
                error: error.to_owned(),
            };
            let mut group = Group::new();
            group.fact(KIND_RETRY, record(&retry));
            if let Some(previous) = held.retry.take() {
                group.end(previous);
            }
            held.retry = self.journal.append(group, Urgency::Now).entries.first().copied();
        }
        queue.counters.retried.increment(1);
        let effects = self.or_settle(queue, queue.delay(held, due_ms, now_ms));
        self.run(queue, effects);
    }
}

fn is_durable_in(stored: &Stored, queue: &Queue) -> bool {
    stored.is_durable() && queue.spec.durable
}

/// From 0 to 1. Jitter needs to differ between processes, not to be unpredictable.
fn random_fraction() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
