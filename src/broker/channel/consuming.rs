//! Consumers of a channel, and what comes to it.

use std::sync::Arc;

use ahash::AHashMap;

use super::super::consumer::{BUFFERED_MAX, ConsumeOptions, slot};
use super::super::declare::generated_name;
use super::super::delivery::shown;
use super::super::error::BrokerError;
use super::super::queue::{ConsumerEnd, ConsumerId, Parcel, Queue};
use super::super::records::QueueId;
use super::super::stored::Stored;
use super::publishing::REPLY_TO;
use super::settling::{Returned, Seen};
use super::{CONSUMERS_MAX, Channel, ChannelConsumer, Unsettled};
use crate::model::message::Message;
use crate::model::names::QueueName;
use crate::model::topology::QueueKind;

/// What happens to a channel.
pub enum ChannelEvent {
    /// basic.deliver
    Deliver { consumer_tag: Arc<str>, delivery: ChannelDelivery },
    /// basic.cancel from the server (consumer_cancel_notify).
    Cancelled { consumer_tag: Arc<str>, end: ConsumerEnd },
    /// connection.blocked: a resource is short, so publishers wait; those of transient messages wait for memory
    /// alone, and need not heed it when the disk is short.
    Blocked { reason: String },
    /// connection.unblocked
    Unblocked,
}

/// A message in the client's hands, or, without acknowledgements, gone for good.
pub struct ChannelDelivery {
    pub delivery_tag: u64,
    pub redelivered: bool,
    stored: Arc<Stored>,
    shown: Option<Box<Message>>,
}

impl ChannelDelivery {
    pub fn message(&self) -> &Message {
        self.shown.as_deref().unwrap_or(&self.stored.message)
    }
}

impl Channel {
    /// Starts a consumer (basic.consume). An empty `consumer_tag` gets one made. The prefetch is the
    /// channel's, not that of `options`.
    ///
    /// # Errors
    /// A tag that is in use; an unknown queue; an exclusive queue of another connection; an exclusive
    /// consumer, there or wanted; for the reply queue, acknowledgements or a second consumer.
    pub fn consume(
        &mut self,
        queue: &QueueName,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> Result<Arc<str>, BrokerError> {
        let consumer_tag: Arc<str> = match consumer_tag {
            "" => generated_name("amq.ctag-")?.as_str().into(),
            tag => tag.into(),
        };
        if self.keys.contains_key(&consumer_tag) {
            let text = format!("attempt to reuse consumer tag '{consumer_tag}'");
            return Err(BrokerError::NotAllowed(text));
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            let text = format!("reached maximum ({CONSUMERS_MAX}) of consumers per channel");
            return Err(BrokerError::NotAllowed(text));
        }
        let is_reply = queue.as_str() == REPLY_TO;
        let queue = if is_reply {
            self.reply_queue(options.no_ack)?
        } else {
            self.broker.readable_queue(queue)?
        };
        if self.is_credit_limited && queue.spec.kind == QueueKind::Quorum {
            let (name, vhost) = (&queue.spec.name, &queue.vhost);
            let text = format!("queue '{name}' in vhost '{vhost}' does not support global qos");
            return Err(BrokerError::NotImplemented(text));
        }
        let key = self.next_key;
        self.next_key = self.next_key.wrapping_add(1);
        // Without acknowledgements there is nothing to wait for, so no prefetch applies.
        let prefetch = if options.no_ack { 0 } else { self.prefetch };
        let credit = (!options.no_ack).then(|| self.credit.clone());
        let options = ConsumeOptions { prefetch, ..options };
        let slot = slot(self.outlet.clone(), key, self.ends.clone(), options, credit);
        // Known here before its first delivery can come.
        self.keys.insert(consumer_tag.clone(), key);
        let id = match self.broker.inner.add_consumer(&queue, slot) {
            Ok(id) => id,
            Err(error) => {
                self.keys.remove(&consumer_tag);
                return Err(error);
            }
        };
        if is_reply {
            self.reply = Some((queue.clone(), key));
        }
        let (tag, no_ack) = (consumer_tag.clone(), options.no_ack);
        self.consumers.insert(key, ChannelConsumer { tag, queue, id, no_ack });
        Ok(consumer_tag)
    }

    /// Ends a consumer (basic.cancel); an unknown tag is no error. What was delivered stays to be
    /// settled, what was not goes back.
    pub fn cancel(&mut self, consumer_tag: &str) {
        if let Some(&key) = self.keys.get(consumer_tag) {
            self.remove_consumer(key);
        }
    }

    fn remove_consumer(&mut self, key: u32) {
        self.remove_consumers([key], Returned::default());
        self.resume_stalled();
        self.resume_waiting();
    }

    /// What waits in the line for the queues that lose a consumer goes back to them, uncounted, with what
    /// is in `returned` already, and whoever consumes such a queue on gets its own again; what waits for
    /// other queues stays. A queue hands nothing out in between, so that what it takes back is never
    /// overtaken. Each parcel is looked at once, and no queue that has nothing to do with it.
    pub(super) fn remove_consumers(
        &mut self,
        keys: impl IntoIterator<Item = u32>,
        mut returned: Returned,
    ) {
        let mut removed: AHashMap<u32, Arc<Queue>> = AHashMap::new();
        let mut leaving: AHashMap<QueueId, Vec<ConsumerId>> = AHashMap::new();
        for key in keys {
            let Some(consumer) = self.consumers.remove(&key) else { continue };
            self.keys.remove(&consumer.tag);
            if self.reply.as_ref().is_some_and(|(_, reply)| *reply == key) {
                self.reply = None;
            }
            returned.add(&consumer.queue, None);
            leaving.entry(consumer.queue.id).or_default().push(consumer.id);
            removed.insert(key, consumer.queue);
        }
        let Self { broker, consumers, parcels, buffered, .. } = self;
        let queue_of = |key: u32| {
            let staying = || consumers.get(&key).map(|consumer| &consumer.queue);
            removed.get(&key).or_else(staying)
        };
        // What is taken from the line makes room there. So that all of it never grows by cancelling,
        // whatever it holds goes back when it is more than a line.
        if buffered.len() + parcels.len() > BUFFERED_MAX {
            buffered.extend(parcels.drain());
            buffered.iter().filter_map(|parcel| queue_of(parcel.key)).for_each(|queue| {
                returned.add(queue, None);
            });
        }
        let mut waiting: AHashMap<QueueId, Vec<Seen>> =
            returned.queue_ids().map(|id| (id, Vec::new())).collect();
        let before = std::mem::take(buffered);
        let mut sort =
            |parcel: Parcel, waiting: &mut AHashMap<QueueId, Vec<Seen>>| match queue_of(parcel.key)
                .and_then(|queue| waiting.get_mut(&queue.id))
            {
                Some(tags) => tags.push((parcel.tag, false)),
                None => buffered.push_back(parcel),
            };
        before.into_iter().for_each(|parcel| sort(parcel, &mut waiting));
        for (queue, seen) in returned.into_queues() {
            let ids = leaving.remove(&queue.id).unwrap_or_default();
            let late = || {
                parcels.drain().for_each(|parcel| sort(parcel, &mut waiting));
                waiting.remove(&queue.id).unwrap_or_default()
            };
            let tags = seen.into_iter().chain(std::iter::once_with(late).flatten());
            broker.inner.take_back(&queue, &ids, tags);
        }
    }

    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> ChannelEvent {
        // flume takes no part in tokio's cooperation: a queue that is never empty must yield too.
        tokio::task::coop::consume_budget().await;
        let ends = self.ends.clone();
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            tokio::select! {
                // This channel holds a sender of its own, so the line never ends.
                parcel = self.parcels.recv_async() => self.buffered.extend(parcel.ok()),
                () = ends.changed.notified() => {}
                () = self.alarms.changed() => {}
            }
        }
    }

    /// The next event if one is here already.
    pub fn try_next(&mut self) -> Option<ChannelEvent> {
        match self.alarms.news() {
            None => {}
            Some(false) => return Some(ChannelEvent::Unblocked),
            Some(true) => {
                // An alarm that has ended again by now is told all the same, and its end after it.
                let reason = self.broker.blocked_reason();
                let reason = reason.unwrap_or_else(|| "low on memory".to_owned());
                return Some(ChannelEvent::Blocked { reason });
            }
        }
        for (key, end) in self.ends.take() {
            if let Some(consumer) = self.consumers.get(&key) {
                let consumer_tag = consumer.tag.clone();
                self.ended.push_back(ChannelEvent::Cancelled { consumer_tag, end });
                self.remove_consumer(key);
            }
        }
        if let Some(event) = self.ended.pop_front() {
            return Some(event);
        }
        loop {
            let parcel = match self.buffered.pop_front() {
                Some(parcel) => parcel,
                None => self.parcels.try_recv().ok()?,
            };
            // A consumer stops at a full line; half empty is when it is worth going on.
            if self.buffered.is_empty() && self.parcels.len() == BUFFERED_MAX / 2 {
                self.resume_stalled();
            }
            let Some(consumer) = self.consumers.get(&parcel.key) else { continue };
            let (consumer_tag, no_ack) = (consumer.tag.clone(), consumer.no_ack);
            let queue = consumer.queue.clone();
            let delivery = self.hand_over(queue, parcel, no_ack);
            return Some(ChannelEvent::Deliver { consumer_tag, delivery });
        }
    }

    /// Takes one ready message (basic.get), and how many are ready after it.
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn get(
        &mut self,
        queue: &QueueName,
        no_ack: bool,
    ) -> Result<Option<(ChannelDelivery, usize)>, BrokerError> {
        let queue = self.broker.readable_queue(queue)?;
        let Some(parcel) = self.broker.inner.get(&queue) else { return Ok(None) };
        let ready = queue.ready_count();
        Ok(Some((self.hand_over(queue, parcel, no_ack), ready)))
    }

    fn hand_over(&mut self, queue: Arc<Queue>, parcel: Parcel, no_ack: bool) -> ChannelDelivery {
        let delivery_tag = self.next_delivery_tag;
        self.next_delivery_tag += 1;
        let shown = shown(&queue, &parcel);
        if no_ack {
            let _commit = self.broker.inner.ack(&queue, parcel.tag);
        } else {
            self.unsettled.insert(delivery_tag, Unsettled { queue, tag: parcel.tag });
        }
        let Parcel { stored, redelivered, .. } = parcel;
        ChannelDelivery { delivery_tag, redelivered, stored, shown }
    }

    /// Consumers that found the line full try again.
    fn resume_stalled(&self) {
        for key in self.ends.take_stalled() {
            if let Some(consumer) = self.consumers.get(&key) {
                self.resume(consumer);
            }
        }
    }

    /// Consumers that found no credit try again.
    pub(super) fn resume_waiting(&self) {
        for key in self.credit.take_waiting() {
            if let Some(consumer) = self.consumers.get(&key) {
                self.resume(consumer);
            }
        }
    }

    fn resume(&self, consumer: &ChannelConsumer) {
        let inner = &self.broker.inner;
        let effects = consumer.queue.resume(consumer.id, inner.now_ms());
        inner.run(&consumer.queue, effects);
    }
}
