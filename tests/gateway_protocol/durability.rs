//! A message is told when it is durable, and a newcomer sees the log without a gap or a duplicate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leveret::gateway::Recovery;
use serde_json::{Value, json};

use crate::http::Polling;
use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, token};
use crate::stores;

fn message(room: &str, content: impl ToString) -> Value {
    json!({ "roomId": room, "content": content.to_string() })
}

fn contents(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// What a history shows, oldest first.
fn oldest_first(history: &Value) -> Vec<String> {
    let mut contents = contents(history["messages"].as_array().unwrap());
    contents.reverse();
    contents
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Two sockets in the room `general`.
async fn ada_and_bob(stand: &Stand) -> (Socket, Socket) {
    let (mut ada, mut bob) =
        (Socket::connect(stand, "ada").await, Socket::connect(stand, "bob").await);
    ada.join("general").await;
    bob.join("general").await;
    (ada, bob)
}

#[tokio::test]
async fn nothing_is_told_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let (mut ada, mut bob) = ada_and_bob(&stand).await;

    disk.hold();
    // Many wait for one commit: none waits for the one before it.
    let mut last = 0;
    for n in 0..100 {
        last = ada.send("message:send", &message("general", n)).await;
    }
    assert_eq!(bob.seen("message:new").await, Vec::<Value>::new());
    // What needs no disk goes on.
    assert_eq!(ada.call("typing:start", json!("general")).await["ok"], true);
    bob.event("typing:user").await;

    disk.release();
    ada.ack(last).await;
    assert_eq!(contents(&bob.seen("message:new").await), numbers(0..100));
    assert_eq!(contents(&ada.seen("message:new").await), numbers(0..100));
}

/// By then it is history: one who counts members would count twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_after_an_acknowledged_join_or_leave_is_not_told_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    let mut eve = Socket::connect(&stand, "eve").await;
    for n in 0..100 {
        let room = format!("room{n}");
        eve.join(&room).await;
        ada.join(&room).await;
        if n % 2 == 0 {
            assert_eq!(ada.call("leave:room", json!(room)).await["ok"], true);
        }
        bob.join(&room).await;
    }
    for event in ["user:joined", "user:left"] {
        assert_eq!(bob.seen(event).await, Vec::<Value>::new(), "{event}");
    }
    assert_eq!(eve.seen("user:left").await.len(), 50);
    assert_eq!(eve.seen("user:joined").await.len(), 200);
}

/// What is queued counts by its frames too: by one a message, the queue of who does not read would be full.
#[tokio::test]
async fn messages_of_one_commit_take_one_place_in_a_queue() {
    const MESSAGES: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |options| options.limits.queue_bytes_max = 40_000).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let bob = Polling::connect(stand.address, &token("bob")).await;
    assert_eq!(bob.post("421[\"join:room\",\"general\"]").await.body, "ok");
    while !bob.poll().await.body.contains("431[{\"ok\":true") {}

    disk.hold();
    // Acknowledgements would fill the sender's own queue.
    for n in 0..MESSAGES - 1 {
        let event = json!(["message:send", message("general", n)]);
        ada.websocket.text(&format!("42{event}")).await;
    }
    let last = ada.send("message:send", &message("general", MESSAGES - 1)).await;
    let waiting = tokio::time::timeout(SILENCE, ada.ack(last)).await;
    assert!(waiting.is_err(), "all wait for the disk");
    disk.release();
    ada.ack(last).await;
    let mut messages = Vec::new();
    while messages.len() < MESSAGES as usize {
        let polled = in_time(bob.poll()).await;
        let packets = polled.body.split('\u{1e}').filter(|packet| packet.contains("message:new"));
        for packet in packets {
            let event: Vec<Value> = serde_json::from_str(&packet[2..]).unwrap();
            messages.push(event[1].clone());
        }
    }
    assert_eq!(contents(&messages), numbers(0..MESSAGES));
    let bytes: usize = messages.iter().map(|message| message.to_string().len() + 64).sum();
    assert!(bytes > 40_000, "{bytes}");
}

#[tokio::test]
async fn a_newcomer_is_not_shown_what_is_not_durable_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let mut last = 0;
    for n in 0..60 {
        last = ada.send("message:send", &message("general", n)).await;
    }
    ada.ack(last).await;

    disk.hold();
    for n in 60..90 {
        last = ada.send("message:send", &message("general", n)).await;
    }
    let mut bob = Socket::connect(&stand, "bob").await;
    let history = bob.join("general").await;
    assert_eq!(oldest_first(&history), numbers(10..60));
    disk.release();
    ada.ack(last).await;
    assert_eq!(contents(&bob.seen("message:new").await), numbers(60..90));
}

/// Writers and newcomers at once, on a real disk: each newcomer's history and what follows it are the
/// log, from some message on. The writers go on until all have come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_what_follows_are_the_log() {
    let is_the_log = async |recovery: Option<Recovery>| {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _disk) = stores::journal(folder.path());
        let stand = Stand::on(journal, |options| options.recovery = recovery).await;
        newcomers_see_the_log(&stand).await;
    };
    is_the_log(None).await;
    is_the_log(Some(Recovery::default())).await;
}

async fn newcomers_see_the_log(stand: &Stand) {
    const NEWCOMERS: usize = 12;
    let mut witness = Socket::connect(stand, "witness").await;
    witness.join("general").await;

    let (sent, come) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut writers = Vec::new();
    for name in ["ada", "bob"] {
        let mut writer = Socket::connect(stand, name).await;
        writer.join("general").await;
        let (sent, come) = (Arc::clone(&sent), Arc::clone(&come));
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while come.load(Ordering::SeqCst) < NEWCOMERS {
                let content = format!("{name}-{n}");
                let id = writer.send("message:send", &message("general", content)).await;
                sent.fetch_add(1, Ordering::SeqCst);
                n += 1;
                if n % 16 == 0 {
                    writer.ack(id).await;
                }
            }
            writer.call("message:send", message("general", format!("{name}-last"))).await;
        }));
    }
    let mut newcomers = Vec::new();
    for n in 0..NEWCOMERS {
        let mut newcomer = Socket::connect(stand, &format!("newcomer-{n}")).await;
        let (sent, come) = (Arc::clone(&sent), Arc::clone(&come));
        newcomers.push(tokio::spawn(async move {
            while sent.load(Ordering::SeqCst) < 10 * n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let history = newcomer.join("general").await;
            come.fetch_add(1, Ordering::SeqCst);
            (newcomer, history)
        }));
    }
    for writer in writers {
        in_time(writer).await.unwrap();
    }
    witness.call("message:send", message("general", "end")).await;
    let mut log = Vec::new();
    while log.last().is_none_or(|last| last != "end") {
        log.extend(contents(&[witness.event("message:new").await]));
    }
    let mut unique = log.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), log.len(), "no message is told twice");

    for newcomer in newcomers {
        let (mut newcomer, history) = newcomer.await.unwrap();
        let shown = oldest_first(&history);
        assert!(shown.len() <= 50);
        let mut seen = shown.clone();
        while seen.last().is_none_or(|last| last != "end") {
            seen.extend(contents(&[newcomer.event("message:new").await]));
        }
        assert!(seen.len() > shown.len() + 1, "it came while messages were under way");
        let from = log.len() - seen.len();
        assert_eq!(seen, log[from..], "history of {} messages", shown.len());
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_told_to_its_sender_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let (mut ada, mut bob) = ada_and_bob(&stand).await;
    ada.call("message:send", message("general", "before")).await;
    bob.event("message:new").await;

    disk.fail();
    for content in ["at the failure", "after it"] {
        let ack = ada.call("message:send", message("general", content)).await;
        let error = ack["error"].as_str().unwrap_or_else(|| panic!("{ack}"));
        assert!(error.starts_with("Not stored: "), "{error}");
        assert_eq!(ada.event("error").await, json!({ "message": error }));
    }
    assert_eq!(bob.seen("message:new").await, Vec::<Value>::new());
    assert_eq!(bob.seen("error").await, Vec::<Value>::new());
    // Reading and telling go on.
    assert_eq!(bob.call("typing:start", json!("general")).await["ok"], true);
    ada.event("typing:user").await;
    assert_eq!(oldest_first(&bob.join("general").await), ["before"]);
    assert_eq!(stand.gateway.connections(), 2);
}

/// The list holds what failed; a room that was left and is joined again must know it still.
#[tokio::test]
async fn a_message_that_failed_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let (mut ada, mut bob) = ada_and_bob(&stand).await;
    ada.call("message:send", message("general", "before")).await;

    // All of them are in the list before the first one's commit fails.
    disk.hold();
    let mut sent = Vec::new();
    for n in 0..60 {
        sent.push(ada.send("message:send", &message("general", n)).await);
    }
    ada.send("typing:start", &json!("general")).await;
    bob.event("typing:user").await;
    disk.fail();
    disk.release();
    for id in sent {
        assert!(ada.ack(id).await["error"].is_string());
    }
    assert_eq!(stand.cache.list_range("room:general:messages", 0, -1).await.unwrap().len(), 61);
    for member in [&mut ada, &mut bob] {
        member.call("leave:room", json!("general")).await;
    }
    // Longer than an empty room stays.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(oldest_first(&bob.join("general").await), ["before"]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let (mut ada, mut bob) = ada_and_bob(&stand).await;

    disk.fill(true);
    let refused = async {
        loop {
            // The journal looks at its disk now and then.
            let ack = ada.call("message:send", message("general", "x")).await;
            if let Some(error) = ack["error"].as_str() {
                return error.to_owned();
            }
        }
    };
    let error = in_time(refused).await;
    assert!(error.starts_with("Not stored: the disk is nearly full"), "{error}");
    assert_eq!(ada.event("error").await, json!({ "message": error }));
    bob.join("general").await;

    disk.fill(false);
    let taken = async {
        while ada.call("message:send", message("general", "again")).await["ok"] != true {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(taken).await;
    while bob.event("message:new").await["content"] != "again" {}
    assert_eq!(bob.seen("error").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_sender_waits_when_its_room_is_behind() {
    const MESSAGES: u32 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    let content = "x".repeat(2_000);
    let flood = tokio::spawn(async move {
        let mut last = 0;
        for _ in 0..MESSAGES {
            last = ada.send("message:send", &message("general", &content)).await;
        }
        ada.ack(last).await;
    });
    let mut kept = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        kept = stand.cache.list_range("room:general:messages", 0, -1).await.unwrap().len();
    }
    assert_eq!(kept, 100);
    assert!(!flood.is_finished());
    // Other rooms are not behind.
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("elsewhere").await;
    disk.release();
    in_time(flood).await.unwrap();
}

#[tokio::test]
async fn a_sender_that_is_kept_waiting_is_not_taken_for_dead() {
    // More than a room takes, and no more than the connection's buffers hold beyond that.
    const MESSAGES: usize = 1_100;
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |options| {
        options.ping_interval = Duration::from_millis(300);
        options.ping_timeout = Duration::from_millis(600);
    })
    .await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    let mut last = 0;
    for n in 0..MESSAGES {
        last = ada.send("message:send", &message("general", n)).await;
    }
    // Her pongs lie behind messages that nobody takes.
    let release = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        disk.release();
    };
    tokio::join!(release, ada.ack(last));
    for n in 0..MESSAGES {
        assert_eq!(ada.event("message:new").await["content"], n.to_string());
    }
}
