//! Section 4.2 of the RFC: what a handshake needs, and what the answer says.

use crate::client::{FIN, REQUEST, Server, TEXT, frame, text};

#[test]
fn the_answer_proves_that_the_key_was_read() {
    let server = Server::start();
    let (head, mut client) = server.handshake(REQUEST);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "none is agreed on");
    client.send(&frame(FIN | TEXT, b"Hello"));
    assert_eq!(client.next(), Some(text("Hello")));
    client.leaves();
}

#[test]
fn a_frame_may_follow_the_request_at_once() {
    let server = Server::start();
    let (_, mut client) = server.handshake(REQUEST);
    client.send(&frame(FIN | TEXT, b"early"));
    assert_eq!(client.next(), Some(text("early")));
}

#[test]
fn requests_that_are_no_handshake_are_refused() {
    let server = Server::start();
    for (from, to, status) in [
        ("GET /", "POST /", 400),
        ("GET / ", "GET /elsewhere ", 404),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Upgrade: websocket\r\n", "", 426),
        ("Connection: Upgrade", "Connection: close", 400),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "no base64 at all", 400),
    ] {
        let request = REQUEST.replacen(from, to, 1);
        assert_ne!(request, REQUEST);
        let (head, _) = server.handshake(&request);
        let answered = head.split(' ').nth(1).unwrap();
        assert_eq!(answered, status.to_string(), "{from} -> {to}: {head}");
    }
}
