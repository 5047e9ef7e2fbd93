//! Connection state recovery: what is logged, in which order it is sent, and when a session is resumed.
//!
//! Over the library, whose sessions stay in memory; stock clients and restarts have tests of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret::backend::Cache;
use leveret::cache::{AppendFsync, Cache as Engine, Recovery as Loading};
use leveret::gateway::{Ack, GatewayOptions, Io, JoinError, Recovery, Socket};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use serde_json::{Value, json};

use crate::socket::Socket as Client;
use crate::stand::{PATIENCE, SILENCE, Stand, in_time, until};
use crate::websocket::{QUERY, WebSocket};
use crate::{resume, stores};

pub fn io(recovery: Recovery) -> Io {
    Io::new(GatewayOptions { recovery: Some(recovery), ..GatewayOptions::default() })
}

pub async fn served(io: &Io) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().merge(io.router());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A connection and what it was told that it is.
pub struct Connected {
    pub websocket: WebSocket,
    pub sid: String,
    pub pid: String,
}

pub async fn connected(address: SocketAddr, auth: &Value) -> Connected {
    let mut websocket = WebSocket::open(address, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    websocket.text(&format!("40{auth}")).await;
    let answer = websocket.next_text().await;
    let told: Value = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
    let text = |name: &str| told[name].as_str().map(ToOwned::to_owned);
    // Without recovery there is no pid.
    Connected { websocket, sid: text("sid").unwrap(), pid: text("pid").unwrap_or_default() }
}

impl Connected {
    /// The name, the arguments, and the offset behind them.
    pub async fn event(&mut self) -> (Value, Option<String>) {
        let text = self.websocket.next_text().await;
        let mut event: Vec<Value> =
            serde_json::from_str(text.strip_prefix("42").expect(&text)).unwrap();
        let offset = event.pop_if(|last| {
            last.as_str().is_some_and(|last| last.len() > 17 && last.as_bytes()[16] == b'-')
        });
        (event.into(), offset.map(|offset| offset.as_str().unwrap().to_owned()))
    }

    /// Its network is gone.
    pub async fn cut(self, io: &Io) -> (String, String) {
        let connections = io.root().connections();
        drop(self.websocket);
        until(|| io.root().connections() < connections).await;
        (self.sid, self.pid)
    }
}

fn emit(io: &Io, event: &str, args: &Value) {
    io.root().emit(event, args).unwrap();
}

#[tokio::test]
async fn what_is_not_logged_does_not_move_the_offset() {
    let io = io(Recovery::default());
    let client = &mut connected(served(&io).await, &json!({})).await;
    emit(&io, "kept", &json!("text"));
    let (event, offset) = client.event().await;
    assert_eq!(event, json!(["kept", "text"]));
    assert!(offset.is_some());
    // The stock client would take each of these for an offset: the last argument, and the name.
    io.root().everybody().volatile().emit("volatile", "text").unwrap();
    assert_eq!(client.event().await, (json!(["volatile", "text"]), offset.clone()));
    io.root().everybody().volatile().emit("bare", ()).unwrap();
    assert_eq!(client.event().await, (json!(["bare"]), offset));
    io.root().everybody().volatile().emit("volatile", &7).unwrap();
    assert_eq!(client.event().await, (json!(["volatile", 7]), None));
}

#[tokio::test]
async fn acknowledgements_and_disconnects_follow_what_was_emitted_before() {
    let io = io(Recovery::default());
    io.root()
        .on("ask", |socket: Socket, ack: Ack| async move {
            socket.emit("first", &1).unwrap();
            ack.send("second").unwrap();
        })
        .on("go", |socket: Socket| async move {
            socket.emit("last", &1).unwrap();
            socket.disconnect();
        });
    let client = &mut connected(served(&io).await, &json!({})).await;
    client.websocket.text(r#"421["ask"]"#).await;
    assert_eq!(client.event().await.0, json!(["first", 1]));
    assert_eq!(client.websocket.next_text().await, r#"431["second"]"#);
    client.websocket.text(r#"42["go"]"#).await;
    assert_eq!(client.event().await.0, json!(["last", 1]));
    assert_eq!(client.websocket.next_text().await, "41");
}

#[tokio::test]
async fn a_session_is_sent_what_was_for_it_and_goes_on() {
    let io = io(Recovery::default());
    io.root().on_connect(|socket| async move {
        if !socket.recovered() {
            socket.join("mine").unwrap();
            socket.set_data(&json!({ "steps": [1] })).unwrap();
        }
    });
    let address = served(&io).await;
    let mut client = connected(address, &json!({})).await;
    until(|| io.root().to("mine").fetch_sockets().len() == 1).await;
    emit(&io, "seen", &json!(0));
    let (_, offset) = client.event().await;
    let me = io.root().fetch_sockets().remove(0);
    let (sid, pid) = client.cut(&io).await;

    io.root().to("mine").emit("mine", &1).unwrap();
    io.root().to("other").emit("other", &2).unwrap();
    io.root().except("mine").emit("not mine", &3).unwrap();
    me.to("mine").emit("of me", &4).unwrap();
    io.root().to(&sid).emit("me", &5).unwrap();
    io.root().everybody().volatile().emit("volatile", &6).unwrap();

    let mut client = connected(address, &json!({ "pid": pid, "offset": offset })).await;
    assert_eq!((&client.sid, &client.pid), (&sid, &pid));
    assert_eq!(client.event().await.0, json!(["mine", 1]));
    assert_eq!(client.event().await.0, json!(["me", 5]));
    io.root().to("mine").emit("live", &7).unwrap();
    assert_eq!(client.event().await.0, json!(["live", 7]));
    let socket = io.root().fetch_sockets().remove(0);
    assert!(socket.recovered() && socket.is_in("mine"));
    assert_eq!(socket.data::<Value>().unwrap(), Some(json!({ "steps": [1] })));
}

#[tokio::test]
async fn what_is_for_one_socket_is_for_no_room_of_its_name() {
    let io = io(Recovery::default());
    let address = served(&io).await;
    let mut victim = connected(address, &json!({})).await;
    let mut eve = connected(address, &json!({})).await;
    let socket = |sid: &str| {
        io.root().fetch_sockets().into_iter().find(|socket| socket.id().to_string() == sid).unwrap()
    };
    let (theirs, hers) = (socket(&victim.sid), socket(&eve.sid));
    for name in [victim.sid.clone(), victim.sid.replace('-', "").to_uppercase()] {
        assert_eq!(hers.join(&name), Err(JoinError::AnotherSocket));
    }
    assert_eq!(theirs.join(&victim.sid), Ok(false), "it is chosen by its id already");
    assert_eq!(theirs.rooms().len(), 0);
    theirs.emit("private", &1).unwrap();
    emit(&io, "public", &json!(2));
    assert_eq!(victim.event().await.0, json!(["private", 1]));
    assert_eq!(eve.event().await.0, json!(["public", 2]));
}

#[tokio::test]
async fn what_is_emitted_to_a_socket_that_is_gone_waits_for_its_client() {
    let io = io(Recovery::default());
    let address = served(&io).await;
    let client = connected(address, &json!({})).await;
    let before = io.root().fetch_sockets().remove(0);
    let (_, pid) = client.cut(&io).await;
    before.emit("while away", &1).unwrap();
    let claim = json!({ "pid": pid });
    let mut client = connected(address, &claim).await;
    assert_eq!(client.pid, pid);
    assert_eq!(client.event().await.0, json!(["while away", 1]));
    before.emit("when back", &2).unwrap();
    assert_eq!(client.event().await.0, json!(["when back", 2]));
    client.websocket.text("41").await;
    until(|| io.root().connections() == 0).await;
    before.emit("after its end", &3).unwrap();
    assert_ne!(connected(address, &claim).await.pid, pid);
}

#[tokio::test]
async fn what_a_middleware_gives_who_comes_back_stays_over_the_next_cut() {
    let io = io(Recovery::default());
    io.root().middleware(|socket: Socket, auth: Value| async move {
        if let Some(room) = auth["room"].as_str() {
            socket.join(room).unwrap();
            socket.set_data(room).unwrap();
        }
        Ok(())
    });
    let address = served(&io).await;
    let (_, pid) = connected(address, &json!({})).await.cut(&io).await;
    let claim = json!({ "pid": pid, "room": "late" });
    let (_, again) = connected(address, &claim).await.cut(&io).await;
    assert_eq!(again, pid);
    io.root().to("late").emit("missed", &1).unwrap();
    let mut client = connected(address, &json!({ "pid": pid })).await;
    assert_eq!(client.event().await.0, json!(["missed", 1]));
    let socket = io.root().fetch_sockets().remove(0);
    assert!(socket.recovered() && socket.is_in("late"));
    assert_eq!(socket.data::<String>().unwrap().as_deref(), Some("late"));
}

/// Two servers on one cache, one after the other, which the cache takes for a restart.
#[tokio::test]
async fn a_session_and_its_data_outlive_their_process() {
    let engine = resume::engine();
    let server = || resume::server(&engine);
    let io = server();
    let mut client = connected(served(&io).await, &json!({})).await;
    let socket = io.root().fetch_sockets().remove(0);
    socket.set_data(&7).unwrap();
    socket.join("mine").unwrap();
    emit(&io, "seen", &json!(0));
    let (_, offset) = client.event().await;
    io.root().to("mine").emit("missed", &1).unwrap();
    io.root().to("other").emit("not mine", &2).unwrap();
    client.event().await;

    let io = server();
    io.root().to("mine").emit("missed", &3).unwrap();
    let claim = json!({ "pid": client.pid, "offset": offset });
    let mut again = connected(served(&io).await, &claim).await;
    assert_eq!((&again.sid, &again.pid), (&client.sid, &client.pid));
    assert_eq!(again.event().await.0, json!(["missed", 1]));
    assert_eq!(again.event().await.0, json!(["missed", 3]));
    let socket = io.root().fetch_sockets().remove(0);
    assert_eq!(socket.data::<u32>().unwrap(), Some(7));
}

/// Somebody removed what was kept, as eviction and FLUSHALL do, and the session is kept again later.
#[tokio::test]
async fn a_session_is_never_kept_without_its_rooms() {
    let engine = resume::engine();
    let server = || resume::server(&engine);
    let io = server();
    let mut client = connected(served(&io).await, &json!({})).await;
    io.root().fetch_sockets().remove(0).join("mine").unwrap();
    emit(&io, "seen", &json!(0));
    let (_, offset) = client.event().await;
    let sessions = "leveret:recovery:/:sessions";
    assert!(engine.del(sessions).unwrap().value, "there was something to remove");
    let (_, pid) = client.cut(&io).await;

    let io = server();
    io.root().to("mine").emit("missed", &1).unwrap();
    let mut again = connected(served(&io).await, &json!({ "pid": pid, "offset": offset })).await;
    assert_eq!(again.pid, pid);
    assert_eq!(again.event().await.0, json!(["missed", 1]));
}

#[tokio::test]
async fn what_a_run_without_recovery_sends_is_no_gap_in_a_later_one() {
    let clock = SystemClock::shared();
    let journal = Journal::in_memory();
    let engine = Engine::new(journal, Arc::clone(&clock), AppendFsync::No, Loading::default());
    let server = |recovery| {
        let options = GatewayOptions { recovery, ..GatewayOptions::default() };
        Io::with_cache(options, Cache::Embedded(engine.clone()), Arc::clone(&clock))
    };
    let on = || server(Some(Recovery::default()));
    let io = on();
    let mut client = connected(served(&io).await, &json!({})).await;
    emit(&io, "seen", &json!(0));
    let (_, offset) = client.event().await;
    let claim = json!({ "pid": client.pid, "offset": offset });

    emit(&server(None), "missed", &json!(1));
    let again = connected(served(&on()).await, &claim).await;
    assert_ne!(again.pid, client.pid);
}

#[tokio::test]
async fn a_log_that_was_trimmed_is_no_gap_for_who_missed_nothing_in_it() {
    let io = io(Recovery { bytes_max: 2_000, ..Recovery::default() });
    let address = served(&io).await;
    let mut client = connected(address, &json!({})).await;
    io.root().to(&client.sid).emit("mine", &1).unwrap();
    let (_, offset) = client.event().await;
    for n in 0..100 {
        io.root().to("others").emit("other", &n).unwrap();
    }
    let sid = client.sid.clone();
    io.root().to(&sid).emit("mine", &2).unwrap();
    client.event().await;
    let (sid, pid) = client.cut(&io).await;
    let old = connected(address, &json!({ "pid": pid, "offset": offset })).await;
    assert_ne!(old.pid, pid, "the second was for it, and it may not have got it");

    let mut client = connected(address, &json!({})).await;
    assert_ne!(client.sid, sid);
    io.root().to(&client.sid).emit("mine", &1).unwrap();
    let (_, offset) = client.event().await;
    for n in 0..100 {
        io.root().to("others").emit("other", &n).unwrap();
    }
    // It is asked for when all that is sent.
    let replies = io.root().to("others").emit_with_ack("all sent", (), PATIENCE).await;
    assert_eq!(replies.unwrap().missing.len(), 0);
    let (_, pid) = client.cut(&io).await;
    let again = connected(address, &json!({ "pid": pid, "offset": offset })).await;
    assert_eq!(again.pid, pid);

    let (_, pid) = again.cut(&io).await;
    for n in 0..100 {
        io.root().to("others").emit("other", &n).unwrap();
    }
    let late = connected(address, &json!({ "pid": pid, "offset": offset })).await;
    assert_ne!(late.pid, pid, "what it missed is not known any more");
}

#[tokio::test]
async fn a_session_ends_with_its_window() {
    let io = io(Recovery { window: Duration::from_millis(50), ..Recovery::default() });
    let address = served(&io).await;
    let (_, pid) = connected(address, &json!({})).await.cut(&io).await;
    tokio::time::sleep(SILENCE).await;
    assert_ne!(connected(address, &json!({ "pid": pid })).await.pid, pid);
}

#[tokio::test]
async fn only_who_it_was_comes_back_and_only_to_rooms_that_are_allowed() {
    let io = io(Recovery::default());
    io.root().middleware(|socket: Socket, auth: Value| async move {
        let allowed = auth["room"].as_str().unwrap_or_default().to_owned();
        socket.resume_as(auth["name"].as_str().unwrap_or_default(), move |room| room == allowed);
        if auth["pid"].is_null() {
            socket.join("vip").unwrap();
        }
        Ok(())
    });
    let address = served(&io).await;
    let ada = json!({ "name": "ada", "room": "vip" });
    let (_, pid) = connected(address, &ada).await.cut(&io).await;
    for (name, room, comes_back) in
        [("eve", "vip", false), ("ada", "none", false), ("ada", "vip", true)]
    {
        let claim = json!({ "name": name, "room": room, "pid": pid });
        let claimed = connected(address, &claim).await;
        assert_eq!(claimed.pid == pid, comes_back, "{name} {room}");
    }
}

#[tokio::test]
async fn a_half_open_socket_is_taken_over_also_at_its_user_s_limit() {
    let stand = Stand::with(|options| {
        options.recovery = Some(Recovery::default());
        options.limits.user_sockets_max = 1;
    })
    .await;
    let claim =
        |user: &str, pid: Option<&str>| json!({ "token": crate::stand::token(user), "pid": pid });
    let ada = connected(stand.address, &claim("ada", None)).await;
    let again = connected(stand.address, &claim("ada", Some(&ada.pid))).await;
    assert_eq!((&again.pid, &again.sid), (&ada.pid, &ada.sid));
    stand.connections(1).await;
    let refused = async |auth: Value| {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        assert!(websocket.next_text().await.starts_with('0'));
        websocket.text(&format!("40{auth}")).await;
        assert_eq!(websocket.next_text().await, r#"44{"message":"Too many connections"}"#);
    };
    refused(claim("ada", None)).await;
    let _bob = connected(stand.address, &claim("bob", None)).await;
    refused(claim("bob", Some(&again.pid))).await;
}

#[tokio::test]
async fn no_event_is_sent_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |options| options.recovery = Some(Recovery::default())).await;
    let mut ada = Client::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    stand.gateway.emit_to_all("news", &1);
    assert_eq!(ada.seen("news").await, Vec::<Value>::new());
    disk.release();
    ada.event("news").await;
}

#[tokio::test]
async fn who_is_told_to_be_out_of_a_room_is_out_of_it_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |options| options.recovery = Some(Recovery::default())).await;
    let mut ada = Client::connect(&stand, "ada").await;
    ada.join("general").await;
    disk.hold();
    let leave = ada.send("leave:room", &json!("general")).await;
    assert!(tokio::time::timeout(SILENCE, ada.ack(leave)).await.is_err());
    disk.release();
    assert_eq!(in_time(ada.ack(leave)).await["ok"], true);

    disk.fail();
    let refused = ada.call("join:room", json!("general")).await;
    assert!(refused["error"].as_str().unwrap().starts_with("Not stored"), "{refused}");
}

#[tokio::test]
async fn where_nothing_can_be_kept_no_event_goes_out_that_somebody_might_miss() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let stand = Stand::on(journal, |options| options.recovery = Some(Recovery::default())).await;
    let mut ada = Client::connect(&stand, "ada").await;
    disk.fail();
    // The commit of the first fails, that of the second is not even begun.
    stand.gateway.emit_to_all("news", &1);
    until(|| stand.gateway.emit_to_all("news", &2) == 0).await;
    assert_eq!(ada.seen("news").await, Vec::<Value>::new());
    let messages = json!({ "roomId": "general", "content": "x" });
    assert!(ada.call("message:send", messages).await["error"].is_string(), "it is connected still");
}

#[tokio::test]
async fn on_a_full_disk_events_go_out_and_nobody_is_resumed_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = stores::journal(folder.path());
    let clock = SystemClock::shared();
    let engine =
        Engine::new(journal.clone(), Arc::clone(&clock), AppendFsync::No, Loading::default());
    let server = || {
        let options =
            GatewayOptions { recovery: Some(Recovery::default()), ..GatewayOptions::default() };
        Io::with_cache(options, Cache::Embedded(engine.clone()), Arc::clone(&clock))
    };
    let io = server();
    let address = served(&io).await;
    let mut ada = connected(address, &json!({})).await;
    let (_, pid) = connected(address, &json!({})).await.cut(&io).await;

    disk.fill(true);
    // The journal looks at its disk when it writes.
    let filled = async {
        while journal.writable().is_ok() {
            let _ = engine.set("key", "value");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(filled).await;
    emit(&io, "unlogged", &json!(1));
    assert_eq!(ada.event().await, (json!(["unlogged", 1]), None));

    let again = connected(served(&server()).await, &json!({ "pid": pid })).await;
    assert_ne!(again.pid, pid, "it missed what nobody kept");
}
