//! Section 7 of the suite: the closing handshake, its codes and reasons; and streams that just end.

use crate::client::{
    CLOSE, CONTINUATION, FIN, Got, PING, Server, TEXT, close, closed, frame, text,
};

#[test]
fn case_7_1_nothing_is_answered_after_a_close() {
    let server = Server::start();
    let goodbye = close(1000, b"");
    for after in [close(1000, b""), frame(FIN | PING, b"p"), frame(FIN | TEXT, b"late")] {
        let bytes = [frame(FIN | TEXT, b"Hello"), goodbye.clone(), after].concat();
        assert_eq!(server.answers(&bytes), [text("Hello"), closed(1000)]);
    }
    let inside = [frame(TEXT, b"frag"), goodbye.clone(), frame(FIN | CONTINUATION, b"ment")];
    assert_eq!(server.answers(&inside.concat()), [closed(1000)]);
    let large = "*".repeat(256 * 1024);
    let bytes = [frame(FIN | TEXT, large.as_bytes()), goodbye, frame(FIN | PING, b"p")].concat();
    assert_eq!(server.answers(&bytes), [text(&large), closed(1000)]);
}

#[test]
fn case_7_3_a_close_may_have_a_code_and_a_reason() {
    let server = Server::start();
    assert_eq!(server.answers(&frame(FIN | CLOSE, b"")), [Got::Close(None)]);
    assert_eq!(server.answers(&frame(FIN | CLOSE, b"\x03")), [closed(1002)]);
    assert_eq!(server.answers(&close(1000, b"")), [closed(1000)]);
    assert_eq!(server.answers(&close(1000, "grün".as_bytes())), [closed(1000)]);
    assert_eq!(server.answers(&close(1000, &[b'*'; 123])), [closed(1000)]);
    assert_eq!(server.answers(&close(1000, &[b'*'; 124])), [closed(1002)]);
    assert_eq!(server.answers(&close(1000, b"\xCE\xBA\xED\xA0\x80")), [closed(1007)]);
}

#[test]
fn case_7_7_valid_codes_are_echoed() {
    let server = Server::start();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        assert_eq!(server.answers(&close(code, b"why")), [closed(code)]);
    }
}

#[test]
fn case_7_9_other_codes_are_refused() {
    let server = Server::start();
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(server.answers(&close(code, b"why")), [closed(1002)], "{code}");
    }
}

#[test]
fn a_stream_that_ends_without_a_close_ends_the_connection() {
    let server = Server::start();
    let message = frame(FIN | TEXT, b"whole");
    for end in 0..message.len() {
        let mut client = server.open();
        client.send(&message[..end]);
        client.end();
        assert_eq!(client.rest(), [], "cut at {end}");
    }
    let mut client = server.open();
    client.send(&message);
    client.end();
    assert_eq!(client.rest(), [text("whole")], "what came before the end is answered");
}
