//! `maxmemory`: which keys go, what is refused, and that a restart brings none of them back.

use std::sync::Arc;
use std::time::Duration;

use leveret::cache::{AppendFsync, Cache, EvictionPolicy, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;

use crate::case::{Answer, args};
use crate::stand::Stand;
use crate::{START_MS, embedded, redis};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Commands while there is more than may be, and their answers under each policy that can free nothing.
const WHEN_FULL: &[&str] = &[
    "SET b 1",
    "GET a",
    "APPEND a 1",
    "INCR n",
    "LPUSH l 1",
    "HSET h f 1",
    "SADD s 1",
    "ZADD z 1 a",
    "SETBIT a 1 1",
    "GETEX a",
    "EXPIRE missing 1",
    "LPOP missing",
    "GETDEL missing",
    "STRLEN a",
    "DEL a",
    "SET a 1",
];

fn limit(cache: &Cache, bytes: usize, policy: EvictionPolicy) {
    cache.change_settings(|settings| {
        settings.maxmemory_bytes = bytes;
        settings.maxmemory_policy = policy;
    });
}

fn cache() -> (Cache, Arc<ManualClock>) {
    let clock = ManualClock::at(START_MS);
    let (journal, recovery) = (Journal::in_memory(), Recovery::default());
    (Cache::new(journal, Arc::clone(&clock) as _, AppendFsync::EverySec, recovery), clock)
}

#[test]
fn what_grows_is_refused_when_nothing_may_go() {
    let mut server = redis::Server::start();
    for policy in ["noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"]
    {
        let (cache, _) = cache();
        for line in ["FLUSHALL", "SET a 1", "RPUSH k 1"] {
            embedded(&cache, line);
            server.ask(&args(line));
        }
        limit(&cache, 1, EvictionPolicy::of_name(policy).expect("a policy"));
        server.ask(&args(&format!("CONFIG SET maxmemory-policy {policy} maxmemory 1")));
        for line in WHEN_FULL {
            assert_eq!(embedded(&cache, line), server.ask(&args(line)), "{policy}: {line}");
        }
        assert_eq!(embedded(&cache, "SET a 1"), Answer::Error(OOM.to_owned()));
        assert!(cache.set("a", "1").is_err());
        server.ask(&args("CONFIG SET maxmemory 0"));
        limit(&cache, 0, EvictionPolicy::NoEviction);
        assert_eq!(embedded(&cache, "SET a 1"), Answer::Status("OK".to_owned()));
    }
}

/// So many keys of a hundred bytes; every other one has a deadline.
fn fill(cache: &Cache, count: usize) {
    for number in 0..count {
        let key = format!("key:{number}");
        let _ = match number % 2 {
            0 => cache.set(key, vec![b'x'; 100]).expect("room"),
            _ => cache.set_ex(key, vec![b'x'; 100], Duration::from_secs(1_000)).expect("room"),
        };
    }
}

#[test]
fn memory_stays_below_its_limit_under_every_policy() {
    for policy in [
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ] {
        let (cache, _) = cache();
        fill(&cache, 500);
        let bytes = cache.memory_bytes();
        limit(&cache, bytes, policy);
        for number in 0..200 {
            let _ = cache.set(format!("new:{number}"), vec![b'x'; 100]).expect("room is made");
            // One key more than the limit: room is made before the next command.
            assert!(cache.memory_bytes() < bytes + 1_000, "{policy:?}");
        }
        let (_, evicted) = cache.removals();
        assert!((150..=300).contains(&evicted), "{policy:?}: {evicted}");
        if matches!(policy, EvictionPolicy::VolatileTtl | EvictionPolicy::VolatileRandom) {
            assert!((0..500).step_by(2).all(|number| cache.exists(format!("key:{number}"))));
        }
    }
}

#[test]
fn the_keys_that_are_used_stay() {
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysLfu] {
        let (cache, clock) = cache();
        limit(&cache, 0, policy);
        fill(&cache, 400);
        for _ in 0..40 {
            clock.advance_ms(1_000);
            for number in 0..100 {
                let _ = cache.get(format!("key:{number}")).expect("a string");
            }
        }
        limit(&cache, cache.memory_bytes() / 2, policy);
        for _ in 0..10 {
            embedded(&cache, "DEL missing");
        }
        let left = |numbers: std::ops::Range<usize>| {
            numbers.filter(|number| cache.exists(format!("key:{number}"))).count()
        };
        let (used, unused) = (left(0..100), left(100..400));
        assert!((180..=220).contains(&(used + unused)), "{policy:?}: {used} and {unused}");
        assert!(used >= 90, "{policy:?}: {used} of the used ones are left, {unused} of the others");
    }
}

/// A few keys live far longer than all others: they are not the ones to go.
#[test]
fn a_late_deadline_does_not_make_a_key_likelier_to_go() {
    for policy in
        [EvictionPolicy::VolatileLru, EvictionPolicy::VolatileLfu, EvictionPolicy::VolatileRandom]
    {
        let (cache, _) = cache();
        for number in 0..400 {
            let seconds = if number < 20 { 31_536_000 } else { 3_600 };
            let (key, ttl) = (format!("key:{number}"), Duration::from_secs(seconds));
            let _ = cache.set_ex(key, "x".repeat(100), ttl).expect("room");
        }
        limit(&cache, cache.memory_bytes() * 3 / 4, policy);
        for _ in 0..10 {
            embedded(&cache, "DEL missing");
        }
        let late = (0..20).filter(|number| cache.exists(format!("key:{number}"))).count();
        assert!(late >= 5, "{policy:?}: of 20 late ones {late} are left, of 400 about 300");
    }
}

#[test]
fn the_nearest_deadline_goes_first() {
    let (cache, _) = cache();
    for (key, seconds) in [("late", 300), ("soon", 100), ("later", 200)] {
        let _ = cache.set_ex(key, "x", Duration::from_secs(seconds)).expect("room");
    }
    limit(&cache, cache.memory_bytes() - 1, EvictionPolicy::VolatileTtl);
    embedded(&cache, "PING");
    assert!(!cache.exists("soon") && cache.exists("late") && cache.exists("later"));
}

#[test]
fn evicted_keys_are_gone_after_a_restart() {
    let mut stand = Stand::new();
    fill(stand.cache(), 200);
    limit(stand.cache(), stand.cache().memory_bytes() / 2, EvictionPolicy::AllKeysLru);
    for _ in 0..5 {
        embedded(stand.cache(), "DEL missing");
    }
    let left = stand.cache().key_count();
    assert!((80..=120).contains(&left), "{left}");
    stand.restart();
    assert_eq!(stand.cache().key_count(), left);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_makes_room_without_any_command() {
    let (cache, _) = cache();
    fill(&cache, 1_000);
    let driver = tokio::spawn(cache.run_expiry());
    let half = cache.memory_bytes() / 2;
    limit(&cache, half, EvictionPolicy::AllKeysRandom);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(cache.memory_bytes() <= half);
    driver.abort();
}
