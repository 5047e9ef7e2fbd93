//! Each limit can be off. The same traffic comes twice: first the limit cuts it, then it is off.

use std::time::Duration;

use leveret::gateway::GatewayOptions;
use serde_json::{Value, json};

use crate::http::{Polling, request};
use crate::socket::Socket;
use crate::stand::{Stand, until};
use crate::websocket::{Got, QUERY, WebSocket};

/// What all of the traffic needs, so that only the limit in question can stop it.
const TIMES: usize = 8;

async fn stands(
    on: impl FnOnce(&mut GatewayOptions),
    off: impl FnOnce(&mut GatewayOptions),
) -> [Stand; 2] {
    [Stand::with(on).await, Stand::with(off).await]
}

/// How often of [`TIMES`] it is granted.
fn granted(answers: &[Value]) -> usize {
    assert_eq!(answers.len(), TIMES);
    answers.iter().filter(|answer| answer["ok"] == true).count()
}

#[tokio::test]
async fn the_time_to_connect() {
    let set = |timeout| {
        move |options: &mut GatewayOptions| {
            options.connect_timeout = timeout;
            // Nobody who is silent for so long is to be cut for that.
            options.ping_interval = Duration::from_secs(1 << 20);
        }
    };
    let default = GatewayOptions::default().connect_timeout;
    let [on, off] = stands(set(default), set(Duration::MAX)).await;
    let mut sessions = Vec::new();
    for stand in [&on, &off] {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        websocket.next_text().await;
        let polling = Polling::open(stand.address).await;
        assert!(polling.is_known().await);
        sessions.push((websocket, polling));
    }
    tokio::time::pause();
    tokio::time::advance(default - Duration::from_secs(15)).await;
    assert_eq!((on.gateway.sessions(), off.gateway.sessions()), (2, 2));
    tokio::time::advance(Duration::from_secs(24 * 3600)).await;
    tokio::time::resume();
    let (mut websocket, polling) = sessions.remove(0);
    assert_eq!(websocket.next().await, Got::Close(1000, "connect timeout".to_owned()));
    assert_eq!(polling.poll().await.body, "1");

    let (mut websocket, polling) = sessions.remove(0);
    let connect = format!("40{}", json!({ "token": crate::stand::token("ada") }));
    websocket.text(&connect).await;
    assert!(websocket.next_text().await.starts_with("40{\"sid\":"));
    assert_eq!(polling.post(&connect).await.body, "ok");
    assert!(polling.poll().await.body.starts_with("40{\"sid\":"));
}

#[tokio::test]
async fn what_waits_for_a_socket() {
    let set = |bytes| move |options: &mut GatewayOptions| options.limits.queue_bytes_max = bytes;
    let default = GatewayOptions::default().limits.queue_bytes_max;
    let [on, off] = stands(set(default), set(usize::MAX)).await;
    let filler = "x".repeat(default / 4);
    for (stand, is_cut) in [(on, true), (off, false)] {
        let mut ada = Socket::connect(&stand, "ada").await;
        // None of it is read before the last is sent.
        for n in 0..TIMES {
            stand.gateway.emit_to_all("notification", &json!({ "n": n, "filler": filler }));
        }
        if is_cut {
            let told = Got::Close(1008, "slow consumer".to_owned());
            assert_eq!(ada.websocket.closed().await, told);
            continue;
        }
        for n in 0..TIMES {
            assert_eq!(ada.event("notification").await["n"], n);
        }
    }
}

#[tokio::test]
async fn the_sockets_of_a_user() {
    let set = |max| move |options: &mut GatewayOptions| options.limits.user_sockets_max = max;
    let connect = format!("40{}", json!({ "token": crate::stand::token("ada") }));
    for (stand, allowed) in stands(set(3), set(usize::MAX)).await.into_iter().zip([3, TIMES]) {
        let mut open = Vec::new();
        for n in 0..TIMES {
            let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
            websocket.next_text().await;
            websocket.text(&connect).await;
            let answer = websocket.next_text().await;
            assert_eq!(answer.starts_with("40{\"sid\":"), n < allowed, "{n}: {answer}");
            open.push(websocket);
        }
    }
}

#[tokio::test]
async fn the_sessions_of_an_address_and_of_all() {
    let address = |max| {
        move |options: &mut GatewayOptions| {
            options.limits.address_sockets_max = max;
            // Else every one of these would be of the loopback.
            options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        }
    };
    let loopback =
        |max| move |options: &mut GatewayOptions| options.limits.loopback_sockets_max = max;
    let all = |max| move |options: &mut GatewayOptions| options.limits.sessions_max = max;
    let far = [("X-Forwarded-For", "203.0.113.1")];
    let none: [(&str, &str); 0] = [];
    let cases = [
        (stands(address(Some(3)), address(None)).await, &far[..], 429),
        (stands(loopback(Some(3)), loopback(None)).await, &none, 429),
        (stands(all(3), all(usize::MAX)).await, &none, 503),
    ];
    for (stands, headers, refusal) in cases {
        for (stand, allowed) in stands.into_iter().zip([3, TIMES]) {
            for n in 0..TIMES {
                let query = "EIO=4&transport=polling";
                let status = request(stand.address, "GET", query, headers, "").await.status;
                assert_eq!(status, if n < allowed { 200 } else { refusal }, "{n}");
            }
        }
    }
}

#[tokio::test]
async fn the_rooms_of_a_socket_and_of_all() {
    let own = |max| move |options: &mut GatewayOptions| options.limits.socket_rooms_max = max;
    let all = |max| move |options: &mut GatewayOptions| options.limits.rooms_max = max;
    for stands in [stands(own(3), own(usize::MAX)).await, stands(all(3), all(usize::MAX)).await] {
        for (stand, allowed) in stands.into_iter().zip([3, TIMES]) {
            let mut ada = Socket::connect(&stand, "ada").await;
            let mut answers = Vec::new();
            for n in 0..TIMES {
                answers.push(ada.call("join:room", json!(format!("room{n}"))).await);
            }
            assert_eq!(granted(&answers), allowed, "{answers:?}");
        }
    }
}

#[tokio::test]
async fn the_content_of_a_message() {
    let set = |max| move |options: &mut GatewayOptions| options.limits.content_bytes_max = max;
    let default = GatewayOptions::default().limits.content_bytes_max;
    for (stand, allowed) in stands(set(default), set(usize::MAX)).await.into_iter().zip([4, TIMES])
    {
        let mut ada = Socket::connect(&stand, "ada").await;
        ada.join("general").await;
        let mut answers = Vec::new();
        for n in 0..TIMES {
            let content = "x".repeat(default * (n + 1) / 4);
            let message = json!({ "roomId": "general", "content": content });
            answers.push(ada.call("message:send", message).await);
        }
        assert_eq!(granted(&answers), allowed);
        until(|| stand.gateway.connections() == 1).await;
    }
}
