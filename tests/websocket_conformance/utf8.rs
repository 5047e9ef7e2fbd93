//! Section 6 of the suite: text is UTF-8, also when a character is split over fragments.

use crate::client::{CONTINUATION, FIN, Server, TEXT, closed, fragments, frame, text};

const KOSME: &str = "κόσμε";

/// Sections 6.5 to 6.23: boundaries of each length, and noncharacters, which are valid.
const VALID: [&[u8]; 14] = [
    b"\x00",
    b"\x7F",
    b"\xC2\x80",
    b"\xDF\xBF",
    b"\xE0\xA0\x80",
    b"\xED\x9F\xBF",
    b"\xEE\x80\x80",
    b"\xEF\xBF\xBD",
    b"\xEF\xBF\xBE",
    b"\xEF\xBF\xBF",
    b"\xF0\x90\x80\x80",
    b"\xF0\x9F\xBF\xBF",
    b"\xF4\x8F\xBF\xBE",
    b"\xF4\x8F\xBF\xBF",
];

/// Sections 6.6 to 6.21: cut sequences, lone continuations, overlong forms, surrogates, beyond U+10FFFF.
const INVALID: [&[u8]; 24] = [
    b"\xCE",
    b"\xCE\xBA\xE1",
    b"\xCE\xBA\xE1\xBD",
    b"\xF4\x90\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFC\x84\x80\x80\x80\x80",
    b"\x80",
    b"\xBF",
    b"\x80\xBF\x80",
    b"\xC0\x20",
    b"\xE0\x20",
    b"\xF0\x20",
    b"\xFE",
    b"\xFF",
    b"\xFE\xFE\xFF\xFF",
    b"\xC0\xAF",
    b"\xC1\xBF",
    b"\xE0\x80\xAF",
    b"\xE0\x9F\xBF",
    b"\xF0\x80\x80\xAF",
    b"\xF0\x8F\xBF\xBF",
    b"\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xED\xA0\x80\xED\xB0\x80",
];

#[test]
fn case_6_1_empty_fragments_are_an_empty_message() {
    let server = Server::start();
    let mut client = server.open();
    for middle in ["", "middle"] {
        let frames = [
            frame(TEXT, b""),
            frame(CONTINUATION, middle.as_bytes()),
            frame(FIN | CONTINUATION, b""),
        ];
        client.send(&frames.concat());
        assert_eq!(client.next(), Some(text(middle)));
    }
    client.leaves();
}

#[test]
fn case_6_2_characters_may_be_split_anywhere() {
    let server = Server::start();
    let mut client = server.open();
    let sentence = format!("Hello-µ@ßöäüàá-UTF-8!! {KOSME}😀");
    for fragment_bytes in 1..8 {
        let frames = fragments(TEXT, sentence.as_bytes(), fragment_bytes);
        client.send(&frames.concat());
        assert_eq!(client.next(), Some(text(&sentence)), "{fragment_bytes}");
    }
    client.send_octets(&frame(FIN | TEXT, sentence.as_bytes()));
    assert_eq!(client.next(), Some(text(&sentence)));
    for valid in VALID {
        client.send(&frame(FIN | TEXT, valid));
        assert_eq!(client.next(), Some(text(std::str::from_utf8(valid).unwrap())));
        client.send(&fragments(TEXT, valid, 1).concat());
        assert_eq!(client.next(), Some(text(std::str::from_utf8(valid).unwrap())));
    }
    client.leaves();
}

#[test]
fn case_6_3_what_is_not_utf8_is_refused() {
    let server = Server::start();
    for invalid in INVALID {
        let around = [KOSME.as_bytes(), invalid, b"edited"].concat();
        for payload in [invalid, &around] {
            assert_eq!(server.answers(&frame(FIN | TEXT, payload)), [closed(1007)], "{payload:x?}");
            let split = fragments(TEXT, payload, 1).concat();
            assert_eq!(server.answers(&split), [closed(1007)], "{payload:x?} split");
        }
    }
}

#[test]
fn case_6_4_a_message_that_can_become_no_text_is_refused_before_it_ends() {
    let server = Server::start();
    for bad in [&b"\xF4\x90"[..], b"\xED\xA0", b"\xFF", b"\xC0"] {
        let mut client = server.open();
        client.send(&frame(TEXT, KOSME.as_bytes()));
        client.send(&frame(CONTINUATION, bad));
        // The message never ends.
        assert_eq!(client.rest(), [closed(1007)], "{bad:x?}");
    }
}
