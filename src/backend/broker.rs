//! The broker port.

use super::BackendError;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};
use crate::model::topology::{ExchangeSpec, QueueSpec};

/// The broker that the application runs on. Clones share it.
#[derive(Clone)]
pub enum Broker {}

/// Resolves when every queue that the message reached holds it as durably as was promised.
pub struct Confirm {}

impl Confirm {
    pub async fn confirmed(self) -> Result<(), BackendError> {
        unimplemented!()
    }
}

/// Takes deliveries of one queue; dropping it cancels the consumer and returns what it did not take.
pub struct Consumer {}

impl Consumer {
    /// The next delivery; `None` when the queue was deleted or the broker is shutting down. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        unimplemented!()
    }
}

/// A message that is yours until you settle it. Dropped unsettled, it counts as failed.
pub struct Delivery {}

#[allow(clippy::unused_async)]
impl Delivery {
    pub fn message(&self) -> &Message {
        unimplemented!()
    }
    pub fn redelivered(&self) -> bool {
        unimplemented!()
    }
    /// Failed deliveries before this one (`x-retry-count`).
    pub fn retry_count(&self) -> u32 {
        unimplemented!()
    }
    /// Settles it for good. Returns before the commit.
    pub async fn ack(self) -> Result<(), BackendError> {
        unimplemented!()
    }
    /// A failure: the queue's retry policy holds it for a while, or it is dead-lettered with `error`.
    pub async fn fail(self, error: &str) -> Result<(), BackendError> {
        unimplemented!()
    }
    /// Returns it to its old place in the queue.
    pub async fn requeue(self) -> Result<(), BackendError> {
        unimplemented!()
    }
}

/// A queue's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    pub name: QueueName,
    pub ready: usize,
    pub unacked: usize,
    /// Held by the retry policy.
    pub delayed: usize,
    pub consumers: usize,
}

/// A message looked at without taking it.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Names the message to [`Broker::redrive`]; opaque, stable while the message stays in the queue.
    pub id: String,
    pub message: Message,
    pub redelivered: bool,
}

#[allow(unused_variables, clippy::unused_async)]
impl Broker {
    /// The same declaration again is fine; another one under the same name is refused.
    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<(), BackendError> {
        unimplemented!()
    }
    pub async fn declare_queue(&self, spec: QueueSpec) -> Result<(), BackendError> {
        unimplemented!()
    }
    pub async fn bind(
        &self,
        queue: &QueueName,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Result<(), BackendError> {
        unimplemented!()
    }
    /// Routes the message. An unroutable one is dropped and confirmed, as in RabbitMQ.
    pub async fn publish(&self, message: Message) -> Result<Confirm, BackendError> {
        unimplemented!()
    }
    /// `prefetch`: deliveries that may be unsettled at once, at least 1.
    pub async fn consume(
        &self,
        queue: &QueueName,
        prefetch: u16,
    ) -> Result<Consumer, BackendError> {
        unimplemented!()
    }
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, BackendError> {
        unimplemented!()
    }
    /// Ready messages from the head on, at most `count`.
    pub async fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BackendError> {
        unimplemented!()
    }
    /// Takes the dead-lettered message `id` out of `queue` and puts it into the queue that it died in
    /// (its newest `x-death`), in one commit; `body` replaces its body. `false`: no such message is ready.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        id: &str,
        body: Option<bytes::Bytes>,
    ) -> Result<bool, BackendError> {
        unimplemented!()
    }
    pub async fn ready(&self) -> Result<(), BackendError> {
        unimplemented!()
    }
}
