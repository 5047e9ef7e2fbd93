//! A message in a consumer's hands, and the ways to settle it.

use std::sync::Arc;

use super::dead_letter::{X_DELIVERY_COUNT, X_RETRY_COUNT};
use super::error::BrokerError;
use super::queue::{DEAD_BYTES_MAX, Failed, Got, Held, Parcel, Queue, Reason, Tag};
use super::stored::{KIND_RETRY, QueueId, RetryRecord, record};
use super::trace::{What, shared};
use super::{Broker, Inner};
use crate::journal::{Commit, Entry, Group, Position, Urgency};
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message};
use crate::model::names::QueueName;
use crate::model::topology::RetryPolicy;

/// The text with which a delivery fails that its consumer dropped.
const DROPPED_ERROR: &str = "the consumer dropped the delivery without settling it";

/// A message that is its holder's until it is settled. Dropped unsettled, it counts as failed, as
/// if its consumer had crashed.
pub struct Delivery {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Arc<Queue>,
    pub(super) parcel: Parcel,
    /// The message with what this delivery adds to its headers, when it adds something.
    shown: Option<Box<Message>>,
    pub(super) settled: bool,
}

impl Delivery {
    pub(super) fn new(inner: Arc<Inner>, queue: Arc<Queue>, parcel: Parcel) -> Self {
        let shown = shown(&queue, &parcel);
        Self { inner, queue, parcel, shown, settled: false }
    }

    /// Acknowledged by being taken.
    pub(super) fn taken(mut self) -> Self {
        self.settled = true;
        let _commit = self.inner.ack(&self.queue, self.parcel.tag);
        self
    }

    /// The message, its headers with `x-retry-count` after a failure, and with `x-delivery-count` on
    /// a quorum queue.
    pub fn message(&self) -> &Message {
        self.shown.as_deref().unwrap_or(&self.parcel.stored.message)
    }

    /// What the message is called: its `message_id`, or its place in the log.
    pub fn id(&self) -> String {
        self.inner.message_id(&self.parcel.stored.message, self.parcel.position)
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

    /// How often it was delivered and came back (`x-delivery-count`).
    pub fn delivery_count(&self) -> u32 {
        self.parcel.returns
    }

    /// Settles it for good. The future, if it is a durable message, resolves when that is committed:
    /// from then on no crash brings it back.
    pub fn ack(mut self) -> Option<Commit> {
        self.settled = true;
        self.inner.ack(&self.queue, self.parcel.tag)
    }

    /// Returns it to its old place in the queue (basic.nack with requeue).
    pub fn requeue(mut self) {
        self.settled = true;
        let effects = self.queue.requeue([(self.parcel.tag, true)], self.inner.now_ms());
        self.inner.run(&self.queue, effects);
    }

    /// Says that it failed (basic.reject without requeue): the queue's retry policy holds it for a
    /// while; without one, or at its limit, it is dead-lettered with `error` in `x-last-error`.
    pub fn fail(mut self, error: &str) {
        self.settled = true;
        self.inner.fail(&self.queue, self.parcel.tag, Some(error));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            self.inner.fail(&self.queue, self.parcel.tag, Some(DROPPED_ERROR));
        }
    }
}

impl Broker {
    /// Takes one ready message, if there is one (basic.get).
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn get(&self, queue: &QueueName) -> Result<Option<Delivery>, BrokerError> {
        let queue = self.readable_queue(queue)?;
        let parcel = self.inner.get(&queue);
        Ok(parcel.map(|parcel| Delivery::new(self.inner.clone(), queue, parcel)))
    }
}

/// A copy of the message with what the delivery adds to its headers; `None`: it adds nothing.
pub(super) fn shown(queue: &Queue, parcel: &Parcel) -> Option<Box<Message>> {
    if parcel.failures == 0 && !queue.shows_delivery_count() {
        return None;
    }
    let mut message = parcel.stored.message.clone();
    let headers: &mut Headers = &mut message.properties.headers;
    if parcel.failures > 0 {
        headers.set(X_RETRY_COUNT, i64::from(parcel.failures));
    }
    if queue.shows_delivery_count() {
        headers.set(X_DELIVERY_COUNT, i64::from(parcel.returns));
    }
    Some(Box::new(message))
}

impl Inner {
    /// Nothing also while so much is dead in front that the journal has no room for it yet.
    pub(super) fn get(&self, queue: &Arc<Queue>) -> Option<Parcel> {
        loop {
            let (got, effects) = queue.get(self.now_ms());
            self.run(queue, effects);
            match got {
                Got::Parcel(parcel) => return Some(parcel),
                Got::Empty => return None,
                Got::Unfinished if !self.journal.has_room(DEAD_BYTES_MAX) => return None,
                Got::Unfinished => self.run(queue, queue.proceed(self.now_ms())),
            }
        }
    }

    pub(super) fn ack(&self, queue: &Arc<Queue>, tag: Tag) -> Option<Commit> {
        let now_ms = self.now_ms();
        let (held, effects) = queue.take_unacked(tag, now_ms)?;
        let retry = held.retry_entry();
        let appended = held.stored.settle(&self.journal, queue.id, retry, Group::new());
        queue.counters.acked.increment(1);
        let acked = || What::Acked(queue.spec.name.clone());
        self.trace.note(&held.stored, held.position, now_ms, acked);
        self.run(queue, effects);
        appended.map(|appended| appended.commit)
    }

    pub(super) fn fail(&self, queue: &Arc<Queue>, tag: Tag, error: Option<&str>) {
        let Some((mut held, mut effects)) = queue.take_unacked(tag, self.now_ms()) else {
            return;
        };
        held.redelivered = true;
        let settings = queue.settings();
        let Some(policy) = &settings.retry else {
            if let Some(error) = error {
                held.failed.get_or_insert_default().error = Some(Arc::from(error));
            }
            effects.dead.push((held, Reason::Rejected));
            return self.run(queue, effects);
        };
        let failed = held.failed.get_or_insert_default();
        failed.failures = failed.failures.saturating_add(1);
        failed.error = error.map(Arc::from);
        if failed.failures < policy.attempts_max {
            self.run(queue, effects);
            self.retry_later(queue, held, policy);
        } else {
            effects.dead.push((held, Reason::Rejected));
            self.run(queue, effects);
        }
    }

    /// Holds a failed delivery until its time, durably, before the queue shows it again.
    fn retry_later(&self, queue: &Arc<Queue>, mut held: Held, policy: &RetryPolicy) {
        let now_ms = self.now_ms();
        let delay_ms = policy.delay_ms(held.failures(), random_fraction());
        let due_ms = now_ms.saturating_add(delay_ms);
        if held.stored.is_durable_in(queue.id)
            && let Some(failed) = held.failed.as_deref_mut()
        {
            let (message, queue) = (held.position, queue.id);
            failed.entry = self.write_retry(message, queue, failed, due_ms);
        }
        queue.counters.retried.increment(1);
        let error = held.failed.as_ref().and_then(|failed| failed.error.as_ref());
        self.trace.note_and_follow(&held.stored, held.position, now_ms, || What::Retried {
            queue: queue.spec.name.clone(),
            failures: held.failures(),
            due_ms,
            error: shared(error),
        });
        let effects = match queue.delay(held, due_ms, now_ms) {
            Ok(effects) => effects,
            Err(refusal) => self.refused(queue, refusal).0,
        };
        self.run(queue, effects);
    }

    fn write_retry(
        &self,
        message: Position,
        queue: QueueId,
        failed: &Failed,
        due_ms: UnixMs,
    ) -> Option<Entry> {
        let error = failed.error.as_deref().unwrap_or_default().to_owned();
        let retry = RetryRecord { message, queue, failures: failed.failures, due_ms, error };
        let mut group = Group::new();
        group.fact(KIND_RETRY, record(&retry));
        if let Some(previous) = failed.entry {
            group.end(previous);
        }
        self.journal.append(group, Urgency::Now).entries.first().copied()
    }
}

/// From 0 to 1. Jitter needs to differ between processes, not to be unpredictable.
fn random_fraction() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
