//! A message in a consumer's hands, and the ways to settle it.

use std::sync::Arc;

use super::dead_letter::{X_DELIVERY_COUNT, X_RETRY_COUNT};
use super::error::BrokerError;
use super::queue::{DEAD_BYTES_MAX, Failed, Got, Held, Parcel, Queue, Tag};
use super::records::{KIND_RETRY, QueueId, RetryRecord, record};
use super::trace::{What, shared};
use super::{Broker, Inner};
use crate::journal::{Commit, Group, Urgency};
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message};
use crate::model::names::QueueName;
use crate::model::topology::RetryPolicy;

/// The text with which a delivery fails that its consumer dropped.
pub(crate) const DROPPED_ERROR: &str = "the consumer dropped the delivery without settling it";

/// More deliveries are not settled in one group of the journal, nor in one visit to a queue; those that
/// are requeued keep their order, and so go back in one.
const SETTLED_TOGETHER_MAX: usize = 1_024;

/// A message that is its holder's until it is settled. Dropped unsettled, as by a consumer that crashed,
/// it counts as failed where a retry policy or a dead-letter exchange takes what fails; elsewhere it
/// returns to its queue, counted as [`Delivery::requeue`] counts it, so that nobody loses it.
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
    /// from then on no crash brings it back. What the queue took back meanwhile stays there: who has to know
    /// asks [`Delivery::try_ack`].
    pub fn ack(mut self) -> Option<Commit> {
        self.settled = true;
        self.inner.ack(&self.queue, self.parcel.tag)
    }

    /// As [`Delivery::ack`].
    ///
    /// # Errors
    /// The queue's consumer timeout took it back (406 in AMQP): it is delivered again.
    pub fn try_ack(self) -> Result<Option<Commit>, BrokerError> {
        if self.queue.has_taken_back(self.parcel.tag) {
            return Err(taken_back());
        }
        Ok(self.ack())
    }

    /// Returns it to its old place in the queue (basic.nack with requeue).
    pub fn requeue(mut self) {
        self.settled = true;
        let effects = self.queue.requeue([(self.parcel.tag, true)], self.inner.now_ms());
        self.inner.run(&self.queue, effects);
    }

    /// Says that it failed (basic.reject without requeue): the queue's retry policy holds it for a
    /// while; without one, or at its limit, it is dead-lettered with `error` in `x-last-error`. Without a
    /// dead-letter exchange it is gone then, as in RabbitMQ.
    pub fn fail(mut self, error: &str) {
        self.settled = true;
        self.inner.fail(&self.queue, &[self.parcel.tag], Some(error));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let settings = self.queue.settings();
        if settings.retry.is_some() || settings.dead_letter.is_some() {
            self.inner.fail(&self.queue, &[self.parcel.tag], Some(DROPPED_ERROR));
        } else {
            let effects = self.queue.requeue([(self.parcel.tag, true)], self.inner.now_ms());
            self.inner.run(&self.queue, effects);
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
        /// Others have their turn then: the timers go on with what is dead.
        const STEPS_MAX: usize = 16;
        let mut steps = 0;
        while steps < STEPS_MAX {
            let (got, effects) = queue.get(self.now_ms());
            self.run(queue, effects);
            match got {
                Got::Parcel(parcel) => return Some(parcel),
                Got::Empty => return None,
                Got::Unfinished if !self.journal.has_room(DEAD_BYTES_MAX) => return None,
                Got::Unfinished => self.run(queue, queue.proceed(self.now_ms())),
                // It is in the middle of a step.
                Got::InHands => {
                    std::thread::yield_now();
                    continue;
                }
            }
            steps += 1;
        }
        None
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

    /// As [`Inner::ack`], for several deliveries of one queue.
    pub(super) fn ack_all(&self, queue: &Arc<Queue>, tags: impl IntoIterator<Item = Tag>) {
        let now_ms = self.now_ms();
        let mut tags = tags.into_iter().peekable();
        while tags.peek().is_some() {
            let some = tags.by_ref().take(SETTLED_TOGETHER_MAX);
            let (held, effects) = queue.take_all_unacked(some, now_ms);
            let _commit = self.settle_all(queue, &held);
            queue.counters.acked.increment(held.len() as u64);
            for held in &held {
                let acked = || What::Acked(queue.spec.name.clone());
                self.trace.note(&held.stored, held.position, now_ms, acked);
            }
            self.run(queue, effects);
        }
    }

    /// Settles messages of one queue: neighbours that are in no other one together, and all in order, so
    /// that a crash never undoes one and not those behind it.
    pub(super) fn settle_all(&self, queue: &Queue, held: &[Held]) -> Option<Commit> {
        let mut last = None;
        let append = |group: &mut Group| {
            let group = std::mem::take(group);
            (!group.is_empty()).then(|| self.journal.append(group, Urgency::Now).commit)
        };
        for held in held.chunks(SETTLED_TOGETHER_MAX) {
            let mut group = Group::new();
            for held in held {
                let retry = held.retry_entry();
                if held.stored.end_in(queue.id, &mut group) {
                    retry.map(|retry| group.end(retry));
                } else {
                    last = append(&mut group).or(last);
                    let settled = held.stored.settle(&self.journal, queue.id, retry, Group::new());
                    last = settled.map(|settled| settled.commit).or(last);
                }
            }
            last = append(&mut group).or(last);
        }
        last
    }

    pub(super) fn fail(&self, queue: &Arc<Queue>, tags: &[Tag], error: Option<&str>) {
        for tags in tags.chunks(SETTLED_TOGETHER_MAX) {
            let policy = queue.settings();
            let (retried, effects) = queue.fail(tags, error, self.now_ms());
            self.run(queue, effects);
            if !retried.is_empty() {
                self.retry_later(queue, retried, policy.retry.as_ref());
            }
        }
    }

    /// Holds failed deliveries until their times, durably, before the queue shows them again. A policy
    /// that was taken away meanwhile holds none.
    fn retry_later(&self, queue: &Arc<Queue>, retried: Vec<Held>, policy: Option<&RetryPolicy>) {
        let now_ms = self.now_ms();
        let due_ms = |held: &Held| {
            let delay_ms =
                |policy: &RetryPolicy| policy.delay_ms(held.failures(), random_fraction());
            now_ms.saturating_add(policy.map_or(0, delay_ms))
        };
        let mut delayed: Vec<_> = retried.into_iter().map(|held| (due_ms(&held), held)).collect();
        self.write_retries(queue.id, &mut delayed);
        queue.counters.retried.increment(delayed.len() as u64);
        for (due_ms, held) in &delayed {
            let error = held.failed.as_ref().and_then(|failed| failed.error.as_ref());
            self.trace.note_and_follow(&held.stored, held.position, now_ms, || What::Retried {
                queue: queue.spec.name.clone(),
                failures: held.failures(),
                due_ms: *due_ms,
                error: shared(error),
            });
        }
        match queue.delay(delayed, now_ms) {
            Ok(effects) => self.run(queue, effects),
            Err(deleted) => drop(self.settle_all(queue, &deleted)),
        }
    }

    fn write_retries(&self, queue: QueueId, delayed: &mut [(UnixMs, Held)]) {
        let mut group = Group::new();
        let mut written: Vec<&mut Failed> = Vec::new();
        for (due_ms, held) in delayed {
            let is_durable = held.stored.is_durable_in(queue);
            let Some(failed) = held.failed.as_deref_mut().filter(|_| is_durable) else { continue };
            let error = failed.error.as_deref().unwrap_or_default().to_owned();
            let (message, failures, due_ms) = (held.position, failed.failures, *due_ms);
            let retry = RetryRecord { message, queue, failures, due_ms, error };
            group.fact(KIND_RETRY, record(&retry));
            if let Some(previous) = failed.entry {
                group.end(previous);
            }
            written.push(failed);
        }
        if group.is_empty() {
            return;
        }
        let appended = self.journal.append(group, Urgency::Now);
        for (failed, entry) in written.into_iter().zip(appended.entries) {
            failed.entry = Some(entry);
        }
    }
}

/// Settling it again settles nothing.
pub(super) fn taken_back() -> BrokerError {
    let text = "the delivery is settled, or its queue has taken it back";
    BrokerError::Precondition(text.to_owned())
}

/// From 0 to 1. Jitter needs to differ between processes, not to be unpredictable.
fn random_fraction() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
