//! At its end a gateway tells what is on its way, and says goodbye in a way that clients come back from.

use serde_json::json;

use crate::http::{Polling, answer, request};
use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, token};
use crate::stores;
use crate::websocket::Got;

#[tokio::test]
async fn transports_are_closed_and_nobody_is_disconnected() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let polling = Polling::connect(stand.address, &token("bob")).await;
    let waiting = tokio::spawn(answer(polling.begin_poll().await));
    ada.event("presence:changed").await;
    tokio::time::sleep(SILENCE).await;

    in_time(stand.gateway.shutdown()).await;
    // `41`, a DISCONNECT, would keep the stock client from coming back.
    assert_eq!(in_time(waiting).await.unwrap().body, "1");
    let goodbye = Got::Close(1001, "server shutting down".to_owned());
    assert_eq!(ada.websocket.next().await, goodbye);
    assert_eq!(ada.websocket.next().await, Got::End);
    assert_eq!(stand.gateway.connections(), 0);
    assert_eq!(stand.cache.get("presence:ada").await.unwrap(), None);
    let refused = request(stand.address, "GET", "EIO=4&transport=polling", &[], "").await;
    assert_eq!(refused.status, 503);
}

#[tokio::test]
async fn what_waits_for_its_commit_is_told_first() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    let message = json!({ "roomId": "general", "content": "last words" });
    let id = ada.send("message:send", &message).await;
    let room = leveret::model::names::RoomId::new("general").unwrap();
    // It was taken once something that was sent after it arrives.
    stand.gateway.emit_to_room(&room, "notification", &json!({})).await;
    ada.call("typing:start", json!("general")).await;

    let gateway = stand.gateway.clone();
    let ending = tokio::spawn(async move { gateway.shutdown().await });
    tokio::time::sleep(SILENCE).await;
    assert!(!ending.is_finished());
    disk.release();
    assert_eq!(ada.ack(id).await["ok"], true);
    assert_eq!(ada.event("message:new").await["content"], "last words");
    assert!(matches!(ada.websocket.closed().await, Got::Close(1001, _)));
    in_time(ending).await.unwrap();
}
