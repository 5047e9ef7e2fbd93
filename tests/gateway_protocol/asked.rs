//! What one node is asked about the sockets of all.

use std::time::{Duration, Instant};

use leveret::backend::{Audience, Cache, RedisCache};
use leveret::gateway::{Member, Part};
use leveret::model::names::UserId;
use serde_json::{Value, json};

use crate::nodes::{ask, node, pairs, room};
use crate::redis_server::RedisServer;
use crate::socket::Socket;
use crate::stand::{PATIENCE, in_time};

fn part(after: &str, limit: usize) -> Part {
    Part { after: after.to_owned(), limit }
}

#[tokio::test]
async fn who_is_there_and_who_is_in_a_room_is_known_on_every_node() {
    let server = RedisServer::start();
    let [(one, other), without] = pairs(&server).await;
    drop(without);
    let mut bob = Socket::connect(&one, "bob").await;
    let mut there = Socket::connect(&other, "bob").await;
    let mut ada = Socket::connect(&other, "ada").await;
    for socket in [&mut bob, &mut there, &mut ada] {
        socket.join("general").await;
    }
    ada.call("presence:update", json!("away")).await;
    bob.call("presence:update", json!("busy")).await;
    let (ada_id, bob_id) = (UserId::new("ada").unwrap(), UserId::new("bob").unwrap());
    for gateway in [&one.gateway, &other.gateway] {
        // The nodes of the pair that is gone are still taken for silent by nobody.
        let members = gateway.members(&room(), &part("", 10)).await.unwrap();
        assert_eq!(members.missing_nodes, 0);
        let of = |member: &Member| (member.user.to_string(), member.sockets);
        let seen: Vec<_> = members.value.iter().map(of).collect();
        assert_eq!(seen, [("ada".to_owned(), 1), ("bob".to_owned(), 2)]);
        assert_eq!(members.value[0].username, "ADA");
        let behind = gateway.members(&room(), &part("ada", 10)).await.unwrap().value;
        assert_eq!(behind.iter().map(of).collect::<Vec<_>>(), [("bob".to_owned(), 2)]);
        let first = gateway.present(&part("", 1)).await.unwrap().value;
        let seen: Vec<_> =
            first.iter().map(|user| (&user.user, &*user.status, user.sockets)).collect();
        assert_eq!(seen, [(&ada_id, "away", 1)]);
        let found = gateway.presence(&bob_id).await.unwrap().value;
        assert_eq!((&*found.status, found.sockets), ("busy", 2));
        let nobody = gateway.presence(&UserId::new("eve").unwrap()).await.unwrap().value;
        assert_eq!((&*nobody.status, nobody.sockets), ("offline", 0));
        for (to, count) in [
            (Audience::All, 3),
            (Audience::Room(room()), 3),
            (Audience::User(bob_id.clone()), 2),
            (Audience::User(UserId::new("eve").unwrap()), 0),
        ] {
            assert_eq!(gateway.count(&to).await.unwrap().value, count, "{to:?}");
        }
        assert_eq!(gateway.count_of(&bob_id).await.unwrap().value, 2);
    }
}

#[tokio::test]
async fn the_sockets_of_all_nodes_are_told_with_their_rooms_and_data_however_much_it_is() {
    let server = RedisServer::start();
    let [(one, other), _rest] = pairs(&server).await;
    let mut sockets = Vec::new();
    for (stand, user) in [(&one, "ada"), (&other, "bob"), (&other, "eve")] {
        let mut socket = Socket::connect(stand, user).await;
        socket.join("general").await;
        sockets.push(socket);
    }
    // Each more than a part of an answer.
    let large = "x".repeat(300 << 10);
    for socket in other.gateway.io().root().fetch_sockets() {
        socket.set_data(&large).unwrap();
    }
    let root = one.gateway.io().root();
    let found = root.to("general").fetch_all_sockets().await.unwrap();
    assert_eq!(found.missing_nodes, 0);
    let mut ids: Vec<String> = found.value.iter().map(|socket| socket.id().to_string()).collect();
    let mut expected: Vec<String> = sockets.iter().map(|socket| socket.id.clone()).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    for socket in &found.value {
        assert!(socket.rooms().iter().any(|room| &**room == "general"));
        let is_here = socket.id().to_string() == sockets[0].id;
        let data = socket.data::<String>().unwrap();
        assert_eq!(data, (!is_here).then(|| large.clone()));
    }
    let but_bob = root.to("general").except("user:bob");
    assert_eq!(but_bob.count_all_sockets().await.unwrap().value, 2);
    assert_eq!(but_bob.fetch_all_sockets().await.unwrap().value.len(), 2);
    let local = root.to("general").local();
    assert_eq!(local.fetch_all_sockets().await.unwrap().value.len(), 1);
    assert_eq!(local.count_all_sockets().await.unwrap().value, 1);
}

/// A node that hears and says nothing, as one that is stopped, is not the same as one without sockets.
#[tokio::test]
async fn a_node_that_does_not_answer_is_told_of_until_its_lease_has_ended() {
    let server = RedisServer::start();
    let lease = Duration::from_millis(1_500);
    let stand = node(&server, |options| options.lease = lease).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let cache = Cache::Redis(cache);
    let hears = cache.subscribe("leveret:nodes:/").await.unwrap();
    let leases = cache.leases().expect("leases");
    leases.renew("silent", PATIENCE).await.unwrap();
    let members = stand.gateway.members(&room(), &part("", 10)).await.unwrap();
    assert_eq!((members.value.len(), members.missing_nodes), (1, 1));
    let count = stand.gateway.count(&Audience::All).await.unwrap();
    assert_eq!((count.value, count.missing_nodes), (1, 1));
    // One that is there and is not reached, as it has lost its connection, is missed as well.
    drop(hears);
    in_time(async { while cache.publish("leveret:nodes:/", "?").await.unwrap() > 1 {} }).await;
    let members = stand.gateway.members(&room(), &part("", 10)).await.unwrap();
    assert_eq!((members.value.len(), members.missing_nodes), (1, 1));
    let _hears = cache.subscribe("leveret:nodes:/").await.unwrap();
    // Its machine is gone: the server still holds its connection, but its lease ends.
    leases.renew("silent", Duration::from_millis(1)).await.unwrap();
    in_time(async { while leases.nodes().await.unwrap().len() > 1 {} }).await;
    let members = stand.gateway.members(&room(), &part("", 10)).await.unwrap();
    assert_eq!((members.value.len(), members.missing_nodes), (1, 0));
}

/// Nor does each question wait a second for it, and it is waited for again when it is heard.
#[tokio::test]
async fn a_node_that_was_silent_is_hardly_waited_for_until_it_is_heard() {
    let server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let _ada = Socket::connect(&stand, "ada").await;
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let cache = Cache::Redis(cache);
    let mut hears = cache.subscribe("leveret:nodes:/").await.unwrap();
    cache.leases().expect("leases").renew("silent", PATIENCE).await.unwrap();
    let missing = async || stand.gateway.count(&Audience::All).await.unwrap().missing_nodes;
    assert_eq!(missing().await, 1);
    // The machine may be busy, but not each time.
    let mut is_quick = false;
    for _ in 0..10 {
        let asked_at = Instant::now();
        assert_eq!(missing().await, 1);
        is_quick |= asked_at.elapsed() < Duration::from_secs(1);
    }
    assert!(is_quick);

    // It answers the next question, and the others after that.
    let answers = async {
        loop {
            let frame = hears.next().await.expect("a live subscription");
            let line = frame.split(|byte| *byte == b'\n').next().unwrap();
            let head: Value = serde_json::from_slice(line).unwrap();
            let ask = &head["op"]["ask"];
            let Some(asker) = ask["node"].as_str() else { continue };
            let part = json!({ "id": ask["id"], "node": "silent", "is_last": true, "items": [41] });
            let inbox = format!("leveret:node:{asker}:/");
            cache.publish(&inbox, part.to_string()).await.unwrap();
        }
    };
    let heard = async {
        while missing().await > 0 {}
        stand.gateway.count(&Audience::All).await.unwrap()
    };
    let count = tokio::select! {
        () = answers => unreachable!("it answers for ever"),
        count = in_time(heard) => count,
    };
    assert_eq!((count.value, count.missing_nodes), (42, 0));
}

/// What clients acknowledge is not asked for twice: a node that was silent has its second there.
#[tokio::test]
async fn a_node_that_was_silent_is_waited_for_where_clients_acknowledge() {
    let server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let cache = Cache::Redis(cache);
    let mut hears = cache.subscribe("leveret:nodes:/").await.unwrap();
    cache.leases().expect("leases").renew("silent", PATIENCE).await.unwrap();
    assert_eq!(stand.gateway.count(&Audience::All).await.unwrap().missing_nodes, 1);
    let answering = async {
        loop {
            let frame = hears.next().await.expect("a live subscription");
            let line = frame.split(|byte| *byte == b'\n').next().unwrap();
            let head: Value = serde_json::from_slice(line).unwrap();
            let ask = &head["op"]["ask"];
            if ask["question"]["acks"].is_null() {
                continue;
            }
            // Longer than a node is waited for that is asked for what it knows itself.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let part = json!({ "id": ask["id"], "node": "silent", "is_last": true, "items": [] });
            let inbox = format!("leveret:node:{}:/", ask["node"].as_str().unwrap());
            return cache.publish(&inbox, part.to_string()).await.unwrap();
        }
    };
    let everybody = stand.gateway.io().root().everybody();
    let asking = everybody.emit_with_all_acks("ask", (), Duration::from_millis(20));
    let (told, _) = tokio::join!(asking, answering);
    assert_eq!(told.unwrap().missing_nodes, 0);
}

#[tokio::test]
async fn while_the_server_is_away_who_asks_is_told_so_and_not_half_of_it() {
    let mut server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    server.kill();
    assert!(stand.gateway.members(&room(), &part("", 10)).await.is_err());
    assert!(stand.gateway.io().root().everybody().fetch_all_sockets().await.is_err());
    assert!(stand.gateway.disconnect_user_counted(&UserId::new("ada").unwrap()).await.is_err());
    server.start_again();
    in_time(async {
        while stand.gateway.members(&room(), &part("", 10)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_is_disconnected_though_nobody_waits_for_it_and_its_sockets_cannot_be_counted() {
    let server = RedisServer::start();
    let stand = node(&server, |_| {}).await;
    let leases = stand.cache.leases().expect("leases");
    leases.renew("silent", PATIENCE).await.unwrap();
    let cache = RedisCache::connect(&server.url(), PATIENCE).await.expect("a connection");
    let _hears = Cache::Redis(cache).subscribe("leveret:nodes:/").await.unwrap();
    let (ada, bob) = (UserId::new("ada").unwrap(), UserId::new("bob").unwrap());
    let (_ada, _bob) = (Socket::connect(&stand, "ada").await, Socket::connect(&stand, "bob").await);
    let given_up = stand.gateway.disconnect_user_counted(&ada);
    let waited = tokio::time::timeout(Duration::from_millis(50), given_up).await;
    assert!(waited.is_err(), "the silent node is waited for");
    stand.connections(1).await;
    ask(&server, &["SET", "leveret:node-leases", "no leases"]);
    assert!(stand.gateway.count_of(&bob).await.is_err());
    let gone = stand.gateway.disconnect_user_counted(&bob).await.unwrap();
    assert_eq!((gone.value, gone.missing_nodes), (1, 1));
    stand.connections(0).await;
}
