//! Others hear who is there, and the cache knows it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::Stand;

fn of(user: &str, status: &str) -> Value {
    json!({ "userId": user, "status": status })
}

/// The user's presence in the cache.
async fn kept(stand: &Stand, user: &str) -> Option<Value> {
    let json = stand.cache.get(&format!("presence:{user}")).await.unwrap()?;
    serde_json::from_slice(&json).ok()
}

async fn kept_status(stand: &Stand, user: &str, status: Option<&str>) {
    let comes = async {
        loop {
            let kept = kept(stand, user).await;
            if kept.as_ref().map(|kept| kept["status"].as_str().unwrap()) == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    crate::stand::in_time(comes).await;
}

#[tokio::test]
async fn a_user_is_online_from_the_first_socket_to_the_last() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let first = Socket::connect(&stand, "bob").await;
    assert_eq!(ada.event("presence:changed").await, of("bob", "online"));
    let mut second = Socket::connect(&stand, "bob").await;
    kept_status(&stand, "bob", Some("online")).await;
    assert!(kept(&stand, "bob").await.unwrap()["lastSeen"].is_u64());

    assert_eq!(second.call("presence:update", json!("away")).await["ok"], true);
    assert_eq!(ada.event("presence:changed").await, of("bob", "away"));
    kept_status(&stand, "bob", Some("away")).await;
    assert_eq!(second.seen("presence:changed").await, Vec::<Value>::new());

    drop(first);
    stand.connections(2).await;
    assert_eq!(ada.seen("presence:changed").await, Vec::<Value>::new());
    drop(second);
    assert_eq!(ada.event("presence:changed").await, of("bob", "offline"));
    kept_status(&stand, "bob", None).await;
    kept_status(&stand, "ada", Some("online")).await;
}

#[tokio::test]
async fn a_user_that_returns_within_the_grace_was_never_away() {
    let stand = Stand::with(|options| options.presence_grace = Duration::from_secs(2)).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let bob = Socket::connect(&stand, "bob").await;
    ada.event("presence:changed").await;
    drop(bob);
    stand.connections(1).await;
    let bob = Socket::connect(&stand, "bob").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(ada.seen("presence:changed").await, Vec::<Value>::new());
    drop(bob);
    stand.connections(1).await;
    assert_eq!(ada.seen("presence:changed").await, Vec::<Value>::new());
    assert_eq!(ada.event("presence:changed").await, of("bob", "offline"));
    kept_status(&stand, "bob", None).await;
}
