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
    #[error("packet of type {0} carries data")]
    UnexpectedData(char),
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
        let bare = |packet| match data {
            "" => Ok(packet),
            _ => Err(PacketError::UnexpectedData(kind)),
        };
        match kind {
            '0' => Ok(Self::Open(data)),
            '1' => bare(Self::Close),
            '2' => Ok(Self::Ping(data)),
            '3' => Ok(Self::Pong(data)),
            '4' => Ok(Self::Message(data)),
            '5' => bare(Self::Upgrade),
            '6' => bare(Self::Noop),
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

impl Handshake<'_> {
    /// Appends the open packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let json = serde_json::json!({
            "sid": self.sid,
            "upgrades": self.upgrades,
            "pingInterval": millis(self.ping_interval),
            "pingTimeout": millis(self.ping_timeout),
            "maxPayload": self.payload_bytes_max,
        });
        Packet::Open(&json.to_string()).encode(out);
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
