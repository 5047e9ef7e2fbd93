//! Whoever takes more than his share is told so, and nobody else misses anything.

use std::time::Duration;

use serde_json::json;

use crate::http::{Answer, Polling, request};
use crate::socket::Socket;
use crate::stand::{Stand, in_time, token};
use crate::websocket::{QUERY, WebSocket};

const POLLING: &str = "EIO=4&transport=polling";

async fn handshake(stand: &Stand, forwarded_for: &str) -> Answer {
    request(stand.address, "GET", POLLING, &[("X-Forwarded-For", forwarded_for)], "").await
}

#[tokio::test]
async fn an_address_has_only_so_many_sockets_on_all_transports() {
    let stand = Stand::with(|options| options.limits.loopback_sockets_max = Some(3)).await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    let websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    let polling = Polling::connect(stand.address, &token("ada")).await;
    for _ in 0..20 {
        let refused = request(stand.address, "GET", POLLING, &[], "").await;
        let reason = r#"{"message":"Too many connections from this address"}"#;
        assert_eq!((refused.status, refused.body.as_str()), (429, reason));
        assert_eq!(WebSocket::open(stand.address, QUERY, &[]).await.err(), Some(429));
    }
    // An upgrade is the same session, not one more.
    let upgrade = format!("{QUERY}&sid={}", polling.sid);
    assert!(WebSocket::open(stand.address, &upgrade, &[]).await.is_ok());
    assert_eq!(bystander.call("presence:update", json!("away")).await["ok"], true);

    drop(websocket);
    let again = async {
        while request(stand.address, "GET", POLLING, &[], "").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(again).await;
    assert_eq!(request(stand.address, "GET", POLLING, &[], "").await.status, 429);
}

#[tokio::test]
async fn a_handshake_that_was_refused_takes_no_place() {
    let stand = Stand::with(|options| options.limits.loopback_sockets_max = Some(1)).await;
    for _ in 0..5 {
        let evil = [("Origin", "http://evil.example")];
        assert_eq!(WebSocket::open(stand.address, QUERY, &evil).await.err(), Some(403));
        let old = "EIO=3&transport=websocket";
        assert_eq!(WebSocket::open(stand.address, old, &[]).await.err(), Some(400));
    }
    assert!(WebSocket::open(stand.address, QUERY, &[]).await.is_ok());
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_an_address_of_its_own() {
    let stand = Stand::with(|options| {
        options.limits.address_sockets_max = Some(1);
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    assert_eq!(handshake(&stand, "203.0.113.1").await.status, 200);
    assert_eq!(handshake(&stand, "203.0.113.2").await.status, 200);
    assert_eq!(handshake(&stand, "203.0.113.1").await.status, 429);
    // What a client writes itself stands before what the proxy adds.
    assert_eq!(handshake(&stand, "198.51.100.7, 203.0.113.1").await.status, 429);
}

#[tokio::test]
async fn without_a_trusted_proxy_nobody_can_pass_for_another() {
    let stand = Stand::with(|options| {
        options.limits.loopback_sockets_max = Some(1);
        options.limits.address_sockets_max = Some(1);
    })
    .await;
    assert_eq!(handshake(&stand, "203.0.113.1").await.status, 200);
    assert_eq!(handshake(&stand, "203.0.113.2").await.status, 429);
}
