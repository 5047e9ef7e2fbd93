//! Nobody waits for a client that does not read.

use std::net::SocketAddr;

use leveret::gateway::{GatewayOptions, Io};
use leveret::model::names::RoomId;
use serde_json::{Value, json};
use tokio::task::{JoinSet, yield_now};

use crate::http::Polling;
use crate::library::served;
use crate::socket::Socket;
use crate::stand::{Stand, in_time, token, until};
use crate::websocket::{Got, QUERY, WebSocket};

#[tokio::test]
async fn a_slow_consumer_is_cut_and_the_others_get_everything() {
    let stand = Stand::with(|options| options.limits.queue_bytes_max = 200_000).await;
    let mut slow = Socket::connect(&stand, "slow").await;
    let mut quick = Socket::connect(&stand, "quick").await;
    stand.connections(2).await;
    let filler = "x".repeat(10_000);
    let reading = tokio::spawn(async move {
        let mut seen = 0_u64;
        loop {
            let notification = quick.event("notification").await;
            assert_eq!(notification["n"], seen, "in order, none missing");
            seen += 1;
            if notification["last"] == true {
                return seen;
            }
        }
    });
    let mut sent = 0_u64;
    while stand.gateway.connections() == 2 {
        assert!(sent < 5_000, "the buffers of the operating system are not that large");
        stand.gateway.emit_to_all("notification", &json!({ "n": sent, "filler": filler }));
        sent += 1;
        // At the pace of one that reads.
        tokio::time::sleep(std::time::Duration::from_micros(500)).await;
    }
    stand.gateway.emit_to_all("notification", &json!({ "n": sent, "last": true }));
    assert_eq!(crate::stand::in_time(reading).await.unwrap(), sent + 1);
    // What was under way goes on to its end, so that the reason can be read behind it.
    let closed = slow.websocket.closed().await;
    assert_eq!(closed, Got::Close(1008, "slow consumer".to_owned()));
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_not_answered_for_ever() {
    let stand = Stand::with(|options| options.limits.queue_bytes_max = 100_000).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    for _ in 0..20 {
        let content = "x".repeat(10_000);
        ada.call("message:send", json!({ "roomId": "general", "content": content })).await;
    }
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("general").await;
    // Each answer is far larger than its question: the reader stops while they queue, and in the end
    // the client cannot even ask.
    let asking = tokio::spawn(async move {
        for _ in 0..100_000 {
            ada.send("join:room", &json!("general")).await;
        }
    });
    bob.call("message:send", json!({ "roomId": "general", "content": "hi" })).await;
    assert!(!asking.is_finished());
    asking.abort();
    assert_eq!(bob.event("user:left").await["userId"], "ada");
    until(|| stand.gateway.connections() == 1).await;
}

#[tokio::test]
async fn a_burst_to_a_room_comes_whole_and_in_order_over_either_transport() {
    const EVENTS: u64 = 300;
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let bob = Polling::connect(stand.address, &token("bob")).await;
    bob.post(r#"42["join:room","general"]"#).await;
    ada.event("user:joined").await;
    let room = RoomId::new("general").unwrap();
    for n in 0..EVENTS {
        // Some are no part of a row: they are not for everybody.
        if n % 50 == 49 {
            ada.send("typing:start", &json!("general")).await;
        }
        stand.gateway.emit_to_room(&room, "news", &json!({ "n": n })).await;
    }
    for n in 0..EVENTS {
        assert_eq!(ada.event("news").await["n"], n);
    }
    let mut polled = 0;
    while polled < EVENTS {
        let answer = bob.poll().await;
        for packet in
            answer.body.split('\u{1e}').filter(|packet| packet.starts_with(r#"42["news""#))
        {
            assert_eq!(packet, format!(r#"42["news",{{"n":{polled}}}]"#));
            polled += 1;
        }
    }
}

/// A socket of the library's root namespace.
async fn member(address: SocketAddr) -> WebSocket {
    let mut websocket = WebSocket::open(address, QUERY, &[]).await.unwrap();
    websocket.next_text().await;
    websocket.text("40").await;
    assert!(websocket.next_text().await.starts_with("40"));
    websocket
}

/// Reads events of several senders, which each number theirs, until each has said its last one.
async fn read_in_order(mut websocket: WebSocket, mut seen: Vec<u64>, events: u64) {
    while seen.iter().any(|&seen| seen < events) {
        let text = match websocket.next().await {
            Got::Text(text) if text == "2" => {
                websocket.text("3").await;
                continue;
            }
            Got::Text(text) => text,
            other => panic!("{other:?}"),
        };
        let event: (String, usize, u64, Value) =
            serde_json::from_str(text.strip_prefix("42").expect(&text)).unwrap();
        assert_eq!(event.2, seen[event.1], "of sender {}", event.1);
        seen[event.1] += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_each_sender_says_comes_in_its_order_whoever_writes_it() {
    const EVENTS: u64 = 400;
    const MEMBERS: usize = 12;
    let mut options = GatewayOptions::default();
    options.limits.queue_bytes_max = 64 << 20;
    let io = Io::new(options);
    let address = served(&io).await;
    let mut tasks = JoinSet::new();
    for _ in 0..MEMBERS {
        let member = member(address).await;
        tasks.spawn(read_in_order(member, vec![0; 4], EVENTS));
    }
    assert_eq!(io.root().connections(), MEMBERS);
    // Two speak to all, two to each; some of it is more than a stream takes at once.
    for sender in 0..4 {
        let io = io.clone();
        tasks.spawn(async move {
            let filler = "x".repeat(sender * 3_000);
            for n in 0..EVENTS {
                if sender % 2 == 0 {
                    io.root().emit("news", (sender, n, &filler)).unwrap();
                } else {
                    for socket in io.root().fetch_sockets() {
                        socket.emit("news", (sender, n, &filler)).unwrap();
                    }
                }
                if n % 3 == 0 {
                    yield_now().await;
                }
            }
        });
    }
    while let Some(done) = in_time(tasks.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_reads_late_gets_whole_frames_in_order() {
    const EVENTS: u64 = 300;
    let mut options = GatewayOptions::default();
    options.limits.queue_bytes_max = 64 << 20;
    let io = Io::new(options);
    let address = served(&io).await;
    let late = member(address).await;
    let mut prompt = JoinSet::new();
    for _ in 0..3 {
        prompt.spawn(read_in_order(member(address).await, vec![0], EVENTS));
    }
    // Far more than the buffers of a connection hold.
    let filler = "x".repeat(100_000);
    for n in 0..EVENTS {
        io.root().emit("news", (0, n, &filler)).unwrap();
        yield_now().await;
    }
    while let Some(done) = in_time(prompt.join_next()).await {
        done.unwrap();
    }
    in_time(read_in_order(late, vec![0], EVENTS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_is_closed_while_all_are_written_to_gets_what_was_sent_before() {
    const ROUNDS: u64 = 40;
    let io = Io::new(GatewayOptions::default());
    let root = io.root();
    let address = served(&io).await;
    let stays = member(address).await;
    let id = root.fetch_sockets()[0].id();
    let stays = tokio::spawn(read_in_order(stays, vec![0], 3 * ROUNDS));
    for round in 0..ROUNDS {
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(member(address).await);
        }
        let sent = 3 * round..3 * round + 3;
        for n in sent.clone() {
            // Two are gone without a word.
            others.truncate(if n % 3 == 0 { 6 } else { 4 });
            root.emit("news", (0, n, Value::Null)).unwrap();
            if round % 2 == 0 {
                yield_now().await;
            }
        }
        for socket in root.fetch_sockets() {
            if socket.id() != id {
                socket.close();
            }
        }
        for other in &mut others {
            for n in sent.clone() {
                assert_eq!(other.next_text().await, format!(r#"42["news",0,{n},null]"#));
            }
            assert_eq!(other.next_text().await, "41");
            let reason = "forced server close".to_owned();
            assert_eq!(other.next().await, Got::Close(1000, reason));
        }
        // The one that stays has all it waits for at the end of the last round.
        until(|| root.connections() <= 1).await;
    }
    in_time(stays).await.unwrap();
    until(|| root.connections() == 0).await;
}
