//! Active expiry: keys leave memory and the journal when their time is over, read or not.

use std::time::Duration;

use super::engine::Cache;

/// Facts that one visit to the keyspace ends at the most, but for a key that has more by itself.
const SLICE_ENDS_MAX: usize = 256;

/// The longest sleep: a wall clock that is set forward is noticed after that time.
const SLEEP_MAX: Duration = Duration::from_secs(10);

impl Cache {
    /// Drives active expiry until it is dropped: sleeps until the earliest deadline, then takes back
    /// what is due in slices, between which others get the lock and the thread.
    pub fn run_expiry(&self) -> impl Future<Output = ()> + Send + 'static {
        let cache = self.clone();
        async move {
            loop {
                let ((earliest_ms, now_ms), _) = cache.pipeline(None, |keyspace| {
                    let earliest_ms = keyspace.expire_due(SLICE_ENDS_MAX);
                    let now_ms = keyspace.now_ms();
                    (if keyspace.evict_some() { Some(now_ms) } else { earliest_ms }, now_ms)
                });
                let sleep_ms = earliest_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
                match sleep_ms {
                    Some(0) => tokio::task::yield_now().await,
                    _ => {
                        let sleep =
                            sleep_ms.map_or(SLEEP_MAX, Duration::from_millis).min(SLEEP_MAX);
                        // Woken or not, the next visit looks for itself.
                        let _ = tokio::time::timeout(sleep, cache.deadline_came_up()).await;
                    }
                }
            }
        }
    }
}
