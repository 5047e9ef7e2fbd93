//! The Socket.IO connection: who may connect, and what a packet at the wrong time does.

use serde_json::json;

use crate::bystanders::Bystanders;
use crate::socket::Socket;
use crate::stand::{Stand, token, token_for};
use crate::websocket::{Got, QUERY, WebSocket};

async fn opened(stand: &Stand) -> WebSocket {
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    websocket
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_a_connect_error_and_the_next_may_be_better() {
    let stand = Stand::start().await;
    let mut websocket = opened(&stand).await;
    let refused = r#"44{"message":"Authentication failed"}"#;
    for connect in ["40", "40{}", r#"40{"token":null}"#, r#"40{"token":7}"#, r#"40{"token":"x"}"#] {
        websocket.text(connect).await;
        assert_eq!(websocket.next_text().await, refused, "{connect}");
    }
    websocket.text(&format!("40{}", json!({ "token": token("ada") }))).await;
    assert!(websocket.next_text().await.starts_with(r#"40{"sid":""#));
}

#[tokio::test]
async fn there_is_one_namespace() {
    let stand = Stand::start().await;
    let mut websocket = opened(&stand).await;
    websocket.text(&format!("40/admin,{}", json!({ "token": token("ada") }))).await;
    assert_eq!(websocket.next_text().await, r#"44/admin,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn a_packet_that_the_state_does_not_allow_ends_the_session() {
    let stand = Stand::start().await;
    for packet in ["42[\"join:room\",\"general\"]", "41", "431[]", "44{\"message\":\"x\"}"] {
        let mut websocket = opened(&stand).await;
        websocket.text(packet).await;
        let closed = Got::Close(1000, "forced server close".to_owned());
        assert_eq!(websocket.closed().await, closed, "{packet}");
    }
    let mut socket = Socket::connect(&stand, "ada").await;
    socket.websocket.text(&format!("40{}", json!({ "token": token("ada") }))).await;
    assert!(matches!(socket.websocket.closed().await, Got::Close(1000, _)));
    stand.connections(0).await;
}

#[tokio::test]
async fn a_client_disconnects_and_connects_again_on_one_session() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("general").await;
    bob.websocket.text("41").await;
    assert_eq!(ada.event("user:left").await, json!({ "userId": "bob", "username": "BOB" }));
    stand.connections(1).await;
    bob.websocket.text(&format!("40{}", json!({ "token": token("bob") }))).await;
    stand.connections(2).await;
}

#[tokio::test]
async fn acknowledgements_that_nobody_asked_for_change_nothing() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.websocket.text("4317[\"what\"]").await;
    assert_eq!(ada.call("presence:update", json!("away")).await["ok"], true);
}

#[tokio::test]
async fn binary_arguments_are_refused_in_words() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.websocket.text(r#"451-["message:send",{"_placeholder":true,"num":0}]"#).await;
    ada.websocket.frame(0x82, b"\x00\x01\x02").await;
    let refusal = json!({ "message": "message:send does not take binary arguments" });
    assert_eq!(ada.event("error").await, refusal);
    assert_eq!(ada.call("presence:update", json!("away")).await["ok"], true);
}

#[tokio::test]
async fn a_user_has_only_so_many_sockets() {
    let stand = Stand::with(|options| options.limits.user_sockets_max = 1).await;
    let mut bystanders = Bystanders::of(&stand).await;
    let mut first = Socket::connect(&stand, "ada").await;
    let mut refused = Vec::new();
    for _ in 0..20 {
        let mut websocket = opened(&stand).await;
        websocket.text(&format!("40{}", json!({ "token": token("ada") }))).await;
        assert_eq!(websocket.next_text().await, r#"44{"message":"Too many connections"}"#);
        bystanders.talk().await;
        refused.push(websocket);
    }
    Socket::connect(&stand, "bob").await;
    assert_eq!(first.call("presence:update", json!("here")).await["ok"], true);
    bystanders.missed_nothing().await;
}

#[tokio::test]
async fn a_socket_is_in_only_so_many_rooms_that_its_token_names() {
    let stand = Stand::with(|options| options.limits.socket_rooms_max = 2).await;
    let mut bystanders = Bystanders::of(&stand).await;
    let mut ada = Socket::with_token(&stand, &token_for("ada", &["team-*"])).await;
    let denied = json!({ "error": "Access denied to room" });
    assert_eq!(ada.call("join:room", json!("general")).await, denied);
    ada.join("team-1").await;
    ada.join("team-2").await;
    let full = json!({ "error": "A socket may be in 2 rooms at most" });
    for n in 3..30 {
        assert_eq!(ada.call("join:room", json!(format!("team-{n}"))).await, full);
        bystanders.talk().await;
    }
    ada.join("team-2").await;
    assert_eq!(ada.call("leave:room", json!("team-1")).await["ok"], true);
    ada.join("team-3").await;
    bystanders.missed_nothing().await;
}

#[tokio::test]
async fn a_socket_id_names_no_room() {
    let stand = Stand::start().await;
    let bob = Socket::connect(&stand, "bob").await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let denied = json!({ "error": "Access denied to room" });
    for room in [bob.id.clone(), ada.id.clone(), bob.id.to_uppercase()] {
        assert_eq!(ada.call("join:room", json!(room)).await, denied);
    }
}
