//! Channels, patterns and shard channels.

use crate::fixture::Fixture;

fn confirm(word: &str, name: &str, count: usize) -> String {
    format!("*3\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n:{count}\r\n", word.len(), name.len())
}

#[tokio::test]
async fn a_listener_hears_what_is_published_and_may_say_little() {
    let fixture = Fixture::new();
    let (mut listener, mut speaker) = (fixture.connect(), fixture.connect());
    listener.ask("SUBSCRIBE news", &confirm("subscribe", "news", 1)).await;
    listener.ask("PSUBSCRIBE ne*", &confirm("psubscribe", "ne*", 2)).await;
    listener.ask("SSUBSCRIBE news", &confirm("ssubscribe", "news", 1)).await;
    speaker.ask("PUBLISH news hi\r\nSPUBLISH news ho", ":2\r\n:1\r\n").await;
    listener.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n").await;
    listener.expect("*4\r\n$8\r\npmessage\r\n$3\r\nne*\r\n$4\r\nnews\r\n$2\r\nhi\r\n").await;
    listener.expect("*3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$2\r\nho\r\n").await;
    listener.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
    listener
        .ask(
            "GET k",
            "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context\r\n",
        )
        .await;
    speaker.ask("PUBSUB NUMSUB news x", "*4\r\n$4\r\nnews\r\n:1\r\n$1\r\nx\r\n:0\r\n").await;
    speaker.ask("PUBSUB NUMPAT", ":1\r\n").await;
    speaker.ask("PUBSUB CHANNELS n*", "*1\r\n$4\r\nnews\r\n").await;
    speaker.ask("PUBSUB SHARDCHANNELS", "*1\r\n$4\r\nnews\r\n").await;
    listener.ask("UNSUBSCRIBE", &confirm("unsubscribe", "news", 1)).await;
    listener.ask("PUNSUBSCRIBE ne*", &confirm("punsubscribe", "ne*", 0)).await;
    listener.ask("SUNSUBSCRIBE", &confirm("sunsubscribe", "news", 0)).await;
    listener.ask("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n").await;
    listener.ask("GET k", "$-1\r\n").await;
    drop(listener);
}

#[tokio::test]
async fn in_resp3_messages_are_pushes_and_a_listener_may_say_everything() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("HELLO 3\r\nCLIENT REPLY OFF\r\nSUBSCRIBE a\r\nPUBLISH a x\r\n").await;
    client.send("CLIENT REPLY ON\r\nPUBLISH a y\r\n").await;
    client
        .expect(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\n\
        proto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\n\
        master\r\n$7\r\nmodules\r\n*0\r\n",
        )
        .await;
    client.expect(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    client.expect(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n").await;
    client.expect("+OK\r\n").await;
    // Its own message comes before the answer.
    client.expect(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\ny\r\n:1\r\n").await;
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_cut() {
    let fixture = Fixture::new();
    let (mut listener, mut speaker) = (fixture.connect(), fixture.connect());
    let limit = "CONFIG SET client-output-buffer-limit \"pubsub 1mb 0 0\"";
    speaker.ask(limit, "+OK\r\n").await;
    listener.ask("SUBSCRIBE a", &confirm("subscribe", "a", 1)).await;
    let payload = "x".repeat(10_000);
    for _ in 0..200 {
        fixture.cache.publish("a", payload.clone());
    }
    listener.expect_cut().await;
    speaker.ask("PUBSUB NUMSUB a", "*2\r\n$1\r\na\r\n:0\r\n").await;
}
