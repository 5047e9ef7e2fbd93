//! A cache on a Redis that fails: callers are told, nothing is done twice, and it comes back by itself.
#![cfg(feature = "redis")]

mod proxy;
mod served;
mod server;

use std::time::Duration;

use bytes::Bytes;
use leveret::backend::{BackendError, Cache, ConnectError, Push, RedisCache};
use tokio::time::{Instant, sleep, timeout};

use proxy::{Mode, Proxy};
use server::RedisServer;

/// For what has a bound of 2 s of its own, on a machine that is busy.
const SOON: Duration = Duration::from_secs(15);

async fn cache_at(url: &str) -> Cache {
    Cache::Redis(RedisCache::connect(url, SOON).await.expect("a connection"))
}

/// A server, a way to it that can fail, and a cache over that.
async fn stand() -> (RedisServer, Proxy, Cache) {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let cache = cache_at(&proxy.url()).await;
    (server, proxy, cache)
}

/// Asks until it is ready.
async fn recovers(cache: &Cache) {
    timeout(SOON, async {
        while cache.ready().await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is ready again");
}

/// As [`recovers`], and says how long it took.
async fn served_again(after: &str, cache: &Cache, since: Instant) {
    recovers(cache).await;
    println!("{after}: ready after {:.2} s", since.elapsed().as_secs_f64());
}

fn is_unreachable(error: &BackendError) -> bool {
    matches!(error, BackendError::CacheUnreachable(_))
}

#[tokio::test]
async fn a_server_that_is_stopped_is_told_and_found_again_with_what_it_had() {
    let mut server = RedisServer::start();
    let cache = cache_at(&server.url()).await;
    cache.set("kept", "v", None).await.expect("room");
    server.kill();
    let asked = Instant::now();
    let mut error = cache.get("kept").await.expect_err("it is gone");
    while !is_unreachable(&error) {
        assert!(error.is_retryable(), "{error}");
        error = cache.get("kept").await.expect_err("it is gone");
    }
    assert!(asked.elapsed() < SOON);
    let reason = cache.ready().await.expect_err("it is gone").to_string();
    assert!(reason.contains("the cache can't be reached"), "{reason}");
    server.start_again();
    recovers(&cache).await;
    assert_eq!(cache.get("kept").await.expect("an answer").as_deref(), Some(&b"v"[..]));
}

/// Every write that was answered, while the server dies and comes back under load, is there afterwards.
#[tokio::test]
async fn no_answered_write_is_lost_by_a_server_that_is_killed_and_started_again() {
    let mut server = RedisServer::start();
    let cache = cache_at(&server.url()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (cache, stopped) = (cache.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut answered, mut failed, mut number) = (Vec::new(), 0, 0);
                while !*stopped.borrow() {
                    let key = format!("{writer}:{number}");
                    number += 1;
                    match cache.set(&key, "v", None).await {
                        Ok(()) => answered.push(key),
                        Err(error) => {
                            assert!(error.is_retryable(), "{error}");
                            failed += 1;
                        }
                    }
                }
                (answered, failed)
            })
        })
        .collect();
    for _ in 0..3 {
        sleep(Duration::from_millis(100)).await;
        server.kill();
        assert!(cache.ready().await.is_err());
        server.start_again();
        served_again("server killed and started", &cache, Instant::now()).await;
    }
    stop.send_replace(true);
    let (mut answered, mut failed) = (Vec::new(), 0);
    for writer in writers {
        let (of_writer, its_failed) = writer.await.expect("no panic");
        answered.extend(of_writer);
        failed += its_failed;
    }
    println!("server killed and started: {} writes answered, {failed} not", answered.len());
    assert!(!answered.is_empty() && failed > 0);
    for key in &answered {
        assert!(cache.get(key).await.expect("an answer").is_some(), "{key} is gone");
    }
}

#[tokio::test]
async fn a_way_that_is_slow_is_served_all_the_same() {
    let (_server, proxy, cache) = stand().await;
    const LATE_MS: u64 = 50;
    proxy.set(Mode::LateBy(LATE_MS));
    let asked = Instant::now();
    let sets: Vec<_> = (0..50)
        .map(|number| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.set(&format!("k{number}"), "v", None).await })
        })
        .collect();
    for set in sets {
        set.await.expect("no panic").expect("it is late, and it is done");
    }
    assert!(asked.elapsed() >= Duration::from_millis(2 * LATE_MS));
    cache.ready().await.expect("it is late, and it answers");
    proxy.set(Mode::Pass);
    for number in 0..50 {
        assert!(cache.get(&format!("k{number}")).await.expect("an answer").is_some());
    }
    assert_eq!(proxy.connections(), 1, "no connection was given up");
}

/// What is handed over without waiting is refused beyond a bound, and every change that was taken gets its
/// answer.
#[tokio::test]
async fn a_full_outbox_refuses_and_is_empty_again_in_bounded_time() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let cache = RedisCache::connect(&proxy.url(), SOON).await.expect("a connection");
    proxy.set(Mode::Silent);
    let change = || {
        let value = Bytes::from(vec![b'x'; 1 << 20]);
        cache.send_pushes([Push { key: "list".into(), value, keep: 100 }])
    };
    let mut taken = Vec::new();
    // Nobody else runs between two of them: what was taken waits.
    let refused = loop {
        match change() {
            Ok(sent) => taken.push(sent),
            Err(error) => break error,
        }
        assert!(taken.len() < 1_000, "there is no bound");
    };
    assert!(refused.is_retryable() && refused.to_string().contains("too much waits"), "{refused}");
    assert!(taken.len() > 50, "{} MiB", taken.len());
    for sent in taken {
        let answered = timeout(SOON, sent.durable()).await.expect("a bounded time");
        assert!(answered.expect_err("nobody answers").is_retryable());
    }
    proxy.set(Mode::Pass);
    recovers(&Cache::Redis(cache.clone())).await;
    change().expect("there is room again").durable().await.expect("an answer");
}

/// What was answered is there, and what was not may be, but never twice.
#[tokio::test]
async fn no_answered_push_is_lost_and_none_is_done_twice_while_connections_are_cut() {
    let (_server, proxy, cache) = stand().await;
    // The server knows the script from here on.
    cache.push_capped("list", "first".into(), 10_000).await.expect("room").durable().await.unwrap();
    let (mut answered, mut unknown) = (vec!["first".to_owned()], 0);
    for round in 0..10 {
        // In the middle of an answer: an offset takes some 24 bytes.
        proxy.set(Mode::CutAfter(300 + 7 * round));
        let pushes: Vec<_> = (0..40)
            .map(|number| {
                let (cache, value) = (cache.clone(), format!("{round}:{number}"));
                tokio::spawn(async move {
                    let pushed =
                        cache.push_capped("list", value.clone().into(), 10_000).await.map(drop);
                    (value, pushed)
                })
            })
            .collect();
        for push in pushes {
            match push.await.expect("no panic") {
                (value, Ok(())) => answered.push(value),
                (_, Err(BackendError::CacheLost(_))) => unknown += 1,
                (_, Err(error)) => assert!(is_unreachable(&error), "{error}"),
            }
        }
        proxy.set(Mode::Pass);
        served_again("connections cut in an answer", &cache, Instant::now()).await;
    }
    assert!(unknown > 0, "no connection was cut: {} answered", answered.len());
    assert!(answered.len() > 1);
    let list = cache.list_range("list", 0, -1).await.expect("an answer");
    for value in &answered {
        let times = list.iter().filter(|kept| **kept == value.as_bytes()).count();
        assert_eq!(times, 1, "{value}");
    }
    let mut all: Vec<&Bytes> = list.iter().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), list.len(), "a push was done twice");
    assert!(list.len() <= answered.len() + unknown);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_connected_to_anew() {
    let (_server, proxy, cache) = stand().await;
    cache.set("k", "v", None).await.expect("room");
    let connections = proxy.connections();
    proxy.set(Mode::Silent);
    let answer = timeout(SOON, cache.get("k")).await.expect("it is given up");
    let error = answer.expect_err("nobody answers");
    assert!(matches!(error, BackendError::CacheLost(_)), "{error}");
    // From now on callers are told that there is none, and no sooner than a new one could be there.
    let answer = timeout(SOON, cache.get("k")).await.expect("it is told");
    assert!(is_unreachable(&answer.expect_err("nobody answers")));
    assert!(timeout(SOON, cache.ready()).await.expect("it is told").is_err());
    proxy.set(Mode::Pass);
    served_again("silent server speaks", &cache, Instant::now()).await;
    assert_eq!(cache.get("k").await.expect("an answer").as_deref(), Some(&b"v"[..]));
    assert!(proxy.connections() > connections);
}

#[tokio::test]
async fn a_subscription_outlives_its_connection() {
    let (server, proxy, cache) = stand().await;
    let beside = cache_at(&server.url()).await;
    let mut subscription = cache.subscribe("news").await.expect("an answer");
    for round in 0..3 {
        proxy.set(Mode::Closed);
        timeout(SOON, async {
            while beside.publish("news", "to nobody").await.expect("an answer") > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the connection is gone");
        proxy.set(Mode::Pass);
        // Who gets an answer over the new connection is listened for again.
        recovers(&cache).await;
        let text = format!("news of round {round}");
        assert_eq!(beside.publish("news", text.clone()).await.expect("an answer"), 1);
        loop {
            let next = timeout(SOON, subscription.next()).await.expect("in time");
            let next = next.expect("a cache");
            if next == text {
                break;
            }
            assert_eq!(next, "to nobody");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once_and_right_ones_are_taken() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let port = server.port();
    let connect = |credentials: &str| {
        let url = format!("redis://{credentials}127.0.0.1:{port}/2");
        async move { RedisCache::connect(&url, Duration::from_secs(600)).await }
    };
    for credentials in ["", ":wrong@", "nobody:s3cret@"] {
        let refused = timeout(SOON, connect(credentials)).await.expect("it is not tried again");
        let error = refused.err().expect("it is refused");
        assert!(matches!(error, ConnectError::Refused(_)), "{credentials}: {error:?}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let cache = Cache::Redis(connect(":s3cret@").await.expect("a connection"));
    cache.set("k", "v", None).await.expect("room");
    assert_eq!(cache.get("k").await.expect("an answer").as_deref(), Some(&b"v"[..]));
    let other = Cache::Redis(connect("default:s3cret@").await.expect("a connection"));
    assert_eq!(other.get("k").await.expect("an answer").as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_not_ready() {
    let server = RedisServer::start_with(&["--maxmemory", "1"]);
    let cache = cache_at(&server.url()).await;
    let error = cache.ready().await.expect_err("there is no room");
    assert!(error.to_string().starts_with("OOM "), "{error}");
    assert!(cache.set("k", "v", None).await.is_err());
    assert_eq!(cache.get("k").await.expect("reads go on"), None);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_then_named() {
    let mut server = RedisServer::start();
    server.kill();
    let url = server.url();
    let refused = RedisCache::connect(&url, Duration::from_millis(200)).await;
    let error = refused.err().expect("nobody is there");
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    let waiting = tokio::spawn(async move { RedisCache::connect(&url, SOON).await.map(drop) });
    server.start_again();
    waiting.await.expect("no panic").expect("it came");
}

#[tokio::test]
async fn a_fetch_is_made_once_over_two_nodes() {
    let server = RedisServer::start();
    let (one, other) = (cache_at(&server.url()).await, cache_at(&server.url()).await);
    let (fetching, started) = tokio::sync::oneshot::channel();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let first = tokio::spawn(async move {
        let fetch = || async {
            fetching.send(()).expect("it is awaited");
            finished.await.expect("it ends");
            Ok::<_, BackendError>(Bytes::from_static(b"of one"))
        };
        one.get_or_set("k", None, fetch).await
    });
    started.await.expect("it fetches");
    let second = tokio::spawn(async move {
        let fetch = || async { Ok::<_, BackendError>(Bytes::from_static(b"of the other")) };
        other.get_or_set("k", None, fetch).await
    });
    // It looks more than once.
    sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    finish.send(()).expect("it waits");
    assert_eq!(first.await.expect("no panic").expect("a value"), "of one");
    assert_eq!(second.await.expect("no panic").expect("a value"), "of one");
}
