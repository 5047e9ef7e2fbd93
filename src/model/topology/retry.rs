//! How failed deliveries are retried.

use serde::{Deserialize, Serialize};

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
    /// `first_ms` times the number of failures, at most `max_ms`.
    Linear {
        first_ms: u64,
        max_ms: u64,
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
            Backoff::Linear { first_ms, max_ms } => {
                first_ms.saturating_mul(u64::from(failures.max(1))).min(max_ms)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(backoff: Backoff) -> Vec<u64> {
        let policy = RetryPolicy { attempts_max: 10, backoff, jitter: 0.0 };
        (1..=6).map(|failures| policy.delay_ms(failures, 0.5)).collect()
    }

    #[test]
    fn exponential_backoff_doubles_up_to_its_limit() {
        let backoff = Backoff::Exponential { first_ms: 2_000, max_ms: 30_000 };
        assert_eq!(delays(backoff), [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        let policy = RetryPolicy { attempts_max: 10, backoff, jitter: 0.0 };
        assert_eq!(policy.delay_ms(u32::MAX, 0.5), 30_000);
    }

    #[test]
    fn linear_backoff_grows_by_its_first_delay_up_to_its_limit() {
        let backoff = Backoff::Linear { first_ms: 100, max_ms: 450 };
        assert_eq!(delays(backoff), [100, 200, 300, 400, 450, 450]);
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
