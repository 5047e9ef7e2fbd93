//! A token ends, and a client may show a fresh one before.

use std::time::Duration;

use serde_json::json;

use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, now_s, token_until};
use crate::websocket::Got;

#[tokio::test]
async fn a_socket_is_closed_when_its_token_ends() {
    let stand = Stand::start().await;
    let mut ada = Socket::with_token(&stand, &token_until("ada", &["*"], now_s() + 3)).await;
    let mut bob = Socket::connect(&stand, "bob").await;
    ada.join("general").await;
    bob.join("general").await;
    assert_eq!(ada.event("error").await, json!({ "message": "Token expired" }));
    assert_eq!(ada.websocket.closed().await, Got::Close(1008, "token expired".to_owned()));
    assert_eq!(bob.event("user:left").await["userId"], "ada");
    assert_eq!(bob.call("presence:update", json!("here")).await["ok"], true);
}

#[tokio::test]
async fn a_fresh_token_of_the_same_user_extends_it() {
    let stand = Stand::start().await;
    let mut ada = Socket::with_token(&stand, &token_until("ada", &["*"], now_s() + 3)).await;
    ada.join("team").await;
    ada.join("general").await;
    let of_bob = token_until("bob", &["*"], now_s() + 3600);
    let another = json!({ "error": "The token is another user's" });
    assert_eq!(ada.call("auth:refresh", json!({ "token": of_bob })).await, another);
    let ended = token_until("ada", &["*"], now_s());
    let refused = json!({ "error": "Authentication failed" });
    assert_eq!(ada.call("auth:refresh", json!({ "token": ended })).await, refused);

    let until = now_s() + 3600;
    let fresh = token_until("ada", &["team"], until);
    assert_eq!(ada.call("auth:refresh", json!(fresh)).await, json!({ "ok": true, "exp": until }));
    // What the fresh one does not allow is left.
    let message = json!({ "roomId": "general", "content": "hi" });
    let denied = json!({ "error": "Access denied to room" });
    assert_eq!(ada.call("message:send", message).await, denied);
    // The first one would have ended by now.
    tokio::time::sleep(Duration::from_secs(2) + SILENCE).await;
    let message = json!({ "roomId": "team", "content": "hi" });
    assert_eq!(in_time(ada.call("message:send", message)).await["ok"], true);
}
