//! Who may come back as whom, and what is written down of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use leveret::backend::Cache;
use leveret::cache::{AppendFsync, Cache as Engine, Recovery as Loading};
use leveret::gateway::{GatewayOptions, Io, Recovery, Socket};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use serde_json::{Value, json};

use crate::recovery::{connected, io, served};
use crate::stand::until;
use crate::websocket::{QUERY, WebSocket};

/// The field names and values under which the sessions of the root namespace are kept.
async fn kept(cache: &Engine) -> HashMap<String, String> {
    let fields = cache.hgetall("leveret:recovery:/:sessions").unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|(field, value)| (text(field), text(value))).collect()
}

pub fn engine() -> Engine {
    let clock = SystemClock::shared();
    Engine::new(Journal::in_memory(), clock, AppendFsync::No, Loading::default())
}

/// A server on the cache; one after another is a restart.
pub fn server(engine: &Engine) -> Io {
    let options =
        GatewayOptions { recovery: Some(Recovery::default()), ..GatewayOptions::default() };
    Io::with_cache(options, Cache::Embedded(engine.clone()), SystemClock::shared())
}

fn only(io: &Io) -> Socket {
    io.root().fetch_sockets().remove(0)
}

#[tokio::test]
async fn who_answers_keeps_its_session_and_a_copy_of_its_claim_is_nothing() {
    let io = io(Recovery::default());
    let address = served(&io).await;
    let (_, pid) = connected(address, &json!({})).await.cut(&io).await;
    let claim = json!({ "pid": pid });
    let mut back = connected(address, &claim).await;
    assert_eq!(back.pid, pid);
    for _ in 0..3 {
        let copying = tokio::spawn({
            let claim = claim.clone();
            async move { connected(address, &claim).await }
        });
        assert_eq!(back.websocket.next_text().await, "2");
        back.websocket.text("3").await;
        let copy = copying.await.unwrap();
        assert!(copy.pid != pid && copy.sid != back.sid);
        io.root().to(&back.sid).emit("still", &1).unwrap();
        assert_eq!(back.event().await.0, json!(["still", 1]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_claim_a_session_at_once_one_gets_it() {
    const COPIES: usize = 4;
    let io = io(Recovery::default());
    let address = served(&io).await;
    let (_, pid) = connected(address, &json!({})).await.cut(&io).await;
    for _ in 0..20 {
        let (told, mut pids) = tokio::sync::mpsc::channel(COPIES);
        let copies: [_; COPIES] = std::array::from_fn(|_| {
            tokio::spawn(claimed(address, json!({ "pid": pid }), told.clone()))
        });
        let mut got = 0;
        for _ in 0..COPIES {
            got += usize::from(pids.recv().await.unwrap() == pid);
        }
        assert_eq!(got, 1);
        copies.iter().for_each(tokio::task::JoinHandle::abort);
        until(|| io.root().connections() == 0).await;
    }
}

/// Connects, tells its `pid`, and answers for as long as it is let.
async fn claimed(address: SocketAddr, claim: Value, told: tokio::sync::mpsc::Sender<String>) {
    let mut client = connected(address, &claim).await;
    told.send(client.pid.clone()).await.unwrap();
    loop {
        assert_eq!(client.websocket.next_text().await, "2");
        client.websocket.text("3").await;
    }
}

#[tokio::test]
async fn a_join_writes_a_field_that_does_not_grow_with_the_rooms() {
    let engine = engine();
    let io = server(&engine);
    let _client = connected(served(&io).await, &json!({})).await;
    let before = kept(&engine).await;
    let longest = |fields: &HashMap<String, String>| {
        fields.iter().map(|(field, value)| field.len() + value.len()).max().unwrap()
    };
    for n in 0..200 {
        only(&io).join(&format!("room {n}")).unwrap();
    }
    let after = kept(&engine).await;
    assert_eq!((longest(&after), after.len()), (longest(&before), before.len() + 200));
    let changed = before.iter().filter(|(field, value)| after.get(*field) != Some(value));
    assert_eq!(changed.count(), 0, "no join writes what was written before");
    for n in 0..200 {
        only(&io).leave(&format!("room {n}"));
    }
    assert_eq!(kept(&engine).await, before);
}

#[tokio::test]
async fn rooms_that_were_joined_and_left_are_so_after_a_restart() {
    let engine = engine();
    let io = server(&engine);
    let client = connected(served(&io).await, &json!({})).await;
    for room in ["a", "b b", "c"] {
        only(&io).join(room).unwrap();
    }
    only(&io).leave("c");
    only(&io).leave("a");
    only(&io).join("a").unwrap();

    let io = server(&engine);
    let address = served(&io).await;
    let mut again = connected(address, &json!({ "pid": client.pid })).await;
    assert_eq!(again.sid, client.sid);
    let mut rooms: Vec<String> = only(&io).rooms().iter().map(|room| room.to_string()).collect();
    rooms.sort();
    assert_eq!(rooms, ["a", "b b"]);
    assert_eq!(kept(&engine).await.len(), 3);
    again.websocket.text("41").await;
    until(|| io.root().connections() == 0).await;
    assert!(kept(&engine).await.is_empty(), "it does not come back");
}

#[tokio::test]
async fn what_is_left_of_sessions_that_cannot_be_read_is_removed() {
    let engine = engine();
    let first = server(&engine);
    let client = connected(served(&first).await, &json!({})).await;
    only(&first).join("mine").unwrap();
    for field in
        ["no pid", "00000000000000000000000000000001 room", "00000000000000000000000000000002"]
    {
        engine.hset("leveret:recovery:/:sessions", field, "7").unwrap();
    }
    let io = server(&engine);
    let address = served(&io).await;
    let mut names: Vec<String> = kept(&engine).await.into_keys().collect();
    names.sort();
    assert_eq!(names, [client.pid.clone(), format!("{} mine", client.pid)]);
    let again = connected(address, &json!({ "pid": client.pid })).await;
    assert!(again.sid == client.sid && only(&io).is_in("mine"));
}

#[tokio::test]
async fn a_claim_whose_client_is_gone_too_stands_in_no_later_one_s_way() {
    let io = io(Recovery::default());
    let address = served(&io).await;
    // Clients that are silent when they are asked whether they are there, as behind a network that fails
    // again before the server knows that it did before.
    let silent = connected(address, &json!({})).await;
    let claim = json!({ "pid": silent.pid });
    let mut as_silent = WebSocket::open(address, QUERY, &[]).await.unwrap();
    assert!(as_silent.next_text().await.starts_with('0'));
    as_silent.text(&format!("40{claim}")).await;
    // The server has the claim when it asks the first one.
    let mut silent_too = silent.websocket;
    assert_eq!(silent_too.next_text().await, "2");
    let back = connected(address, &claim).await;
    assert_eq!((&back.pid, &back.sid), (&silent.pid, &silent.sid));
    until(|| io.root().connections() == 1).await;
}
