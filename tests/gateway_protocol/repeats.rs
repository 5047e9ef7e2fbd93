//! A message that is sent again, because its acknowledgement was late, is stored once.

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::Stand;
use crate::stores::journal;

fn message(content: &str, client_id: &str) -> Value {
    json!({ "roomId": "general", "content": content, "clientId": client_id })
}

#[tokio::test]
async fn a_repeat_gets_the_first_ones_acknowledgement() {
    let stand = Stand::start().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    ada.join("general").await;
    bob.join("general").await;
    let first = ada.call("message:send", message("hi", "1")).await;
    assert_eq!(ada.call("message:send", message("hi again", "1")).await, first);
    // Another connection of the user, and another user.
    let mut phone = Socket::connect(&stand, "ada").await;
    phone.join("general").await;
    assert_eq!(phone.call("message:send", message("hi", "1")).await, first);
    assert_ne!(bob.call("message:send", message("hi", "1")).await["id"], first["id"]);
    assert_ne!(ada.call("message:send", message("more", "2")).await["id"], first["id"]);
    let seen: Vec<Value> = bob.seen("message:new").await;
    let seen: Vec<_> = seen.iter().map(|new| (&new["content"], &new["clientId"])).collect();
    let (hi, more) = (json!("hi"), json!("more"));
    let (one, two) = (json!("1"), json!("2"));
    assert_eq!(seen, [(&hi, &one), (&hi, &one), (&more, &two)]);
    for wrong in [json!(7), json!(""), json!("x".repeat(65)), json!("a\nb")] {
        let message = json!({ "roomId": "general", "content": "hi", "clientId": wrong });
        let refused = ada.call("message:send", message).await;
        assert!(refused["error"].as_str().unwrap().starts_with("clientId must be"), "{refused}");
    }
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_one_and_fails_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    let first = ada.send("message:send", &message("hi", "1")).await;
    let again = ada.send("message:send", &message("hi", "1")).await;
    assert_eq!(ada.seen("message:new").await, Vec::<Value>::new());
    disk.release();
    let first = ada.ack(first).await;
    assert_eq!((first["ok"].clone(), ada.ack(again).await), (json!(true), first));

    disk.fail();
    let lost = ada.send("message:send", &message("lost", "2")).await;
    let again = ada.send("message:send", &message("lost", "2")).await;
    for id in [lost, again] {
        let refused = ada.ack(id).await;
        assert!(refused["error"].as_str().unwrap().starts_with("Not stored"), "{refused}");
    }
}

#[tokio::test]
async fn a_restarted_server_knows_what_its_history_holds() {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::on(journal(folder.path()).0, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let first = ada.call("message:send", message("hi", "1")).await;

    // Another gateway on the same cache remembers nothing of its own.
    let stand = stand.again().await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let again = ada.call("message:send", message("hi", "1")).await;
    assert_eq!(again, json!({ "ok": true, "id": first["id"] }));
    assert_eq!(ada.seen("message:new").await, Vec::<Value>::new());
}
