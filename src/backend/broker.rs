//! The broker port.

use bytes::Bytes;

use super::BackendError;
use crate::broker::{self, ConsumeOptions};
use crate::journal::{Commit, Position};
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};
use crate::model::topology::{Binding, ExchangeSpec, QueueSpec};

pub use crate::broker::QueueStatus;

/// The broker that the application runs on. Clones share it.
#[derive(Clone)]
pub enum Broker {
    Embedded(broker::Broker),
}

/// Resolves when every queue that the message reached holds it as durably as was promised.
#[must_use = "a message is only safe once it is confirmed"]
pub enum Confirm {
    Embedded(broker::Confirm),
}

impl Confirm {
    /// # Errors
    /// When the commit failed: whether the message survived is unknown then.
    pub async fn confirmed(self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(confirm) => confirm.await.map_err(BackendError::from),
        }
    }
}

/// Takes deliveries of one queue; dropping it cancels the consumer and returns what it did not take.
pub enum Consumer {
    Embedded(broker::Consumer),
}

impl Consumer {
    /// The next delivery; `None` when the queue was deleted or the broker is shutting down. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self {
            Self::Embedded(consumer) => consumer.next().await.map(Delivery::Embedded),
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

    /// Failed deliveries before this one (`x-retry-count`).
    pub fn retry_count(&self) -> u32 {
        match self {
            Self::Embedded(delivery) => delivery.retry_count(),
        }
    }

    /// Settles it for good. Returns before the commit: a crash until then delivers it again.
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

/// A message looked at without taking it.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Names the message to [`Broker::redrive`]; opaque, stable while the message stays in the queue.
    pub id: String,
    pub message: Message,
    pub redelivered: bool,
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
        let binding =
            Binding { exchange: exchange.clone(), queue: queue.clone(), key: key.clone() };
        match self {
            Self::Embedded(broker) => committed(broker.bind(binding)?).await,
        }
    }

    /// Routes the message. An unroutable one is dropped and confirmed, as in RabbitMQ. Waits only for
    /// admission; the confirm says when the message is safe.
    ///
    /// # Errors
    /// An unknown exchange; a back end that takes no messages.
    pub async fn publish(&self, message: Message) -> Result<Confirm, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Confirm::Embedded(broker.publish(message).await?.confirm)),
        }
    }

    /// As [`Broker::publish`], but where that would wait for the disk alarm to end, it is refused.
    ///
    /// # Errors
    /// As [`Broker::publish`], and the disk alarm.
    pub async fn try_publish(&self, message: Message) -> Result<Confirm, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Confirm::Embedded(broker.try_publish(message)?.confirm)),
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
        let options = ConsumeOptions { prefetch, no_ack: false };
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

    /// Ready messages from the head on, at most `count`.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BackendError> {
        match self {
            Self::Embedded(broker) => {
                let peeked = broker.peek(queue, count)?.into_iter().map(|peeked| Peeked {
                    id: peeked.position.0.to_string(),
                    message: peeked.message,
                    redelivered: peeked.redelivered,
                });
                Ok(peeked.collect())
            }
        }
    }

    /// Takes the dead-lettered message `id` out of `queue` and puts it into the queue that it died in
    /// (its newest `x-death`), in one commit; `body` replaces its body. `false`: no such message is ready.
    ///
    /// # Errors
    /// An unknown queue; a message without a death, or whose queue is gone: it stays where it is.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        id: &str,
        body: Option<Bytes>,
    ) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(broker) => match id.parse() {
                Ok(position) => Ok(broker.redrive(queue, Position(position), body)?),
                Err(_) => Ok(false),
            },
        }
    }

    /// Ends every consumer of this process: what they hold can still be settled.
    pub fn cancel_consumers(&self) {
        match self {
            Self::Embedded(broker) => broker.cancel_consumers(),
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

async fn committed(commit: Option<Commit>) -> Result<(), BackendError> {
    match commit {
        Some(commit) => commit.await.map(|_| ()).map_err(BackendError::from),
        None => Ok(()),
    }
}
