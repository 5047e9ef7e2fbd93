//! CLIENT PAUSE and DEBUG SLEEP, and clients that leave while they are held.

use std::time::{Duration, Instant};

use leveret::cache::{AppendFsync, Cache, Recovery, Reply};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::resp::{Listener, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_pause_of_writes_holds_them_and_what_others_hear_of() {
    let fixture = Fixture::new();
    fixture.cache.set("k", "v").unwrap();
    let mut asks = fixture.connect();
    asks.ask("CLIENT PAUSE 100000 WRITE", "+OK\r\n").await;
    asks.ask("GET k", "$1\r\nv\r\n").await;
    asks.ask("EVAL_RO 'return 1' 0", ":1\r\n").await;
    asks.ask("SET k", "-ERR wrong number of arguments for 'set' command\r\n").await;
    let mut held = Vec::new();
    for (requests, replies) in [
        ("SET k w\r\nPING", "+OK\r\n+PONG\r\n"),
        ("BLPOP nothing 0.001", "*-1\r\n"),
        ("PUBLISH c m", ":0\r\n"),
        ("EVAL 'return 2' 0", ":2\r\n"),
        ("MULTI\r\nGET l\r\nSET l w", "+OK\r\n+QUEUED\r\n+QUEUED\r\n"),
    ] {
        let mut client = fixture.connect();
        client.send(format!("{requests}\r\n")).await;
        held.push((client, replies));
    }
    while fixture.blocked_count().await < held.len() {}
    asks.ask("GET k", "$1\r\nv\r\n").await;
    asks.ask("CLIENT UNPAUSE", "+OK\r\n").await;
    for (mut client, replies) in held {
        client.expect(replies).await;
    }
    assert_eq!(fixture.blocked_count().await, 0);
}

#[tokio::test]
async fn a_pause_of_all_holds_everyone_until_its_time() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.connect(), fixture.connect());
    let begun = Instant::now();
    first.ask("CLIENT PAUSE 100", "+OK\r\n").await;
    second.ask("PING", "+PONG\r\n").await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // What takes its place may be weaker.
    first.ask("CLIENT PAUSE 100000 WRITE", "+OK\r\n").await;
    first.ask("CLIENT PAUSE 1 WRITE", "+OK\r\n").await;
    first.ask("SET k v", "+OK\r\n").await;
}

#[tokio::test]
async fn the_server_sleeps_for_all_of_its_clients() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.connect(), fixture.connect());
    let begun = Instant::now();
    first.send("SET begun yes\r\nDEBUG SLEEP 0.1\r\nECHO after\r\n").await;
    while fixture.cache.get("begun").unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    second.ask("PING", "+PONG\r\n").await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    first.expect("+OK\r\n+OK\r\n$5\r\nafter\r\n").await;
}

#[tokio::test]
async fn one_that_leaves_while_it_is_held_is_gone_and_its_request_with_it() {
    let fixture = Fixture::new();
    let mut asks = fixture.connect();
    asks.ask("CLIENT PAUSE 100000 WRITE", "+OK\r\n").await;
    let mut client = fixture.connect();
    client.send("SET k v\r\n").await;
    while fixture.blocked_count().await == 0 {}
    drop(client);
    while fixture.blocked_count().await > 0 {}
    asks.ask("CLIENT UNPAUSE", "+OK\r\n").await;
    asks.ask("GET k", "$-1\r\n").await;
}

#[tokio::test]
async fn only_those_on_this_machine_may_make_the_server_sleep() {
    let fixture = Fixture::new();
    let refused = "-ERR DEBUG command not allowed. If the enable-debug-command option is set to \
                   \"local\", you can run it from a local connection, otherwise you need to set \
                   this option in the configuration file, and then restart the server.\r\n";
    fixture.connect_from("192.0.2.7:40000").ask("DEBUG SLEEP 0", refused).await;
    fixture.connect_from("127.0.0.1:40000").ask("DEBUG SLEEP 0", "+OK\r\n").await;
    fixture.connect_from("[::1]:40000").ask("DEBUG SLEEP 0", "+OK\r\n").await;
}

#[tokio::test]
async fn a_server_that_sleeps_for_its_clients_serves_the_others_and_stops_at_once() {
    let clock = SystemClock::shared();
    let (journal, fsync) = (Journal::in_memory(), AppendFsync::EverySec);
    let cache = Cache::new(journal, clock.clone(), fsync, Recovery::default());
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::start(address, cache.clone(), clock, Options::default()).unwrap();
    let mut asleep = TcpStream::connect(listener.address()).await.unwrap();
    asleep.write_all(b"SET begun yes\r\nDEBUG SLEEP 9e12\r\n").await.unwrap();
    let mut held = TcpStream::connect(listener.address()).await.unwrap();
    while cache.get("begun").unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    held.write_all(b"GET begun\r\n").await.unwrap();
    cache.set("k", "v").unwrap();
    assert_eq!(cache.eval("return redis.call('GET', 'k')", [], []).await, Reply::Bulk("v".into()));
    tokio::time::timeout(Duration::from_secs(9), listener.stop()).await.expect("it sleeps on");
    let mut rest = Vec::new();
    asleep.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() || rest.starts_with(b"+OK"), "{rest:?}");
}
