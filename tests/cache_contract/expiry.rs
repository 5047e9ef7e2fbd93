//! Keys leave when their time is over, read or not.

use std::sync::Arc;
use std::time::Duration;

use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::{Clock, UnixMs};
use tokio::time::Instant;

use crate::START_MS;

/// Wall-clock time that goes as tokio's does.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> UnixMs {
        START_MS + self.0.elapsed().as_millis() as u64
    }
}

fn cache_with_driver() -> Cache {
    let clock = Arc::new(TokioClock(Instant::now()));
    let cache = Cache::new(Journal::in_memory(), clock, AppendFsync::EverySec, Recovery::default());
    tokio::spawn(cache.run_expiry());
    cache
}

fn set(cache: &Cache, key: &str, ttl_ms: u64) {
    let _ = cache.set_ex(key, "value", Duration::from_millis(ttl_ms)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_nobody_reads_leave_memory_at_their_deadline() {
    let cache = cache_with_driver();
    set(&cache, "late", 60_000);
    tokio::time::sleep(Duration::from_millis(10)).await;
    // Earlier than what the driver sleeps until by now.
    set(&cache, "early", 500);
    let _ = cache.set("for-ever", "value").unwrap();
    tokio::time::sleep(Duration::from_millis(499)).await;
    assert_eq!(cache.key_count(), 3);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(cache.key_count(), 2);
    tokio::time::sleep(Duration::from_millis(59_500)).await;
    assert_eq!(cache.key_count(), 1);
    let one_key_bytes = cache.memory_bytes();
    let _ = cache.del("for-ever").unwrap();
    assert!(one_key_bytes > 0);
    assert_eq!(cache.memory_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn others_get_their_turn_while_many_keys_expire() {
    let cache = cache_with_driver();
    for n in 0..10_000 {
        set(&cache, &format!("key:{n}"), 1_000);
    }
    tokio::time::sleep(Duration::from_millis(999)).await;
    assert_eq!(cache.key_count(), 10_000);
    tokio::time::advance(Duration::from_millis(2)).await;
    let mut counts = Vec::new();
    while cache.key_count() > 0 {
        counts.push(cache.key_count());
        tokio::task::yield_now().await;
    }
    assert!(counts.len() > 10, "one slice after the other: {counts:?}");
    assert_eq!(cache.memory_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_moves_is_kept() {
    let cache = cache_with_driver();
    set(&cache, "presence", 300);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(cache.expire("presence", Duration::from_millis(300)).unwrap().value);
    }
    assert!(cache.persist("presence").unwrap().value);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(cache.exists("presence"));
}
