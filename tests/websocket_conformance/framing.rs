//! Sections 1 to 4 of the suite: lengths, pings and pongs, reserved bits, reserved opcodes; and masks.

use crate::client::{
    BINARY, CLOSE, Client, FIN, Got, PING, PONG, Server, TEXT, close, closed, frame, text,
};

const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 128, 65_535, 65_536];

#[test]
fn case_1_messages_of_every_length_come_back() {
    let server = Server::start();
    let mut client = server.open();
    for length in LENGTHS {
        client.send(&frame(FIN | TEXT, &vec![b'*'; length]));
        assert_eq!(client.next(), Some(text(&"*".repeat(length))), "{length}");
        client.send(&frame(FIN | BINARY, &vec![0xFE; length]));
        assert_eq!(client.next(), Some(Got::Binary(vec![0xFE; length])), "{length}");
    }
    client.send_in_chops(&frame(FIN | TEXT, &vec![b'*'; 65_536]), 997);
    assert_eq!(client.next(), Some(text(&"*".repeat(65_536))));
    client.send_octets(&frame(FIN | BINARY, &[0xFE; 300]));
    assert_eq!(client.next(), Some(Got::Binary(vec![0xFE; 300])));
    client.leaves();
}

#[test]
fn case_2_pings_are_answered_and_pongs_ignored() {
    let server = Server::start();
    let mut client = server.open();
    let payloads: [&[u8]; 4] = [b"", b"Hello, world!", &[0, 255, 254, 253], &[0xFE; 125]];
    for payload in payloads {
        client.send(&frame(FIN | PING, payload));
        assert_eq!(client.next(), Some(Got::Pong(payload.to_vec())));
        client.send_octets(&frame(FIN | PING, payload));
        assert_eq!(client.next(), Some(Got::Pong(payload.to_vec())));
        // A pong that nobody asked for, then a ping to see that nothing came back.
        client.send(&frame(FIN | PONG, payload));
        client.send(&frame(FIN | PING, b"next"));
        assert_eq!(client.next(), Some(Got::Pong(b"next".to_vec())));
    }
    let pings: Vec<u8> = (0..10_u8).flat_map(|n| frame(FIN | PING, &[n])).collect();
    client.send(&pings);
    for n in 0..10 {
        assert_eq!(client.next(), Some(Got::Pong(vec![n])));
    }
    client.leaves();

    assert_eq!(server.answers(&frame(FIN | PING, &[0xFE; 126])), [closed(1002)]);
    assert_eq!(server.answers(&frame(FIN | PONG, &[0xFE; 126])), [closed(1002)]);
}

/// After a good message, so that it is seen to come back first.
fn refused(server: &Server, bytes: &[u8], code: u16) {
    let good = frame(FIN | TEXT, b"good");
    let after = frame(FIN | TEXT, b"after");
    let all = [good, bytes.to_vec(), after].concat();
    let expected = [text("good"), closed(code)];
    assert_eq!(server.answers(&all), expected, "{:x?}", &bytes[..bytes.len().min(8)]);
    let mut client: Client = server.open();
    client.send_octets(&all);
    assert_eq!(client.rest(), expected, "octet by octet");
}

#[test]
fn case_3_reserved_bits_are_refused() {
    let server = Server::start();
    for bits in 1..8_u8 {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            refused(&server, &frame(FIN | bits << 4 | opcode, b"x"), 1002);
        }
    }
}

#[test]
fn case_4_reserved_opcodes_are_refused() {
    let server = Server::start();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(&server, &frame(FIN | opcode, b""), 1002);
        refused(&server, &frame(FIN | opcode, b"Hello, world!"), 1002);
    }
}

#[test]
fn frames_without_a_mask_are_refused() {
    let server = Server::start();
    refused(&server, b"\x81\x02hi", 1002);
    refused(&server, b"\x89\x00", 1002);
    let mut unmasked = close(1000, b"");
    unmasked[1] &= 0x7F;
    refused(&server, &unmasked, 1002);
}
