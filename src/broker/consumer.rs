//! A consumer of one queue.

use std::sync::Arc;

use super::delivery::Delivery;
use super::error::BrokerError;
use super::queue::{ConsumerEnd, ConsumerId, Credit, Ends, Parcel, Queue, Slot, Tag};
use super::{Broker, Inner};
use crate::model::names::QueueName;

/// Deliveries that wait in a channel at most, when no prefetch sets a lower bound.
pub(super) const BUFFERED_MAX: usize = 1024;

/// How a consumer takes messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumeOptions {
    /// Deliveries that may be unsettled at once; 0 is unlimited (basic.qos).
    pub prefetch: u16,
    /// A delivery counts as acknowledged as soon as it is taken.
    pub no_ack: bool,
    /// No other consumer is let in beside it.
    pub exclusive: bool,
    /// `x-priority`: while a consumer of a higher one can take messages, it gets them all.
    pub priority: i64,
}

/// Takes deliveries. Dropping it cancels the consumer and returns what it did not take to its old
/// place, uncounted; what it took stays with whoever holds it.
pub struct Consumer {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    id: ConsumerId,
    parcels: flume::Receiver<Parcel>,
    ends: Arc<Ends>,
    unlimited: bool,
    no_ack: bool,
}

impl Broker {
    /// Starts a consumer.
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection; an exclusive consumer, there or wanted.
    pub fn consume(
        &self,
        queue: &QueueName,
        options: ConsumeOptions,
    ) -> Result<Consumer, BrokerError> {
        let queue = self.readable_queue(queue)?;
        let prefetch = (options.prefetch > 0).then_some(usize::from(options.prefetch));
        let (sender, parcels) = flume::bounded(prefetch.unwrap_or(BUFFERED_MAX));
        let ends = Arc::new(Ends::default());
        let slot = slot(sender, 0, ends.clone(), options, None);
        let id = self.inner.add_consumer(&queue, slot)?;
        Ok(Consumer {
            inner: self.inner.clone(),
            queue,
            id,
            parcels,
            ends,
            unlimited: prefetch.is_none(),
            no_ack: options.no_ack,
        })
    }
}

/// A consumer as its queue will see it.
pub(super) fn slot(
    parcels: flume::Sender<Parcel>,
    key: u32,
    ends: Arc<Ends>,
    options: ConsumeOptions,
    credit: Option<Arc<Credit>>,
) -> Slot {
    Slot {
        parcels,
        key,
        ends,
        prefetch: (options.prefetch > 0).then_some(usize::from(options.prefetch)),
        credit,
        priority: options.priority,
        exclusive: options.exclusive,
        no_ack: options.no_ack,
        in_flight: 0,
        waits_its_turn: false,
        is_stalled: false,
    }
}

impl Inner {
    pub(super) fn add_consumer(
        &self,
        queue: &Arc<Queue>,
        slot: Slot,
    ) -> Result<ConsumerId, BrokerError> {
        let (id, effects) = queue.add_consumer(slot, self.now_ms()).map_err(|_| {
            let (name, vhost) = (&queue.spec.name, &queue.vhost);
            BrokerError::AccessRefused(format!(
                "queue '{name}' in vhost '{vhost}' in exclusive use"
            ))
        })?;
        self.run(queue, effects);
        Ok(id)
    }

    /// Ends consumers of `queue` and gives it back what they did not settle.
    pub(super) fn take_back(
        &self,
        queue: &Arc<Queue>,
        ids: &[ConsumerId],
        tags: impl IntoIterator<Item = (Tag, bool)>,
    ) {
        let (effects, left) = queue.take_back(ids, tags, self.now_ms());
        self.run(queue, effects);
        self.run(queue, left);
    }
}

impl Consumer {
    /// The next delivery; `None` when the consumer ended: [`Consumer::ended`] says why. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        // flume takes no part in tokio's cooperation: a queue that is never empty must yield too.
        tokio::task::coop::consume_budget().await;
        let parcel = self.parcels.recv_async().await.ok()?;
        self.open(parcel)
    }

    /// The next delivery if one is here already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let parcel = self.parcels.try_recv().ok()?;
        self.open(parcel)
    }

    /// Why there will be no more deliveries, once there will be none.
    pub fn ended(&self) -> Option<ConsumerEnd> {
        self.ends.first()
    }

    /// `None`: the queue has taken it back, and all that waits behind it, and others may have it.
    fn open(&self, parcel: Parcel) -> Option<Delivery> {
        if self.parcels.is_disconnected() && self.ended() == Some(ConsumerEnd::TimedOut) {
            return None;
        }
        // The queue stops at a full channel; half empty is when it is worth going on.
        if self.unlimited && self.parcels.len() == BUFFERED_MAX / 2 {
            // Its only consumer is this one, which is resumed in any case.
            let _ = self.ends.take_stalled();
            let effects = self.queue.resume(self.id, self.inner.now_ms());
            self.inner.run(&self.queue, effects);
        }
        let delivery = Delivery::new(self.inner.clone(), self.queue.clone(), parcel);
        Some(if self.no_ack { delivery.taken() } else { delivery })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let waiting = std::iter::once_with(|| self.parcels.drain()).flatten();
        let tags = waiting.map(|parcel| (parcel.tag, false));
        self.inner.take_back(&self.queue, &[self.id], tags);
    }
}
