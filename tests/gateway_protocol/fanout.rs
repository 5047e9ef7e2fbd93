//! Nobody waits for a client that does not read.

use leveret::model::names::RoomId;
use serde_json::json;

use crate::http::Polling;
use crate::socket::Socket;
use crate::stand::{Stand, token, until};
use crate::websocket::Got;

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
