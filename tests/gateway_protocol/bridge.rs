//! What is published on `leveret.emit` reaches the sockets.

use leveret::backend::{Audience, Embedded};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, RoomId, RoutingKey, UserId};
use serde_json::json;

use crate::socket::Socket;
use crate::stand::Stand;

#[tokio::test]
async fn events_reach_the_room_the_user_or_all() {
    let stand = Stand::start().await;
    let engines = Embedded::in_memory(SystemClock::shared());
    let broker = engines.broker();
    tokio::spawn(stand.gateway.bridge(&broker).await.unwrap());
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob.b").await;
    ada.join("general.1").await;

    let room = Audience::Room(RoomId::new("general.1").unwrap());
    broker.emit(&room, "news", &json!({ "n": 1 })).await.unwrap();
    assert_eq!(ada.event("news").await["n"], 1);
    let user = Audience::User(UserId::new("bob.b").unwrap());
    broker.emit(&user, "news", &json!({ "n": 2 })).await.unwrap();
    // What is of no such form is left out, and the next one is sent.
    let exchange = ExchangeName::new("leveret.emit").unwrap();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (key, kind, body) in [
        ("room", Some("news"), "{}"),
        ("all", None, "{}"),
        ("all", Some("news"), "{"),
        ("all", Some("news"), "1e400"),
        ("all", Some("news"), r#""\ud800""#),
        ("all", Some("news"), &deep),
    ] {
        let body = body.to_owned();
        let mut message = Message::new(exchange.clone(), RoutingKey::new(key).unwrap(), body);
        message.properties.kind = kind.map(str::to_owned);
        broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }
    broker.emit(&Audience::All, "news", &json!({ "n": 3 })).await.unwrap();
    assert_eq!(ada.event("news").await["n"], 3);
    assert_eq!(bob.event("news").await["n"], 2);
    assert_eq!(bob.event("news").await["n"], 3);
}
