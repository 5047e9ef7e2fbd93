//! HTTP long-polling keeps the order of packets, and its clients to one request of a kind at a time.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::http::{Polling, answer, request, send};
use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, token};

#[tokio::test]
async fn packets_come_and_go_in_payloads() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let posted = client
        .post("421[\"join:room\",\"general\"]\u{1e}422[\"message:send\",{\"roomId\":\"general\",\"content\":\"hi\"}]")
        .await;
    assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
    assert_eq!(posted.header("content-type"), Some("text/html"));

    let mut packets = Vec::new();
    while packets.len() < 4 {
        let polled = client.poll().await;
        packets.extend(polled.body.split('\u{1e}').map(str::to_owned));
    }
    assert_eq!(packets[0], r#"42["room:history",{"roomId":"general","messages":[]}]"#);
    assert_eq!(packets[1], r#"431[{"ok":true,"roomId":"general"}]"#);
    assert!(packets[2].starts_with(r#"42["message:new",{"id":""#), "{}", packets[2]);
    assert!(packets[3].starts_with(r#"432[{"ok":true,"id":""#), "{}", packets[3]);
}

#[tokio::test]
async fn a_poll_waits_until_there_is_something() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let waiting = tokio::spawn(answer(client.begin_poll().await));
    tokio::time::sleep(SILENCE).await;
    assert!(!waiting.is_finished());
    stand.gateway.emit_to_all("notification", &json!({ "n": 1 }));
    let polled = in_time(waiting).await.unwrap();
    assert_eq!(polled.body, r#"42["notification",{"n":1}]"#);
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let first = tokio::spawn(answer(client.begin_poll().await));
    tokio::time::sleep(SILENCE).await;
    let second = client.poll().await;
    assert_eq!((second.status, second.body.as_str()), (400, ""));
    assert_eq!(in_time(first).await.unwrap().body, "1");
    stand.connections(0).await;
    assert!(!client.is_known().await);
}

#[tokio::test]
async fn two_posts_at_once_end_the_session() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let length = [("Content-Length", "100")];
    let half = send(stand.address, "POST", &client.query(), &length, "42[\"pres").await;
    tokio::time::sleep(SILENCE).await;
    assert_eq!(client.post("42[\"presence:update\",\"away\"]").await.status, 400);
    assert_eq!(in_time(answer(half)).await.status, 400);
    stand.connections(0).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_is_gone_at_once() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let waiting = client.begin_poll().await;
    tokio::time::sleep(SILENCE).await;
    drop(waiting);
    stand.connections(0).await;

    let client = Polling::connect(stand.address, &token("ada")).await;
    let length = [("Content-Length", "100")];
    let mut half = send(stand.address, "POST", &client.query(), &length, "42[\"pres").await;
    tokio::time::sleep(SILENCE).await;
    half.shutdown().await.unwrap();
    stand.connections(0).await;
}

#[tokio::test]
async fn a_client_can_say_goodbye() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let waiting = tokio::spawn(answer(client.begin_poll().await));
    assert_eq!(client.post("1").await.body, "ok");
    assert_eq!(in_time(waiting).await.unwrap().body, "6");
    stand.connections(0).await;
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_and_ends_its_session() {
    let stand = Stand::with(|options| options.limits.payload_bytes_max = 1_000).await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    assert_eq!(client.post(&"x".repeat(1_001)).await.status, 413);
    stand.connections(1).await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    // Its size is not announced.
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Length", "")];
    let chunks = format!("258\r\n{0}\r\n258\r\n{0}\r\n0\r\n\r\n", "x".repeat(600));
    let headers = &chunked[..1];
    let refused = {
        let mut stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
        let head = format!(
            "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\n{}: {}\r\nConnection: close\r\n\r\n{chunks}",
            client.query(),
            headers[0].0,
            headers[0].1
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        in_time(answer(stream)).await
    };
    assert_eq!(refused.status, 413);
    stand.connections(1).await;
    assert!(!client.is_known().await);
    assert_eq!(bystander.call("presence:update", json!("away")).await["ok"], true);
}

#[tokio::test]
async fn one_that_polls_and_one_on_a_websocket_hear_the_same() {
    let stand = Stand::start().await;
    let polling = Polling::connect(stand.address, &token("ada")).await;
    let mut socket = Socket::connect(&stand, "bob").await;
    polling.post("42[\"join:room\",\"general\"]").await;
    socket.join("general").await;
    socket.call("message:send", json!({ "roomId": "general", "content": "hi" })).await;
    let heard = socket.event("message:new").await;
    let mut polled = String::new();
    while !polled.contains("message:new") {
        polled.push_str(&polling.poll().await.body);
    }
    assert!(polled.contains(heard["id"].as_str().unwrap()));
}

#[tokio::test]
async fn other_paths_are_not_the_gateways() {
    let stand = Stand::start().await;
    let answer = request(stand.address, "GET", "EIO=4&transport=polling", &[], "").await;
    assert_eq!(answer.status, 200);
    let mut stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
    stream.write_all(b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(in_time(crate::http::answer(stream)).await.status, 404);
}
