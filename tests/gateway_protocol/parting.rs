//! A session over polling that is closed is there until its client was told.

use std::time::Duration;

use leveret::model::names::UserId;
use serde_json::json;

use crate::http::{Polling, answer};
use crate::stand::{SILENCE, Stand, in_time, token, until};

/// Ada's session, closed while nobody polls. Of what her client sent, `acks` ask for an answer.
async fn disconnected(stand: &Stand, acks: &str) -> Polling {
    let client = Polling::connect(stand.address, &token("ada")).await;
    if !acks.is_empty() {
        assert_eq!(client.post(acks).await.body, "ok");
    }
    assert_eq!(stand.gateway.disconnect_user(&UserId::new("ada").unwrap()), 1);
    client
}

#[tokio::test]
async fn the_next_polls_bring_what_was_queued_and_the_close() {
    let stand = Stand::start().await;
    let client = disconnected(&stand, r#"421["presence:update","away"]"#).await;
    // Others see it go at once.
    stand.connections(0).await;
    assert_eq!(stand.gateway.sessions(), 1);
    assert!(client.is_known().await);
    let polled = client.poll().await;
    let packets: Vec<&str> = polled.body.split('\u{1e}').collect();
    assert_eq!(packets, [r#"431[{"ok":true,"status":"away"}]"#, "41"]);
    // Apart, or the stock client would take its end for a failure of the network.
    assert_eq!(client.poll().await.body, "1");
    until(|| stand.gateway.sessions() == 0).await;
    assert!(!client.is_known().await);
}

#[tokio::test]
async fn a_poll_that_waits_brings_the_disconnect_and_the_next_one_the_close() {
    let stand = Stand::start().await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    let waiting = tokio::spawn(answer(client.begin_poll().await));
    tokio::time::sleep(SILENCE).await;
    assert_eq!(stand.gateway.disconnect_user(&UserId::new("ada").unwrap()), 1);
    assert_eq!(in_time(waiting).await.unwrap().body, "41");
    assert_eq!(client.poll().await.body, "1");
    until(|| stand.gateway.sessions() == 0).await;
}

#[tokio::test]
async fn what_does_not_fit_into_a_poll_comes_with_the_ones_after_it() {
    let stand = Stand::with(|options| options.limits.payload_bytes_max = 1_000).await;
    let client = Polling::connect(stand.address, &token("ada")).await;
    for n in 0..3 {
        stand.gateway.emit_to_all("notification", &json!([n, "x".repeat(600)]));
    }
    stand.gateway.disconnect_user(&UserId::new("ada").unwrap());
    stand.connections(0).await;
    for n in 0..3 {
        let polled = client.poll().await;
        assert!(polled.body.starts_with(&format!(r#"42["notification",[{n},"#)), "{polled:?}");
        assert_eq!(polled.body.ends_with("\u{1e}41"), n == 2, "{polled:?}");
    }
    assert_eq!(client.poll().await.body, "1");
    until(|| stand.gateway.sessions() == 0).await;
}

#[tokio::test]
async fn what_its_client_says_meanwhile_is_ignored() {
    let stand = Stand::with(|options| options.limits.payload_bytes_max = 1_000).await;
    let client = disconnected(&stand, "").await;
    for body in [r#"42["presence:update","away"]"#, "40{}", "nonsense"] {
        let posted = client.post(body).await;
        assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
    }
    assert_eq!(client.post(&"x".repeat(1_001)).await.status, 413);
    assert_eq!(stand.gateway.connections(), 0);
    assert!(client.poll().await.body.ends_with("41"));
    assert_eq!(client.poll().await.body, "1");
}

#[tokio::test]
async fn a_client_that_leaves_by_itself_meanwhile_is_waited_for_no_longer() {
    let stand = Stand::start().await;
    let client = disconnected(&stand, "").await;
    assert_eq!(client.post("41\u{1e}1").await.body, "ok");
    until(|| stand.gateway.sessions() == 0).await;
    assert!(!client.is_known().await);
}

#[tokio::test]
async fn a_client_that_polls_no_more_is_forgotten_after_half_a_minute() {
    let stand = Stand::start().await;
    let client = disconnected(&stand, "").await;
    stand.connections(0).await;
    // A request's while later its task is waiting.
    assert!(client.is_known().await);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(stand.gateway.sessions(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    until(|| stand.gateway.sessions() == 0).await;
}

#[tokio::test]
async fn a_client_that_polls_no_more_does_not_hold_the_end_of_the_gateway() {
    let stand = Stand::start().await;
    let gone = disconnected(&stand, "").await;
    let bob = Polling::connect(stand.address, &token("bob")).await;
    let gateway = stand.gateway.clone();
    let ending = tokio::spawn(async move { gateway.shutdown().await });
    stand.connections(0).await;
    while bob.poll().await.body != "1" {}
    in_time(ending).await.unwrap();
    assert_eq!(stand.gateway.sessions(), 0);
    assert!(!gone.is_known().await);
    assert_eq!(stand.cache.get("presence:ada").await.unwrap(), None);
    assert_eq!(stand.cache.get("presence:bob").await.unwrap(), None);
}
