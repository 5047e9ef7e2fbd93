//! What an application builds on a cache: read-through, invalidation by pattern, locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use leveret::backend::{self, BackendError};
use leveret::cache::{AppendFsync, Cache, CacheError, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;
use tokio::sync::Semaphore;

use crate::START_MS;
use crate::stand::Stand;

const TTL: Duration = Duration::from_secs(10);

fn cache() -> (Cache, Arc<ManualClock>) {
    let clock = ManualClock::at(START_MS);
    let (journal, recovery) = (Journal::in_memory(), Recovery::default());
    (Cache::new(journal, Arc::clone(&clock) as _, AppendFsync::EverySec, recovery), clock)
}

#[tokio::test]
async fn a_hundred_misses_fetch_once() {
    let (cache, clock) = cache();
    let (fetches, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, fetches, gate) = (cache.clone(), Arc::clone(&fetches), Arc::clone(&gate));
            tokio::spawn(async move {
                let fetch = || async {
                    fetches.fetch_add(1, Ordering::SeqCst);
                    let _open = gate.acquire().await.expect("the gate opens");
                    Ok::<_, CacheError>(Bytes::from_static(b"fetched"))
                };
                cache.get_or_set("k", Some(TTL), fetch).await
            })
        })
        .collect();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").expect("a value"), "fetched");
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    // A hit needs no fetch; a value whose time is over does.
    let fetch_again = || async { Ok::<_, CacheError>(Bytes::from_static(b"again")) };
    assert_eq!(cache.get_or_set("k", Some(TTL), fetch_again).await.expect("a value"), "fetched");
    clock.advance_ms(10_000);
    assert_eq!(cache.get_or_set("k", None, fetch_again).await.expect("a value"), "again");
}

#[tokio::test]
async fn who_fails_or_goes_away_leaves_the_fetch_to_the_next() {
    let (cache, _) = cache();
    let port = backend::Cache::Embedded(cache.clone());
    let failing = || async { Err::<Bytes, _>(BackendError::from(CacheError::NotAnInteger)) };
    let failed = port.get_or_set("k", None, failing).await;
    assert!(matches!(failed, Err(BackendError::Cache(CacheError::NotAnInteger))));
    let stuck = {
        let cache = cache.clone();
        tokio::spawn(async move {
            let never = || std::future::pending::<Result<Bytes, CacheError>>();
            cache.get_or_set("k", None, never).await
        })
    };
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(async move {
        let fetch = || async { Ok::<_, BackendError>(Bytes::from_static(b"v")) };
        port.get_or_set("k", None, fetch).await
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    stuck.abort();
    assert_eq!(waiting.await.expect("no panic").expect("a value"), "v");
    assert_eq!(cache.get("k").expect("a string").expect("a value"), "v");
    // A key of another type is told, not fetched over.
    let _ = cache.rpush("l", "x").expect("a list");
    let fetch = || async { Ok::<_, CacheError>(Bytes::from_static(b"v")) };
    assert!(matches!(cache.get_or_set("l", None, fetch).await, Err(CacheError::WrongType)));
}

#[tokio::test]
async fn a_pattern_removes_what_it_matches_and_nothing_else() {
    let (cache, _) = cache();
    for number in 0..3_000 {
        let _ = cache.set(format!("user:{number}"), "x").expect("room");
        let _ = cache.set(format!("order:{number}"), "x").expect("room");
    }
    assert_eq!(cache.invalidate_pattern("user:*").await.expect("journal"), 3_000);
    assert_eq!(cache.key_count(), 3_000);
    assert!(cache.exists("order:7") && !cache.exists("user:7"));
    let port = backend::Cache::Embedded(cache.clone());
    assert_eq!(port.invalidate_pattern("order:[12]").await.expect("journal"), 2);
    assert_eq!(cache.invalidate_pattern("nothing").await.expect("journal"), 0);
}

#[test]
fn a_lock_is_held_by_one_and_given_back_by_that_one() {
    let (cache, clock) = cache();
    let lock = || cache.lock("lock", TTL).expect("room").value;
    let first = lock().expect("it is free");
    assert_eq!(lock(), None);
    assert!(!cache.release("lock", first + 1).expect("journal").value);
    clock.advance_ms(9_000);
    assert!(cache.renew("lock", first, TTL).expect("journal").value);
    clock.advance_ms(9_000);
    assert_eq!(lock(), None);
    clock.advance_ms(1_000);
    let second = lock().expect("its time is over");
    assert!(second > first);
    assert!(!cache.renew("lock", first, TTL).expect("journal").value);
    assert!(!cache.release("lock", first).expect("journal").value);
    assert_eq!(lock(), None);
    assert!(cache.release("lock", second).expect("journal").value);
    assert!(!cache.exists("lock"));
}

#[test]
fn fencing_tokens_rise_over_restarts() {
    let mut stand = Stand::new();
    let mut last = 0;
    for _ in 0..3 {
        for _ in 0..3 {
            let token = stand.cache().lock("lock", TTL).expect("room").value.expect("it is free");
            assert!(token > last, "{token} after {last}");
            last = token;
            assert!(stand.cache().release("lock", token).expect("journal").value);
        }
        stand.restart();
    }
    // A lock that is held stays held.
    let held = stand.cache().lock("lock", TTL).expect("room").value.expect("it is free");
    stand.restart();
    assert_eq!(stand.cache().lock("lock", TTL).expect("room").value, None);
    assert!(stand.cache().release("lock", held).expect("journal").value);
}
