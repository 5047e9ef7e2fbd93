//! The cache's channels `messages`, `notifications` and `presence`: what is said here is published there,
//! and what others publish there is said here, once.

use leveret::backend::{Audience, Embedded, Subscription};
use leveret::model::clock::SystemClock;
use leveret::model::names::{RoomId, UserId};
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::{Stand, in_time};

async fn stand() -> Stand {
    let stand = Stand::start().await;
    tokio::spawn(stand.gateway.channels().await.unwrap());
    stand
}

/// The next publication, and whose it is.
async fn next(channel: &mut Subscription) -> (Value, String) {
    let payload = in_time(channel.next()).await.unwrap();
    let mut published: Value = serde_json::from_slice(&payload).unwrap();
    let origin = published.as_object_mut().unwrap().remove("origin").unwrap();
    (published, origin.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_is_said_is_published_and_not_said_twice() {
    let stand = stand().await;
    let mut messages = stand.cache.subscribe("messages").await.unwrap();
    let mut presence = stand.cache.subscribe("presence").await.unwrap();
    let mut notifications = stand.cache.subscribe("notifications").await.unwrap();
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("general").await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    ada.call("presence:update", json!("away")).await;
    for (user, status) in [("bob", "online"), ("ada", "online"), ("ada", "away")] {
        let changed = json!({ "userId": user, "status": status });
        assert_eq!(next(&mut presence).await.0, changed);
    }
    ada.call("message:send", json!({ "roomId": "general", "content": "hi" })).await;
    let (published, own) = next(&mut messages).await;
    let told = bob.event("message:new").await;
    assert_eq!(published, json!({ "roomId": "general", "message": told }));

    let (user, room) = (UserId::new("bob").unwrap(), RoomId::new("general").unwrap());
    let gateway = &stand.gateway;
    gateway.emit_to_user(&user, "notification", &json!({ "n": 1 }));
    gateway.emit_to_room(&room, "notification", &json!({ "n": 2 })).await;
    gateway.emit_to_all("notification", &json!({ "n": 3 }));
    // What no channel is for.
    gateway.emit_to_all("news", &json!({ "n": 4 }));
    gateway.emit_to_room(&room, "message:new", &json!({ "n": 5 })).await;
    for published in [
        json!({ "userId": "bob", "notification": { "n": 1 } }),
        json!({ "roomId": "general", "notification": { "n": 2 } }),
        json!({ "all": true, "notification": { "n": 3 } }),
    ] {
        assert_eq!(next(&mut notifications).await, (published, own.clone()));
    }
    let published = json!({ "roomId": "general", "message": { "n": 5 } });
    assert_eq!(next(&mut messages).await, (published, own));

    // The echoes have been looked at when what comes behind them is there.
    let last = r#"{"userId":"bob","notification":"last"}"#;
    stand.cache.publish("notifications", last).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&json!("last")) {
        seen.push(bob.event("notification").await);
    }
    assert_eq!(seen, [json!({ "n": 1 }), json!({ "n": 2 }), json!({ "n": 3 }), json!("last")]);
    assert_eq!(bob.seen("message:new").await, [json!({ "n": 5 })]);
    let mut changes = bob.seen("presence:changed").await;
    changes.retain(|change| change["userId"] == "ada");
    assert_eq!(changes.len(), 2, "{changes:?}");
}

#[tokio::test]
async fn what_others_publish_reaches_whom_it_concerns() {
    let stand = stand().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("general").await;
    let publish = async |channel: &str, payload: Value| {
        stand.cache.publish(channel, payload.to_string()).await.unwrap();
    };
    // Each by itself: what is wrong is left out, and the next one is taken.
    for (channel, wrong) in [
        ("messages", json!("text")),
        ("messages", json!({ "message": {} })),
        ("messages", json!({ "roomId": "", "message": {} })),
        ("messages", json!({ "roomId": "general" })),
        ("messages", json!({ "roomId": "general", "message": "no object" })),
        ("notifications", json!({ "notification": 1 })),
        ("notifications", json!({ "userId": null, "notification": 1 })),
        ("notifications", json!({ "userId": "bob", "all": true, "notification": 1 })),
        ("notifications", json!({ "all": true })),
        ("presence", json!({ "userId": "eve" })),
        ("presence", json!({ "userId": "eve", "status": "" })),
        ("presence", json!({ "userId": "eve", "status": "s".repeat(33) })),
        ("presence", json!({ "origin": 7, "userId": "eve", "status": "online" })),
    ] {
        publish(channel, wrong).await;
    }
    for wrong in ["", "{", "\u{0}", r#"{"all":true,"notification":1e400}"#] {
        stand.cache.publish("notifications", wrong).await.unwrap();
    }
    stand.cache.publish("messages", vec![0xff, 0xfe]).await.unwrap();

    publish("messages", json!({ "roomId": "general", "message": { "content": "hi" } })).await;
    assert_eq!(bob.event("message:new").await, json!({ "content": "hi" }));
    publish("notifications", json!({ "userId": "bob", "notification": 1 })).await;
    assert_eq!(bob.event("notification").await, 1);
    publish("notifications", json!({ "roomId": "general", "notification": 2 })).await;
    assert_eq!(bob.event("notification").await, 2);
    let origin = "another gateway";
    publish("notifications", json!({ "origin": origin, "all": true, "notification": 3 })).await;
    assert_eq!(
        (ada.event("notification").await, bob.event("notification").await),
        (json!(3), json!(3))
    );
    publish("presence", json!({ "userId": "eve", "status": "online" })).await;
    assert_eq!(ada.event("presence:changed").await["userId"], "bob");
    let eve = json!({ "userId": "eve", "status": "online" });
    assert_eq!(
        (ada.event("presence:changed").await, bob.event("presence:changed").await),
        (eve.clone(), eve)
    );

    // Who was not in the room was not told, and a room's list holds what its members said.
    assert!(ada.seen("message:new").await.is_empty());
    assert!(ada.seen("notification").await.is_empty());
    assert_eq!(ada.join("general").await["messages"], json!([]));
}

#[tokio::test]
async fn two_gateways_on_one_cache_and_one_broker_send_all_once() {
    let engines = Embedded::in_memory(SystemClock::shared());
    let broker = engines.broker();
    let mut sockets = Vec::new();
    let mut stands = Vec::new();
    for user in ["ada", "bob"] {
        let stand = Stand::on_cache(engines.cache(), |_| {}).await;
        tokio::spawn(stand.gateway.channels().await.unwrap());
        tokio::spawn(stand.gateway.bridge(&broker).await.unwrap());
        let mut socket = Socket::connect(&stand, user).await;
        socket.join("general").await;
        sockets.push(socket);
        stands.push(stand);
    }
    // Over the broker each gateway is told by itself; over the channels, by the other.
    broker.emit(&Audience::All, "notification", &json!(1)).await.unwrap();
    stands[0].gateway.emit_to_all("notification", &json!(2));
    let message = json!({ "roomId": "general", "content": "hi" });
    sockets[0].call("message:send", message).await;
    for socket in &mut sockets {
        assert_eq!(socket.event("message:new").await["content"], "hi");
        let mut seen = socket.seen("notification").await;
        seen.sort_by_key(Value::as_i64);
        assert_eq!(seen, [json!(1), json!(2)]);
        assert!(socket.seen("message:new").await.is_empty());
    }
    let mut changes = sockets[0].seen("presence:changed").await;
    changes.retain(|change| change["userId"] == "bob");
    assert_eq!(changes, [json!({ "userId": "bob", "status": "online" })]);
}
