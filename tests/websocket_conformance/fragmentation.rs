//! Section 5 of the suite: messages in fragments, and what may stand between them.

use crate::client::{
    BINARY, CLOSE, CONTINUATION, FIN, Got, PING, PONG, Server, TEXT, closed, frame, text,
};

#[test]
fn case_5_1_control_frames_are_whole() {
    let server = Server::start();
    for opcode in [PING, PONG, CLOSE] {
        let bytes = [frame(opcode, b"frag"), frame(FIN | CONTINUATION, b"ment")].concat();
        assert_eq!(server.answers(&bytes), [closed(1002)]);
    }
}

#[test]
fn case_5_3_fragments_become_one_message_however_they_are_sent() {
    let server = Server::start();
    let ping = frame(FIN | PING, b"ping");
    let pong = Got::Pong(b"ping".to_vec());
    for with_ping in [false, true] {
        let between = if with_ping { ping.clone() } else { Vec::new() };
        let frames = [frame(TEXT, b"frag"), between, frame(FIN | CONTINUATION, b"ment")];
        let mut expected = vec![text("fragment")];
        if with_ping {
            expected.insert(0, pong.clone());
        }
        for chop_bytes in [usize::MAX, 6, 1] {
            let mut client = server.open();
            client.send_in_chops(&frames.concat(), chop_bytes);
            for got in &expected {
                assert_eq!(client.next().as_ref(), Some(got), "{chop_bytes} {with_ping}");
            }
            client.leaves();
        }
    }
}

#[test]
fn case_5_9_a_continuation_continues_something() {
    let server = Server::start();
    for fin in [FIN, 0] {
        let alone = [frame(fin | CONTINUATION, b"non-continuation"), frame(FIN | TEXT, b"Hello")];
        assert_eq!(server.answers(&alone.concat()), [closed(1002)]);
        let after = [
            frame(TEXT, b"frag"),
            frame(FIN | CONTINUATION, b"ment"),
            frame(fin | CONTINUATION, b"more"),
        ];
        assert_eq!(server.answers(&after.concat()), [text("fragment"), closed(1002)]);
        let empty = [frame(fin | CONTINUATION, b""), frame(FIN | TEXT, b"Hello")];
        assert_eq!(server.answers(&empty.concat()), [closed(1002)]);
    }
}

#[test]
fn case_5_18_a_message_ends_before_the_next() {
    let server = Server::start();
    for opcode in [TEXT, BINARY] {
        for fin in [FIN, 0] {
            let bytes = [frame(TEXT, b"one"), frame(fin | opcode, b"two")].concat();
            assert_eq!(server.answers(&bytes), [closed(1002)]);
        }
    }
}

#[test]
fn case_5_19_pings_between_many_fragments_are_answered_at_once() {
    let server = Server::start();
    let mut client = server.open();
    client.send(&frame(TEXT, b"fragment1"));
    client.send(&frame(CONTINUATION, b"fragment2"));
    client.send(&frame(FIN | PING, b"ping1"));
    // Before the message is complete.
    assert_eq!(client.next(), Some(Got::Pong(b"ping1".to_vec())));
    client.send(&frame(CONTINUATION, b""));
    client.send(&frame(CONTINUATION, b"fragment4"));
    client.send(&frame(FIN | PING, b"ping2"));
    assert_eq!(client.next(), Some(Got::Pong(b"ping2".to_vec())));
    client.send(&frame(FIN | CONTINUATION, b"fragment5"));
    assert_eq!(client.next(), Some(text("fragment1fragment2fragment4fragment5")));
    client.leaves();
}
