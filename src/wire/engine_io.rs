//! Engine.IO, protocol revision 4: packets, the payloads of HTTP long-polling, and the handshake.
//!
//! Source: <https://socket.io/docs/v4/engine-io-protocol/>.

use std::fmt::Write as _;
use std::str::Split;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Serialize;

/// The value of the query parameter `EIO`.
pub const PROTOCOL: u8 = 4;

/// Stands between the packets of a polling payload. JSON text never holds it unescaped.
pub const SEPARATOR: u8 = 0x1e;

/// The first byte of a text message packet, for encoders that write the message straight after it.
pub const MESSAGE: u8 = b'4';

const BINARY_MARK: char = 'b';

/// Written with padding; read with or without it, as clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One packet. Text is borrowed from the frame or payload that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The handshake, from the server; the text is the JSON of a [`Handshake`].
    Open(&'a str),
    Close,
    /// From the server; from the client only as the probe of an upgrade, with the text `probe`.
    Ping(&'a str),
    Pong(&'a str),
    Message(&'a str),
    /// A binary message: a whole WebSocket binary frame, or base64 inside text.
    Binary(Bytes),
    Upgrade,
    Noop,
}

/// A text that is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("empty packet")]
    Empty,
    #[error("unknown packet type {0:?}")]
    UnknownType(char),
    #[error("binary packet is not base64")]
    Base64(#[source] base64::DecodeError),
}

impl<'a> Packet<'a> {
    /// Reads a text frame, or one packet of a payload.
    ///
    /// # Errors
    /// A [`PacketError`] that says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or(PacketError::Empty)?;
        let data = chars.as_str();
        // What stands behind the last kinds has no meaning; the stock parser skips it too.
        match kind {
            '0' => Ok(Self::Open(data)),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data)),
            '3' => Ok(Self::Pong(data)),
            '4' => Ok(Self::Message(data)),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            BINARY_MARK => {
                let bytes = BASE64.decode(data).map_err(PacketError::Base64)?;
                Ok(Self::Binary(Bytes::from(bytes)))
            }
            unknown => Err(PacketError::UnknownType(unknown)),
        }
    }

    /// Appends the packet as text; a binary message becomes base64. Over WebSocket a binary message
    /// is sent as a binary frame of its bare bytes instead.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Open(data) => (b'0', *data),
            Self::Close => (b'1', ""),
            Self::Ping(data) => (b'2', *data),
            Self::Pong(data) => (b'3', *data),
            Self::Message(data) => (MESSAGE, *data),
            Self::Binary(bytes) => return encode_binary(bytes, out),
            Self::Upgrade => (b'5', ""),
            Self::Noop => (b'6', ""),
        };
        out.push(kind);
        out.extend_from_slice(data.as_bytes());
    }
}

fn encode_binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(BINARY_MARK as u8);
    let start = out.len();
    out.resize(start + base64_bytes(bytes.len()), 0);
    // The room was made for exactly this many bytes, so nothing is left to fail.
    let written = BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// How many bytes `bytes` bytes have as base64 with padding.
fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// A polling request's body that was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("payload has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("payload is not UTF-8")]
    NotUtf8(#[source] std::str::Utf8Error),
}

/// The packets of a polling payload, in order, each parsed when it is asked for.
///
/// There is at least one item, and the first error is the last item: what follows a packet that
/// can't be read is not looked at.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    parts: Option<Split<'a, char>>,
}

/// Splits the body of a polling request of at most `bytes_max` bytes. Its size bounds the packets in it.
///
/// # Errors
/// [`PayloadError::TooLarge`] before anything is read, [`PayloadError::NotUtf8`].
pub fn packets(payload: &[u8], bytes_max: usize) -> Result<Packets<'_>, PayloadError> {
    if payload.len() > bytes_max {
        return Err(PayloadError::TooLarge { bytes: payload.len(), bytes_max });
    }
    let text = std::str::from_utf8(payload).map_err(PayloadError::NotUtf8)?;
    Ok(Packets { parts: Some(text.split(SEPARATOR as char)) })
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let packet = Packet::parse(self.parts.as_mut()?.next()?);
        if packet.is_err() {
            self.parts = None;
        }
        Some(packet)
    }
}

/// The body of a polling response, filled packet by packet up to a bound.
#[derive(Debug)]
pub struct Payload {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Payload {
    /// An empty payload that takes packets up to `bytes_max` bytes in all.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Adds a text packet that is already encoded. False, and nothing is added, when it does not fit;
    /// the first packet always fits, or a queue that begins with a large one would never drain.
    #[must_use]
    pub fn push_text(&mut self, packet: &[u8]) -> bool {
        debug_assert!(!packet.contains(&SEPARATOR), "a separator would split the packet");
        self.push(packet.len(), |bytes| bytes.extend_from_slice(packet))
    }

    /// Adds a binary message, as base64. False, and nothing is added, when it does not fit.
    #[must_use]
    pub fn push_binary(&mut self, message: &[u8]) -> bool {
        self.push(1 + base64_bytes(message.len()), |bytes| encode_binary(message, bytes))
    }

    fn push(&mut self, packet_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.bytes.is_empty() {
            if self.bytes.len() + 1 + packet_bytes > self.bytes_max {
                return false;
            }
            self.bytes.push(SEPARATOR);
        }
        write(&mut self.bytes);
        true
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

/// What the server tells a new session.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    pub sid: &'a str,
    /// Transports that the session may move to: `["websocket"]` or none.
    pub upgrades: &'a [&'a str],
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// The most bytes that the client may put into one polling payload.
    pub payload_bytes_max: usize,
}

/// In the stock server's order, for clients that read no JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    sid: &'a str,
    upgrades: &'a [&'a str],
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: usize,
}

impl Handshake<'_> {
    /// Appends the open packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = Fields {
            sid: self.sid,
            upgrades: self.upgrades,
            ping_interval: millis(self.ping_interval),
            ping_timeout: millis(self.ping_timeout),
            max_payload: self.payload_bytes_max,
        };
        out.push(b'0');
        // Texts and numbers always have a JSON form.
        let _ = serde_json::to_writer(out, &fields);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why an HTTP request is refused; the codes and texts are the stock server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("Transport unknown")]
    UnknownTransport,
    #[error("Session ID unknown")]
    UnknownSession,
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    #[error("Bad request")]
    BadRequest,
    #[error("Forbidden")]
    Forbidden,
    #[error("Unsupported protocol version")]
    UnsupportedProtocolVersion,
}

impl RequestError {
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocolVersion => 5,
        }
    }

    /// The HTTP status of the refusal.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            _ => 400,
        }
    }

    /// The JSON body of the refusal.
    pub fn body(self) -> String {
        let mut body = String::new();
        // Writing to a String can't fail, and no text here needs escaping.
        let _ = write!(body, r#"{{"code":{},"message":"{self}"}}"#, self.code());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(packet: &Packet<'_>) -> String {
        let mut out = Vec::new();
        packet.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_packet_type_has_its_digit() {
        let packets = [
            (r#"0{"sid":"x"}"#, Packet::Open(r#"{"sid":"x"}"#)),
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe")),
            ("2", Packet::Ping("")),
            ("3probe", Packet::Pong("probe")),
            ("4häß€", Packet::Message("häß€")),
            ("4", Packet::Message("")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("bAQIDBA==", Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]))),
            ("b", Packet::Binary(Bytes::new())),
        ];
        for (text, packet) in packets {
            assert_eq!(Packet::parse(text).as_ref(), Ok(&packet), "{text}");
            assert_eq!(encoded(&packet), text);
        }
    }

    #[test]
    fn base64_is_read_without_its_padding_too() {
        let packet = Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]));
        assert_eq!(Packet::parse("bAQIDBA"), Ok(packet));
    }

    #[test]
    fn what_is_no_packet_is_refused_with_its_reason() {
        assert_eq!(Packet::parse(""), Err(PacketError::Empty));
        assert_eq!(Packet::parse("7"), Err(PacketError::UnknownType('7')));
        assert_eq!(Packet::parse("é4"), Err(PacketError::UnknownType('é')));
        assert_eq!(Packet::parse("1x"), Ok(Packet::Close));
        assert_eq!(Packet::parse("6x"), Ok(Packet::Noop));
        assert!(matches!(Packet::parse("b@@"), Err(PacketError::Base64(_))));
        assert!(matches!(Packet::parse("b_-8="), Err(PacketError::Base64(_))));
    }

    #[test]
    fn a_payload_is_split_in_order_and_ends_at_the_first_error() {
        let read: Vec<_> = packets(b"4a\x1e2\x1ebAA==", 100).unwrap().collect();
        let binary = Packet::Binary(Bytes::from_static(&[0]));
        assert_eq!(read, [Ok(Packet::Message("a")), Ok(Packet::Ping("")), Ok(binary)]);

        let read: Vec<_> = packets(b"4a\x1e\x1e4b", 100).unwrap().collect();
        assert_eq!(read, [Ok(Packet::Message("a")), Err(PacketError::Empty)]);
        let read: Vec<_> = packets(b"", 100).unwrap().collect();
        assert_eq!(read, [Err(PacketError::Empty)]);
    }

    #[test]
    fn a_payload_is_refused_whole_when_too_large_or_not_utf8() {
        assert!(packets(b"4abc", 4).is_ok());
        assert_eq!(
            packets(b"4abc", 3).err(),
            Some(PayloadError::TooLarge { bytes: 4, bytes_max: 3 })
        );
        assert!(matches!(packets(b"4\xff", 3), Err(PayloadError::NotUtf8(_))));
    }

    #[test]
    fn a_payload_is_filled_up_to_its_bound_but_never_left_empty() {
        let mut payload = Payload::new(10);
        assert!(payload.push_text(b"4abc"));
        assert!(payload.push_binary(&[0, 1, 2]));
        assert!(!payload.push_text(b""), "a separator no longer fits");
        assert_eq!(payload.into_bytes(), "4abc\x1ebAAEC");

        let mut payload = Payload::new(3);
        assert!(payload.is_empty());
        assert!(payload.push_text(b"4larger than the bound"));
        assert!(!payload.push_text(b"6"));
    }

    #[test]
    fn a_filled_payload_reads_back() {
        let mut payload = Payload::new(1000);
        let binary = Bytes::from_static(b"\x1e\x00\xff");
        assert!(payload.push_text(b"4one"));
        assert!(payload.push_binary(&binary));
        let payload = payload.into_bytes();
        let read: Vec<_> = packets(&payload, 1000).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [Packet::Message("one"), Packet::Binary(binary)]);
    }

    #[test]
    fn the_handshake_carries_the_fields_that_the_client_reads() {
        let mut out = Vec::new();
        Handshake {
            sid: "a\"b",
            upgrades: &["websocket"],
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            payload_bytes_max: 1_000_000,
        }
        .encode(&mut out);
        assert_eq!(out[0], b'0');
        let json: serde_json::Value = serde_json::from_slice(&out[1..]).unwrap();
        let expected = serde_json::json!({
            "sid": "a\"b", "upgrades": ["websocket"],
            "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn refusals_have_the_stock_codes() {
        let body = RequestError::UnknownSession.body();
        assert_eq!(body, r#"{"code":1,"message":"Session ID unknown"}"#);
        assert_eq!(RequestError::Forbidden.status(), 403);
        assert_eq!(RequestError::UnsupportedProtocolVersion.code(), 5);
    }
}
