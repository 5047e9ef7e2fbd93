//! A client that does not answer is gone in time, and one that does stays.

use std::time::Duration;

use leveret::gateway::GatewayOptions;

use crate::bystanders::Bystanders;
use crate::http::Polling;
use crate::stand::{Stand, in_time, token};
use crate::websocket::{Got, QUERY, WebSocket};

fn quick(options: &mut GatewayOptions) {
    options.ping_interval = Duration::from_millis(500);
    options.ping_timeout = Duration::from_millis(1_500);
}

#[tokio::test]
async fn a_websocket_that_does_not_pong_is_dropped() {
    let stand = Stand::with(quick).await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    assert_eq!(websocket.next_text().await, "2");
    assert_eq!(websocket.next().await, Got::End);
}

#[tokio::test]
async fn a_websocket_that_pongs_stays() {
    let stand = Stand::with(quick).await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    websocket.next_text().await;
    for _ in 0..5 {
        assert_eq!(websocket.next_text().await, "2");
        websocket.text("3").await;
    }
}

#[tokio::test]
async fn polling_is_watched_in_the_same_way() {
    let stand = Stand::with(quick).await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    for _ in 0..5 {
        assert_eq!(client.poll().await.body, "2");
        client.post("3").await;
    }
    assert_eq!(client.poll().await.body, "2");
    assert_eq!(client.poll().await.body, "1", "the session ended");
    stand.connections(0).await;
    assert!(!client.is_known().await);
}

#[tokio::test]
async fn a_client_may_not_ping() {
    let stand = Stand::start().await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    websocket.next_text().await;
    websocket.text("2").await;
    assert_eq!(websocket.closed().await, Got::End);
}

#[tokio::test]
async fn who_joins_no_namespace_in_time_is_closed() {
    let stand = Stand::with(|options| options.connect_timeout = Duration::from_secs(1)).await;
    let mut bystanders = Bystanders::of(&stand).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(WebSocket::open(stand.address, QUERY, &[]).await.unwrap());
        bystanders.talk().await;
    }
    for websocket in &mut silent {
        websocket.next_text().await;
        assert_eq!(websocket.next().await, Got::Close(1000, "connect timeout".to_owned()));
    }
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    websocket.next_text().await;
    assert_eq!(websocket.next().await, Got::Close(1000, "connect timeout".to_owned()));

    let polling = Polling::open(stand.address).await;
    assert_eq!(polling.poll().await.body, "1");

    let joined = Polling::connect(stand.address, &token("ada")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(in_time(joined.is_known()).await);
    bystanders.missed_nothing().await;
}
