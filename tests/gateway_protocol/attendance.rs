//! Who comes into a room and leaves it, over several nodes.

use std::time::Duration;

use leveret::backend::{Audience, Cache, Holding, RedisCache, Saying};
use leveret::gateway::{GatewayOptions, Part};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::nodes::{ask, hears, node, pairs, room};
use crate::redis_server::RedisServer;
use crate::socket::Socket;
use crate::stand::{PATIENCE, Stand, in_time, until};

/// What a socket was told of who came into its room and left it.
async fn comings(socket: &mut Socket) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for event in ["user:joined", "user:left"] {
        for user in socket.take(event).await {
            told.push((event.to_owned(), user["userId"].as_str().expect("a user").to_owned()));
        }
    }
    told
}

#[tokio::test]
async fn a_user_joins_a_room_with_its_first_socket_on_any_node_and_leaves_with_its_last() {
    let server = RedisServer::start();
    // A room each: who is gone may be leaving the other one still.
    for ((one, other), room) in pairs(&server).await.into_iter().zip(["general", "special"]) {
        let mut watchers =
            [Socket::connect(&one, "watcher").await, Socket::connect(&other, "watcher").await];
        for watcher in &mut watchers {
            hears(watcher, &one).await;
            watcher.join(room).await;
        }
        let mut here = Socket::connect(&one, "bob").await;
        let mut there = Socket::connect(&other, "bob").await;
        here.join(room).await;
        for watcher in &mut watchers {
            assert_eq!(
                in_time(watcher.event("user:joined")).await,
                json!({ "userId": "bob", "username": "BOB" })
            );
        }
        there.join(room).await;
        assert_eq!(here.call("leave:room", json!(room)).await["ok"], true);
        here.join(room).await;
        drop(there);
        other.connections(1).await;
        here.call("leave:room", json!(room)).await;
        for watcher in &mut watchers {
            in_time(watcher.event("user:left")).await;
            assert_eq!(comings(watcher).await, []);
        }
        // Its message comes behind its coming, in the order of its node.
        here.join(room).await;
        here.call("message:send", json!({ "roomId": room, "content": "hi" })).await;
        let [_, far] = &mut watchers;
        in_time(far.event("message:new")).await;
        assert_eq!(comings(far).await, [("user:joined".to_owned(), "bob".to_owned())]);
        drop((here, watchers));
        one.connections(0).await;
        other.connections(0).await;
    }
}

#[test]
fn users_of_a_node_that_is_gone_have_left_its_rooms_once_but_those_who_are_in_them_elsewhere() {
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
        let (mut bob, mut eve) =
            (Socket::connect(&gone, "bob").await, Socket::connect(&gone, "eve").await);
        let mut still_there = Socket::connect(&one, "eve").await;
        for socket in watchers.iter_mut().chain([&mut still_there, &mut bob, &mut eve]) {
            socket.join("general").await;
        }
        for watcher in &mut watchers {
            in_time(async {
                while in_time(watcher.event("user:joined")).await["userId"] != "bob" {}
            })
            .await;
        }
        // As a process that is killed: nobody says goodbye.
        dying.shutdown_background();
        for watcher in &mut watchers {
            let left = in_time(watcher.event("user:left")).await;
            assert_eq!(left, json!({ "userId": "bob", "username": "BOB" }));
        }
        // Each survivor looks once more.
        tokio::time::sleep(lease).await;
        for watcher in &mut watchers {
            assert_eq!(watcher.take("user:left").await, Vec::<Value>::new());
        }
        // Who is there is not one who comes.
        still_there.call("leave:room", json!("general")).await;
        assert_eq!(in_time(watchers[1].event("user:left")).await["userId"], "eve");
        drop((bob, eve));
    });
}

#[tokio::test]
async fn who_left_a_room_while_the_server_was_away_has_left_it_when_that_is_back() {
    let mut server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let mut watcher = Socket::connect(&other, "watcher").await;
    watcher.join("general").await;
    let mut bob = Socket::connect(&one, "bob").await;
    bob.join("general").await;
    in_time(watcher.event("user:joined")).await;
    server.kill();
    drop(bob);
    one.connections(0).await;
    server.start_again();
    assert_eq!(in_time(watcher.event("user:left")).await["userId"], "bob");
    assert_eq!(comings(&mut watcher).await, []);
}

/// What is done again, as its answer was lost, is done and said once.
#[tokio::test]
async fn what_is_held_and_given_up_is_said_once_however_often_it_is_asked_for() {
    let server = RedisServer::start();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let cache = Cache::Redis(cache);
    let leases = cache.leases().expect("leases");
    let mut said = cache.subscribe("said").await.unwrap();
    let holding = |note: &str| Holding {
        group: "room:a:b".to_owned(),
        member: "ada".to_owned(),
        note: note.to_owned(),
    };
    let says = |text: &str| {
        [Saying::Publish { channel: "said".to_owned(), payload: text.as_bytes().to_vec() }]
    };
    let (came, left) = (says("came"), says("left"));
    let mut firsts = Vec::new();
    for node in ["one", "one", "other"] {
        let held = leases.hold(node, PATIENCE, &holding("Ada"), &came).unwrap();
        firsts.push(held.held().await.unwrap().is_first);
    }
    assert_eq!(firsts, [true, false, false]);
    let mut gone = Vec::new();
    for node in ["one", "one", "other", "other", "other"] {
        let given_up = leases.give_up(node, &holding(""), &left).unwrap();
        gone.push(given_up.gone().await.unwrap());
    }
    assert_eq!(gone, [false, false, true, true, true]);
    cache.publish("said", "end").await.unwrap();
    for expected in ["came", "left", "end"] {
        assert_eq!(in_time(said.next()).await.unwrap(), expected);
    }
}

/// Nobody waits for the end of its lease.
#[tokio::test]
async fn a_node_that_is_shut_down_has_told_who_left_it_and_is_not_missed() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, |_| {}).await, node(&server, |_| {}).await);
    let mut watcher = Socket::connect(&other, "watcher").await;
    watcher.join("general").await;
    let mut bob = Socket::connect(&one, "bob").await;
    bob.join("general").await;
    in_time(watcher.event("user:joined")).await;
    let leases = other.cache.leases().expect("leases");
    assert_eq!(leases.nodes().await.unwrap().len(), 2);
    in_time(one.gateway.shutdown()).await;
    drop(bob);
    assert_eq!(leases.nodes().await.unwrap().len(), 1);
    assert_eq!(in_time(watcher.event("user:left")).await["userId"], "bob");
    let part = Part { after: String::new(), limit: 10 };
    let members = other.gateway.members(&room(), &part).await.unwrap();
    assert_eq!((members.value.len(), members.missing_nodes), (1, 0));
}

/// What the server knows of the only node, as if it had lost that.
async fn forget_node(server: &RedisServer, stand: &Stand) -> String {
    let nodes = stand.cache.leases().expect("leases").nodes().await.unwrap();
    let holds = format!("leveret:holds:{}", nodes[0]);
    let script =
        "redis.call('DEL', KEYS[1], KEYS[2], unpack(redis.call('KEYS', 'leveret:held:*')))";
    ask(server, &["EVAL", script, "2", "leveret:node-leases", &holds]);
    holds
}

/// However many it has to note again, what others send meanwhile does not wait behind all of it.
#[tokio::test]
async fn a_node_whose_lease_lapsed_notes_its_rooms_again_some_at_a_time() {
    const USERS: usize = 30;
    const ROOMS: usize = 50;
    let server = RedisServer::start_with(&["--appendfsync", "no"]);
    let set = |options: &mut GatewayOptions| {
        (options.lease, options.recovery) = (Duration::from_secs(1), None);
    };
    let stand = node(&server, set).await;
    let mut sockets = Vec::new();
    for number in 0..USERS {
        let mut socket = Socket::connect(&stand, &format!("user{number}")).await;
        for room in 0..ROOMS {
            socket.send("join:room", &json!(format!("room{room}"))).await;
        }
        sockets.push(socket);
    }
    for socket in &mut sockets {
        for ack in 0..ROOMS as u64 {
            assert_eq!(socket.ack(ack).await["ok"], true);
        }
    }
    let holds = forget_node(&server, &stand).await;
    let held = || ask(&server, &["HLEN", &holds]).trim().parse::<usize>().unwrap();
    let all = USERS * ROOMS + USERS;
    // The first that are noted again have arrived.
    until(|| held() > USERS).await;
    let event = to_raw_value(&1).unwrap();
    assert_eq!(stand.gateway.emit(&Audience::All, "event", &event).await.unwrap(), USERS);
    let before = held();
    assert!(before < USERS * ROOMS, "the event waited behind all {before}");
    until(|| held() == all).await;
}

#[tokio::test]
async fn a_user_whose_room_is_noted_again_is_not_told_of_itself() {
    let server = RedisServer::start();
    let stand = node(&server, |options| options.lease = Duration::from_secs(1)).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    ada.join("general").await;
    bob.join("general").await;
    in_time(ada.event("user:joined")).await;
    forget_node(&server, &stand).await;
    for (socket, other) in [(&mut ada, "bob"), (&mut bob, "ada")] {
        assert_eq!(in_time(socket.event("user:joined")).await["userId"], other);
        assert_eq!(comings(socket).await, []);
    }
}

/// Who may still come back elsewhere within the grace is held by it until its lease ends.
#[tokio::test]
async fn a_node_that_is_shut_down_within_the_grace_of_its_users_is_not_missed() {
    let server = RedisServer::start();
    let set = |options: &mut GatewayOptions| options.presence_grace = Duration::from_secs(60);
    let (one, other) = (node(&server, set).await, node(&server, |_| {}).await);
    let _watcher = Socket::connect(&other, "watcher").await;
    let _bob = Socket::connect(&one, "bob").await;
    in_time(async { while other.cache.get("presence:bob").await.unwrap().is_none() {} }).await;
    in_time(one.gateway.shutdown()).await;
    assert!(other.cache.get("presence:bob").await.unwrap().is_some());
    let held = ask(&server, &["ZCARD", "leveret:node-leases"]);
    assert_eq!(held.trim(), "2", "its user is still held");
    assert_eq!(other.cache.leases().expect("leases").nodes().await.unwrap().len(), 1);
    let part = Part { after: String::new(), limit: 10 };
    let present = other.gateway.present(&part).await.unwrap();
    assert_eq!((present.value.len(), present.missing_nodes), (1, 0));
}

#[tokio::test]
async fn what_a_dead_node_held_that_nobody_can_read_is_forgotten() {
    let server = RedisServer::start();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let leases = Cache::Redis(cache).leases().expect("leases");
    let script = "for i = 1, 700 do redis.call('HSET', KEYS[1], 'no name ' .. i, '') end \
         redis.call('HSET', KEYS[1], 'no text \\255', '') \
         redis.call('HSET', KEYS[1], '5:usersbob', '') redis.call('ZADD', KEYS[2], 1, 'dead')";
    ask(&server, &["EVAL", script, "2", "leveret:holds:dead", "leveret:node-leases"]);
    let lapsed = leases.lapsed().await.unwrap();
    let [(node, holding)] = &lapsed[..] else { panic!("{lapsed:?}") };
    assert_eq!((&**node, &*holding.member), ("dead", "bob"));
    assert!(leases.take_over(node, holding, &[]).unwrap().gone().await.unwrap());
    assert_eq!(leases.lapsed().await.unwrap(), []);
    assert_eq!(ask(&server, &["ZCARD", "leveret:node-leases"]).trim(), "0");
}
