//! A session moves from polling to a WebSocket and loses nothing on the way.

use std::time::Duration;

use leveret::model::names::UserId;
use serde_json::json;

use crate::http::{Polling, answer};
use crate::stand::{SILENCE, Stand, in_time, token, until};
use crate::websocket::{Got, QUERY, WebSocket};

const RESERVED: &str = "reserved bits are set, and no extension was agreed on";

async fn probe(stand: &Stand, client: &Polling) -> WebSocket {
    let query = format!("{QUERY}&sid={}", client.sid);
    let mut websocket = WebSocket::open(stand.address, &query, &[]).await.unwrap();
    websocket.text("2probe").await;
    assert_eq!(websocket.next_text().await, "3probe");
    websocket
}

fn tell(stand: &Stand, n: u32) -> String {
    stand.gateway.emit_to_all("notification", &json!({ "n": n }));
    format!(r#"42["notification",{{"n":{n}}}]"#)
}

#[tokio::test]
async fn a_probe_releases_the_poll_and_the_rest_comes_over_the_websocket() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let waiting = tokio::spawn(answer(client.begin_poll().await));
    tokio::time::sleep(SILENCE).await;
    let mut websocket = probe(&stand, &client).await;
    assert_eq!(in_time(waiting).await.unwrap().body, "6");

    let queued = [tell(&stand, 1), tell(&stand, 2)];
    websocket.text("5").await;
    for packet in queued {
        assert_eq!(websocket.next_text().await, packet);
    }
    websocket.text("420[\"presence:update\",\"away\"]").await;
    assert_eq!(websocket.next_text().await, r#"430[{"ok":true,"status":"away"}]"#);

    // The session has left polling for good.
    let refused = client.poll().await;
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (400, r#"{"code":3,"message":"Bad request"}"#)
    );
    let query = format!("{QUERY}&sid={}", client.sid);
    assert_eq!(WebSocket::open(stand.address, &query, &[]).await.err(), Some(400));
    assert_eq!(stand.gateway.connections(), 1);
}

#[tokio::test]
async fn before_the_upgrade_is_sent_polls_still_bring_the_packets() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let mut websocket = probe(&stand, &client).await;
    let first = tell(&stand, 1);
    assert_eq!(client.poll().await.body, first);
    // One that finds nothing is released, now and later: the client waits for it before it goes on.
    for _ in 0..2 {
        assert_eq!(client.poll().await.body, "6");
    }
    let second = tell(&stand, 2);
    websocket.text("5").await;
    assert_eq!(websocket.next_text().await, second);
}

#[tokio::test]
async fn a_poll_that_still_waits_at_the_upgrade_gets_nothing_of_the_websockets() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let mut websocket = probe(&stand, &client).await;
    assert_eq!(client.poll().await.body, "6");
    let waiting = tokio::spawn(answer(client.begin_poll().await));
    websocket.text("5").await;
    // Which of the two came first nobody can tell.
    let released = in_time(waiting).await.unwrap();
    assert!(released.body == "6" || released.status == 400, "{released:?}");
    let packet = tell(&stand, 1);
    assert_eq!(websocket.next_text().await, packet);
}

/// A client that sends its upgrade and polls at once asks too late, however the server's threads come to
/// read the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_behind_the_upgrade_is_refused_whichever_is_read_first() {
    let stand = Stand::start().await;
    for round in 0..300 {
        let client = Polling::open(stand.address).await;
        let query = format!("{QUERY}&sid={}", client.sid);
        let mut websocket = WebSocket::open(stand.address, &query, &[]).await.unwrap();
        // The connection is there before, so that the request is read as soon as it can be.
        let request = client.ready(if round % 3 == 0 { "POST" } else { "GET" }).await;
        websocket.text("2probe").await;
        if round % 2 == 0 {
            assert_eq!(websocket.next_text().await, "3probe");
        }
        websocket.text("5").await;
        let refused = in_time(request.send()).await;
        assert_eq!(
            (refused.status, refused.body.as_str()),
            (400, r#"{"code":3,"message":"Bad request"}"#),
            "{round}"
        );
        if round % 2 != 0 {
            assert_eq!(websocket.next_text().await, "3probe");
        }
        websocket.text("40{}").await;
        assert!(websocket.next_text().await.starts_with("44"), "the session is the WebSocket's");
    }
}

#[tokio::test]
async fn a_probe_that_fails_leaves_the_session_to_polling() {
    let stand = Stand::with(|options| options.upgrade_timeout = Duration::from_secs(2)).await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let query = format!("{QUERY}&sid={}", client.sid);
    for nonsense in ["4hello", "2", "9", ""] {
        let mut websocket = WebSocket::open(stand.address, &query, &[]).await.unwrap();
        websocket.text(nonsense).await;
        assert_eq!(websocket.next().await, Got::End, "{nonsense:?}");
    }
    let mut silent = WebSocket::open(stand.address, &query, &[]).await.unwrap();
    assert_eq!(WebSocket::open(stand.address, &query, &[]).await.err(), Some(400), "one at a time");
    assert_eq!(silent.next().await, Got::End, "a probe has to come to an end");

    let packet = tell(&stand, 1);
    assert_eq!(client.poll().await.body, packet);
    let mut websocket = probe(&stand, &client).await;
    websocket.text("5").await;
    let packet = tell(&stand, 2);
    assert_eq!(websocket.next_text().await, packet);
}

#[tokio::test]
async fn a_probe_is_a_websocket_like_any_other() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let query = format!("{QUERY}&sid={}", client.sid);
    for (first, payload, expected) in [
        (0x88, &3001_u16.to_be_bytes()[..], Got::Close(3001, String::new())),
        (0xC1, b"2probe", Got::Close(1002, RESERVED.to_owned())),
        (0x81, b"\xFF", Got::Close(1007, "text is not UTF-8".to_owned())),
    ] {
        let mut websocket = WebSocket::open(stand.address, &query, &[]).await.unwrap();
        websocket.frame(0x89, b"before").await;
        assert_eq!(websocket.next().await, Got::Pong(b"before".to_vec()));
        websocket.frame(first, payload).await;
        assert_eq!(websocket.next().await, expected);
        assert_eq!(websocket.next().await, Got::End);
    }
    let mut websocket = probe(&stand, &client).await;
    websocket.frame(0x89, b"between").await;
    assert_eq!(websocket.next().await, Got::Pong(b"between".to_vec()));
    websocket.text("5").await;
    let packet = tell(&stand, 1);
    assert_eq!(websocket.next_text().await, packet);
}

#[tokio::test]
async fn an_unknown_session_is_not_upgraded() {
    let stand = Stand::start().await;
    let query = format!("{QUERY}&sid=nobody");
    assert_eq!(WebSocket::open(stand.address, &query, &[]).await.err(), Some(400));
}

/// The stock client polls no more once its probe was answered, and would wait for a ping that never comes.
#[tokio::test]
async fn a_session_that_ends_during_its_probe_says_so_once_the_client_has_upgraded() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let mut websocket = probe(&stand, &client).await;
    assert_eq!(stand.gateway.disconnect_user(&UserId::new("ada").unwrap()), 1);
    until(|| stand.gateway.connections() == 0).await;
    tokio::time::sleep(SILENCE).await;
    websocket.text("5").await;
    assert_eq!(websocket.next_text().await, "41");
    assert_eq!(websocket.next().await, Got::Close(1000, "forced server close".to_owned()));
}

#[tokio::test]
async fn a_session_that_ends_takes_its_probe_with_it() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let mut websocket = probe(&stand, &client).await;
    client.post("1").await;
    assert_eq!(websocket.closed().await, Got::End);
    stand.connections(0).await;
}
