//! Whatever a client sends, it is told, and nobody else notices.

use leveret::gateway::{self, GatewayOptions, Io};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::http::Polling;
use crate::library::served;
use crate::socket::Socket;
use crate::stand::{Stand, token};
use crate::websocket::{Got, QUERY, WebSocket};

/// What follows on the connection of a bystander must still work.
async fn still_works(stand: &Stand, bystander: &mut Socket) {
    assert_eq!(bystander.call("presence:update", json!("away")).await["ok"], true);
    assert_eq!(stand.gateway.connections(), 1);
}

#[tokio::test]
async fn packets_that_cannot_be_read_end_their_session_alone() {
    let stand = Stand::start().await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    let packets = [
        "4",
        "9",
        "",
        "49",
        "42",
        "42{}",
        "42[]",
        "42[[7]]",
        "42[\"join:room\"",
        "42[\"disconnect\"]",
        "45",
        "451[\"x\"]",
        "4599999-[\"x\"]",
        "4299999999999999999999[\"x\"]",
        "bAAAA",
    ];
    for packet in packets {
        let mut ada = Socket::connect(&stand, "ada").await;
        ada.websocket.text(packet).await;
        let closed = Got::Close(1002, "parse error".to_owned());
        assert_eq!(ada.websocket.closed().await, closed, "{packet}");
        stand.connections(1).await;
    }
    let deep = format!("42[\"x\",{}{}]", "[".repeat(50_000), "]".repeat(50_000));
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.websocket.text(&deep).await;
    assert!(matches!(ada.websocket.closed().await, Got::Close(1002, _)));
    stand.connections(1).await;

    for body in ["x", "4\u{1e}", "42[", "bnot base64!", ""] {
        let polling = Polling::connect(stand.address, &token("ada")).await;
        polling.post(body).await;
        stand.connections(1).await;
    }
    let polling = Polling::connect(stand.address, &token("ada")).await;
    let binary = [("Content-Type", "application/octet-stream")];
    assert_eq!(polling.post_with(&binary, "2").await.status, 400);
    stand.connections(1).await;
    still_works(&stand, &mut bystander).await;
}

#[tokio::test]
async fn without_a_bound_what_is_nested_deep_is_passed_on_and_is_no_value() {
    let mut options = GatewayOptions::default();
    options.limits.depth_max = usize::MAX;
    let io = Io::new(options);
    io.root()
        .on("relay", |socket: gateway::Socket, value: Box<RawValue>| async move {
            socket.emit("relayed", &value).unwrap();
        })
        .on("read", |_: gateway::Socket, _: Value| async { panic!("it was read into a value") });
    let mut websocket = WebSocket::open(served(&io).await, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    websocket.text("40").await;
    assert!(websocket.next_text().await.starts_with("40{"));
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    websocket.text(&format!("42[\"read\",{deep}]")).await;
    assert!(websocket.next_text().await.contains("read: argument 1: recursion limit exceeded"));
    websocket.text(&format!("42[\"relay\",{deep}]")).await;
    assert!(websocket.next_text().await == format!("42[\"relayed\",{deep}]"));
}

#[tokio::test]
async fn frames_that_break_the_protocol_are_closed_with_their_code() {
    let stand = Stand::with(|options| options.limits.payload_bytes_max = 10_000).await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    let violations: [(&str, u8, &[u8], u16); 6] = [
        ("invalid UTF-8", 0x81, b"4\xFF\xFE", 1007),
        ("reserved bits", 0xC1, b"4", 1002),
        ("an unknown opcode", 0x83, b"4", 1002),
        ("a fragmented ping", 0x09, b"", 1002),
        ("a continuation of nothing", 0x80, b"4", 1002),
        ("a message above the bound", 0x81, &[b'4'; 10_001], 1009),
    ];
    for (what, first, payload, code) in violations {
        let mut ada = Socket::connect(&stand, "ada").await;
        ada.websocket.frame(first, payload).await;
        let closed = ada.websocket.closed().await;
        assert!(matches!(closed, Got::Close(got, _) if got == code), "{what}: {closed:?}");
        stand.connections(1).await;
    }
    let mut unmasked = Socket::connect(&stand, "ada").await;
    unmasked.websocket.bytes(b"\x81\x0142").await;
    assert!(matches!(unmasked.websocket.closed().await, Got::Close(1002, _)));

    let mut fragments = Socket::connect(&stand, "ada").await;
    fragments.websocket.frame(0x01, &[b'4'; 9_000]).await;
    fragments.websocket.frame(0x00, &[b'4'; 9_000]).await;
    let told = Got::Close(1009, "message is too large".to_owned());
    assert_eq!(fragments.websocket.closed().await, told);

    // A binary message is an attachment, and there is no packet that it belongs to.
    let mut binary = Socket::connect(&stand, "ada").await;
    binary.websocket.frame(0x82, b"\xDE\xAD\xBE\xEF").await;
    assert!(matches!(binary.websocket.closed().await, Got::Close(1002, _)));
    stand.connections(1).await;
    still_works(&stand, &mut bystander).await;
}

#[tokio::test]
async fn attachments_are_taken_of_nobody_who_has_not_joined() {
    let stand = Stand::start().await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    let header = r#"451-["up",{"_placeholder":true,"num":0}]"#;
    let mut stranger = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    stranger.next_text().await;
    stranger.text(header).await;
    // At once, not when the attachment has come.
    let closed = Got::Close(1000, "forced server close".to_owned());
    assert_eq!(stranger.closed().await, closed);

    let mut left = Socket::connect(&stand, "ada").await;
    left.websocket.text(header).await;
    left.websocket.frame(0x82, &[0; 500_000]).await;
    assert_eq!(left.event("error").await["message"], "Unknown event: up");
    left.websocket.text("41").await;
    left.websocket.text(header).await;
    assert_eq!(left.websocket.closed().await, closed);
    still_works(&stand, &mut bystander).await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed() {
    let stand = Stand::start().await;
    let mut bystander = Socket::connect(&stand, "bob").await;
    let ada = Socket::connect(&stand, "ada").await;
    stand.connections(2).await;
    drop(ada);
    stand.connections(1).await;
    still_works(&stand, &mut bystander).await;
}

#[tokio::test]
async fn control_frames_are_answered() {
    let stand = Stand::start().await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    websocket.next_text().await;
    websocket.frame(0x89, b"are you there").await;
    assert_eq!(websocket.next().await, Got::Pong(b"are you there".to_vec()));
    websocket.frame(0x88, &3001_u16.to_be_bytes()).await;
    assert_eq!(websocket.next().await, Got::Close(3001, String::new()));
    assert_eq!(websocket.next().await, Got::End);
}
