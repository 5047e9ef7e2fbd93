//! Commands that wait for a key.

use crate::fixture::{Client, Fixture};

/// Sends a command that waits, and returns when it does.
pub async fn wait(fixture: &Fixture, client: &mut Client, request: &str) {
    let blocked = fixture.blocked_count().await;
    client.send(format!("{request}\r\n")).await;
    while fixture.blocked_count().await == blocked {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_there_is_taken_at_once() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ask("RPUSH l a b c\r\nZADD z 1 m 2 n 3 o", ":3\r\n:3\r\n").await;
    client.ask("BLPOP none l 0", "*2\r\n$1\r\nl\r\n$1\r\na\r\n").await;
    client.ask("BRPOP l 0", "*2\r\n$1\r\nl\r\n$1\r\nc\r\n").await;
    client.ask("BZPOPMIN z 0", "*3\r\n$1\r\nz\r\n$1\r\nm\r\n$1\r\n1\r\n").await;
    client.ask("BZPOPMAX z 0", "*3\r\n$1\r\nz\r\n$1\r\no\r\n$1\r\n3\r\n").await;
    client
        .ask("BZMPOP 0 2 none z MIN COUNT 5", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nn\r\n$1\r\n2\r\n")
        .await;
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    client.ask("BZPOPMIN l 0", wrong).await;
    client.ask("BLPOP l x", "-ERR timeout is not a float or out of range\r\n").await;
    client.ask("BLPOP l -1", "-ERR timeout is negative\r\n").await;
    client.ask("BLPOP none 0.001", "*-1\r\n").await;
}

#[tokio::test]
async fn the_one_that_came_first_is_served_first() {
    let fixture = Fixture::new();
    let (mut first, mut second, mut third) =
        (fixture.connect(), fixture.connect(), fixture.connect());
    wait(&fixture, &mut first, "BLPOP x l 0").await;
    wait(&fixture, &mut second, "BLPOP l 0").await;
    wait(&fixture, &mut third, "BZPOPMIN l 0").await;
    fixture.cache.rpush("l", "a").unwrap();
    first.expect("*2\r\n$1\r\nl\r\n$1\r\na\r\n").await;
    let mut pusher = fixture.connect();
    pusher.ask("RPUSH l b c\r\nLRANGE l 0 -1", ":2\r\n*1\r\n$1\r\nc\r\n").await;
    second.expect("*2\r\n$1\r\nl\r\n$1\r\nb\r\n").await;
    // It waits for another type.
    pusher.ask("DEL l\r\nZADD l 5 m\r\nEXISTS l", ":1\r\n:1\r\n:0\r\n").await;
    third.expect("*3\r\n$1\r\nl\r\n$1\r\nm\r\n$1\r\n5\r\n").await;
    assert_eq!(fixture.blocked_count().await, 0);
}

/// Whoever waits has named the database by its number, before a swap and after it.
#[tokio::test]
async fn a_swapped_database_serves_those_that_wait_in_it() {
    let fixture = Fixture::new();
    let (mut waiter, mut client) = (fixture.connect(), fixture.connect());
    client.ask("SELECT 1\r\nRPUSH l there", "+OK\r\n:1\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    client.ask("SWAPDB 0 1", "+OK\r\n").await;
    waiter.expect("*2\r\n$1\r\nl\r\n$5\r\nthere\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    client.ask("RPUSH l other\r\nSELECT 0\r\nRPUSH l own", ":1\r\n+OK\r\n:1\r\n").await;
    waiter.expect("*2\r\n$1\r\nl\r\n$3\r\nown\r\n").await;
}

#[tokio::test]
async fn a_transaction_is_not_interrupted_and_does_not_wait() {
    let fixture = Fixture::new();
    let (mut waiter, mut client) = (fixture.connect(), fixture.connect());
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    client
        .ask(
            "MULTI\r\nRPUSH l a\r\nLPOP l\r\nBLPOP none 0\r\nRPUSH l b\r\nEXEC",
            "+OK\r\n\
        +QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n:1\r\n$1\r\na\r\n*-1\r\n:1\r\n",
        )
        .await;
    waiter.expect("*2\r\n$1\r\nl\r\n$1\r\nb\r\n").await;
    client.ask("EXISTS l", ":0\r\n").await;
}

#[tokio::test]
async fn a_wait_ends_with_its_time_another_ones_word_or_its_client() {
    let fixture = Fixture::new();
    let (mut waiter, mut other) = (fixture.connect(), fixture.connect());
    waiter.ask("CLIENT ID", ":1\r\n").await;
    other.ask("CLIENT UNBLOCK 1", ":0\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0\r\nPING").await;
    other.ask("CLIENT UNBLOCK 1", ":1\r\n").await;
    waiter.expect("*-1\r\n+PONG\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    other.ask("CLIENT UNBLOCK 1 ERROR", ":1\r\n").await;
    waiter.expect("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0.01").await;
    waiter.expect("*-1\r\n").await;
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    drop(waiter);
    while fixture.blocked_count().await > 0 {
        tokio::task::yield_now().await;
    }
    other.ask("RPUSH l a\r\nLLEN l", ":1\r\n:1\r\n").await;
}

#[tokio::test]
async fn what_is_moved_wakes_the_next_one() {
    let fixture = Fixture::new();
    let (mut mover, mut waiter, mut client) =
        (fixture.connect(), fixture.connect(), fixture.connect());
    wait(&fixture, &mut mover, "BLMOVE a b RIGHT LEFT 0").await;
    wait(&fixture, &mut waiter, "BLMPOP 0 1 b LEFT COUNT 9").await;
    client.ask("RPUSH a x y", ":2\r\n").await;
    mover.expect("$1\r\ny\r\n").await;
    waiter.expect("*2\r\n$1\r\nb\r\n*1\r\n$1\r\ny\r\n").await;
    client.ask("LRANGE a 0 -1", "*1\r\n$1\r\nx\r\n").await;
    client.ask("BRPOPLPUSH a c 0\r\nSET s v", "$1\r\nx\r\n+OK\r\n").await;
    client.ask("BRPOPLPUSH none c 0.001", "*-1\r\n").await;
    // Nothing is lost when it can't be moved.
    wait(&fixture, &mut mover, "BLMOVE a s LEFT LEFT 0").await;
    client.ask("RPUSH a z\r\nLLEN a", ":1\r\n:1\r\n").await;
    mover.expect("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n").await;
}
