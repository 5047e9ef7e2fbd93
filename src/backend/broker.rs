//! The broker port.

use super::{BackendError, Confirm, Tx};
use crate::broker;
use crate::journal::Commit;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};
use crate::model::topology::{Binding, ExchangeSpec, Policy, QueueSpec};

pub use crate::broker::{
    Alarm, Caused, ConsumeOptions, ConsumerEnd, DeleteIf, Event, Explanation, QueueStatus, Step,
};

/// The broker that the application runs on. Clones share it.
#[derive(Clone)]
pub enum Broker {
    Embedded(broker::Broker),
}

/// Takes deliveries of one queue; dropping it cancels the consumer and returns what it did not take.
pub enum Consumer {
    Embedded(broker::Consumer),
}

impl Consumer {
    /// The next delivery; `None` when the consumer ended: [`Consumer::ended`] says why. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self {
            Self::Embedded(consumer) => consumer.next().await.map(Delivery::Embedded),
        }
    }

    /// Why there will be no more deliveries, once there will be none.
    pub fn ended(&self) -> Option<ConsumerEnd> {
        match self {
            Self::Embedded(consumer) => consumer.ended(),
        }
    }
}

/// A message that is yours until you settle it. Dropped unsettled, it counts as failed.
pub enum Delivery {
    Embedded(broker::Delivery),
}

impl Delivery {
    pub fn message(&self) -> &Message {
        match self {
            Self::Embedded(delivery) => delivery.message(),
        }
    }

    /// It may have been delivered before.
    pub fn redelivered(&self) -> bool {
        match self {
            Self::Embedded(delivery) => delivery.redelivered(),
        }
    }

    /// What the message is called in [`Broker::explain`]: its `message_id`, or its place in the log.
    pub fn id(&self) -> String {
        match self {
            Self::Embedded(delivery) => delivery.id(),
        }
    }

    /// Failed deliveries before this one (`x-retry-count`).
    pub fn retry_count(&self) -> u32 {
        match self {
            Self::Embedded(delivery) => delivery.retry_count(),
        }
    }

    /// How often it was delivered and came back (`x-delivery-count`).
    pub fn delivery_count(&self) -> u32 {
        match self {
            Self::Embedded(delivery) => delivery.delivery_count(),
        }
    }

    /// Settles it for good. Returns before the commit: a crash until then delivers it again.
    ///
    /// A message that is settled before it was written is never written, so this may be durable at once,
    /// while what the worker wrote to the cache may take a second more (`appendfsync everysec`): a
    /// crash in between loses both. A worker whose work is in the cache acknowledges with
    /// [`Delivery::ack_with`], or calls [`super::Cache::flush`] before.
    ///
    /// # Errors
    /// When the back end could not be told.
    pub async fn ack(self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(delivery) => {
                let _commit = delivery.ack();
                Ok(())
            }
        }
    }

    /// Settles it together with what follows from it: `effects` says what that is. After a crash either
    /// all of it is there or none, and then the message is delivered again. Resolves when it is
    /// committed. Waits first, as [`Broker::publish`] does, until the journal takes the outputs.
    ///
    /// ```no_run
    /// # async fn work(mut delivery: leveret::backend::Delivery, receipt: leveret::model::message::Message)
    /// # -> Result<(), leveret::backend::BackendError> {
    /// delivery.ack_with(|tx| {
    ///     tx.publish(receipt);
    ///     tx.set("order:7", "completed");
    /// }).await
    /// # }
    /// ```
    ///
    /// Only what one journal holds can be had in one commit: where the broker or the cache is a server
    /// of its own, this is refused.
    ///
    /// # Errors
    /// An effect that can't be had (a key of another type, an unknown exchange, a full queue that refuses
    /// what is new), or a delivery that is settled already: nothing was done, and the delivery is still
    /// yours. When the commit failed: whether anything of it survived is unknown then.
    pub async fn ack_with(&mut self, effects: impl FnOnce(&mut Tx)) -> Result<(), BackendError> {
        let mut tx = Tx::new();
        effects(&mut tx);
        match self {
            Self::Embedded(delivery) => tx.commit(delivery).await,
        }
    }

    /// Settles many, and resolves when that is durable: no crash brings them back.
    ///
    /// # Errors
    /// When the commit failed: whether they come back is unknown then.
    pub async fn ack_all(deliveries: Vec<Self>) -> Result<(), BackendError> {
        let mut last = None;
        for Self::Embedded(delivery) in deliveries {
            last = delivery.ack().or(last);
        }
        // Commits are in order: when the last is on disk, all are.
        committed(last).await
    }

    /// A failure: the queue's retry policy holds it for a while, or it is dead-lettered with `error`.
    ///
    /// # Errors
    /// When the back end could not be told.
    pub async fn fail(self, error: &str) -> Result<(), BackendError> {
        match self {
            Self::Embedded(delivery) => {
                delivery.fail(error);
                Ok(())
            }
        }
    }

    /// Returns it to its old place in the queue.
    ///
    /// # Errors
    /// When the back end could not be told.
    pub async fn requeue(self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(delivery) => {
                delivery.requeue();
                Ok(())
            }
        }
    }
}

impl Broker {
    /// Declares an exchange; resolves when the declaration is durable.
    ///
    /// # Errors
    /// Another declaration under the same name; a reserved name.
    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.declare_exchange(spec)?).await,
        }
    }

    /// Declares a queue; resolves when the declaration is durable.
    ///
    /// # Errors
    /// Another declaration under the same name; a reserved name.
    pub async fn declare_queue(&self, spec: QueueSpec) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.declare_queue(spec)?).await,
        }
    }

    /// Deletes an exchange and its bindings; one that is not there is no error. `if_unused`: only when
    /// it is the source of no binding.
    ///
    /// # Errors
    /// A predeclared exchange; one in use.
    pub async fn delete_exchange(
        &self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.delete_exchange(name, if_unused)?).await,
        }
    }

    /// Deletes a queue with its bindings and messages: how many were ready. One that is not there is
    /// no error.
    ///
    /// # Errors
    /// `only` does not hold.
    pub async fn delete_queue(
        &self,
        name: &QueueName,
        only: DeleteIf,
    ) -> Result<usize, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.delete_queue(name, only)?),
        }
    }

    /// Removes every ready message: how many those were, when no crash brings them back.
    ///
    /// # Errors
    /// An unknown queue; when the commit failed: whether they come back is unknown then.
    pub async fn purge(&self, name: &QueueName) -> Result<usize, BackendError> {
        match self {
            Self::Embedded(broker) => {
                let purged = broker.purge(name)?;
                committed(Some(broker.flush())).await?;
                Ok(purged)
            }
        }
    }

    /// Makes a binding of any kind; resolves when it is durable.
    ///
    /// # Errors
    /// An unknown source or destination; the default exchange; an `x-match` that is none.
    pub async fn add_binding(&self, binding: Binding) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.bind(binding)?).await,
        }
    }

    /// Removes a binding; one that is not there is no error.
    ///
    /// # Errors
    /// The default exchange.
    pub async fn unbind(&self, binding: Binding) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.unbind(binding)?).await,
        }
    }

    /// Sets a policy and applies it at once; resolves when it is durable.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(Some(broker.set_policy(policy)?)).await,
        }
    }

    /// Removes a policy; one that is not there is no error.
    ///
    /// # Errors
    /// When the commit failed.
    pub async fn clear_policy(&self, name: &str) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.clear_policy(name)).await,
        }
    }

    /// The policies, the highest priority first.
    ///
    /// # Errors
    /// None on the embedded engine.
    pub async fn policies(&self) -> Result<Vec<Policy>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.policies()),
        }
    }

    /// Takes one ready message, if there is one.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn get(&self, queue: &QueueName) -> Result<Option<Delivery>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.get(queue)?.map(Delivery::Embedded)),
        }
    }

    /// Binds a queue to an exchange; resolves when the binding is durable.
    ///
    /// # Errors
    /// An unknown queue or exchange; the default exchange.
    pub async fn bind(
        &self,
        queue: &QueueName,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Result<(), BackendError> {
        self.add_binding(Binding::queue(exchange.clone(), queue.clone(), key.clone())).await
    }

    /// Routes the message. An unroutable one is dropped and confirmed, as in RabbitMQ. Waits only for
    /// admission (see [`Broker::alarms`]); the confirm says when the message is safe.
    ///
    /// # Errors
    /// An unknown exchange; a back end that takes no messages.
    pub async fn publish(&self, message: Message) -> Result<Confirm, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Confirm::Embedded(broker.publish(message).await?.confirm)),
        }
    }

    /// As [`Broker::publish`], but where that would wait for an alarm to end, it is refused.
    ///
    /// # Errors
    /// As [`Broker::publish`], and the memory and the disk alarm.
    pub async fn try_publish(&self, message: Message) -> Result<Confirm, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Confirm::Embedded(broker.try_publish(message)?.confirm)),
        }
    }

    /// As [`Broker::publish`]; `false` beside the confirm: the message reached no queue.
    ///
    /// # Errors
    /// As [`Broker::publish`].
    pub async fn publish_mandatory(
        &self,
        message: Message,
    ) -> Result<(Confirm, bool), BackendError> {
        match self {
            Self::Embedded(broker) => {
                let published = broker.publish(message).await?;
                Ok((Confirm::Embedded(published.confirm), published.routed))
            }
        }
    }

    /// As [`Broker::try_publish`]; `false` beside the confirm: the message reached no queue.
    ///
    /// # Errors
    /// As [`Broker::try_publish`].
    pub async fn try_publish_mandatory(
        &self,
        message: Message,
    ) -> Result<(Confirm, bool), BackendError> {
        match self {
            Self::Embedded(broker) => {
                let published = broker.try_publish(message)?;
                Ok((Confirm::Embedded(published.confirm), published.routed))
            }
        }
    }

    /// Starts a consumer. `prefetch`: deliveries that may be unsettled at once; 0 is unlimited.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn consume(
        &self,
        queue: &QueueName,
        prefetch: u16,
    ) -> Result<Consumer, BackendError> {
        self.consume_with(queue, ConsumeOptions { prefetch, ..ConsumeOptions::default() }).await
    }

    /// Starts a consumer of any kind.
    ///
    /// # Errors
    /// An unknown queue; an exclusive consumer, there or wanted.
    pub async fn consume_with(
        &self,
        queue: &QueueName,
        options: ConsumeOptions,
    ) -> Result<Consumer, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Consumer::Embedded(broker.consume(queue, options)?)),
        }
    }

    /// The counts of every queue, sorted by name.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.queues()),
        }
    }

    /// The counts of one queue.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn queue(&self, name: &QueueName) -> Result<QueueStatus, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.queue(name)?),
        }
    }

    /// Ends every consumer of this process: what they hold can still be settled.
    pub fn cancel_consumers(&self) {
        match self {
            Self::Embedded(broker) => broker.cancel_consumers(),
        }
    }

    /// Says that this is a stop in order: the last call before the back end is closed.
    ///
    /// # Errors
    /// When the commit failed: the next start then treats this stop as a crash.
    pub async fn close(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(Some(broker.close())).await,
        }
    }

    /// What is known of the path of a persistent message: by its `message_id`, or by its place in the log.
    /// Empty when nothing is.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn explain(&self, id: &str) -> Result<Explanation, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.explain(id)),
        }
    }

    /// Publishers wait while the messages in memory weigh more than `bytes`; a server has its own limit.
    pub fn set_memory_limit(&self, bytes: usize) {
        match self {
            Self::Embedded(broker) => broker.set_memory_limit(bytes),
        }
    }

    /// What publishers wait for at this moment.
    pub fn alarms(&self) -> Vec<Alarm> {
        match self {
            Self::Embedded(broker) => broker.alarms(),
        }
    }

    /// Whether it takes durable messages now.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn ready(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.ready()?),
        }
    }
}

pub(super) async fn committed(commit: Option<Commit>) -> Result<(), BackendError> {
    match commit {
        Some(commit) => commit.await.map(|_| ()).map_err(BackendError::from),
        None => Ok(()),
    }
}
