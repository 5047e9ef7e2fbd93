//! WebSocket frames and Socket.IO packets, as far as a load generator reads them.

/// What a client does about a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Engine.IO's first packet.
    Open,
    Connected,
    /// socketioxide has its handlers in place only some time after its answer to CONNECT.
    Ready,
    Ping,
    /// An acknowledgement; whether it says `ok`.
    Ack {
        ok: bool,
    },
    /// The event that is measured, and when it was sent, in nanoseconds of the generator's clock.
    News {
        sent_ns: u64,
    },
    /// The event that is measured where a client's event begins it at Leveret. It tells no time.
    Typing,
    /// Something that the scenarios do not wait for.
    Other,
    Refused(&'a [u8]),
}

/// Digits of the time that a payload begins with.
const TIME_DIGITS: usize = 20;
pub const NEWS_BYTES: usize = 100;

/// 100 bytes that tell when they were sent.
pub fn news(sent_ns: u64) -> String {
    let rest = NEWS_BYTES - TIME_DIGITS;
    format!("{sent_ns:0TIME_DIGITS$}{:x>rest$}", "")
}

/// A client's text frame. The mask is zero: it is a mask all the same, and costs the generator nothing.
pub fn masked(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 8);
    frame.push(0x81);
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(medium).expect("a short text").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The first whole frame of a server: its payload, and the bytes it takes. `None`: more is to come.
///
/// # Panics
/// On a close frame, and on one that no server of the bench sends.
pub fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first, 0x81, "no text frame: {:?}", String::from_utf8_lossy(bytes));
    let (length, head) = match second {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        short @ 0..=125 => (usize::from(short), 2),
        _ => panic!("a frame of more than 64 KiB"),
    };
    Some((bytes.get(head..head + length)?, head + length))
}

pub fn hear(payload: &[u8]) -> Heard<'_> {
    const NEWS: &[u8] = b"42[\"news\",\"";
    if let Some(text) = payload.strip_prefix(NEWS) {
        let digits = text.get(..TIME_DIGITS).unwrap_or_default();
        let sent_ns = digits.iter().fold(0, |ns, digit| ns * 10 + u64::from(digit - b'0'));
        return Heard::News { sent_ns };
    }
    match payload {
        [b'0', ..] => Heard::Open,
        [b'2', ..] => Heard::Ping,
        [b'4', b'0', ..] => Heard::Connected,
        [b'4', b'3', rest @ ..] => {
            Heard::Ack { ok: memchr::memmem::find(rest, b"\"ok\":true").is_some() }
        }
        [b'4', b'4', ..] => Heard::Refused(payload),
        _ if payload.starts_with(b"42[\"ready\"") => Heard::Ready,
        _ if payload.starts_with(b"42[\"typing:stop\"") => Heard::Typing,
        _ if payload.starts_with(b"42[\"error\"") => Heard::Refused(payload),
        _ => Heard::Other,
    }
}

/// Leveret's way for a program to emit much to a room: messages on `leveret.emit`, over HTTP. They are taken
/// from there together.
pub fn publish(room: &str, text: &str) -> Vec<u8> {
    let message = serde_json::json!({
        "exchange": "leveret.emit",
        "routingKey": format!("room.{room}"),
        "body": format!("\"{text}\""),
        "properties": { "type": "news" },
    });
    post("publish", &message)
}

/// Leveret's way for a program to emit once to a room, over HTTP.
pub fn emit(room: &str, text: &str) -> Vec<u8> {
    let event = serde_json::json!({
        "audience": { "room": room },
        "event": "news",
        "payload": text,
    });
    post("emit", &event)
}

fn post(route: &str, body: &serde_json::Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /api/v1/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
