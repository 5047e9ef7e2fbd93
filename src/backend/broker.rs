//! The broker port.

#[cfg(feature = "rabbitmq")]
use super::rabbitmq::RabbitMq;
use super::{BackendError, Confirm, Consumer, Delivery};
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
    #[cfg(feature = "rabbitmq")]
    RabbitMq(RabbitMq),
}

impl Broker {
    /// Declares an exchange; resolves when the declaration is durable.
    ///
    /// # Errors
    /// Another declaration under the same name; a reserved name.
    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.declare_exchange(spec)?).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.declare_exchange(spec).await,
        }
    }

    /// Declares a queue; resolves when the declaration is durable.
    ///
    /// # Errors
    /// Another declaration under the same name; a reserved name.
    pub async fn declare_queue(&self, spec: QueueSpec) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.declare_queue(spec)?).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.declare_queue(spec).await,
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.delete_exchange(name, if_unused).await,
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.delete_queue(name, only).await,
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.purge(name).await,
        }
    }

    /// Makes a binding of any kind; resolves when it is durable.
    ///
    /// # Errors
    /// An unknown source or destination; the default exchange; an `x-match` that is none.
    pub async fn add_binding(&self, binding: Binding) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.bind(binding)?).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.add_binding(binding).await,
        }
    }

    /// Removes a binding; one that is not there is no error.
    ///
    /// # Errors
    /// The default exchange.
    pub async fn unbind(&self, binding: Binding) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.unbind(binding)?).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.unbind(binding).await,
        }
    }

    /// Sets a policy and applies it at once; resolves when it is durable.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(Some(broker.set_policy(policy)?)).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Err(broker.no_policies()),
        }
    }

    /// Removes a policy; one that is not there is no error.
    ///
    /// # Errors
    /// When the commit failed.
    pub async fn clear_policy(&self, name: &str) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(broker.clear_policy(name)).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Err(broker.no_policies()),
        }
    }

    /// The policies, the highest priority first.
    ///
    /// # Errors
    /// None on the embedded engine.
    pub async fn policies(&self) -> Result<Vec<Policy>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.policies()),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Err(broker.no_policies()),
        }
    }

    /// Takes one ready message, if there is one.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn get(&self, queue: &QueueName) -> Result<Option<Delivery>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.get(queue)?.map(Delivery::Embedded)),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => {
                Ok(broker.get(queue).await?.map(Box::new).map(Delivery::RabbitMq))
            }
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Ok(Confirm::RabbitMq(broker.publish(message).await?)),
        }
    }

    /// As [`Broker::publish`], but where that would wait for an alarm to end, it is refused.
    ///
    /// # Errors
    /// As [`Broker::publish`], and the memory and the disk alarm.
    pub async fn try_publish(&self, message: Message) -> Result<Confirm, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(Confirm::Embedded(broker.try_publish(message)?.confirm)),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Ok(Confirm::RabbitMq(broker.try_publish(message).await?)),
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => {
                let (confirm, routed) = broker.publish_mandatory(message).await?;
                Ok((Confirm::RabbitMq(confirm), routed))
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => {
                let (confirm, routed) = broker.try_publish_mandatory(message).await?;
                Ok((Confirm::RabbitMq(confirm), routed))
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => {
                Ok(Consumer::RabbitMq(Box::new(broker.consume(queue, options).await?)))
            }
        }
    }

    /// The counts of every queue, sorted by name.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.queues()),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.queues().await,
        }
    }

    /// The counts of one queue.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn queue(&self, name: &QueueName) -> Result<QueueStatus, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.queue(name)?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.queue(name).await,
        }
    }

    /// Ends every consumer of this process: what they hold can still be settled.
    pub fn cancel_consumers(&self) {
        match self {
            Self::Embedded(broker) => broker.cancel_consumers(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.cancel_consumers(),
        }
    }

    /// Says that this is a stop in order: the last call before the back end is closed.
    ///
    /// # Errors
    /// When the commit failed: the next start then treats this stop as a crash.
    pub async fn close(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => committed(Some(broker.close())).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => {
                broker.close().await;
                Ok(())
            }
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
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => Err(broker.no_paths()),
        }
    }

    /// Publishers wait while the messages in memory weigh more than `bytes`; a server has its own limit.
    pub fn set_memory_limit(&self, bytes: usize) {
        match self {
            Self::Embedded(broker) => broker.set_memory_limit(bytes),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(_) => {}
        }
    }

    /// What publishers wait for at this moment.
    pub fn alarms(&self) -> Vec<Alarm> {
        match self {
            Self::Embedded(broker) => broker.alarms(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.alarms(),
        }
    }

    /// Whether it takes durable messages now.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn ready(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.ready()?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.ready().await,
        }
    }
}

pub(super) async fn committed(commit: Option<Commit>) -> Result<(), BackendError> {
    match commit {
        Some(commit) => commit.await.map(|_| ()).map_err(BackendError::from),
        None => Ok(()),
    }
}
