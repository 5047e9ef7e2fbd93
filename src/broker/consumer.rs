//! A consumer of one queue.

use std::sync::Arc;

use super::delivery::Delivery;
use super::error::BrokerError;
use super::queue::{ConsumerId, Parcel, Queue};
use super::{Broker, Inner};
use crate::model::names::QueueName;

/// Deliveries that wait in a consumer's channel when its prefetch sets no lower bound.
const BUFFERED_MAX: usize = 1024;

/// How a consumer takes messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumeOptions {
    /// Deliveries that may be unsettled at once; 0 is unlimited (basic.qos).
    pub prefetch: u16,
    /// A delivery counts as acknowledged as soon as it is taken.
    pub no_ack: bool,
}

/// Takes deliveries. Dropping it cancels the consumer and returns what it did not take to its old
/// place, uncounted; what it took stays with whoever holds it.
pub struct Consumer {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    id: ConsumerId,
    parcels: flume::Receiver<Parcel>,
    unlimited: bool,
    no_ack: bool,
}

impl Broker {
    /// Starts a consumer.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn consume(
        &self,
        queue: &QueueName,
        options: ConsumeOptions,
    ) -> Result<Consumer, BrokerError> {
        let queue = self.inner.queue(queue)?;
        let prefetch = (options.prefetch > 0).then_some(usize::from(options.prefetch));
        let (sender, parcels) = flume::bounded(prefetch.unwrap_or(BUFFERED_MAX));
        let (id, effects) = queue.add_consumer(sender, prefetch, self.inner.now_ms());
        self.inner.run(&queue, effects);
        Ok(Consumer {
            inner: self.inner.clone(),
            queue,
            id,
            parcels,
            unlimited: prefetch.is_none(),
            no_ack: options.no_ack,
        })
    }
}

impl Consumer {
    /// The next delivery; `None` when the queue was deleted or the consumer cancelled. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        // flume takes no part in tokio's cooperation: a queue that is never empty must yield too.
        tokio::task::coop::consume_budget().await;
        let parcel = self.parcels.recv_async().await.ok()?;
        Some(self.open(parcel))
    }

    /// The next delivery if one is here already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let parcel = self.parcels.try_recv().ok()?;
        Some(self.open(parcel))
    }

    fn open(&self, parcel: Parcel) -> Delivery {
        // The queue stops at a full channel; half empty is when it is worth going on.
        if self.unlimited && self.parcels.len() == BUFFERED_MAX / 2 {
            let effects = self.queue.resume(self.id, self.inner.now_ms());
            self.inner.run(&self.queue, effects);
        }
        let delivery = Delivery::new(self.inner.clone(), self.queue.clone(), parcel);
        if self.no_ack { delivery.taken() } else { delivery }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.queue.remove_consumer(self.id);
        for parcel in self.parcels.drain() {
            let effects = self.queue.requeue(parcel.tag, false, self.inner.now_ms());
            self.inner.run(&self.queue, effects);
        }
    }
}
