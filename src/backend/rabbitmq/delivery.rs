//! A message in a worker's hands, and the ways to settle it.

use std::sync::Arc;

use lapin::options::{BasicAckOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};

use super::RabbitMq;
use super::origin;
use super::refusal::{unreachable, unsupported};
use super::session::Session;
use super::values::{received, short};
use crate::backend::BackendError;
use crate::broker::shared::{DROPPED_ERROR, X_DELIVERY_COUNT};
use crate::model::message::{Message, Value};
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// Before a message goes back whose failure could not be carried to where it waits or lies.
const UNCARRIED_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Dropped unsettled, it counts as failed, or goes back where nothing takes what fails.
pub struct Delivery {
    broker: RabbitMq,
    pub(super) queue: QueueName,
    pub(super) message: Message,
    pub(super) failures: u32,
    redelivered: bool,
    acker: Acker,
    hold: Option<Hold>,
    /// A task of its own settles it. Dropped with its runtime, that leaves it to the end of the channel.
    is_dropped: bool,
}

/// What it takes to settle a delivery: the channel that it came on stays open as long.
pub(super) struct Hold {
    pub session: Arc<Session>,
    pub channel: Channel,
    /// A channel of its own goes back to its session.
    pub is_lent: bool,
}

impl Delivery {
    pub(super) fn new(
        broker: RabbitMq,
        queue: QueueName,
        delivered: lapin::message::Delivery,
        hold: Hold,
    ) -> Self {
        let (message, failures) = read(&queue, &delivered);
        let (acker, hold) = (delivered.acker, Some(hold));
        let redelivered = delivered.redelivered || failures > 0;
        Self { broker, queue, message, failures, redelivered, acker, hold, is_dropped: false }
    }

    pub fn message(&self) -> &Message {
        &self.message
    }

    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Its `message_id`; a server has no other name for it.
    pub fn id(&self) -> String {
        self.message.properties.message_id.clone().unwrap_or_default()
    }

    pub fn retry_count(&self) -> u32 {
        self.failures
    }

    pub fn delivery_count(&self) -> u32 {
        let count = self.message.properties.headers.get(X_DELIVERY_COUNT).and_then(Value::as_int);
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    pub async fn ack(mut self) -> Result<(), BackendError> {
        self.settle(Settled::Ack).await?;
        self.broker.counters.acked(&self.queue);
        Ok(())
    }

    /// Acknowledged as soon as it was taken.
    pub(super) async fn taken(mut self) -> Self {
        // Without a connection there is nobody to tell, and it comes again.
        let _ = self.settle(Settled::Ack).await;
        self
    }

    /// Resolves when the server has read the acknowledgements; AMQP confirms none.
    pub async fn ack_all(deliveries: Vec<Self>) -> Result<(), BackendError> {
        let mut channels: Vec<(Arc<Session>, Channel, QueueName)> = Vec::new();
        for delivery in deliveries {
            if let Some(hold) = &delivery.hold
                && !channels.iter().any(|(session, channel, _)| {
                    (session.id, channel.id()) == (hold.session.id, hold.channel.id())
                })
            {
                let (session, channel) = (hold.session.clone(), hold.channel.clone());
                channels.push((session, channel, delivery.queue.clone()));
            }
            delivery.ack().await?;
        }
        for (session, channel, queue) in channels {
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let asked =
                channel.queue_declare(short(queue.as_str())?, options, FieldTable::default());
            session.answered(asked).await?;
        }
        Ok(())
    }

    pub fn refuse_effects(&self) -> BackendError {
        unsupported(
            "an acknowledgement with effects",
            "it needs the acknowledgement and its effects in one commit, which is had on the embedded \
             broker alone: publish with confirms, then acknowledge",
        )
    }

    pub async fn fail(mut self, error: &str) -> Result<(), BackendError> {
        self.failed(error).await
    }

    async fn failed(&mut self, error: &str) -> Result<(), BackendError> {
        let settled = self.broker.carry_on(self, error).await;
        match settled {
            Ok(how) => self.settle(how).await,
            Err(failure) => {
                // It stays in its queue, and is delivered again: not at once, as this failure is counted nowhere.
                tokio::time::sleep(UNCARRIED_PAUSE).await;
                let _ = self.settle(Settled::Requeue).await;
                Err(failure)
            }
        }
    }

    pub async fn requeue(mut self) -> Result<(), BackendError> {
        self.settle(Settled::Requeue).await
    }

    async fn settle(&mut self, how: Settled) -> Result<(), BackendError> {
        let nack = |requeue| BasicNackOptions { requeue, ..Default::default() };
        let acker = self.acker.clone();
        self.settle_by(async move {
            match how {
                Settled::Ack => acker.ack(BasicAckOptions::default()).await,
                Settled::Requeue => acker.nack(nack(true)).await,
                Settled::Reject => acker.nack(nack(false)).await,
            }
        })
        .await
    }

    async fn settle_by(
        &mut self,
        told: impl Future<Output = lapin::Result<bool>>,
    ) -> Result<(), BackendError> {
        let Some(Hold { session, channel, is_lent }) = self.hold.take() else { return Ok(()) };
        let told = match session.answered(told).await {
            Ok(told) => told,
            Err(error) => {
                // Nobody can settle it any more: it would keep its place among the consumer's until the
                // session ends.
                Session::close_channel(session, channel);
                return Err(error);
            }
        };
        if is_lent {
            session.give_back(channel);
        }
        settled(told)
    }
}

/// `told`: whether lapin had a channel left to say it on.
///
/// # Errors
/// It was not said.
pub(super) fn settled(told: bool) -> Result<(), BackendError> {
    match told {
        true => Ok(()),
        false => Err(unreachable("the connection that it came on ended: it is delivered again")),
    }
}

/// What the server is told.
pub(super) enum Settled {
    Ack,
    Requeue,
    /// It is dead-lettered, or gone.
    Reject,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take().filter(|_| !self.is_dropped) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut dropped = Self {
            broker: self.broker.clone(),
            queue: self.queue.clone(),
            message: self.message.clone(),
            failures: self.failures,
            redelivered: self.redelivered,
            acker: self.acker.clone(),
            hold: Some(hold),
            is_dropped: true,
        };
        runtime.spawn(async move {
            let settled = match dropped.broker.takes_failed(&dropped.queue) {
                true => dropped.failed(DROPPED_ERROR).await,
                false => dropped.settle(Settled::Requeue).await,
            };
            if let Err(error) = settled {
                tracing::warn!(queue = %dropped.queue, %error, "a dropped delivery is not settled");
            }
        });
    }
}

/// A message as it was published into `queue`, and how often its delivery failed there.
pub(super) fn read(queue: &QueueName, delivered: &lapin::message::Delivery) -> (Message, u32) {
    let exchange = ExchangeName::new(delivered.exchange.as_str());
    let key = RoutingKey::new(delivered.routing_key.as_str());
    // What the server lets pass and we don't is shown without.
    let exchange = exchange.unwrap_or_else(|_| ExchangeName::default_exchange());
    let key = key.unwrap_or_else(|_| RoutingKey::empty());
    let mut message = Message::new(exchange, key, delivered.data.clone());
    message.properties = received(&delivered.properties);
    let failures = origin::leave(&mut message, queue);
    (message, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_said_is_not_settled() {
        assert!(settled(true).is_ok());
        assert!(settled(false).is_err_and(|error| error.is_retryable()));
    }

    /// On the server beside the tests, if there is one.
    #[tokio::test]
    async fn what_could_not_be_settled_in_time_is_delivered_again_on_the_same_connection() {
        let Ok(url) = std::env::var("LEVERET_RABBITMQ") else { return };
        let address = super::super::Address::parse(&format!("{url}?heartbeat=0")).unwrap();
        let broker = RabbitMq::connect(address, crate::model::clock::SystemClock::shared());
        let broker = broker.await.unwrap();
        let queue = QueueName::new(format!("q-{}", uuid::Uuid::new_v4().simple())).unwrap();
        let spec = crate::model::topology::QueueSpec::durable(queue.clone());
        broker.declare_queue(spec).await.unwrap();
        let message = Message::new("".try_into().unwrap(), queue.as_str().try_into().unwrap(), "x");
        broker.publish(message).await.unwrap().confirmed().await.unwrap();
        let options = crate::backend::ConsumeOptions { prefetch: 1, ..Default::default() };
        let mut consumer = broker.consume(&queue, options).await.unwrap();
        let mut first = consumer.next().await.unwrap();
        let session = first.hold.as_ref().unwrap().session.clone();
        // Its word never gets out.
        tokio::time::pause();
        let stuck = first.settle_by(std::future::pending()).await;
        tokio::time::resume();
        assert!(stuck.is_err_and(|error| error.to_string().contains("no answer within")));
        let again = tokio::time::timeout(std::time::Duration::from_secs(10), consumer.next());
        let again = again.await.expect("it is delivered again").unwrap();
        assert!(again.redelivered() && session.is_open());
        again.ack().await.unwrap();
        broker.delete_queue(&queue, crate::backend::DeleteIf::default()).await.unwrap();
    }
}
