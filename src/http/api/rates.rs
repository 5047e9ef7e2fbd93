//! Messages a second, from two samples of the queues' counts.

use ahash::AHashMap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::backend::QueueStatus;
use crate::model::names::QueueName;

/// The rate is that since the sample before the last, so over one to two intervals.
#[derive(Default)]
pub(super) struct Rates {
    samples: Mutex<[Option<Sample>; 2]>,
}

struct Sample {
    at: Instant,
    counts: AHashMap<QueueName, Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    published: u64,
    delivered: u64,
    acked: u64,
}

/// Messages a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    publish: f64,
    deliver: f64,
    ack: f64,
}

impl Rates {
    pub(super) fn sample(&self, queues: &[QueueStatus]) {
        let counts = queues.iter().map(|queue| (queue.name.clone(), Counts::of(queue))).collect();
        let sample = Sample { at: Instant::now(), counts };
        let mut samples = self.samples.lock();
        let [last, _] = std::mem::take(&mut *samples);
        *samples = [Some(sample), last];
    }

    pub(super) fn of(&self, queue: &QueueStatus) -> Rate {
        let samples = self.samples.lock();
        let [last, before] = &*samples;
        let Some(since) = before.as_ref().or(last.as_ref()) else { return Rate::default() };
        let seconds = since.at.elapsed().as_secs_f64();
        let now = Counts::of(queue);
        // A queue that is newer than the sample began with nothing; one that was deleted and declared
        // again has counted less than its namesake.
        let zero = Counts { published: 0, delivered: 0, acked: 0 };
        let then = since.counts.get(&queue.name).copied().unwrap_or(zero);
        let rate = |now: u64, then: u64| match seconds > 0.0 {
            true => (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0,
            false => 0.0,
        };
        Rate {
            publish: rate(now.published, then.published),
            deliver: rate(now.delivered, then.delivered),
            ack: rate(now.acked, then.acked),
        }
    }
}

impl Counts {
    fn of(queue: &QueueStatus) -> Self {
        Self { published: queue.published, delivered: queue.delivered, acked: queue.acked }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(published: u64) -> QueueStatus {
        QueueStatus {
            name: QueueName::new("q").unwrap(),
            ready: 0,
            ready_bytes: 0,
            on_disk: 0,
            unacked: 0,
            delayed: 0,
            consumers: 0,
            published,
            delivered: published / 2,
            acked: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let rates = Rates::default();
        assert_eq!(rates.of(&status(7)), Rate::default());
        rates.sample(&[status(1_000)]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(rates.of(&status(1_100)), Rate { publish: 20.0, deliver: 10.0, ack: 0.0 });
        rates.sample(&[status(1_100)]);
        tokio::time::advance(Duration::from_secs(5)).await;
        rates.sample(&[status(1_100)]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(rates.of(&status(1_100)), Rate::default());
        // Declared again under the same name.
        assert_eq!(rates.of(&status(3)), Rate::default());
    }
}
