//! Messages on their way through the port: confirms, consumers, deliveries.

use super::broker::committed;
#[cfg(feature = "rabbitmq")]
use super::rabbitmq;
use super::{BackendError, ConsumerEnd, Tx};
use crate::broker;
use crate::model::message::Message;

/// Takes deliveries of one queue; dropping it cancels the consumer and returns what it did not take.
pub enum Consumer {
    Embedded(broker::Consumer),
    #[cfg(feature = "rabbitmq")]
    RabbitMq(Box<rabbitmq::Consumer>),
}

impl Consumer {
    /// The next delivery; `None` when the consumer ended: [`Consumer::ended`] says why. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self {
            Self::Embedded(consumer) => consumer.next().await.map(Delivery::Embedded),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(consumer) => consumer.next().await.map(Box::new).map(Delivery::RabbitMq),
        }
    }

    /// Why there will be no more deliveries, once there will be none.
    pub fn ended(&self) -> Option<ConsumerEnd> {
        match self {
            Self::Embedded(consumer) => consumer.ended(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(consumer) => consumer.ended(),
        }
    }
}

/// A message that is yours until you settle it. Dropped unsettled, it counts as failed; where its queue has
/// neither a retry policy nor a dead-letter exchange, it goes back instead.
pub enum Delivery {
    Embedded(broker::Delivery),
    #[cfg(feature = "rabbitmq")]
    RabbitMq(Box<rabbitmq::Delivery>),
}

impl Delivery {
    pub fn message(&self) -> &Message {
        match self {
            Self::Embedded(delivery) => delivery.message(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.message(),
        }
    }

    /// It may have been delivered before.
    pub fn redelivered(&self) -> bool {
        match self {
            Self::Embedded(delivery) => delivery.redelivered(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.redelivered(),
        }
    }

    /// What the message is called in [`super::Broker::explain`]: its `message_id`, or its place in the log.
    pub fn id(&self) -> String {
        match self {
            Self::Embedded(delivery) => delivery.id(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.id(),
        }
    }

    /// Failed deliveries before this one (`x-retry-count`).
    pub fn retry_count(&self) -> u32 {
        match self {
            Self::Embedded(delivery) => delivery.retry_count(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.retry_count(),
        }
    }

    /// How often it was delivered and came back (`x-delivery-count`).
    pub fn delivery_count(&self) -> u32 {
        match self {
            Self::Embedded(delivery) => delivery.delivery_count(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.delivery_count(),
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
    /// When the back end could not be told, or its queue has taken it back after the consumer timeout.
    pub async fn ack(self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(delivery) => {
                let _commit = delivery.try_ack()?;
                Ok(())
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.ack().await,
        }
    }

    /// Settles it together with what follows from it: `effects` says what that is. After a crash either
    /// all of it is there or none, and then the message is delivered again. Resolves when it is
    /// committed. Waits first, as [`super::Broker::publish`] does, until the journal takes the outputs.
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => Err(delivery.refuse_effects()),
        }
    }

    /// Settles many, and resolves when that is durable: no crash brings them back. Those that their queues
    /// have taken back after the consumer timeout come back all the same.
    ///
    /// # Errors
    /// When the commit failed: whether they come back is unknown then.
    pub async fn ack_all(deliveries: Vec<Self>) -> Result<(), BackendError> {
        let mut last = None;
        #[cfg(feature = "rabbitmq")]
        let mut remote = Vec::new();
        for delivery in deliveries {
            match delivery {
                Self::Embedded(delivery) => last = delivery.ack().or(last),
                #[cfg(feature = "rabbitmq")]
                Self::RabbitMq(delivery) => remote.push(*delivery),
            }
        }
        #[cfg(feature = "rabbitmq")]
        rabbitmq::Delivery::ack_all(remote).await?;
        // Commits are in order: when the last is on disk, all are.
        committed(last).await
    }

    /// A failure: the queue's retry policy holds it for a while, or it is dead-lettered with `error`. In a
    /// queue without either it is gone.
    ///
    /// # Errors
    /// When the back end could not be told.
    pub async fn fail(self, error: &str) -> Result<(), BackendError> {
        match self {
            Self::Embedded(delivery) => {
                delivery.fail(error);
                Ok(())
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.fail(error).await,
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(delivery) => delivery.requeue().await,
        }
    }
}
