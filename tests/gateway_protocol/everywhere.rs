//! What a program does with the sockets of all nodes.

use std::time::Duration;

use leveret::backend::{Cache, RedisCache};
use leveret::gateway::{Binary, GatewayOptions, Io, Recovery};
use leveret::model::clock::SystemClock;
use serde_json::{Value, json};

use crate::recovery::{Connected, connected, served};
use crate::redis_server::RedisServer;
use crate::stand::{PATIENCE, in_time, until};

/// The first byte of a whole binary frame.
const BINARY: u8 = 0x82;

/// Two nodes, the first with one client and the second with two.
struct Nodes {
    one: Io,
    other: Io,
    clients: Vec<Connected>,
    server: RedisServer,
}

impl Nodes {
    async fn start(recovery: Option<Recovery>) -> Self {
        let server = RedisServer::start();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
            let options =
                GatewayOptions { recovery: recovery.clone(), ..GatewayOptions::default() };
            nodes.push(Io::with_cache(options, Cache::Redis(cache), SystemClock::shared()));
        }
        let [one, other] = nodes.try_into().ok().expect("two nodes");
        let mut clients = vec![connected(served(&one).await, &json!({})).await];
        let address = served(&other).await;
        for _ in 0..2 {
            clients.push(connected(address, &json!({})).await);
        }
        until(|| one.root().connections() == 1 && other.root().connections() == 2).await;
        // Each listens to what the other asks.
        for node in [&one, &other] {
            in_time(async {
                while node.root().everybody().count_all_sockets().await.map(|all| all.value).ok()
                    != Some(3)
                {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        Self { one, other, clients, server }
    }

    async fn each_gets(&mut self, event: Value) {
        for client in &mut self.clients {
            assert_eq!(in_time(client.event()).await.0, event);
        }
    }
}

/// The number of an event that is to be acknowledged.
async fn asked(client: &mut Connected) -> String {
    let text = in_time(client.websocket.next_text()).await;
    let id = text.strip_prefix("42").and_then(|text| text.strip_suffix(r#"["ask","a",1]"#));
    id.expect(&text).to_owned()
}

#[tokio::test]
async fn the_acknowledgements_of_all_nodes_are_waited_for() {
    for recovery in [None, Some(Recovery::default())] {
        let mut nodes = Nodes::start(recovery).await;
        let (one, ids) = (nodes.one.clone(), nodes.clients.iter().map(|it| it.sid.clone()));
        let ids: Vec<String> = ids.collect();
        let root = one.root().everybody();
        let asking = root.emit_with_all_acks("ask", ("a", 1), PATIENCE);
        let answering = async {
            let [here, there, leaving] = &mut nodes.clients[..] else { panic!("three clients") };
            let id = asked(here).await;
            here.websocket.text(&format!("43{id}[7,\"x\"]")).await;
            let id = asked(there).await;
            let placed = r#"[{"_placeholder":true,"num":0}]"#;
            there.websocket.text(&format!("461-{id}{placed}")).await;
            there.websocket.frame(BINARY, b"\x00\xff").await;
            asked(leaving).await;
            leaving.websocket.text("41").await;
        };
        let (told, ()) = tokio::join!(asking, answering);
        let told = told.unwrap();
        assert_eq!(told.missing_nodes, 0);
        let missing: Vec<String> = told.value.missing.iter().map(ToString::to_string).collect();
        assert_eq!(missing, [ids[2].clone()]);
        let replies = told.value.replies;
        assert_eq!(replies.len(), 2);
        let of = |id: &String| &replies.iter().find(|(from, _)| from.to_string() == *id).unwrap().1;
        assert_eq!(of(&ids[0]).arg::<u8>(0).unwrap(), 7);
        assert_eq!(of(&ids[0]).arg::<String>(1).unwrap(), "x");
        let bytes = of(&ids[1]).arg::<Binary>(0).unwrap();
        assert_eq!(&bytes.0[..], b"\x00\xff");
    }
}

#[tokio::test]
async fn who_does_not_acknowledge_in_time_is_missing_on_whichever_node() {
    let mut nodes = Nodes::start(None).await;
    let root = nodes.one.root().everybody();
    let told = root.emit_with_all_acks("ask", ("a", 1), Duration::from_millis(20)).await.unwrap();
    assert_eq!((told.missing_nodes, told.value.replies.len()), (0, 0));
    let mut missing: Vec<String> = told.value.missing.iter().map(ToString::to_string).collect();
    let mut ids: Vec<String> = nodes.clients.iter().map(|client| client.sid.clone()).collect();
    missing.sort();
    ids.sort();
    assert_eq!(missing, ids);
    for client in &mut nodes.clients {
        asked(client).await;
    }
}

/// The operation of a frame.
fn op(frame: &[u8]) -> Value {
    let line = frame.split(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice::<Value>(line).unwrap()["op"].take()
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_collected_on_other_nodes() {
    let mut nodes = Nodes::start(None).await;
    let cache = RedisCache::connect(&nodes.server.url(), PATIENCE).await.expect("a connection");
    let cache = Cache::Redis(cache);
    let mut said = cache.subscribe("leveret:nodes:/").await.unwrap();
    let root = nodes.one.root().everybody();
    let asking = root.emit_with_all_acks("ask", ("a", 1), PATIENCE);
    let was_asked = async {
        let frame = op(&said.next().await.unwrap());
        (frame["ask"].clone(), asked(&mut nodes.clients[1]).await)
    };
    let (question, id) = tokio::select! {
        _ = asking => panic!("nobody has answered"),
        question = in_time(was_asked) => question,
    };
    let given_up = op(&in_time(said.next()).await.unwrap());
    let mark = json!({ "id": question["id"], "node": question["node"] });
    assert_eq!(given_up, json!({ "give_up": mark }));

    // The other node has heard it before this question, and the first acknowledgement before the second.
    let asker = question["node"].as_str().unwrap();
    let mut answers = cache.subscribe(&format!("leveret:node:{asker}:/")).await.unwrap();
    assert_eq!(root.count_all_sockets().await.unwrap().value, 3);
    let (sid, other) = (nodes.clients[1].sid.clone(), nodes.other.root().everybody());
    let other = other.to(&sid);
    let client = &mut nodes.clients[1];
    let acknowledging = async {
        let last = asked(client).await;
        client.websocket.text(&format!("43{id}[]")).await;
        client.websocket.text(&format!("43{last}[]")).await;
    };
    let (told, ()) = tokio::join!(other.emit_with_ack("ask", ("a", 1), PATIENCE), acknowledging);
    assert_eq!(told.unwrap().replies.len(), 1);
    assert_eq!(root.count_all_sockets().await.unwrap().value, 3);
    for _ in 0..2 {
        let part: Value = serde_json::from_slice(&in_time(answers.next()).await.unwrap()).unwrap();
        assert_eq!(part["items"], json!([2]), "a count, not what was acknowledged");
    }
}

#[tokio::test]
async fn a_volatile_question_is_not_for_who_has_something_to_read_on_another_node() {
    let mut nodes = Nodes::start(None).await;
    let busy = nodes.clients[2].sid.clone();
    let other = nodes.other.root().everybody().to(&busy).local();
    let filler = "x".repeat(100_000);
    while other.clone().volatile().emit("tick", &filler).unwrap() == 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let root = nodes.one.root().everybody().volatile();
    let asking = root.emit_with_all_acks("ask", ("a", 1), PATIENCE);
    let answering = async {
        for client in &mut nodes.clients[..2] {
            let id = asked(client).await;
            client.websocket.text(&format!("43{id}[]")).await;
        }
    };
    let (told, ()) = in_time(async { tokio::join!(asking, answering) }).await;
    let told = told.unwrap().value;
    assert_eq!(told.replies.len(), 2);
    let [missing] = &told.missing[..] else { panic!("one is missing: {told:?}") };
    assert_eq!(missing.to_string(), busy);
    other.emit("end", ()).unwrap();
    let mut texts = Vec::new();
    while texts.last().is_none_or(|last| last != r#"42["end"]"#) {
        texts.push(nodes.clients[2].websocket.next_text().await);
    }
    assert!(texts.iter().all(|text| !text.contains("ask")));
}

#[tokio::test]
async fn what_is_done_right_after_an_event_is_done_after_it_on_each_node() {
    for recovery in [None, Some(Recovery::default())] {
        let mut nodes = Nodes::start(recovery).await;
        let root = nodes.one.root().clone();
        for n in 0..20 {
            root.to("all").emit("early", &n).unwrap();
            root.everybody().join("all").unwrap();
            root.to("all").emit("in", &n).unwrap();
            root.to("all").leave("all");
            root.to("all").emit("late", &n).unwrap();
            root.emit("end", &n).unwrap();
            for (at, client) in nodes.clients.iter_mut().enumerate() {
                let mut got = in_time(client.event()).await.0;
                // The first node's own client is in the room at once.
                if at == 0 && got[0] == "early" {
                    got = in_time(client.event()).await.0;
                }
                assert_eq!(got, json!(["in", n]));
                assert_eq!(in_time(client.event()).await.0, json!(["end", n]));
            }
        }
        root.everybody().join("all").unwrap();
        root.to("all").leave("all");
        root.everybody().join("all").unwrap();
        root.to("all").emit("bye", &1).unwrap();
        root.to("all").disconnect();
        root.to("all").emit("late", &1).unwrap();
        for client in &mut nodes.clients {
            assert_eq!(in_time(client.event()).await.0, json!(["bye", 1]));
            assert_eq!(in_time(client.websocket.next_text()).await, "41");
        }
    }
}

#[tokio::test]
async fn sockets_of_all_nodes_join_leave_and_go() {
    for recovery in [None, Some(Recovery::default())] {
        let mut nodes = Nodes::start(recovery).await;
        let (one, other) = (nodes.one.clone(), nodes.other.clone());
        one.root().everybody().join("all").unwrap();
        one.root().to("all").emit("joined", &1).unwrap();
        nodes.each_gets(json!(["joined", 1])).await;
        other.root().to("all").leave("all");
        other.root().to("all").emit("nobody", &2).unwrap();
        other.root().emit("left", &3).unwrap();
        nodes.each_gets(json!(["left", 3])).await;

        let there = nodes.clients[1].sid.clone();
        let found = one.root().everybody().fetch_all_sockets().await.unwrap().value;
        let remote = found.iter().find(|socket| socket.id().to_string() == there).unwrap();
        remote.join("alone").unwrap();
        one.root().to("alone").emit("alone", &4).unwrap();
        assert_eq!(in_time(nodes.clients[1].event()).await.0, json!(["alone", 4]));
        remote.leave("alone");
        one.root().to("alone").emit("nobody", &5).unwrap();
        remote.emit("you", ("there", 6)).unwrap();
        assert_eq!(in_time(nodes.clients[1].event()).await.0, json!(["you", "there", 6]));
        remote.disconnect();
        assert_eq!(in_time(nodes.clients.remove(1).websocket.next_text()).await, "41");
        one.root().emit("rest", &7).unwrap();
        nodes.each_gets(json!(["rest", 7])).await;

        one.root().everybody().disconnect();
        for client in &mut nodes.clients {
            assert_eq!(in_time(client.websocket.next_text()).await, "41");
        }
    }
}
