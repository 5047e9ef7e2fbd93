//! A client that does too much is told and cut, and the others miss nothing.

use leveret::gateway::EventRate;
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::{Stand, token};
use crate::websocket::{Got, QUERY, WebSocket};

/// None comes back in the time of a test.
const RATE: EventRate = EventRate { per_second: 0, burst: 20 };

#[tokio::test]
async fn a_client_that_sends_too_often_is_told_and_cut() {
    let stand = Stand::with(|options| options.limits.event_rate = Some(RATE)).await;
    let mut bob = Socket::connect(&stand, "bob").await;
    let mut eve = Socket::connect(&stand, "eve").await;
    bob.join("general").await;
    eve.join("general").await;
    for n in 0..30 {
        eve.send("message:send", &json!({ "roomId": "general", "content": n.to_string() })).await;
    }
    assert_eq!(eve.event("error").await, json!({ "message": "Too many events" }));
    assert_eq!(eve.websocket.closed().await, Got::Close(1008, "too many events".to_owned()));
    assert_eq!(bob.event("user:left").await["userId"], "eve");
    // What was within the rate has arrived, in order; connecting and joining took two.
    let seen: Vec<Value> = bob.seen("message:new").await;
    let seen: Vec<&str> = seen.iter().map(|new| new["content"].as_str().unwrap()).collect();
    let sent: Vec<String> = (0..seen.len()).map(|n| n.to_string()).collect();
    assert_eq!(seen, sent);
    assert!((18..=20).contains(&seen.len()), "{}", seen.len());
    assert_eq!(bob.call("presence:update", json!("here")).await["ok"], true);
}

#[tokio::test]
async fn one_that_tries_tokens_is_cut_too() {
    let stand = Stand::with(|options| options.limits.event_rate = Some(RATE)).await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    for _ in 0..30 {
        websocket.text(r#"40{"token":"guess"}"#).await;
    }
    assert_eq!(websocket.closed().await, Got::Close(1008, "too many events".to_owned()));
}

#[tokio::test]
async fn without_a_rate_a_client_sends_what_it_can() {
    let stand = Stand::with(|options| options.limits.event_rate = None).await;
    let default = leveret::gateway::Limits::default().event_rate;
    assert_eq!(default, Some(EventRate { per_second: 200, burst: 400 }));
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut last = 0;
    for n in 0..1_000 {
        last = ada.send("presence:update", &json!(format!("s{n}"))).await;
    }
    assert_eq!(ada.ack(last).await["status"], "s999");
}

#[tokio::test]
async fn a_packet_has_only_so_many_attachments() {
    let stand = Stand::with(|options| options.limits.attachments_max = 2).await;
    let mut bob = Socket::connect(&stand, "bob").await;
    for (packet, is_cut) in [(r#"452-1["x"]"#, false), (r#"453-1["x"]"#, true)] {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        websocket.next_text().await;
        websocket.text(&format!("40{}", json!({ "token": token("eve") }))).await;
        websocket.next_text().await;
        websocket.text(packet).await;
        if is_cut {
            assert_eq!(websocket.closed().await, Got::Close(1002, "parse error".to_owned()));
        } else {
            websocket.frame(0x82, b"1").await;
            websocket.frame(0x82, b"2").await;
            assert!(websocket.next_text().await.starts_with(r#"42["error",{"message":"Unknown"#));
        }
    }
    assert_eq!(bob.call("presence:update", json!("here")).await["ok"], true);
}

#[tokio::test]
async fn attachments_may_each_be_as_large_as_a_message() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let attachment = vec![1; 900_000];
    ada.websocket.text(r#"4510-["x"]"#).await;
    for _ in 0..10 {
        ada.websocket.frame(0x82, &attachment).await;
    }
    assert_eq!(ada.event("error").await["message"], "Unknown event: x");
}
