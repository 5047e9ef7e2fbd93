//! Sections 9 and 10 of the suite, small: large messages, many fragments; and the bound.

use crate::client::{BINARY, CONTINUATION, FIN, Got, Server, TEXT, closed, fragments, frame, text};

const MIB: usize = 1 << 20;

#[test]
fn case_9_large_messages_come_back() {
    let server = Server::start();
    let mut client = server.open();
    for length in [64 << 10, 256 << 10, MIB, 4 * MIB] {
        client.send(&frame(FIN | TEXT, &vec![b'*'; length]));
        assert!(client.next() == Some(text(&"*".repeat(length))), "{length}");
        client.send(&frame(FIN | BINARY, &vec![0xFE; length]));
        assert!(client.next() == Some(Got::Binary(vec![0xFE; length])), "{length}");
    }
    for fragment_bytes in [64, 256, 4 << 10, 64 << 10] {
        let frames = fragments(BINARY, &vec![0xFE; MIB], fragment_bytes);
        client.send(&frames.concat());
        assert!(client.next() == Some(Got::Binary(vec![0xFE; MIB])), "{fragment_bytes}");
    }
    client.send_in_chops(&frame(FIN | TEXT, &vec![b'*'; MIB]), 1_300);
    assert!(client.next() == Some(text(&"*".repeat(MIB))));
    client.leaves();
}

#[test]
fn case_10_a_message_in_fragments_of_a_packet_s_size_comes_back() {
    let server = Server::start();
    let mut client = server.open();
    let message = "*".repeat(65_536);
    for frame in fragments(TEXT, message.as_bytes(), 1_300) {
        client.send(&frame);
    }
    assert_eq!(client.next(), Some(text(&message)));
    client.leaves();
}

#[test]
fn a_message_has_a_bound_in_all_its_fragments_together() {
    let server = Server::with(&["--max-message", "100kB"]);
    let mut client = server.open();
    client.send(&frame(FIN | BINARY, &[7; 100_000]));
    assert_eq!(client.next(), Some(Got::Binary(vec![7; 100_000])));
    client.send(&fragments(BINARY, &[7; 100_000], 9_999).concat());
    assert_eq!(client.next(), Some(Got::Binary(vec![7; 100_000])));
    client.leaves();

    assert_eq!(server.answers(&frame(FIN | BINARY, &[7; 100_001])), [closed(1009)]);
    let mut client = server.open();
    client.send(&frame(BINARY, &[7; 99_999]));
    client.send(&frame(CONTINUATION, &[7; 2]));
    // The message never ends.
    assert_eq!(client.rest(), [closed(1009)]);
    // Refused by the length that it declares, before it comes.
    let declared = [&[FIN | BINARY, 0x80 | 127][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    assert_eq!(server.answers(&declared), [closed(1009)]);
}

#[test]
fn a_client_that_never_reads_does_not_hold_the_others_up() {
    let server = Server::start();
    let mut deaf = server.open();
    let message = frame(FIN | BINARY, &vec![7; MIB]);
    // The server stops reading it when its answers are not taken, so this thread is stuck in time.
    let flood = std::thread::spawn(move || (0..64).for_each(|_| deaf.send(&message)));
    let mut client = server.open();
    for n in 0..100 {
        client.send(&frame(FIN | TEXT, n.to_string().as_bytes()));
        assert_eq!(client.next(), Some(text(&n.to_string())));
    }
    client.leaves();
    drop(server);
    flood.join().unwrap();
}
