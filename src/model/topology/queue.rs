//! A queue as it is declared, and what a policy may set for it.

use serde::{Deserialize, Serialize};

use super::RetryPolicy;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// `x-queue-type`. Both are kept by the same engine; a quorum queue is always durable, never
/// exclusive or auto-deleted, has no priorities, and shows `x-delivery-count` on its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum QueueKind {
    #[default]
    Classic,
    Quorum,
}

impl QueueKind {
    /// As `x-queue-type` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// `x-overflow`: what happens at the maximum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The oldest ready message is dead-lettered.
    DropHead,
    /// The new message is refused, and its confirm is a nack.
    RejectPublish,
    /// As `RejectPublish`, and the refused message is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// As `x-overflow` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::DropHead, Self::RejectPublish, Self::RejectPublishDlx]
            .into_iter()
            .find(|overflow| overflow.as_str() == name)
    }
}

/// Where a queue's dead messages go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub exchange: ExchangeName,
    /// `None`: the message's own routing key, with its CC keys.
    pub routing_key: Option<RoutingKey>,
}

/// What both a queue's arguments and a policy can say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// `x-message-ttl`, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: the queue is deleted after this long without a consumer, a get or a declaration.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, in ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`, in bytes of ready bodies.
    pub length_bytes_max: Option<u64>,
    /// `x-overflow`; drop-head when nothing is said.
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange` and `x-dead-letter-routing-key`.
    pub dead_letter: Option<DeadLetter>,
    /// `x-delivery-limit`: a message that was returned more often than this is dead-lettered.
    pub delivery_limit: Option<u32>,
    pub retry: Option<RetryPolicy>,
    /// `x-consumer-timeout`: a consumer that leaves a delivery unsettled this long is cancelled.
    pub consumer_timeout_ms: Option<u64>,
}

impl QueueSettings {
    /// A queue's own settings under a policy: of two numbers the lower, of anything else the queue's own.
    #[must_use]
    pub fn under(&self, policy: &Self) -> Self {
        Self {
            message_ttl_ms: lower(self.message_ttl_ms, policy.message_ttl_ms),
            expires_ms: lower(self.expires_ms, policy.expires_ms),
            length_max: lower(self.length_max, policy.length_max),
            length_bytes_max: lower(self.length_bytes_max, policy.length_bytes_max),
            overflow: self.overflow.or(policy.overflow),
            dead_letter: self.dead_letter.clone().or_else(|| policy.dead_letter.clone()),
            delivery_limit: lower(self.delivery_limit, policy.delivery_limit),
            retry: self.retry.clone().or_else(|| policy.retry.clone()),
            consumer_timeout_ms: lower(self.consumer_timeout_ms, policy.consumer_timeout_ms),
        }
    }
}

fn lower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A queue as it is declared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    pub name: QueueName,
    pub kind: QueueKind,
    pub durable: bool,
    /// Only the connection that declared it may use it, and it is deleted with that connection.
    pub exclusive: bool,
    /// It is deleted when its last consumer has gone; never before the first.
    pub auto_delete: bool,
    /// `x-max-priority`: messages of a higher priority are delivered first; at most 255.
    pub priority_max: Option<u8>,
    /// `x-single-active-consumer`: one consumer at a time gets the messages.
    pub single_active_consumer: bool,
    pub settings: QueueSettings,
}

impl QueueSpec {
    /// A durable classic queue with no arguments.
    pub fn durable(name: QueueName) -> Self {
        Self {
            name,
            kind: QueueKind::Classic,
            durable: true,
            exclusive: false,
            auto_delete: false,
            priority_max: None,
            single_active_consumer: false,
            settings: QueueSettings::default(),
        }
    }

    /// A queue that a restart forgets.
    pub fn transient(name: QueueName) -> Self {
        Self { durable: false, ..Self::durable(name) }
    }

    /// A quorum queue with no arguments.
    pub fn quorum(name: QueueName) -> Self {
        Self { kind: QueueKind::Quorum, ..Self::durable(name) }
    }

    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    #[must_use]
    pub fn priorities(mut self, priority_max: u8) -> Self {
        self.priority_max = Some(priority_max);
        self
    }

    #[must_use]
    pub fn single_active_consumer(mut self) -> Self {
        self.single_active_consumer = true;
        self
    }

    #[must_use]
    pub fn message_ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.settings.message_ttl_ms = Some(ttl_ms);
        self
    }

    #[must_use]
    pub fn expires_ms(mut self, expires_ms: u64) -> Self {
        self.settings.expires_ms = Some(expires_ms);
        self
    }

    #[must_use]
    pub fn length_max(mut self, messages: u64, overflow: Overflow) -> Self {
        self.settings.length_max = Some(messages);
        self.settings.overflow = Some(overflow);
        self
    }

    #[must_use]
    pub fn length_bytes_max(mut self, bytes: u64, overflow: Overflow) -> Self {
        self.settings.length_bytes_max = Some(bytes);
        self.settings.overflow = Some(overflow);
        self
    }

    /// Dead messages go to `exchange`, under `routing_key` or their own.
    #[must_use]
    pub fn dead_letter(mut self, exchange: ExchangeName, routing_key: Option<RoutingKey>) -> Self {
        self.settings.dead_letter = Some(DeadLetter { exchange, routing_key });
        self
    }

    #[must_use]
    pub fn delivery_limit(mut self, returns_max: u32) -> Self {
        self.settings.delivery_limit = Some(returns_max);
        self
    }

    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = Some(policy);
        self
    }

    #[must_use]
    pub fn consumer_timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.settings.consumer_timeout_ms = Some(timeout_ms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_a_policy_the_lower_number_holds_and_what_the_queue_says_itself_otherwise() {
        let dead_letter =
            |name: &str| DeadLetter { exchange: name.try_into().unwrap(), routing_key: None };
        let own = QueueSettings {
            message_ttl_ms: Some(10),
            length_max: Some(5),
            dead_letter: Some(dead_letter("own")),
            ..QueueSettings::default()
        };
        let policy = QueueSettings {
            message_ttl_ms: Some(20),
            length_max: Some(3),
            expires_ms: Some(7),
            overflow: Some(Overflow::RejectPublish),
            dead_letter: Some(dead_letter("policy")),
            ..QueueSettings::default()
        };
        let both = own.under(&policy);
        assert_eq!(
            (both.message_ttl_ms, both.length_max, both.expires_ms),
            (Some(10), Some(3), Some(7))
        );
        assert_eq!(both.overflow, Some(Overflow::RejectPublish));
        assert_eq!(both.dead_letter, Some(dead_letter("own")));
    }
}
