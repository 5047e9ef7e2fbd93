//! Clients of the MessagePack parser, where the stock one never goes.

use bytes::Bytes;
use leveret::gateway::{GatewayOptions, Io, Socket};
use leveret::wire::socket_io::{Limits, msgpack};
use serde_json::{Value, json};

use crate::library::served;
use crate::websocket::{Got, QUERY, WebSocket};

const BINARY: u8 = 0x82;

/// A session of the MessagePack parser that has connected.
async fn connected(io: &Io) -> WebSocket {
    let mut websocket = WebSocket::open(served(io).await, QUERY, &[]).await.unwrap();
    assert!(websocket.next_text().await.starts_with('0'));
    websocket.frame(BINARY, &msgpack::encode("0", &[]).unwrap()).await;
    assert!(next(&mut websocket).await.starts_with(r#"0{"sid":"#));
    websocket
}

/// The text form of the next packet.
async fn next(websocket: &mut WebSocket) -> String {
    match websocket.next().await {
        Got::Binary(packet) => msgpack::decode(&packet, Limits::default()).unwrap().0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_has_no_form_for_a_client_is_not_sent_to_it() {
    let io = Io::new(GatewayOptions::default());
    io.root().on("relay", |socket: Socket, value: Value| async move {
        socket.emit("relayed", json!({ "from": [value] })).unwrap();
        socket.emit("next", ()).unwrap();
    });
    let websocket = &mut connected(&io).await;
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, is_sent) in [(124, true), (126, false)] {
        let packet = format!(r#"2["relay",{}]"#, nested(levels));
        websocket.frame(BINARY, &msgpack::encode(&packet, &[]).unwrap()).await;
        if is_sent {
            let relayed = format!(r#"2["relayed",{{"from":[{}]}}]"#, nested(levels));
            assert_eq!(next(websocket).await, relayed);
        }
        assert_eq!(next(websocket).await, r#"2["next"]"#);
    }
}

#[tokio::test]
async fn a_map_that_would_be_taken_for_binary_data_is_refused() {
    let io = Io::new(GatewayOptions::default());
    io.root().on("echo", |socket: Socket, value: Value| async move {
        socket.emit("echo", &value).unwrap();
    });
    let websocket = &mut connected(&io).await;
    let plain = r#"2["echo",{"_placeholder":true,"num":99}]"#;
    websocket.frame(BINARY, &msgpack::encode(plain, &[]).unwrap()).await;
    assert_eq!(next(websocket).await, plain);
    // The same beside binary data.
    let both = r#"51-["echo",{"_placeholder":true,"num":99},{"_placeholder":true,"num":0}]"#;
    let both = msgpack::encode(both, &[Bytes::from_static(b"\x01")]).unwrap();
    websocket.frame(BINARY, &both).await;
    assert_eq!(websocket.closed().await, Got::Close(1002, "parse error".to_owned()));
}
