//! What the application may rely on in the cache port, whichever back end answers: one suite, played on the
//! embedded engine and on a real Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use leveret::backend::{BackendError, Cache, Embedded, Push, RateLimit};
use leveret::cache::CacheError;
use leveret::model::clock::SystemClock;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_secs(100);
const SOON: Duration = Duration::from_secs(10);

/// What the back ends differ in, and why.
struct Difference {
    what: &'static str,
    embedded: &'static str,
    redis: &'static str,
    because: &'static str,
}

/// The README shows these rows.
const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "acknowledgement with changes of the cache",
        embedded: "one commit",
        redis: "refused",
        because: "no transaction spans a broker and a Redis server",
    },
    Difference {
        what: "`flush`",
        embedded: "on disk",
        redis: "answered; on disk under its `appendfsync always`",
        because: "Redis 7.0 has no command that waits for the disk",
    },
    Difference {
        what: "a call that is not answered",
        embedded: "does not happen",
        redis: "an error after 2 s: whether it was done is unknown",
        because: "the answer may be what was lost, so nothing is sent twice",
    },
    Difference {
        what: "pub/sub while the connection is away",
        embedded: "does not happen",
        redis: "messages are lost, the subscription is not",
        because: "Redis keeps no message for who is not there",
    },
    Difference {
        what: "Redis clients on a port of ours (`--resp`)",
        embedded: "served",
        redis: "refused at the start",
        because: "they connect to the server itself",
    },
];

/// Plays a scenario on every back end.
fn on_each<Done: Future<Output = ()>>(scenario: impl Fn(Cache) -> Done) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let embedded = Embedded::in_memory(SystemClock::shared());
        scenario(embedded.cache()).await;
        #[cfg(feature = "redis")]
        {
            use crate::redis_server::RedisServer;
            use leveret::backend::RedisCache;
            let server = RedisServer::start();
            let cache = RedisCache::connect(&server.url(), SOON).await.expect("a connection");
            scenario(Cache::Redis(cache)).await;
        }
    });
}

#[test]
fn values_are_kept_replaced_and_removed() {
    on_each(|cache| async move {
        assert_eq!(cache.get("k").await.expect("an answer"), None);
        cache.set("k", "one", None).await.expect("room");
        cache.set("k", &b"\x00\xff\r\n"[..], None).await.expect("room");
        assert_eq!(cache.get("k").await.expect("an answer").as_deref(), Some(&b"\x00\xff\r\n"[..]));
        assert!(cache.delete("k").await.expect("an answer"));
        assert!(!cache.delete("k").await.expect("an answer"));
        cache.set("empty", "", None).await.expect("room");
        assert_eq!(cache.get("empty").await.expect("an answer").as_deref(), Some(&b""[..]));
        cache.flush().await.expect("a disk");
        cache.ready().await.expect("it takes writes");
    });
}

#[test]
fn a_key_lives_as_long_as_was_said() {
    on_each(|cache| async move {
        cache.set("short", "v", Some(Duration::from_millis(30))).await.expect("room");
        cache.set("none", "v", Some(Duration::ZERO)).await.expect("room");
        cache.set("cut", "v", Some(TTL)).await.expect("room");
        assert!(cache.expire("cut", Duration::from_millis(30)).await.expect("an answer"));
        cache.set("longer", "v", Some(TTL)).await.expect("room");
        assert!(cache.expire("longer", 2 * TTL).await.expect("an answer"));
        assert!(!cache.expire("absent", TTL).await.expect("an answer"));
        for ends in ["short", "cut"] {
            while cache.get(ends).await.expect("an answer").is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        assert_eq!(cache.get("none").await.expect("an answer"), None);
        assert!(cache.get("longer").await.expect("an answer").is_some());
        // SET takes the time to live away.
        cache.set("kept", "v", Some(Duration::from_millis(30))).await.expect("room");
        cache.set("kept", "v", None).await.expect("room");
        sleep(Duration::from_millis(40)).await;
        assert!(cache.get("kept").await.expect("an answer").is_some());
        let beyond = cache.set("k", "v", Some(Duration::MAX)).await.expect_err("no clock has it");
        assert!(beyond.to_string().contains("invalid expire time"), "{beyond}");
    });
}

#[test]
fn a_key_of_another_type_is_told() {
    on_each(|cache| async move {
        let _ = cache.push_capped("list", Bytes::from_static(b"v"), 1).await.expect("room");
        cache.set("text", "no number", None).await.expect("room");
        let wrong = |error: BackendError| {
            assert!(matches!(error, BackendError::Cache(CacheError::WrongType)), "{error:?}");
            assert!(!error.is_retryable());
        };
        wrong(cache.get("list").await.expect_err("a list"));
        wrong(cache.list_range("text", 0, -1).await.expect_err("a string"));
        wrong(cache.push_capped("text", Bytes::new(), 1).await.map(drop).expect_err("a string"));
        wrong(cache.rate_limit("list", 1, TTL).await.expect_err("a list"));
        let number = cache.rate_limit("text", 1, TTL).await.expect_err("no number");
        assert!(matches!(number, BackendError::Cache(CacheError::NotAnInteger)), "{number:?}");
        let fetch = || async { Ok::<_, BackendError>(Bytes::new()) };
        wrong(cache.get_or_set("list", None, fetch).await.expect_err("a list"));
        assert_eq!(cache.lock("list", TTL).await.expect("an answer"), None);
        assert!(!cache.renew("list", 1, TTL).await.expect("an answer"));
        assert!(!cache.release("list", 1).await.expect("an answer"));
    });
}

#[test]
fn a_capped_list_keeps_the_newest_and_its_offsets_rise() {
    on_each(|cache| async move {
        let mut last = (0, 0);
        for number in 0..20 {
            let key = format!("list:{}", number % 2);
            let pushed =
                cache.push_capped(&key, format!("{number}").into(), 3).await.expect("room");
            let offset = pushed.offset.split_once('-').expect("epoch and position");
            let offset: (u64, u64) =
                (offset.0.parse().expect("a number"), offset.1.parse().expect("a number"));
            assert!(offset > last, "{offset:?} after {last:?}");
            last = offset;
            pushed.durable().await.expect("a disk");
        }
        let list = cache.list_range("list:1", 0, -1).await.expect("an answer");
        assert_eq!(list, ["19", "17", "15"]);
        assert_eq!(cache.list_range("list:1", 1, 1).await.expect("an answer"), ["17"]);
        assert!(cache.list_range("absent", 0, -1).await.expect("an answer").is_empty());
        let _ = cache.push_capped("list:1", Bytes::from_static(b"21"), 0).await.expect("room");
        assert_eq!(cache.list_range("list:1", 0, -1).await.expect("an answer"), ["21"]);
    });
}

#[test]
fn what_is_sent_without_waiting_is_done_in_that_order() {
    on_each(|cache| async move {
        let push = |key: &'static str, value: &str| Push {
            key: Bytes::from_static(key.as_bytes()),
            value: value.to_owned().into(),
            keep: 2,
        };
        let mut sent = Vec::new();
        for number in 0..1_000 {
            let number = number.to_string();
            sent.push(cache.send_pushes([push("a", &number), push("b", &number)]).expect("room"));
        }
        let fields = [("f".to_owned(), b"\x00v".to_vec()), ("g".to_owned(), b"w".to_vec())];
        let field = cache.send_fields("hash", fields).expect("room");
        let other = cache.send_field_removal("hash", &["g".to_owned()]).expect("room");
        for sent in sent {
            sent.durable().await.expect("a disk");
        }
        field.durable().await.expect("a disk");
        other.durable().await.expect("a disk");
        cache.flush().await.expect("a disk");
        for key in ["a", "b"] {
            assert_eq!(cache.load_list(key).expect("an answer"), ["999", "998"]);
        }
        for (key, keep) in [("a", 1), ("b", 0), ("absent", 1)] {
            cache.send_trim(key, keep).expect("room").durable().await.expect("a disk");
        }
        assert_eq!(cache.load_list("a").expect("an answer"), ["999"]);
        assert!(cache.load_list("b").expect("an answer").is_empty());
        let fields = cache.load_hash("hash").expect("an answer");
        assert_eq!(fields, [(Bytes::from_static(b"f"), Bytes::from_static(b"\x00v"))]);
        cache
            .send_removal(&["a", "hash", "absent"])
            .expect("room")
            .durable()
            .await
            .expect("a disk");
        assert!(cache.load_list("a").expect("an answer").is_empty());
        assert!(cache.load_hash("hash").expect("an answer").is_empty());
        // One that is refused is told, and takes nothing else with it.
        cache.set("text", "v", None).await.expect("room");
        let refused = match cache.send_pushes([push("text", "x")]) {
            Ok(sent) => sent.durable().await.expect_err("a string"),
            Err(error) => error,
        };
        assert!(matches!(refused, BackendError::Cache(CacheError::WrongType)), "{refused:?}");
        cache.send_pushes([push("b", "last")]).expect("room").durable().await.expect("a disk");
        assert_eq!(cache.load_list("b").expect("an answer"), ["last"]);
    });
}

#[test]
fn calls_are_counted_in_a_window_that_opens_at_the_first() {
    on_each(|cache| async move {
        let call = || cache.rate_limit("calls", 2, TTL);
        let first = call().await.expect("an answer");
        assert!(first.allowed && first.remaining == 1 && first.reset_ms <= 100_000, "{first:?}");
        let second = call().await.expect("an answer");
        assert!(second.allowed && second.remaining == 0, "{second:?}");
        let third = call().await.expect("an answer");
        assert!(!third.allowed && third.remaining == 0 && third.reset_ms <= 100_000, "{third:?}");
        let window = Duration::from_millis(50);
        let again = || cache.rate_limit("again", 2, window);
        assert!(again().await.expect("an answer").allowed);
        loop {
            match again().await.expect("an answer") {
                RateLimit { allowed: true, remaining: 0, .. } => {}
                RateLimit { allowed: true, remaining, .. } => break assert_eq!(remaining, 1),
                refused => sleep(Duration::from_millis(refused.reset_ms + 1)).await,
            }
        }
        let none = cache.rate_limit("none", 0, window).await.expect("an answer");
        assert!(!none.allowed, "{none:?}");
        assert_eq!(cache.get("none").await.expect("an answer"), None);
        // A counter without an end gets one, and one below zero is none.
        cache.set("full", "9", None).await.expect("room");
        assert!(!cache.rate_limit("full", 9, TTL).await.expect("an answer").allowed);
        assert!(cache.rate_limit("full", 99, TTL).await.expect("an answer").reset_ms > 90_000);
        cache.set("below", "-5", None).await.expect("room");
        let below = cache.rate_limit("below", 3, TTL).await.expect("an answer");
        assert_eq!((below.allowed, below.remaining), (true, 2));
    });
}

#[test]
fn a_lock_is_held_by_one_and_its_tokens_rise() {
    on_each(|cache| async move {
        let mut last = 0;
        for _ in 0..100 {
            let token = cache.lock("lock", TTL).await.expect("an answer").expect("it is free");
            assert!(token > last, "{token} after {last}");
            last = token;
            assert_eq!(cache.lock("lock", TTL).await.expect("an answer"), None);
            assert!(!cache.renew("lock", token + 1, TTL).await.expect("an answer"));
            assert!(!cache.release("lock", token - 1).await.expect("an answer"));
            assert!(cache.renew("lock", token, TTL).await.expect("an answer"));
            assert!(cache.release("lock", token).await.expect("an answer"));
        }
        let ttl = Duration::from_millis(20);
        let gone = cache.lock("lock", ttl).await.expect("an answer").expect("it is free");
        let next = loop {
            match cache.lock("lock", TTL).await.expect("an answer") {
                Some(token) => break token,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(next > gone);
        assert!(!cache.renew("lock", gone, TTL).await.expect("an answer"));
        assert!(!cache.release("lock", gone).await.expect("an answer"));
    });
}

#[test]
fn subscribers_get_the_messages_of_their_channel_in_order() {
    on_each(|cache| async move {
        assert_eq!(cache.publish("news", "nobody").await.expect("an answer"), 0);
        let mut first = cache.subscribe("news").await.expect("an answer");
        let mut second = cache.subscribe("news").await.expect("an answer");
        let _other = cache.subscribe("other").await.expect("an answer");
        for number in 0..100 {
            let reached = cache.publish("news", number.to_string()).await.expect("an answer");
            assert!(reached >= 1);
        }
        for subscription in [&mut first, &mut second] {
            for number in 0..100 {
                let next = timeout(SOON, subscription.next()).await.expect("in time");
                assert_eq!(next.expect("a cache"), number.to_string());
            }
        }
        // One leaves; the other is there still, and so is who comes back.
        drop(first);
        let mut third = cache.subscribe("news").await.expect("an answer");
        drop(second);
        cache.publish("news", &b"\x00\xff"[..]).await.expect("an answer");
        let next = timeout(SOON, third.next()).await.expect("in time");
        assert_eq!(next.expect("a cache"), &b"\x00\xff"[..]);
        drop(third);
        timeout(SOON, async {
            while cache.publish("news", "gone").await.expect("an answer") > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("nobody listens");
    });
}

#[test]
fn a_channel_and_a_pattern_are_heard_in_the_order_in_which_they_were_published() {
    on_each(|cache| async move {
        let mut both = cache.subscribe_both("asked", "told:*").await.expect("an answer");
        let mut told = cache.subscribe("told:1").await.expect("an answer");
        for number in 0..50 {
            for channel in ["asked", "told:1", "untold", "told:*"] {
                let text = format!("{channel} {number}");
                cache.publish(channel, text).await.expect("an answer");
            }
        }
        for number in 0..50 {
            for channel in ["asked", "told:1", "told:*"] {
                let next = timeout(SOON, both.next()).await.expect("in time");
                assert_eq!(next.expect("a cache"), format!("{channel} {number}"));
            }
            let next = timeout(SOON, told.next()).await.expect("in time");
            assert_eq!(next.expect("a cache"), format!("told:1 {number}"));
        }
        drop((both, told));
        timeout(SOON, async {
            while cache.publish("told:1", "gone").await.expect("an answer") > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("nobody listens");
    });
}

#[test]
fn of_several_that_read_the_same_value_one_changes_it() {
    on_each(|cache| async move {
        let set = |expected, value: &'static str| {
            let cache = cache.clone();
            async move { cache.compare_and_set("k", expected, value, TTL).await.expect("room") }
        };
        assert!(!set(Some(&b""[..]), "not there").await);
        let first = tokio::join!(set(None, "a"), set(None, "a"), set(None, "a"));
        assert_eq!([first.0, first.1, first.2].into_iter().filter(|won| *won).count(), 1);
        assert!(!set(None, "x").await && !set(Some(&b"b"[..]), "x").await);
        assert!(set(Some(&b"a"[..]), "\0b").await && set(Some(&b"\0b"[..]), "").await);
        assert!(set(Some(&b""[..]), "c").await);
        assert_eq!(cache.get("k").await.expect("an answer").as_deref(), Some(&b"c"[..]));
        let pushed = cache.push_capped("list", Bytes::from_static(b"a"), 1).await.expect("room");
        pushed.durable().await.expect("a disk");
        let of_a_list = cache.compare_and_set("list", Some(&b"a"[..]), "x", TTL).await;
        assert!(!of_a_list.expect("an answer"));
        let short = Duration::from_millis(20);
        assert!(cache.compare_and_set("short", None, "v", short).await.expect("room"));
        timeout(SOON, async {
            while cache.get("short").await.expect("an answer").is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("its time ends");
    });
}

#[test]
fn a_pattern_removes_what_it_matches_and_nothing_else() {
    on_each(|cache| async move {
        for number in 0..2_500 {
            let key = format!("user:{number}");
            let push = Push { key: key.into(), value: Bytes::from_static(b"x"), keep: 1 };
            drop(cache.send_pushes([push]).expect("room"));
        }
        cache.set("order:1", "x", None).await.expect("room");
        cache.set("order:3", "x", None).await.expect("room");
        cache.flush().await.expect("a disk");
        assert_eq!(cache.invalidate_pattern("user:*").await.expect("an answer"), 2_500);
        assert_eq!(cache.invalidate_pattern("order:[12]").await.expect("an answer"), 1);
        assert_eq!(cache.invalidate_pattern("nothing").await.expect("an answer"), 0);
        assert!(cache.get("order:3").await.expect("an answer").is_some());
    });
}

#[test]
fn a_hundred_misses_fetch_once() {
    on_each(|cache| async move {
        let (fetches, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let (cache, fetches, gate) =
                    (cache.clone(), Arc::clone(&fetches), Arc::clone(&gate));
                tokio::spawn(async move {
                    let fetch = || async {
                        fetches.fetch_add(1, Ordering::SeqCst);
                        let _open = gate.acquire().await.expect("the gate opens");
                        Ok::<_, BackendError>(Bytes::from_static(b"fetched"))
                    };
                    cache.get_or_set("k", Some(TTL), fetch).await
                })
            })
            .collect();
        while fetches.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        for caller in callers {
            assert_eq!(caller.await.expect("no panic").expect("a value"), "fetched");
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        // Who fails leaves the fetch to the next, at once.
        let failing = || async { Err::<Bytes, _>(BackendError::from(CacheError::NotAnInteger)) };
        let failed = cache.get_or_set("other", None, failing).await;
        assert!(matches!(failed, Err(BackendError::Cache(CacheError::NotAnInteger))));
        let fetch = || async { Ok::<_, BackendError>(Bytes::from_static(b"v")) };
        let next = timeout(Duration::from_secs(5), cache.get_or_set("other", None, fetch));
        assert_eq!(next.await.expect("in time").expect("a value"), "v");
    });
}

#[test]
fn the_readme_tells_the_differences() {
    let readme = include_str!("../../README.md");
    for Difference { what, embedded, redis, because } in DIFFERENCES {
        let row = format!("| {what} | {embedded} | {redis} | {because} |");
        assert!(readme.contains(&row), "the README lacks the row\n{row}");
    }
}
