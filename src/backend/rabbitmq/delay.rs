//! Queues in which messages wait: one a delay and a place to go on to, whose time to live is the delay and
//! whose dead letters go on. In one queue for all of them, a message would wait for every one before it.
//!
//! Their names say what they do, so every node declares the same, and a message may wait where another
//! node put it. They are quorum queues that hand a message on only when it has arrived, and go away
//! when nobody used them for longer than any message waits in them.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

use super::session::Session;
use super::values::{short, table};
use crate::backend::BackendError;
use crate::model::message::Headers;
use crate::model::names::ExchangeName;
use crate::model::topology::RetryPolicy;

/// What the names of these queues and of the exchanges in front of them begin with.
pub(super) const PREFIX: &str = "leveret.delay.";
/// Longest time of a message in a queue that RabbitMQ takes, in milliseconds.
pub(super) const DELAY_MS_MAX: u64 = 4_294_967_295;
/// A queue is declared anew when it was not for this long, and lives twice as long beyond its delay.
const USED_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// Delays that a policy's jitter is spread over.
const JITTER_STEPS: u32 = 5;
/// Delays that this process remembers having declared.
const KNOWN_MAX: usize = 4_096;

/// A delay, and the exchange that messages go on to under their own keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Delay {
    pub ms: u64,
    pub to: ExchangeName,
}

impl Delay {
    /// Of the queue, and of the exchange that leads into it whatever the key.
    pub fn name(&self) -> String {
        const NAME_BYTES_MAX: usize = 255;
        let Self { ms, to } = self;
        if to.as_str().is_empty() {
            return format!("{PREFIX}{ms}");
        }
        let name = format!("{PREFIX}{ms}.{to}");
        match name.len() <= NAME_BYTES_MAX {
            true => name,
            false => {
                let hash = Sha1::digest(to.as_str());
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{PREFIX}{ms}.sha1.{hash}")
            }
        }
    }

    fn arguments(&self) -> Result<FieldTable, BackendError> {
        let unused = USED_AGAIN_AFTER.saturating_mul(2).as_millis() as i64;
        let ttl = i64::try_from(self.ms).unwrap_or(i64::MAX);
        let mut all = Headers::default();
        all.set("x-queue-type", "quorum");
        all.set("x-message-ttl", ttl);
        all.set("x-expires", ttl.saturating_add(unused).min(DELAY_MS_MAX as i64));
        all.set("x-dead-letter-exchange", self.to.as_str());
        all.set("x-dead-letter-strategy", "at-least-once");
        all.set("x-overflow", "reject-publish");
        table(&all)
    }
}

/// The delay before the next attempt. A policy's jitter takes one of few values, each of which is a queue.
pub(super) fn retry_delay_ms(policy: &RetryPolicy, failures: u32) -> u64 {
    let step = (chance() * f64::from(JITTER_STEPS)) as u32;
    let step = step.min(JITTER_STEPS - 1);
    policy.delay_ms(failures, f64::from(step) / f64::from(JITTER_STEPS - 1)).min(DELAY_MS_MAX)
}

/// A delay that anybody may ask for, rounded up by less than 1/32: so that there are few of them.
pub(super) fn rounded_ms(ms: u64) -> u64 {
    const STEPS_A_DOUBLING: u32 = 5;
    let magnitude = u64::BITS - ms.leading_zeros();
    let step = 1_u64 << magnitude.saturating_sub(STEPS_A_DOUBLING + 1);
    ms.div_ceil(step).saturating_mul(step)
}

/// From 0 to 1. It needs to differ between processes, not to be unpredictable.
pub(super) fn chance() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

/// Which delays were declared lately, and on which session.
#[derive(Default)]
pub(super) struct Delays(Mutex<AHashMap<Delay, (u64, Instant)>>);

impl Delays {
    /// Makes sure that the delay is there, and stays there for as long as a message waits in it.
    ///
    /// # Errors
    /// The server's refusal; a connection that ended.
    pub async fn declare(&self, session: &Session, delay: &Delay) -> Result<(), BackendError> {
        let is_known = self
            .0
            .lock()
            .get(delay)
            .is_some_and(|(on, at)| *on == session.id && at.elapsed() < USED_AGAIN_AFTER);
        if is_known {
            return Ok(());
        }
        let at = Instant::now();
        let name = short(&delay.name())?;
        let arguments = delay.arguments()?;
        session
            .call(move |channel| async move {
                let durable = QueueDeclareOptions { durable: true, ..Default::default() };
                channel.queue_declare(name.clone(), durable, arguments).await?;
                let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
                let (fanout, none) = (ExchangeKind::Fanout, FieldTable::default());
                channel.exchange_declare(name.clone(), fanout, durable, none.clone()).await?;
                let options = QueueBindOptions::default();
                channel.queue_bind(name.clone(), name, "".into(), options, none).await
            })
            .await?;
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(delay.clone(), (session.id, at));
        Ok(())
    }

    /// It was not there although it was declared.
    pub fn forget(&self, delay: &Delay) {
        self.0.lock().remove(delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::Backoff;

    #[test]
    fn a_name_says_the_delay_and_where_it_leads() {
        let delay = |to: &str| Delay { ms: 2_000, to: ExchangeName::new(to).unwrap() };
        assert_eq!(delay("").name(), "leveret.delay.2000");
        assert_eq!(delay("events").name(), "leveret.delay.2000.events");
        let (long, other) = (delay(&"x".repeat(250)).name(), delay(&"y".repeat(250)).name());
        assert!(long.len() <= 255 && long != other, "{long}");
    }

    #[test]
    fn rounding_is_upward_by_little_and_leaves_few_delays() {
        let mut delays: Vec<u64> = (1..=1_000_000).map(rounded_ms).collect();
        for (ms, rounded) in (1..).zip(&delays) {
            assert!(*rounded >= ms && *rounded - ms <= ms / 32, "{ms} became {rounded}");
        }
        delays.dedup();
        assert!(delays.len() < 600, "{} delays", delays.len());
    }

    #[test]
    fn jitter_has_few_steps_around_the_delay() {
        let backoff = Backoff::Fixed { delay_ms: 1_000 };
        let policy = RetryPolicy { attempts_max: 3, backoff, jitter: 0.1 };
        let mut delays: Vec<u64> = (0..500).map(|_| retry_delay_ms(&policy, 1)).collect();
        delays.sort_unstable();
        delays.dedup();
        assert_eq!(delays, [900, 950, 1_000, 1_050, 1_100]);
    }
}
