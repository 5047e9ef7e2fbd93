//! Acknowledgements and rejections of a channel, and its prefetch.

use std::sync::Arc;

use ahash::AHashMap;

use super::super::error::BrokerError;
use super::super::queue::{Queue, Tag};
use super::super::records::QueueId;
use super::{Channel, Unsettled};

impl Channel {
    /// basic.ack. `multiple`: everything up to the tag; with tag 0, everything.
    ///
    /// # Errors
    /// A delivery tag that is not outstanding, as after the queue's consumer timeout. Nothing is settled then.
    pub fn ack(&mut self, delivery_tag: u64, multiple: bool) -> Result<(), BrokerError> {
        if multiple {
            for (queue, tags) in Returned::seen(self.take(delivery_tag)?).into_queues() {
                self.broker.inner.ack_all(&queue, tags.into_iter().map(|(tag, _)| tag));
            }
        } else {
            let Unsettled { queue, tag } = self.take_one(delivery_tag)?;
            let _commit = self.broker.inner.ack(&queue, tag);
        }
        self.resume_waiting();
        Ok(())
    }

    /// basic.nack and basic.reject. Without `requeue` a delivery has failed: the queue's retry policy
    /// holds it for a while, or it is dead-lettered.
    ///
    /// # Errors
    /// A delivery tag that is not outstanding, as after the queue's consumer timeout. Nothing is settled then.
    pub fn nack(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), BrokerError> {
        let taken = match multiple {
            true => Returned::seen(self.take(delivery_tag)?),
            false => Returned::seen([self.take_one(delivery_tag)?]),
        };
        let inner = &self.broker.inner;
        for (queue, tags) in taken.into_queues() {
            if requeue {
                let effects = queue.requeue(tags, inner.now_ms());
                inner.run(&queue, effects);
            } else {
                let tags: Vec<Tag> = tags.into_iter().map(|(tag, _)| tag).collect();
                inner.fail(&queue, &tags, None);
            }
        }
        self.resume_waiting();
        Ok(())
    }

    /// basic.recover: everything that is unsettled returns to its queue.
    ///
    /// # Errors
    /// `requeue` is not set: RabbitMQ does not deliver to the same consumer again either.
    pub fn recover(&mut self, requeue: bool) -> Result<(), BrokerError> {
        if !requeue {
            return Err(BrokerError::NotImplemented("requeue=false".to_owned()));
        }
        self.nack(0, true, true)
    }

    /// basic.qos. Not `global`: for each consumer that starts from now on; `global`: for all
    /// deliveries of the channel together, until the next that is not. 0 is unlimited. Deliveries of
    /// basic.get never count.
    pub fn qos(&mut self, prefetch: u16, global: bool) {
        // As in RabbitMQ, a prefetch for consumers ends the channel's: who wants both asks for the
        // channel's last.
        let limit = if global { prefetch } else { 0 };
        self.is_credit_limited = limit > 0;
        self.credit.set_limit(usize::from(limit));
        if !global {
            self.prefetch = prefetch;
        }
        self.resume_waiting();
    }

    /// What a queue took back from a consumer that held it too long is outstanding no more.
    fn forget_taken_back(&mut self, delivery_tag: u64) {
        let unsettled = self.unsettled.get(&delivery_tag);
        if unsettled.is_some_and(|unsettled| unsettled.queue.has_taken_back(unsettled.tag)) {
            self.unsettled.remove(&delivery_tag);
        }
    }

    fn take_one(&mut self, delivery_tag: u64) -> Result<Unsettled, BrokerError> {
        self.forget_taken_back(delivery_tag);
        let unsettled = self.unsettled.remove(&delivery_tag);
        unsettled.ok_or(BrokerError::UnknownDeliveryTag(delivery_tag))
    }

    /// Everything up to the tag; with tag 0, everything. One by one: splitting a tree counts what stays.
    fn take(&mut self, delivery_tag: u64) -> Result<Vec<Unsettled>, BrokerError> {
        self.forget_taken_back(delivery_tag);
        let last = match delivery_tag {
            0 => u64::MAX,
            _ if !self.unsettled.contains_key(&delivery_tag) => {
                return Err(BrokerError::UnknownDeliveryTag(delivery_tag));
            }
            _ => delivery_tag,
        };
        let mut taken = Vec::new();
        while let Some(first) = self.unsettled.first_entry().filter(|first| *first.key() <= last) {
            taken.push(first.remove());
        }
        Ok(taken)
    }
}

/// Deliveries by their queues: each gets all of its own at once, so that it delivers what goes back in
/// the old order.
#[derive(Default)]
pub(super) struct Returned(AHashMap<QueueId, (Arc<Queue>, Vec<Seen>)>);

/// A delivery, and whether the client has seen it.
pub(super) type Seen = (Tag, bool);

impl Returned {
    /// Deliveries that the client has seen.
    pub(super) fn seen(unsettled: impl IntoIterator<Item = Unsettled>) -> Self {
        let mut returned = Self::default();
        for Unsettled { queue, tag } in unsettled {
            returned.add(&queue, Some((tag, true)));
        }
        returned
    }

    pub(super) fn queue_ids(&self) -> impl Iterator<Item = QueueId> {
        self.0.keys().copied()
    }

    pub(super) fn into_queues(self) -> impl Iterator<Item = (Arc<Queue>, Vec<Seen>)> {
        self.0.into_values()
    }

    /// `None`: the queue gets nothing back, and may have somebody else to serve.
    pub(super) fn add(&mut self, queue: &Arc<Queue>, tag: Option<Seen>) {
        let (_, tags) = self.0.entry(queue.id).or_insert_with(|| (queue.clone(), Vec::new()));
        tags.extend(tag);
    }
}
