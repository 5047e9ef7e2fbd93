//! The library as a Rust program uses it: what it is told, and what its mistakes and its clients' do.

use std::net::SocketAddr;
use std::time::Duration;

use leveret::gateway::{
    Ack, AckError, Attachments, Binary, ConnectError, DisconnectReason, EventName, GatewayOptions,
    Io, JoinError, Socket,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::stand::{SILENCE, in_time, until};
use crate::websocket::{Got, QUERY, WebSocket};

pub async fn served(io: &Io) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().merge(io.router());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn io() -> Io {
    Io::new(GatewayOptions::default())
}

/// A session that has connected to a namespace.
async fn connected(address: SocketAddr, connect: &str) -> WebSocket {
    let mut websocket = opened(address).await;
    websocket.text(connect).await;
    let answer = websocket.next_text().await;
    assert!(answer.starts_with("40") && answer.contains("sid"), "{answer}");
    websocket
}

async fn opened(address: SocketAddr) -> WebSocket {
    let mut websocket = WebSocket::open(address, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    websocket
}

#[tokio::test]
async fn parameters_are_taken_by_position_and_by_kind() {
    let io = io();
    io.root().on(
        "all",
        |ack: Ack, number: u8, socket: Socket, text: String, last: Option<Vec<i8>>| async move {
            assert!(ack.is_wanted() && socket.is_connected());
            ack.send((number, text, last)).unwrap();
        },
    );
    io.root().on("none", |ack: Ack| async move { ack.send(()).unwrap() });
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"421["all",7,"x",[-1],"ignored"]"#).await;
    assert_eq!(websocket.next_text().await, r#"431[7,"x",[-1]]"#);
    websocket.text(r#"422["all",7,"x"]"#).await;
    assert_eq!(websocket.next_text().await, r#"432[7,"x",null]"#);
    websocket.text(r#"423["none"]"#).await;
    assert_eq!(websocket.next_text().await, "433[]");
}

#[tokio::test]
async fn arguments_of_another_type_are_refused_in_words() {
    let io = io();
    io.root().on("take", |_: u8, _: String| async {});
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"424["take",7]"#).await;
    let text = "take: argument 2: invalid type: null, expected a string at line 1 column 4";
    let event = format!("42{}", json!(["error", { "message": text }]));
    assert_eq!(websocket.next_text().await, event);
    assert_eq!(websocket.next_text().await, format!("434{}", json!([{ "error": text }])));
    websocket.text(r#"42["take",300,"x"]"#).await;
    assert!(websocket.next_text().await.contains("take: argument 1: invalid value"));
}

#[tokio::test]
async fn binary_data_is_an_argument_and_binary_data_that_is_none_is_refused() {
    let io = io();
    io.root().on("first", |Binary(bytes): Binary, others: Attachments, ack: Ack| async move {
        ack.send((bytes.len(), others.0.len(), Binary::from(&b"\x07"[..]))).unwrap();
    });
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket
        .text(r#"452-5["first",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#)
        .await;
    websocket.frame(0x82, b"\x01").await;
    websocket.frame(0x82, b"\x01\x02").await;
    let answer = r#"461-5[2,2,{"_placeholder":true,"num":0}]"#;
    assert_eq!(websocket.next_text().await, answer);
    assert_eq!(websocket.next().await, Got::Binary(vec![7]));
    websocket.text(r#"42["first",{"_placeholder":true,"num":0}]"#).await;
    assert!(websocket.next_text().await.contains("expected binary data"));
}

#[tokio::test]
async fn events_without_a_handler_go_to_the_one_for_the_rest_or_nowhere() {
    let io = io();
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"421["unknown"]"#).await;
    assert!(tokio::time::timeout(SILENCE, websocket.next()).await.is_err());
    io.root().on_any_other(|EventName(name): EventName, first: Value, ack: Ack| async move {
        ack.send((name, first)).unwrap();
    });
    websocket.text(r#"422["unknown",1]"#).await;
    assert_eq!(websocket.next_text().await, r#"432["unknown",1]"#);
}

#[tokio::test]
async fn middleware_is_asked_in_turn_and_refuses_with_data() {
    #[derive(Deserialize)]
    struct Auth {
        name: String,
    }
    let io = io();
    io.of("chat")
        .unwrap()
        .middleware(|socket: Socket, auth: Auth| async move {
            assert!(!socket.is_connected());
            assert_eq!(socket.join("early"), Ok(true));
            socket.insert(auth.name);
            Ok(())
        })
        .middleware(|socket: Socket, _: Value| async move {
            match socket.get::<String>().is_some_and(|name| *name == "ada") {
                true => Ok(()),
                false => Err(ConnectError::new("not you").with_data(json!([1, { "a": null }]))),
            }
        });
    let websocket = &mut opened(served(&io).await).await;
    websocket.text("40/chat,").await;
    let refused = websocket.next_text().await;
    let missing = r#"44/chat,{"message":"auth is not valid: argument 1: missing field `name`"#;
    assert!(refused.starts_with(missing), "{refused}");
    websocket.text(r#"40/chat,{"name":"eve"}"#).await;
    let refusal = r#"44/chat,{"message":"not you","data":[1,{"a":null}]}"#;
    assert_eq!(websocket.next_text().await, refusal);
    websocket.text(r#"40/chat,{"name":"ada"}"#).await;
    assert!(websocket.next_text().await.starts_with(r#"40/chat,{"sid":""#));
    assert_eq!(io.of("/chat").unwrap().to("early").emit("hi", ()).unwrap(), 1);
    assert_eq!(websocket.next_text().await, r#"42/chat,["hi"]"#);
    assert_eq!(io.root().connections(), 0);
}

#[tokio::test]
async fn a_client_without_auth_gave_an_empty_one() {
    #[derive(Deserialize)]
    struct Whoever {
        name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Named {
        #[expect(dead_code, reason = "there is none")]
        name: String,
    }
    let io = io();
    io.root()
        .middleware(|_: Socket, auth: Whoever| async move {
            assert!(auth.name.is_none());
            Ok(())
        })
        .middleware(|_: Socket, auth: Value| async move {
            assert_eq!(auth, json!({}));
            Ok(())
        })
        .middleware(|_: Socket, auth: Option<Named>| async move {
            assert!(auth.is_none());
            Ok(())
        })
        .middleware(|_: Socket, (): ()| async move { Ok(()) });
    let websocket = &mut opened(served(&io).await).await;
    websocket.text("40").await;
    assert!(websocket.next_text().await.starts_with(r#"40{"sid":""#));
}

#[tokio::test]
async fn an_acknowledgement_comes_in_time_late_or_never() {
    let io = io();
    let websocket = &mut connected(served(&io).await, "40").await;
    until(|| io.root().connections() == 1).await;
    let [socket] = &io.root().fetch_sockets()[..] else { panic!("there is one") };

    let asking = socket.emit_with_ack("ask", ("a", 1), Duration::from_secs(9));
    let answering = async {
        let question = websocket.next_text().await;
        let id = question.strip_prefix("42").unwrap().strip_suffix(r#"["ask","a",1]"#).unwrap();
        websocket.text(&format!("43{id}[\"yes\",{{\"n\":2}}]")).await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    let reply = reply.unwrap();
    assert_eq!(reply.len(), 2);
    assert_eq!(reply.arg::<String>(0).unwrap(), "yes");
    assert!(reply.arg::<u8>(1).is_err());
    assert_eq!(reply.arg::<Option<u8>>(2).unwrap(), None);

    let late = socket.emit_with_ack("ask", (), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(AckError::TimedOut(_))));
    websocket.next_text().await;

    let gone = socket.emit_with_ack("ask", (), Duration::from_secs(9));
    let going = async {
        websocket.next_text().await;
        websocket.text("41").await;
    };
    let (gone, ()) = tokio::join!(gone, going);
    assert!(matches!(gone, Err(AckError::Disconnected)));
    let never = socket.emit_with_ack("ask", (), Duration::from_secs(9)).await;
    assert!(matches!(never, Err(AckError::Disconnected)));
}

#[tokio::test]
async fn a_handler_may_wait_for_the_client_that_it_serves() {
    let io = io();
    io.root().on("ask me", |socket: Socket, ack: Ack| async move {
        let reply = socket.emit_with_ack("ask", (), Duration::from_secs(9)).await.unwrap();
        ack.send(&reply.arg::<u8>(0).unwrap()).unwrap();
    });
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"420["ask me"]"#).await;
    let question = websocket.next_text().await;
    let id = question.strip_prefix("42").unwrap().strip_suffix(r#"["ask"]"#).unwrap();
    websocket.text(&format!("43{id}[5]")).await;
    assert_eq!(websocket.next_text().await, "430[5]");
}

#[tokio::test]
async fn handlers_in_order_wait_for_each_other_and_the_others_do_not() {
    let io = io();
    let (release, released) = tokio::sync::watch::channel(false);
    for name in ["free", "ordered"] {
        let mut released = released.clone();
        released.mark_unchanged();
        let wait = move |is_slow: bool, ack: Ack| {
            let mut released = released.clone();
            async move {
                if is_slow {
                    released.wait_for(|is_released| *is_released).await.unwrap();
                }
                ack.send(&is_slow).unwrap();
            }
        };
        match name {
            "free" => io.root().on(name, wait),
            _ => io.root().on_in_order(name, wait),
        };
    }
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"420["free",true]"#).await;
    websocket.text(r#"421["free",false]"#).await;
    assert_eq!(websocket.next_text().await, "431[false]");
    websocket.text(r#"422["ordered",true]"#).await;
    websocket.text(r#"423["ordered",false]"#).await;
    assert!(tokio::time::timeout(SILENCE, websocket.next()).await.is_err());
    release.send(true).unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(websocket.next_text().await);
    }
    let at = |answer: &str| answers.iter().position(|got| got == answer).unwrap();
    assert!(at("432[true]") < at("433[false]"));
    at("430[true]");
}

#[tokio::test]
async fn a_handler_that_panics_ends_nothing_but_itself() {
    let io = io();
    io.root().on("panic", |when: String| async move {
        if when == "late" {
            tokio::task::yield_now().await;
        }
        panic!("as the test wants it");
    });
    io.root().on("fine", |ack: Ack| async move { ack.send(()).unwrap() });
    let websocket = &mut connected(served(&io).await, "40").await;
    websocket.text(r#"42["panic","late"]"#).await;
    websocket.text(r#"42["panic","at once"]"#).await;
    websocket.text(r#"420["fine"]"#).await;
    assert_eq!(websocket.next_text().await, "430[]");
}

#[tokio::test]
async fn everybody_is_told_why_a_socket_left() {
    let io = io();
    let (tell, mut told) = mpsc::channel(8);
    io.root().on_disconnect(move |socket: Socket, reason: DisconnectReason| {
        let tell = tell.clone();
        async move {
            assert!(!socket.is_connected());
            assert_eq!(socket.join("late"), Err(JoinError::Disconnected));
            let rooms: Vec<String> = socket.rooms().iter().map(ToString::to_string).collect();
            tell.send((reason.to_string(), rooms)).await.unwrap();
        }
    });
    io.root().on("join", |socket: Socket, room: String, ack: Ack| async move {
        ack.send(&socket.join(&room).unwrap()).unwrap();
    });
    io.root().on("kick me", |socket: Socket| async move { socket.disconnect() });
    let address = served(&io).await;
    let mut expect = async |reason: &str, rooms: &[&str]| {
        let rooms: Vec<String> = rooms.iter().map(ToString::to_string).collect();
        assert_eq!(in_time(told.recv()).await.unwrap(), (reason.to_owned(), rooms));
    };

    let websocket = &mut connected(address, "40").await;
    websocket.text(r#"420["join","one"]"#).await;
    websocket.next_text().await;
    websocket.text("41").await;
    expect("client namespace disconnect", &["one"]).await;
    assert_eq!(io.root().to("one").emit("x", ()).unwrap(), 0);

    let websocket = &mut connected(address, "40").await;
    websocket.text(r#"42["kick me"]"#).await;
    expect("server namespace disconnect", &[]).await;
    assert_eq!(websocket.next_text().await, "41");
    // What was on its way is ignored, and the client may come back.
    websocket.text(r#"420["join","one"]"#).await;
    websocket.text("40").await;
    assert!(websocket.next_text().await.starts_with(r#"40{"sid""#));

    websocket.text("4?").await;
    expect("parse error", &[]).await;
    drop(connected(address, "40").await);
    expect("transport close", &[]).await;
    let _websocket = connected(address, "40").await;
    until(|| io.root().connections() == 1).await;
    io.root().everybody().close();
    expect("server namespace disconnect", &[]).await;
}

#[tokio::test]
async fn a_socket_is_in_only_so_many_rooms() {
    let mut options = GatewayOptions::default();
    options.limits.socket_rooms_max = 2;
    let io = Io::new(options);
    let _websocket = connected(served(&io).await, "40").await;
    until(|| io.root().connections() == 1).await;
    let socket = io.root().fetch_sockets().remove(0);
    assert_eq!(socket.join("one"), Ok(true));
    assert_eq!(socket.join("one"), Ok(false));
    assert_eq!(socket.join("two"), Ok(true));
    assert_eq!(socket.join("three"), Err(JoinError::TooManyRooms { rooms_max: 2 }));
    assert!(socket.leave("one") && !socket.leave("one"));
    assert_eq!(socket.join("three"), Ok(true));
    assert!(socket.is_in("three") && !socket.is_in("one"));
}

#[tokio::test]
async fn what_is_volatile_does_not_wait() {
    let mut options = GatewayOptions::default();
    options.limits.queue_bytes_max = 1 << 20;
    let io = Io::new(options);
    let websocket = &mut connected(served(&io).await, "40").await;
    until(|| io.root().connections() == 1).await;
    // More than the operating system keeps for a client that does not read.
    let filler = "x".repeat(100_000);
    let mut sent = 0;
    while io.root().everybody().volatile().emit("tick", &filler).unwrap() == 1 {
        sent += 1;
        assert!(sent < 1_000);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(io.root().connections(), 1, "nobody is cut for what is volatile");
    io.root().emit("end", ()).unwrap();
    let mut got = 0;
    while websocket.next_text().await != r#"42["end"]"# {
        got += 1;
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let io = io();
    assert_eq!(io.of("chat").unwrap().name(), "/chat");
    for name in ["/a,b", "/a\u{1e}", &"x".repeat(300)] {
        assert!(io.of(name).is_err());
    }
    assert!(io.root().emit("disconnect", ()).is_err());
    assert!(io.root().emit("x", &std::collections::HashMap::from([((1, 2), 3)])).is_err());
}
