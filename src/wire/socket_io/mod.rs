//! Socket.IO, protocol revision 5, in the text form of the stock parser: what a packet is.
//!
//! Source: <https://socket.io/docs/v4/socket-io-protocol/>. [`Packet::parse`] reads a packet,
//! [`mod@encode`] writes one, and [`Decoder`] also puts binary packets together.
//!
//! Stricter than the stock parser where that is lax and no client relies on it: an acknowledgement
//! has an id, a packet that takes no id has none, an event's name is a string, and a namespace holds no
//! control character (a 0x1e in it would break a polling payload).

mod args;
pub mod attachment;
mod binary;
pub mod encode;
pub mod msgpack;
mod parse;
mod payload;
mod surrogates;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde_json::value::RawValue;
use smallvec::SmallVec;

pub use args::{ArgsWriter, ToArgs};
pub use attachment::Binary;
pub use binary::{BinaryPacket, Decoder, placeholder};
pub use payload::{PAYLOAD_DEPTH_MAX, PayloadError, check_payload};
pub use surrogates::without_lone_surrogates;

/// The largest acknowledgement id: JavaScript counts exactly up to here.
pub const ID_MAX: u64 = 1 << 53;

/// The longest namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// The most arguments of an event or acknowledgement.
pub const ARGS_MAX: usize = 4096;

/// How deep arrays and objects may be nested in what is read into a value, has attachments, or has a form
/// in MessagePack, the outermost of a packet's data counted: serde_json's own bound.
pub const DEPTH_MAX: usize = 127;

/// Names of the library's own events, on one side or the other; they never travel as an EVENT.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether `name` can't be the name of an event; the stock client closes its connection over one.
pub fn is_reserved(name: &str) -> bool {
    RESERVED_EVENTS.contains(&name)
}

/// The name of a namespace, checked: it begins with `/`, and has no comma and no control character.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespace<'a>(&'a str);

impl Namespace<'static> {
    /// The namespace `/`, which a packet does not write out.
    pub const ROOT: Self = Self("/");
}

impl<'a> Namespace<'a> {
    /// # Errors
    /// [`ParseError::Namespace`] when it breaks the rule, or is longer than [`NAMESPACE_BYTES_MAX`].
    pub fn new(name: &'a str) -> Result<Self, ParseError> {
        let valid = name.starts_with('/')
            && name.len() <= NAMESPACE_BYTES_MAX
            && !name.contains(|char: char| char == ',' || char.is_control());
        if valid { Ok(Self(name)) } else { Err(ParseError::Namespace) }
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl Deref for Namespace<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl fmt::Debug for Namespace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for Namespace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The arguments of an event or acknowledgement, each a checked JSON text.
pub type Args<'a> = SmallVec<[&'a RawValue; 2]>;

/// One packet, borrowed from the text that it was read from.
#[derive(Debug, Clone)]
pub struct Packet<'a> {
    pub namespace: Namespace<'a>,
    pub body: Body<'a>,
}

/// What a packet says. BINARY_EVENT and BINARY_ACK are an event and an acknowledgement with
/// attachments: their arguments hold placeholders, see [`placeholder()`].
#[derive(Debug, Clone)]
pub enum Body<'a> {
    /// `auth` is the client's JSON object; from a server it is `{"sid", "pid"?}`.
    Connect {
        auth: Option<&'a RawValue>,
    },
    Disconnect,
    /// `name` is not a reserved one; with an id the sender waits for an acknowledgement.
    Event {
        id: Option<u64>,
        name: Cow<'a, str>,
        args: Args<'a>,
        attachments: usize,
    },
    Ack {
        id: u64,
        args: Args<'a>,
        attachments: usize,
    },
    /// A JSON object with `message` and perhaps `data`, or a string.
    ConnectError {
        error: &'a RawValue,
    },
}

impl Body<'_> {
    /// How many binary messages follow the packet.
    pub fn attachments(&self) -> usize {
        match self {
            Self::Event { attachments, .. } | Self::Ack { attachments, .. } => *attachments,
            Self::Connect { .. } | Self::Disconnect | Self::ConnectError { .. } => 0,
        }
    }
}

/// Bounds on one packet beyond the size of its messages, which the transport bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most attachments of a binary packet; the stock parser's default is 10.
    pub attachments_max: usize,
    /// The most bytes of all attachments of a packet together.
    pub attachments_bytes_max: usize,
    /// How deep arrays and objects may be nested in the data of a packet of text. One in MessagePack, and one
    /// with attachments, has [`DEPTH_MAX`] as its bound too.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attachments_max: 10, attachments_bytes_max: 4_000_000, depth_max: DEPTH_MAX }
    }
}

/// A packet that was refused. The stock server closes the connection for it, with "parse error".
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("no MessagePack packet: {0}")]
    MessagePack(&'static str),
    #[error("empty packet")]
    Empty,
    #[error("unknown packet type {0:?}")]
    UnknownType(char),
    #[error("attachment count is missing, zero or not a number")]
    AttachmentCount,
    #[error("{attachments} attachments; at most {attachments_max} are allowed")]
    TooManyAttachments { attachments: usize, attachments_max: usize },
    #[error("attachments have {bytes} bytes; at most {bytes_max} are allowed")]
    AttachmentsTooLarge { bytes: usize, bytes_max: usize },
    #[error("placeholder of an attachment that does not exist")]
    Placeholder,
    #[error("text arrived where an attachment was due")]
    AttachmentDue,
    #[error("binary data arrived outside a binary packet")]
    UnexpectedBinary,
    #[error("namespace is too long, or holds a comma or control character")]
    Namespace,
    #[error("acknowledgement id is above 2^53")]
    IdTooLarge,
    #[error("acknowledgement without an id")]
    IdMissing,
    #[error("id on a packet that takes none")]
    UnexpectedId,
    #[error("packet without its data")]
    DataMissing,
    #[error("data on a packet that takes none")]
    UnexpectedData,
    #[error("data is nested deeper than {depth_max} levels")]
    TooDeep { depth_max: usize },
    #[error("data is not what the packet type takes")]
    Data(#[source] serde_json::Error),
    #[error("data is not a JSON object")]
    NotAnObject,
    #[error("event name {0:?} is reserved")]
    ReservedEvent(String),
}
