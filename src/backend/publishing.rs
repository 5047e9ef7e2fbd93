//! Publishing many at once, and what tells a publisher that its messages are safe.

#[cfg(feature = "rabbitmq")]
use super::rabbitmq;
use super::{BackendError, Broker};
use crate::broker;
use crate::model::message::Message;

/// Resolves when every queue that the message reached holds it as durably as was promised.
#[must_use = "a message is only safe once it is confirmed"]
pub enum Confirm {
    Embedded(broker::Confirm),
    #[cfg(feature = "rabbitmq")]
    RabbitMq(rabbitmq::Confirm),
}

impl Confirm {
    /// # Errors
    /// When the commit failed: whether the message survived is unknown then. When a queue refused it
    /// for its length: [`broker::BrokerError::Nacked`].
    pub async fn confirmed(self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(confirm) => confirm.await.map_err(BackendError::from),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(mut confirm) => confirm.confirmed().await,
        }
    }
}

/// The confirms of messages that were published together, in their order.
#[must_use = "a message is only safe once it is confirmed"]
pub enum Confirms {
    Embedded(broker::Confirms),
    #[cfg(feature = "rabbitmq")]
    RabbitMq(rabbitmq::Confirms),
}

impl Confirms {
    /// How many messages are not answered for yet.
    pub fn len(&self) -> usize {
        match self {
            Self::Embedded(confirms) => confirms.len(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(confirms) => confirms.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next message's confirm; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// As [`Confirm::confirmed`].
    pub async fn next(&mut self) -> Option<Result<(), BackendError>> {
        match self {
            Self::Embedded(confirms) => {
                confirms.next().await.map(|outcome| outcome.map_err(BackendError::from))
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(confirms) => confirms.next().await,
        }
    }

    /// Resolves when each of the messages is answered for. What failed, by its place in the batch, rising:
    /// if that is nothing, all are safe.
    pub async fn all(self) -> Vec<(usize, BackendError)> {
        match self {
            Self::Embedded(confirms) => {
                let failed = confirms.all().await.into_iter();
                failed.map(|(place, error)| (place, error.into())).collect()
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(mut confirms) => confirms.all().await,
        }
    }
}

/// What became of messages that were published together, each known by its place in the batch.
pub struct PublishedAll {
    pub confirms: Confirms,
    /// The places of those that reached no queue, rising. A server is not asked for that.
    pub unrouted: Vec<usize>,
}

impl From<broker::PublishedAll> for PublishedAll {
    fn from(published: broker::PublishedAll) -> Self {
        let unrouted = published.unrouted().collect();
        Self { confirms: Confirms::Embedded(published.confirms), unrouted }
    }
}

/// One message of a batch can't be published. Those before it are, and those behind it are not.
pub type PublishAllError = broker::PublishAllError<PublishedAll, BackendError>;

impl Broker {
    /// Publishes messages in their order, each as [`Broker::publish`] does, at a lower price. A caller that
    /// is cancelled while it waits may have published the first of them.
    ///
    /// # Errors
    /// The first message that [`Broker::publish`] refuses, with what became of those before it.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        match self {
            Self::Embedded(broker) => match broker.publish_all(messages).await {
                Ok(published) => Ok(published.into()),
                Err(failed) => Err(Box::new(failed.map(Into::into, Into::into))),
            },
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.publish_all(messages).await,
        }
    }
}
