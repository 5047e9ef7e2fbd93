//! What the members of a room are told, and what is none of the others' business.

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::{Stand, token_for};

#[tokio::test]
async fn a_user_joins_with_its_first_socket_and_leaves_with_its_last() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    assert_eq!(ada.join("general").await, json!({ "roomId": "general", "messages": [] }));
    let (mut phone, mut laptop) =
        (Socket::connect(&stand, "bob").await, Socket::connect(&stand, "bob").await);
    let bob = json!({ "userId": "bob", "username": "BOB" });
    phone.join("general").await;
    laptop.join("general").await;
    phone.join("general").await;
    assert_eq!(ada.seen("user:joined").await, std::slice::from_ref(&bob));
    assert_eq!(phone.seen("user:joined").await, Vec::<Value>::new());

    assert_eq!(phone.call("leave:room", json!({ "roomId": "general" })).await["ok"], true);
    assert_eq!(ada.seen("user:left").await, Vec::<Value>::new());
    drop(laptop);
    assert_eq!(ada.event("user:left").await, bob);
    let late = json!({ "error": "Not a member of room general" });
    assert_eq!(phone.call("leave:room", json!("general")).await, late);
}

#[tokio::test]
async fn a_message_reaches_every_member_once_and_nobody_else() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    let mut eve = Socket::connect(&stand, "eve").await;
    ada.join("general").await;
    bob.join("general").await;
    eve.join("elsewhere").await;
    let sent = json!({ "roomId": "general", "content": "hi", "extra": 1 });
    let ack = ada.call("message:send", sent).await;
    let message = bob.event("message:new").await;
    let expected = json!({
        "id": ack["id"],
        "roomId": "general",
        "userId": "ada",
        "username": "ADA",
        "content": "hi",
        "type": "text",
        "timestamp": message["timestamp"],
    });
    assert_eq!(message, expected);
    assert!(message["timestamp"].is_u64() && ack["offset"].is_string());
    assert_eq!(ada.seen("message:new").await, [expected]);
    assert_eq!(eve.seen("message:new").await, Vec::<Value>::new());
    assert_eq!(bob.seen("message:new").await, Vec::<Value>::new());
}

#[tokio::test]
async fn typing_is_for_the_other_members() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    ada.join("general").await;
    bob.join("general").await;
    for (event, told) in [("typing:start", "typing:user"), ("typing:stop", "typing:stop")] {
        assert_eq!(ada.call(event, json!("general")).await["ok"], true);
        let mut user = json!({ "userId": "ada" });
        if told == "typing:user" {
            user["username"] = json!("ADA");
        }
        assert_eq!(bob.event(told).await, user);
        assert_eq!(ada.seen(told).await, Vec::<Value>::new());
    }
    let mut eve = Socket::with_token(&stand, &token_for("eve", &[])).await;
    assert_eq!(
        eve.call("typing:start", json!("general")).await,
        json!({ "error": "Access denied to room" })
    );
    let refusal = eve.event("error").await;
    assert_eq!(refusal, json!({ "message": "Access denied to room" }));
}

#[tokio::test]
async fn no_room_is_named_like_a_socket_connected_or_not() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let bob = Socket::connect(&stand, "bob").await;
    let (own, others) = (ada.id.clone(), bob.id.clone());
    drop(bob);
    stand.connections(1).await;
    for name in [own, others.to_uppercase(), others] {
        let refused = ada.call("join:room", json!(name)).await;
        assert_eq!(refused, json!({ "error": "Access denied to room" }), "{name}");
    }
}

#[tokio::test]
async fn the_history_keeps_a_hundred_and_shows_fifty() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let mut last = 0;
    for n in 0..120 {
        let message = json!({ "roomId": "general", "content": n.to_string() });
        last = ada.send("message:send", &message).await;
    }
    ada.ack(last).await;
    let mut bob = Socket::connect(&stand, "bob").await;
    let history = bob.join("general").await;
    let shown: Vec<&str> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    let newest: Vec<String> = (70..120).rev().map(|n| n.to_string()).collect();
    assert_eq!(shown, newest);
    let kept = stand.cache.list_range("room:general:messages", 0, -1).await.unwrap();
    assert_eq!(kept.len(), 100);
}

#[tokio::test]
async fn the_server_reaches_a_room_a_user_and_all() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    ada.join("general").await;
    let room = leveret::model::names::RoomId::new("general").unwrap();
    let user = leveret::model::names::UserId::new("bob").unwrap();
    stand.gateway.emit_to_room(&room, "notification", &json!({ "to": "room" })).await;
    assert_eq!(stand.gateway.emit_to_user(&user, "notification", &json!({ "to": "bob" })), 1);
    assert_eq!(stand.gateway.emit_to_all("notification", &json!({ "to": "all" })), 2);
    let (mut of_ada, of_bob) = (ada.seen("notification").await, bob.seen("notification").await);
    // A room's order is its own.
    of_ada.sort_by_key(Value::to_string);
    assert_eq!(of_ada, [json!({ "to": "all" }), json!({ "to": "room" })]);
    assert_eq!(of_bob, [json!({ "to": "bob" }), json!({ "to": "all" })]);
    // A reserved name is the caller's mistake, and reaches nobody.
    assert_eq!(stand.gateway.emit_to_all("disconnect", &json!({})), 0);
}

#[tokio::test]
async fn an_empty_room_ends_and_comes_back_with_its_history() {
    let stand = Stand::with(|options| options.limits.rooms_max = 1).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("one").await;
    ada.call("message:send", json!({ "roomId": "one", "content": "kept" })).await;
    let full = json!({ "error": "The server has no place for another room" });
    assert_eq!(ada.call("join:room", json!("two")).await, full);
    ada.call("leave:room", json!("one")).await;
    let joined = async {
        while ada.call("join:room", json!("two")).await["ok"] != true {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::stand::in_time(joined).await;
    ada.call("leave:room", json!("two")).await;
    let mut bob = Socket::connect(&stand, "bob").await;
    let back = async {
        while bob.call("join:room", json!("one")).await["ok"] != true {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::stand::in_time(back).await;
    assert_eq!(bob.event("room:history").await["messages"][0]["content"], "kept");
}
