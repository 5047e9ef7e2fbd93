//! A client that comes back on another node is what it was, and is sent what it missed, once.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use leveret::backend::{Cache, Push, RedisCache, Saying};
use leveret::gateway::{DisconnectReason, GatewayOptions, Io, Recovery, Socket};
use leveret::model::clock::SystemClock;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::recovery::{Connected, connected, served};
use crate::redis_proxy::{Mode, Proxy};
use crate::redis_server::RedisServer;
use crate::stand::{PATIENCE, in_time, until};

/// A node with a connection of its own: what a client says joins it to a room.
struct Node {
    io: Io,
    cache: Cache,
    address: SocketAddr,
    gone: Arc<Mutex<Vec<DisconnectReason>>>,
}

async fn node(server: &RedisServer, who: &'static str) -> Node {
    node_at(&server.url(), who).await
}

async fn node_at(url: &str, who: &'static str) -> Node {
    let cache = RedisCache::connect(url, PATIENCE).await.expect("a connection");
    let options =
        GatewayOptions { recovery: Some(Recovery::default()), ..GatewayOptions::default() };
    let cache = Cache::Redis(cache);
    let io = Io::with_cache(options, cache.clone(), SystemClock::shared());
    let gone = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&gone);
    io.root()
        .middleware(move |socket: Socket, auth: Value| async move {
            let user = auth["user"].as_str().unwrap_or(who).to_owned();
            socket.resume_as(&user, |room| room != "forbidden");
            Ok(())
        })
        .on("join", |socket: Socket, room: String| async move {
            socket.join(&room).unwrap();
            socket.set_data(&json!({ "joined": room })).unwrap();
            socket.emit("joined", &room).unwrap();
        })
        .on("leave", |socket: Socket, room: String| async move { _ = socket.leave(&room) })
        .on_disconnect(move |_: Socket, reason| {
            noted.lock().push(reason);
            async {}
        });
    let address = served(&io).await;
    Node { io, cache, address, gone }
}

fn ask(server: &RedisServer, request: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    let answer = command.args(["-p", &server.port().to_string()]).args(request).output();
    let answer = answer.expect("redis-cli is installed");
    assert!(answer.status.success(), "{request:?}");
    String::from_utf8(answer.stdout).unwrap()
}

/// Joins a room and gives the offset of the answer.
async fn join(client: &mut Connected, room: &str) -> String {
    client.websocket.text(&format!("42{}", json!(["join", room]))).await;
    let (event, offset) = in_time(client.event()).await;
    assert_eq!(event, json!(["joined", room]));
    offset.expect("an offset")
}

/// The session is known to the others with its rooms, of which it has so many.
async fn known(server: &RedisServer, client: &Connected, rooms: usize) {
    let key = format!("leveret:session:/:{}", client.pid);
    until(|| {
        let fields = ask(server, &["HKEYS", &key]);
        fields.lines().filter(|field| field.starts_with('r')).count() == rooms
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_on_another_node_gets_what_it_missed_in_order_and_once() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
    let mut client = connected(one.address, &json!({})).await;
    let offset = join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    one.io.root().emit("seen", &0).unwrap();
    let (_, seen) = in_time(client.event()).await;
    assert_eq!(seen.as_deref().unwrap().split_once('-').unwrap().0.len(), 16);
    assert_ne!(seen.as_deref(), Some(&*offset));
    let (sid, pid) = client.cut(&one.io).await;

    // Both nodes say something to it, to its room, and to others.
    one.io.root().to("mine").emit("missed", &1).unwrap();
    in_time(async {
        // The order between nodes is that of the log: the first is there before the second is said.
        while ask(&server, &["XLEN", "leveret:stream:/"]).trim() != "3" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.io.root().to("mine").emit("missed", &2).unwrap();
    other.io.root().to("elsewhere").emit("missed", "not mine").unwrap();
    other.io.root().to(&sid).emit("missed", &3).unwrap();

    let claim = json!({ "pid": pid, "offset": seen });
    let mut back = connected(other.address, &claim).await;
    assert_eq!((&back.sid, &back.pid), (&sid, &pid));
    for number in 1..=3 {
        assert_eq!(in_time(back.event()).await.0, json!(["missed", number]));
    }
    let socket = other.io.root().fetch_sockets().remove(0);
    assert!(socket.recovered());
    assert_eq!(socket.data::<Value>().unwrap(), Some(json!({ "joined": "mine" })));

    // What follows reaches it once, from either; and it goes on to the first again.
    one.io.root().to("mine").emit("live", &4).unwrap();
    let (event, offset) = in_time(back.event()).await;
    assert_eq!(event, json!(["live", 4]));
    let (sid, pid) = back.cut(&other.io).await;
    other.io.root().to("mine").emit("missed", &5).unwrap();
    let mut again = connected(one.address, &json!({ "pid": pid, "offset": offset })).await;
    assert_eq!((&again.sid, &again.pid), (&sid, &pid));
    assert_eq!(in_time(again.event()).await.0, json!(["missed", 5]));
    one.io.root().emit("live", &6).unwrap();
    assert_eq!(in_time(again.event()).await.0, json!(["live", 6]));
}

/// Its old node has not noticed that it is away.
#[tokio::test]
async fn a_node_lets_go_of_who_is_on_another() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
    let mut client = connected(one.address, &json!({})).await;
    let offset = join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    let claim = json!({ "pid": client.pid, "offset": offset });
    let mut back = connected(other.address, &claim).await;
    assert_eq!((&back.sid, &back.pid), (&client.sid, &client.pid));
    until(|| one.io.root().connections() == 0).await;
    until(|| *one.gone.lock() == [DisconnectReason::Moved]).await;
    // What the old node writes of it at last changes nothing.
    drop(client);
    other.io.root().to("mine").emit("live", &1).unwrap();
    assert_eq!(in_time(back.event()).await.0, json!(["live", 1]));
    assert_eq!(other.io.root().to("mine").fetch_sockets().len(), 1);
}

#[tokio::test]
async fn a_node_that_starts_knows_what_was_said_before() {
    let server = RedisServer::start();
    let one = node(&server, "ada").await;
    let mut client = connected(one.address, &json!({})).await;
    let offset = join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    for number in 0..700 {
        one.io.root().to("mine").emit("missed", &number).unwrap();
    }
    in_time(async { while client.event().await.0 != json!(["missed", 699]) {} }).await;
    let late = node(&server, "ada").await;
    let claim = json!({ "pid": client.pid, "offset": offset });
    let mut back = connected(late.address, &claim).await;
    assert_eq!(back.sid, client.sid);
    for number in 0..700 {
        assert_eq!(in_time(back.event()).await.0, json!(["missed", number]));
    }
}

#[tokio::test]
async fn of_two_nodes_that_are_asked_at_once_one_has_the_session_in_the_end() {
    let server = RedisServer::start();
    let one = node(&server, "ada").await;
    let (two, three) = (node(&server, "ada").await, node(&server, "ada").await);
    for _ in 0..10 {
        let mut client = connected(one.address, &json!({})).await;
        let offset = join(&mut client, "mine").await;
        known(&server, &client, 1).await;
        let (sid, pid) = client.cut(&one.io).await;
        let claim = json!({ "pid": pid, "offset": offset });
        let (a, b) = tokio::join!(connected(two.address, &claim), connected(three.address, &claim));
        assert!(a.sid == sid || b.sid == sid, "nobody has it");
        let has = |node: &Node| {
            let sockets = node.io.root().fetch_sockets();
            sockets.iter().filter(|socket| socket.id().to_string() == sid).count()
        };
        until(|| has(&two) + has(&three) == 1).await;
        drop((a, b));
        until(|| two.io.root().connections() + three.io.root().connections() == 0).await;
    }
}

#[tokio::test]
async fn a_session_is_nobody_elses_on_another_node_either() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
    let mut client = connected(one.address, &json!({})).await;
    join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    for auth in [
        json!({ "pid": client.pid, "user": "eve" }),
        json!({ "pid": client.pid, "offset": "0123456789abcdef-1" }),
        json!({ "pid": client.pid, "offset": "no offset" }),
        json!({ "pid": "00000000-0000-4000-8000-000000000000" }),
    ] {
        let stranger = connected(other.address, &auth).await;
        assert_ne!(stranger.sid, client.sid, "{auth}");
        assert_ne!(stranger.pid, client.pid, "{auth}");
    }
    assert_eq!(one.io.root().to("mine").fetch_sockets().len(), 1);

    // A room that it may not be in any more.
    let offset = join(&mut client, "forbidden").await;
    known(&server, &client, 2).await;
    let claim = json!({ "pid": client.pid, "offset": offset });
    assert_ne!(connected(other.address, &claim).await.sid, client.sid);
}

/// The log is another one after it was lost, or its end: what was in between nobody knows.
#[tokio::test]
async fn nobody_comes_back_across_a_log_that_was_lost() {
    const STREAM: &str = "leveret:stream:/";
    for only_its_end in [false, true] {
        let server = RedisServer::start();
        let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
        let mut client = connected(one.address, &json!({})).await;
        join(&mut client, "mine").await;
        let offset = join(&mut client, "yours").await;
        known(&server, &client, 2).await;
        let _witness = connected(other.address, &json!({})).await;
        let lost = if only_its_end {
            let last = ask(&server, &["--raw", "XREVRANGE", STREAM, "+", "-", "COUNT", "1"]);
            ask(&server, &["XDEL", STREAM, last.lines().next().unwrap()])
        } else {
            ask(&server, &["DEL", STREAM])
        };
        assert_eq!(lost.trim(), "1");
        until(|| one.io.root().connections() + other.io.root().connections() == 0).await;
        let claim = json!({ "pid": client.pid, "offset": offset });
        for node in [&one, &other] {
            assert_ne!(connected(node.address, &claim).await.sid, client.sid);
        }
    }
}

#[tokio::test]
async fn what_a_session_leaves_behind_goes() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
    let mut client = connected(one.address, &json!({})).await;
    join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    let key = format!("leveret:session:/:{}", client.pid);
    let ttl_ms = |key: &str| ask(&server, &["PTTL", key]).trim().parse::<i64>().unwrap();
    assert!(ttl_ms(&key) > 3_600_000, "it is there while its client is");
    let (_, pid) = client.cut(&one.io).await;
    until(|| (1..=120_000).contains(&ttl_ms(&key))).await;
    // Its client ends it, on another node.
    let mut back = connected(other.address, &json!({ "pid": pid })).await;
    assert_eq!(back.pid, pid);
    back.websocket.text("41").await;
    until(|| ask(&server, &["EXISTS", &key]).trim() == "0").await;
}

/// Answers every ping, until it is told to go.
fn living(mut client: Connected) -> tokio::sync::oneshot::Sender<()> {
    let (go, mut gone) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = &mut gone => return,
                text = client.websocket.next_text() => {
                    if text == "2" {
                        client.websocket.text("3").await;
                    }
                }
            }
        }
    });
    go
}

#[tokio::test]
async fn a_client_that_answers_keeps_its_session_whoever_names_it_on_another_node() {
    let server = RedisServer::start();
    let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
    let mut client = connected(one.address, &json!({})).await;
    let offset = join(&mut client, "mine").await;
    known(&server, &client, 1).await;
    let (sid, pid) = (client.sid.clone(), client.pid.clone());
    let claim = json!({ "pid": pid, "offset": offset });
    let go = living(client);
    for _ in 0..3 {
        let copy = in_time(connected(other.address, &claim)).await;
        assert!(copy.sid != sid && copy.pid != pid, "a copy of a claim is nothing");
    }
    assert_eq!((one.io.root().connections(), one.gone.lock().len()), (1, 0));
    // It goes, and the next one is its client.
    go.send(()).unwrap();
    let back = in_time(connected(other.address, &claim)).await;
    assert_eq!((back.sid, back.pid), (sid, pid));
}

/// Its owner hears of it though whoever took it gets no answer.
#[tokio::test]
async fn a_session_is_taken_and_told_in_one_step() {
    let server = RedisServer::start();
    let one = node(&server, "ada").await;
    let hashes = |node: &str| one.cache.owned_hashes("test", node).unwrap();
    let ttl = PATIENCE;
    hashes("one")
        .put("s", vec![("f".to_owned(), b"v".to_vec())], ttl)
        .unwrap()
        .durable()
        .await
        .unwrap();
    let found = hashes("two").find("s").await.unwrap().unwrap();
    let mut said = one.cache.subscribe("said").await.unwrap();
    let says = [Saying::Publish { channel: "said".to_owned(), payload: b"taken".to_vec() }];
    for (node, is_first) in [("two", true), ("three", false)] {
        let taken = hashes(node).take("s", &found, ttl, &says).await.unwrap();
        assert_eq!(taken.is_some(), is_first);
    }
    one.cache.publish("said", "end").await.unwrap();
    for expected in ["taken", "end"] {
        assert_eq!(in_time(said.next()).await.unwrap(), expected);
    }
}

/// Whether a change was not taken, as too much waited, or got no answer.
#[tokio::test]
async fn a_session_never_comes_back_with_a_room_that_it_left_while_the_server_was_away() {
    for is_full in [false, true] {
        let mut server = RedisServer::start();
        let (one, other) = (node(&server, "ada").await, node(&server, "ada").await);
        let mut client = connected(one.address, &json!({})).await;
        join(&mut client, "left").await;
        let offset = join(&mut client, "mine").await;
        known(&server, &client, 2).await;
        server.kill();
        if is_full {
            // What is on its way is so in vain, and one waits: more is not taken meanwhile.
            let large = Bytes::from(vec![b'x'; (64 << 20) - 256]);
            let push = || Push { key: "large".into(), value: large.clone(), keep: 1 };
            until(|| one.cache.send_pushes([push()]).map(drop).is_err()).await;
        }
        client.websocket.text(r#"42["leave","left"]"#).await;
        until(|| one.io.root().fetch_sockets()[0].rooms().len() == 1).await;
        server.start_again();
        known(&server, &client, 1).await;
        let claim = json!({ "pid": client.pid, "offset": offset });
        let back = in_time(async {
            loop {
                let back = connected(other.address, &claim).await;
                if back.pid == client.pid {
                    return back;
                }
                // The server has just come back.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(back.sid, client.sid);
        let rooms = other.io.root().to("mine").fetch_sockets().remove(0).rooms();
        assert_eq!(rooms.iter().map(|room| &**room).collect::<Vec<_>>(), ["mine"]);
    }
}

/// It is let in all the same, as a new one, and that one is kept as soon as the server is back.
#[tokio::test]
async fn who_comes_back_while_the_server_is_away_is_new_and_may_come_back_the_next_time() {
    for is_silent in [false, true] {
        let mut server = RedisServer::start();
        let way = Proxy::start(server.port()).await;
        let (one, other) = (node_at(&way.url(), "ada").await, node(&server, "ada").await);
        let mut client = connected(one.address, &json!({})).await;
        let offset = join(&mut client, "mine").await;
        known(&server, &client, 1).await;
        match is_silent {
            true => way.set(Mode::Silent),
            false => server.kill(),
        }
        let (_, pid) = client.cut(&one.io).await;
        let claim = json!({ "pid": pid, "offset": offset });
        let mut back = in_time(connected(one.address, &claim)).await;
        assert_ne!(back.pid, pid, "it can't be told what it missed");
        assert!(!one.io.root().fetch_sockets()[0].recovered());
        match is_silent {
            true => way.set(Mode::Pass),
            false => server.start_again(),
        }
        let key = format!("leveret:session:/:{}", back.pid);
        until(|| ask(&server, &["EXISTS", &key]).trim() == "1").await;
        let offset = join(&mut back, "mine").await;
        known(&server, &back, 1).await;
        let (_, pid) = back.cut(&one.io).await;
        one.io.root().to("mine").emit("missed", &1).unwrap();
        let mut again = connected(other.address, &json!({ "pid": pid, "offset": offset })).await;
        assert_eq!(again.pid, pid);
        assert_eq!(in_time(again.event()).await.0, json!(["missed", 1]));
    }
}

#[tokio::test]
async fn a_program_changes_its_sockets_from_a_thread_of_its_own() {
    let server = RedisServer::start();
    let one = node(&server, "ada").await;
    let client = connected(one.address, &json!({})).await;
    let socket = one.io.root().fetch_sockets().remove(0);
    std::thread::spawn(move || {
        socket.join("mine").unwrap();
        socket.join("left").unwrap();
        assert!(socket.leave("left"));
    })
    .join()
    .unwrap();
    known(&server, &client, 1).await;
}
