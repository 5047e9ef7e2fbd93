//! What is declared: exchanges, queues, bindings, and the retry policy of a queue.

use serde::{Deserialize, Serialize};

use super::names::{ExchangeName, QueueName, RoutingKey};

/// How an exchange picks the queues of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Binding keys are patterns of words: `*` is one word, `#` is none or more.
    Topic,
}

/// An exchange as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    pub name: ExchangeName,
    pub kind: ExchangeKind,
    pub durable: bool,
}

/// A queue as it is declared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    pub name: QueueName,
    pub durable: bool,
    /// `x-message-ttl`, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-dead-letter-exchange` and `x-dead-letter-routing-key`.
    pub dead_letter: Option<DeadLetter>,
    pub retry: Option<RetryPolicy>,
}

impl QueueSpec {
    /// A durable queue with no arguments.
    pub fn durable(name: QueueName) -> Self {
        Self { name, durable: true, message_ttl_ms: None, dead_letter: None, retry: None }
    }
}

/// Where a queue's dead messages go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub exchange: ExchangeName,
    /// `None`: the message's own routing key.
    pub routing_key: Option<RoutingKey>,
}

/// What happens to a delivery that failed: it is held for a while and delivered to the same queue
/// again, until `attempts_max` deliveries have failed; then it is dead-lettered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Deliveries in all, the first included; at least 1.
    pub attempts_max: u32,
    pub backoff: Backoff,
    /// Each delay is multiplied by a random factor from `1 - jitter` to `1 + jitter`; 0 to 1.
    pub jitter: f64,
}

/// The delay before the next attempt, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backoff {
    Fixed {
        delay_ms: u64,
    },
    /// `first_ms`, doubled after each failure, at most `max_ms`.
    Exponential {
        first_ms: u64,
        max_ms: u64,
    },
}

impl RetryPolicy {
    /// The delay after `failures` failed deliveries (1 or more). `random` lies in 0..1.
    pub fn delay_ms(&self, failures: u32, random: f64) -> u64 {
        let base_ms = match self.backoff {
            Backoff::Fixed { delay_ms } => delay_ms,
            Backoff::Exponential { first_ms, max_ms } => {
                let doublings = failures.saturating_sub(1).min(63);
                first_ms.saturating_mul(1 << doublings).min(max_ms)
            }
        };
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        // Delays are far below 2^52 ms, so the float holds them exactly enough.
        (base_ms as f64 * factor).round() as u64
    }
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binding {
    pub exchange: ExchangeName,
    pub queue: QueueName,
    pub key: RoutingKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_backoff_doubles_up_to_its_limit() {
        let policy = RetryPolicy {
            attempts_max: 10,
            backoff: Backoff::Exponential { first_ms: 2_000, max_ms: 30_000 },
            jitter: 0.0,
        };
        let delays: Vec<u64> = (1..=6).map(|failures| policy.delay_ms(failures, 0.5)).collect();
        assert_eq!(delays, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(policy.delay_ms(u32::MAX, 0.5), 30_000);
    }

    #[test]
    fn jitter_spreads_a_delay_around_its_base() {
        let policy = RetryPolicy {
            attempts_max: 3,
            backoff: Backoff::Fixed { delay_ms: 1_000 },
            jitter: 0.25,
        };
        assert_eq!(policy.delay_ms(1, 0.0), 750);
        assert_eq!(policy.delay_ms(1, 1.0), 1_250);
    }
}
