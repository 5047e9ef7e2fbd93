//! Several gateways on one Redis are one to their clients.

use std::time::Duration;

use leveret::backend::{Audience, Cache, Held, Holding, Leases, RedisCache};
use leveret::gateway::{GatewayOptions, Io, Recovery, Socket as IoSocket};
use leveret::model::clock::SystemClock;
use leveret::model::names::{RoomId, UserId};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::recovery::{connected, served};
use crate::redis_server::RedisServer;
use crate::socket::Socket;
use crate::stand::{PATIENCE, Stand, in_time, until};

/// A gateway on a connection of its own.
pub async fn node(server: &RedisServer, set: impl FnOnce(&mut GatewayOptions)) -> Stand {
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    Stand::on_cache(Cache::Redis(cache), set).await
}

/// Two gateways, with recovery and without.
pub async fn pairs(server: &RedisServer) -> [(Stand, Stand); 2] {
    let without = |options: &mut GatewayOptions| options.recovery = None;
    let pair = (node(server, |_| {}).await, node(server, |_| {}).await);
    [pair, (node(server, without).await, node(server, without).await)]
}

/// Waits until the node of `socket` listens to what others say at most once, as `node` does.
pub async fn hears(socket: &mut Socket, node: &Stand) {
    in_time(async {
        while socket.take("presence:changed").await.is_empty() {
            let _waker = Socket::connect(node, "waker").await;
        }
    })
    .await;
}

/// What the server answers.
pub fn ask(server: &RedisServer, request: &[&str]) -> String {
    let mut command = std::process::Command::new("redis-cli");
    let answer = command.args(["-p", &server.port().to_string()]).args(request).output();
    let answer = answer.expect("redis-cli is installed");
    assert!(answer.status.success(), "{request:?}");
    String::from_utf8(answer.stdout).expect("a text")
}

pub fn room() -> RoomId {
    RoomId::new("general").unwrap()
}

#[tokio::test]
async fn members_on_two_nodes_get_every_message_once_and_in_one_order() {
    for at in 0..2 {
        let server = RedisServer::start();
        let [with, without] = pairs(&server).await;
        let (one, other) = if at == 0 { with } else { without };
        let mut ada = Socket::connect(&one, "ada").await;
        let mut bob = Socket::connect(&other, "bob").await;
        ada.join("general").await;
        bob.join("general").await;
        let mut acks = Vec::new();
        for number in 0..50 {
            let text =
                |who: &str| json!({ "roomId": "general", "content": format!("{who}{number}") });
            acks.push((ada.send("message:send", &text("ada")).await, None));
            acks.push((0, Some(bob.send("message:send", &text("bob")).await)));
        }
        let mut offsets = Vec::new();
        for (ack, of_bob) in acks {
            let ack = match of_bob {
                None => in_time(ada.ack(ack)).await,
                Some(ack) => in_time(bob.ack(ack)).await,
            };
            assert_eq!(ack["ok"], true, "{ack}");
            offsets.push(ack["offset"].as_str().expect("an offset").to_owned());
        }
        let (mut of_ada, mut of_bob) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            of_ada.push(in_time(ada.event("message:new")).await);
            of_bob.push(in_time(bob.event("message:new")).await);
        }
        assert_eq!(of_ada, of_bob);
        offsets.sort();
        offsets.dedup();
        assert_eq!(offsets.len(), 100);
        assert_eq!(ada.seen("message:new").await, Vec::<Value>::new());
        assert_eq!(bob.seen("message:new").await, Vec::<Value>::new());
        // Who comes now finds the newest in the history, in the same order, on whichever node.
        of_ada.reverse();
        of_ada.truncate(50);
        for stand in [&one, &other] {
            let mut eve = Socket::connect(stand, "eve").await;
            assert_eq!(eve.join("general").await["messages"], json!(of_ada));
            assert_eq!(eve.seen("message:new").await, Vec::<Value>::new());
        }
    }
}

/// Its history and what follows it are the room's messages, none twice and none left out.
#[tokio::test]
async fn who_joins_while_another_node_is_talking_misses_nothing() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let mut ada = Socket::connect(&one, "ada").await;
    ada.join("general").await;
    for round in 0..10 {
        let mut joiner = Socket::connect(&other, "eve").await;
        let mut sent = Vec::new();
        for number in 0..20 {
            let content = format!("{round}:{number}");
            sent.push(
                ada.send("message:send", &json!({ "roomId": "general", "content": content })).await,
            );
        }
        let history = joiner.join("general").await;
        for ack in sent {
            assert_eq!(in_time(ada.ack(ack)).await["ok"], true);
        }
        let texts = |messages: &[Value]| -> Vec<String> {
            messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
        };
        let mut got = texts(history["messages"].as_array().expect("messages"));
        got.reverse();
        got.retain(|text| text.starts_with(&format!("{round}:")));
        while got.len() < 20 {
            got.extend(texts(&[in_time(joiner.event("message:new")).await]));
        }
        let expected: Vec<String> = (0..20).map(|number| format!("{round}:{number}")).collect();
        assert_eq!(got, expected);
        assert_eq!(joiner.seen("message:new").await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_message_that_is_sent_again_on_another_node_is_the_same_message() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let (mut first, mut second) =
        (Socket::connect(&one, "ada").await, Socket::connect(&other, "ada").await);
    first.join("general").await;
    second.join("general").await;
    let message = json!({ "roomId": "general", "content": "hi", "clientId": "m-1" });
    let ack = in_time(first.call("message:send", message.clone())).await;
    let again = in_time(second.call("message:send", message)).await;
    assert_eq!((&again["ok"], &again["id"]), (&json!(true), &ack["id"]));
    assert_eq!(second.event("message:new").await["id"], ack["id"]);
    assert_eq!(second.seen("message:new").await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_one_user_calls_its_message_is_nothing_to_another() {
    let server = RedisServer::start();
    let [(one, _other), _rest] = pairs(&server).await;
    // In a name of three parts with colons between them these would be one.
    for (user, client_id) in [("ada", "x:1"), ("ada:x", "1")] {
        let mut socket = Socket::connect(&one, user).await;
        socket.join("general").await;
        let message = json!({ "roomId": "general", "content": user, "clientId": client_id });
        let ack = in_time(socket.call("message:send", message)).await;
        assert_eq!(in_time(socket.event("message:new")).await["id"], ack["id"]);
    }
    let mut eve = Socket::connect(&one, "eve").await;
    assert_eq!(eve.join("general").await["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn typing_presence_and_what_the_program_emits_reach_all_nodes_once() {
    let server = RedisServer::start();
    for (one, other) in pairs(&server).await {
        let mut ada = Socket::connect(&one, "ada").await;
        let mut bob = Socket::connect(&other, "bob").await;
        ada.join("general").await;
        bob.join("general").await;
        // Until this node listens to the channel that is news or nothing.
        in_time(async {
            while bob.seen("presence:changed").await.is_empty() {
                ada.call("presence:update", json!("away")).await;
            }
        })
        .await;
        assert_eq!(ada.call("typing:start", json!("general")).await["ok"], true);
        assert_eq!(in_time(bob.event("typing:user")).await["userId"], "ada");
        assert_eq!(ada.seen("typing:user").await, Vec::<Value>::new());

        one.gateway.emit_to_user(&UserId::new("bob").unwrap(), "notification", &json!(1));
        one.gateway.emit_to_room(&room(), "notification", &json!(2)).await;
        one.gateway.emit_to_all("notification", &json!(3));
        // As the server API does.
        let audiences =
            [Audience::User(UserId::new("bob").unwrap()), Audience::Room(room()), Audience::All];
        for (number, to) in (4..).zip(&audiences) {
            let payload = to_raw_value(&number).unwrap();
            one.gateway.emit(to, "notification", &payload).await.unwrap();
        }
        for (socket, expected) in [(&mut bob, &[1, 2, 3, 4, 5, 6][..]), (&mut ada, &[2, 3, 5, 6])] {
            for number in expected {
                assert_eq!(in_time(socket.event("notification")).await, json!(number));
            }
            assert_eq!(socket.seen("notification").await, Vec::<Value>::new(), "once");
        }
    }
}

#[tokio::test]
async fn a_user_is_disconnected_on_whichever_node_it_is() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let _bob = Socket::connect(&other, "bob").await;
    let _eve = Socket::connect(&other, "eve").await;
    other.connections(2).await;
    assert_eq!(one.gateway.disconnect_user(&UserId::new("bob").unwrap()), 0);
    other.connections(1).await;
}

/// The statuses of a user that a socket was told, since it looked last.
async fn statuses(socket: &mut Socket, user: &str) -> Vec<String> {
    let told = socket.take("presence:changed").await;
    let of_user = told.into_iter().filter(|changed| changed["userId"] == user);
    of_user.map(|changed| changed["status"].as_str().expect("a status").to_owned()).collect()
}

#[tokio::test]
async fn a_user_is_there_from_the_first_socket_on_any_node_to_the_last() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let mut watcher = Socket::connect(&other, "watcher").await;
    hears(&mut watcher, &one).await;
    let here = Socket::connect(&one, "bob").await;
    until_told(&mut watcher, "bob", &["online"]).await;
    let there = Socket::connect(&other, "bob").await;
    let key = "presence:bob";
    drop(here);
    one.connections(0).await;
    one.gateway.shutdown().await;
    assert_eq!(statuses(&mut watcher, "bob").await, Vec::<String>::new());
    assert!(other.cache.get(key).await.expect("an answer").is_some());
    drop(there);
    until_told(&mut watcher, "bob", &["offline"]).await;
    in_time(async {
        while other.cache.get(key).await.expect("an answer").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until a socket was told these statuses of a user, and no others.
async fn until_told(socket: &mut Socket, user: &str, expected: &[&str]) {
    let mut told = Vec::new();
    in_time(async {
        while told.len() < expected.len() {
            told.extend(statuses(socket, user).await);
        }
    })
    .await;
    told.extend(statuses(socket, user).await);
    assert_eq!(told, expected);
}

#[test]
fn users_of_a_node_that_is_gone_are_offline_within_the_lease_and_once() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (dying, living) = (runtime(), runtime());
    let server = RedisServer::start();
    let lease = Duration::from_secs(2);
    let set = move |options: &mut GatewayOptions| options.lease = lease;
    let gone = dying.block_on(node(&server, set));
    living.block_on(async {
        let (one, other) = (node(&server, set).await, node(&server, set).await);
        let mut watchers =
            [Socket::connect(&one, "watcher").await, Socket::connect(&other, "watcher").await];
        for watcher in &mut watchers {
            hears(watcher, &gone).await;
        }
        let (bob, eve) = (Socket::connect(&gone, "bob").await, Socket::connect(&gone, "eve").await);
        let _still_there = Socket::connect(&one, "eve").await;
        for watcher in &mut watchers {
            in_time(async { while statuses(watcher, "bob").await.is_empty() {} }).await;
        }
        // As a process that is killed: nobody says goodbye.
        dying.shutdown_background();
        for watcher in &mut watchers {
            until_told(watcher, "bob", &["offline"]).await;
            assert_eq!(
                statuses(watcher, "eve").await.iter().filter(|s| *s == "offline").count(),
                0
            );
        }
        drop((bob, eve));
    });
}

/// A node has a socket of a user.
async fn hold(leases: &Leases, user: &str, node: &str, lease: Duration) -> Held {
    let group = "users".to_owned();
    let holding = Holding { group, member: user.to_owned(), note: String::new() };
    leases.hold(node, lease, &holding, &[]).unwrap().held().await.unwrap()
}

/// More than one step takes over.
#[tokio::test]
async fn however_many_a_dead_node_had_each_is_told_offline_once_but_those_who_are_elsewhere() {
    const USERS: usize = 1_200;
    let server = RedisServer::start();
    let lease = Duration::from_millis(900);
    let set = move |options: &mut GatewayOptions| options.lease = lease;
    let (one, other) = (node(&server, set).await, node(&server, set).await);
    let mut watcher = Socket::connect(&other, "watcher").await;
    hears(&mut watcher, &one).await;
    let leases = one.cache.leases().expect("leases");
    let moved = |number: usize| number.is_multiple_of(3);
    let day = Duration::from_secs(86_400);
    for number in 0..USERS {
        let user = format!("user{number}");
        assert!(hold(&leases, &user, "dead", day).await.is_first);
        if moved(number) {
            assert!(!hold(&leases, &user, "elsewhere", day).await.is_first);
        }
        one.cache.set(&format!("presence:{user}"), "{}", None).await.unwrap();
    }
    assert!(!leases.renew("dead", Duration::from_millis(1)).await.unwrap(), "it lasted until here");
    let mut gone = Vec::new();
    let mut take = async |gone: &mut Vec<String>| {
        let told = watcher.take("presence:changed").await;
        let of_dead = told.iter().filter_map(|told| told["userId"].as_str());
        gone.extend(of_dead.filter(|user| user.starts_with("user")).map(str::to_owned));
    };
    in_time(async {
        while gone.len() < USERS - USERS / 3 {
            take(&mut gone).await;
        }
    })
    .await;
    // Each survivor looks once more.
    tokio::time::sleep(lease).await;
    take(&mut gone).await;
    gone.sort();
    let left = (0..USERS).filter(|number| !moved(*number));
    let mut expected: Vec<String> = left.map(|number| format!("user{number}")).collect();
    expected.sort();
    assert_eq!(gone, expected);
    assert_eq!(one.cache.get("presence:user1").await.unwrap(), None);
    assert!(one.cache.get("presence:user3").await.unwrap().is_some());
}

#[tokio::test]
async fn what_a_node_says_after_its_end_does_not_bring_it_back() {
    let server = RedisServer::start();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let leases = Cache::Redis(cache).leases().expect("leases");
    for holds in [false, true] {
        assert!(leases.renew("over", PATIENCE).await.unwrap());
        if holds {
            hold(&leases, "ada", "over", PATIENCE).await;
        }
        leases.end("over").await.unwrap();
        assert!(leases.nodes().await.unwrap().is_empty());
        assert!(!leases.renew("over", PATIENCE).await.unwrap());
        let late = hold(&leases, "bob", "over", PATIENCE).await;
        assert_eq!((late.is_first, late.had_no_lease), (false, false));
        assert!(leases.nodes().await.unwrap().is_empty());
        // Nobody waits for a lease to end before somebody else comes.
        assert!(hold(&leases, "bob", "other", PATIENCE).await.is_first);
        ask(&server, &["FLUSHALL"]);
    }
}

#[tokio::test]
async fn that_a_node_is_over_is_said_again_where_it_was_not_taken() {
    let server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let leases = stand.cache.leases().expect("leases");
    let mut there = Vec::new();
    in_time(async {
        while there.is_empty() {
            there = leases.nodes().await.unwrap();
        }
    })
    .await;
    let holds = format!("leveret:holds:{}", there[0]);
    // The server refuses to look into it.
    ask(&server, &["SET", &holds, "no hash"]);
    stand.gateway.shutdown().await;
    assert_eq!(leases.nodes().await.unwrap(), there);
    ask(&server, &["DEL", &holds]);
    stand.gateway.shutdown().await;
    assert!(leases.nodes().await.unwrap().is_empty());
}

/// Others have taken some of its users when it is back, but not all.
#[tokio::test]
async fn a_node_that_comes_back_late_is_told_so_at_its_first_word() {
    let server = RedisServer::start();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let leases = Cache::Redis(cache).leases().expect("leases");
    let lease = Duration::from_millis(50);
    for number in 0..600 {
        hold(&leases, &format!("user{number}"), "silent", lease).await;
    }
    let mut lapsed = Vec::new();
    in_time(async {
        while lapsed.is_empty() {
            lapsed = leases.lapsed().await.unwrap();
        }
    })
    .await;
    assert_eq!(lapsed.len(), 500, "a step has a bound");
    for (node, holding) in &lapsed {
        assert!(leases.take_over(node, holding, &[]).unwrap().gone().await.unwrap());
    }
    assert!(leases.renew("silent", PATIENCE).await.unwrap(), "it has to hold its users again");
    assert!(!leases.renew("silent", PATIENCE).await.unwrap());
    assert_eq!(leases.lapsed().await.unwrap(), []);
    let again = hold(&leases, &lapsed[0].1.member, "silent", PATIENCE).await;
    assert_eq!((again.is_first, again.had_no_lease), (true, false));
    // Who took it for gone before it came back, and is late, takes nothing.
    let late = leases.take_over("silent", &lapsed[0].1, &[]).unwrap();
    assert!(!late.gone().await.unwrap());
    let new = hold(&leases, "user600", "later", PATIENCE).await;
    assert_eq!((new.is_first, new.had_no_lease), (true, true));
    let mut nodes = leases.nodes().await.unwrap();
    nodes.sort();
    assert_eq!(nodes, ["later", "silent"]);
}

#[tokio::test]
async fn a_programs_own_namespaces_span_nodes_too_unless_it_asks_for_this_one() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    for stand in [&one, &other] {
        let namespace = stand.gateway.io().root().clone();
        namespace.on("hello", move |socket: IoSocket| async move {
            socket.everybody().emit("everywhere", &1).unwrap();
            socket.everybody().local().emit("here", &1).unwrap();
        });
    }
    let mut ada = Socket::connect(&one, "ada").await;
    let mut bob = Socket::connect(&other, "bob").await;
    ada.websocket.text(r#"42["hello"]"#).await;
    in_time(bob.event("everywhere")).await;
    in_time(ada.event("everywhere")).await;
    in_time(ada.event("here")).await;
    assert_eq!(bob.seen("here").await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_is_said_while_the_server_is_away_is_refused_and_nothing_is_doubled_after() {
    let mut server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let mut ada = Socket::connect(&one, "ada").await;
    let mut bob = Socket::connect(&other, "bob").await;
    ada.join("general").await;
    bob.join("general").await;
    server.kill();
    let message = json!({ "roomId": "general", "content": "into the void" });
    let refused = in_time(ada.call("message:send", message)).await;
    assert!(refused["error"].is_string(), "{refused}");
    server.start_again();
    let message = |number: u32| json!({ "roomId": "general", "content": number.to_string() });
    let mut kept = Vec::new();
    in_time(async {
        for number in 0.. {
            let ack = ada.call("message:send", message(number)).await;
            if ack["ok"] == true {
                kept.push(ack["id"].clone());
            }
            if kept.len() == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for id in &kept {
        assert_eq!(in_time(bob.event("message:new")).await["id"], *id);
    }
    assert_eq!(bob.seen("message:new").await, Vec::<Value>::new());
    until(|| one.gateway.connections() == 1).await;
}

/// Entries go before this node has read them.
#[tokio::test]
async fn nobody_is_resumed_on_a_node_that_was_left_behind() {
    let server = RedisServer::start();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let options =
        GatewayOptions { recovery: Some(Recovery::default()), ..GatewayOptions::default() };
    let io = Io::with_cache(options, Cache::Redis(cache), SystemClock::shared());
    let address = served(&io).await;
    let mut client = connected(address, &json!({})).await;
    io.root().emit("seen", &0).unwrap();
    let (_, offset) = in_time(client.event()).await;
    let claim = json!({ "pid": client.pid, "offset": offset });

    // Nobody sees the entry between its coming and its going.
    let script =
        "redis.call('XADD', KEYS[1], '*', 'e', 'lost') redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)";
    ask(&server, &["EVAL", script, "1", "leveret:stream:/"]);
    ask(&server, &["CLIENT", "KILL", "TYPE", "normal"]);
    until(|| io.root().connections() == 0).await;
    let again = connected(address, &claim).await;
    assert_ne!(again.pid, client.pid, "what was lost is passed over");
}

/// Others have a turn in between.
#[tokio::test]
async fn what_an_emitter_asks_of_many_rooms_is_done_in_slices() {
    let server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let _ada = Socket::connect(&stand, "ada").await;
    let names: Vec<String> = (0..200).map(|number| format!("room{number}")).collect();
    // The one of the user itself beside them.
    let rooms = || stand.gateway.io().root().fetch_sockets()[0].rooms().len() - 1;
    for (kind, target) in [(2, 200), (3, 0)] {
        let request =
            json!({ "type": kind, "opts": { "rooms": [], "except": [] }, "rooms": names });
        // Until this node listens.
        in_time(async {
            while stand.cache.publish("socket.io-request#/#", request.to_string()).await.unwrap()
                == 0
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut seen = std::collections::BTreeSet::new();
        in_time(async {
            while rooms() != target {
                seen.insert(rooms());
                tokio::task::yield_now().await;
            }
        })
        .await;
        seen.retain(|count| (1..200).contains(count));
        assert!(!seen.is_empty(), "it was done in one go");
    }
}

/// Another node may have it again right after the step that gives it up.
#[tokio::test]
async fn the_key_of_a_user_that_left_goes_in_the_step_that_gives_it_up_and_not_once_more() {
    let server = RedisServer::start();
    let stand = node(&server, |options| options.recovery = None).await;
    let ada = Socket::connect(&stand, "ada").await;
    in_time(async { while stand.cache.get("presence:ada").await.unwrap().is_none() {} }).await;
    ask(&server, &["CONFIG", "RESETSTAT"]);
    drop(ada);
    in_time(async { while stand.cache.get("presence:ada").await.unwrap().is_some() {} }).await;
    in_time(stand.gateway.shutdown()).await;
    let calls = ask(&server, &["INFO", "commandstats"]);
    assert!(calls.contains("cmdstat_del:calls=1,"), "{calls}");
}
