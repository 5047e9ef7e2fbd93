//! Packets that are sent: each encoded once, and shared by whoever gets it.

use std::sync::OnceLock;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::recovery::Offset;
use crate::gateway::websocket::Frame;
use crate::wire::engine_io::MESSAGE;
use crate::wire::socket_io::encode::{self, EncodeError};
use crate::wire::socket_io::{Namespace, ParseError, ToArgs, msgpack};

/// How a client writes packets. Its first message tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parser {
    /// `socket.io-parser`, the stock one: text, and attachments behind it.
    #[default]
    Text,
    /// `socket.io-msgpack-parser`: binary messages only.
    MessagePack,
}

/// One packet, a frame of text and one of each attachment; or several in a row as one frame.
#[derive(Debug, Clone)]
pub struct Outgoing {
    frames: SmallVec<[Frame; 1]>,
    /// Those that were made one.
    row: Vec<Outgoing>,
    /// The same for clients of the other parser, if it has a form there; made when the first of them
    /// gets it.
    msgpack: OnceLock<Option<Frame>>,
}

/// Packets for the same clients that wait together go out as one, up to this and one packet more: then a
/// client costs one place in its queue for all of them, and one write.
pub const ROW_BYTES_MAX: usize = 16 << 10;

/// An event without an acknowledgement, as long as it is open whether an offset goes behind its arguments.
#[derive(Debug)]
pub struct Draft {
    packet: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Draft {
    /// # Errors
    /// [`EncodeError`] when the name is reserved or an argument has no JSON form.
    pub fn event(
        namespace: Namespace<'_>,
        name: &str,
        args: &(impl ToArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let mut packet = message();
        let attachments = encode::event(&mut packet, namespace, name, None, args)?;
        Ok(Self { packet, attachments })
    }

    /// The text, as an Engine.IO message, and the attachments.
    pub fn parts(&self) -> (Bytes, Vec<Bytes>) {
        (Bytes::copy_from_slice(&self.packet), self.attachments.clone())
    }

    /// The draft of [`Self::parts`].
    pub fn of_parts(text: &[u8], attachments: Vec<Bytes>) -> Self {
        Self { packet: text.to_vec(), attachments }
    }

    /// Whether the stock client would take the last argument, or the name when there is none, for an
    /// offset.
    pub fn ends_in_text(&self) -> bool {
        self.packet.ends_with(b"\"]")
    }

    pub fn finish(&self) -> Outgoing {
        Outgoing::new(&self.packet, &self.attachments)
    }

    /// As an event that its client acknowledges under `id`.
    pub fn with_ack(&self, id: u64) -> Outgoing {
        let (head, data) = self.packet.split_at(self.data_at());
        let packet = [head, id.to_string().as_bytes(), data].concat();
        Outgoing::new(&packet, &self.attachments)
    }

    /// Where the data begin, behind the type, the number of attachments and the namespace.
    fn data_at(&self) -> usize {
        let behind = |from: usize, byte: u8| {
            let rest = self.packet.get(from..).unwrap_or_default();
            memchr::memchr(byte, rest).map_or(from, |at| from + at + 1)
        };
        // The numbers of the message and the packet.
        let at = 2;
        let at = if self.attachments.is_empty() { at } else { behind(at, b'-') };
        if self.packet.get(at) == Some(&b'/') { behind(at, b',') } else { at }
    }

    /// With the offset as the last argument.
    pub fn with_offset(&self, offset: &Offset) -> Outgoing {
        let mut packet = Vec::with_capacity(self.packet.len() + 48);
        let open = self.packet.strip_suffix(b"]").unwrap_or(&self.packet);
        packet.extend_from_slice(open);
        packet.extend_from_slice(last_argument(offset).as_bytes());
        Outgoing::new(&packet, &self.attachments)
    }
}

/// The end of an event's packet that has the offset behind its arguments.
fn last_argument(offset: &Offset) -> String {
    format!(",\"{offset}\"]")
}

impl Outgoing {
    /// # Errors
    /// [`EncodeError`] when the name is reserved or an argument has no JSON form.
    pub fn event(
        namespace: Namespace<'_>,
        name: &str,
        id: Option<u64>,
        args: &(impl ToArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let mut packet = message();
        let attachments = encode::event(&mut packet, namespace, name, id, args)?;
        Ok(Self::new(&packet, &attachments))
    }

    /// # Errors
    /// [`EncodeError`] when an argument has no JSON form.
    pub fn ack(
        namespace: Namespace<'_>,
        id: u64,
        args: &(impl ToArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let mut packet = message();
        let attachments = encode::ack(&mut packet, namespace, id, args)?;
        Ok(Self::new(&packet, &attachments))
    }

    /// A packet of the connection itself.
    pub fn packet(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut packet = message();
        write(&mut packet);
        Self::new(&packet, &[])
    }

    /// The packet of [`Self::parts`].
    pub fn of_parts(text: &[u8], attachments: &[Bytes]) -> Self {
        Self::new(text, attachments)
    }

    /// The text, as an Engine.IO message, and the attachments.
    pub fn parts(&self) -> (Bytes, Vec<Bytes>) {
        let attachments = self.frames.iter().skip(1).map(Frame::payload).collect();
        (self.frames.first().map(Frame::payload).unwrap_or_default(), attachments)
    }

    fn new(packet: &[u8], attachments: &[Bytes]) -> Self {
        let mut frames = smallvec![Frame::text(packet)];
        frames.extend(attachments.iter().map(|attachment| Frame::binary(attachment)));
        Self { frames, row: Vec::new(), msgpack: OnceLock::new() }
    }

    /// Packets in a row as one, so that whoever gets them has one place in its queue for them all.
    pub fn joined(mut row: Vec<Outgoing>) -> Self {
        if row.len() == 1
            && let Some(packet) = row.pop()
        {
            return packet;
        }
        let frames: Vec<Frame> = row.iter().flat_map(|packet| packet.frames.clone()).collect();
        Self { frames: smallvec![Frame::joined(&frames)], row, msgpack: OnceLock::new() }
    }

    /// Whether several packets were made one.
    pub fn is_row(&self) -> bool {
        !self.row.is_empty()
    }

    /// Those that were made one, or itself.
    pub fn singles(&self) -> &[Outgoing] {
        if self.row.is_empty() { std::slice::from_ref(self) } else { &self.row }
    }

    /// Whether it holds no other form than the one that [`Self::wire_bytes`] counts.
    #[cfg(test)]
    pub fn is_in_one_form(&self) -> bool {
        self.msgpack.get().is_none()
    }

    /// Bytes on the wire, to a client of the stock parser.
    pub fn wire_bytes(&self) -> usize {
        self.frames.iter().map(Frame::wire_bytes).sum()
    }

    /// What a client of this parser is sent: nothing when the packet has no form there, as when it is
    /// nested deeper than [`DEPTH_MAX`](crate::wire::socket_io::DEPTH_MAX).
    pub fn frames(&self, parser: Parser) -> &[Frame] {
        match parser {
            Parser::Text => &self.frames,
            Parser::MessagePack => self.msgpack.get_or_init(|| self.to_msgpack()).as_slice(),
        }
    }

    fn to_msgpack(&self) -> Option<Frame> {
        if !self.row.is_empty() {
            let frames = self.row.iter().flat_map(|packet| packet.frames(Parser::MessagePack));
            let frames: Vec<Frame> = frames.cloned().collect();
            return (!frames.is_empty()).then(|| Frame::joined(&frames));
        }
        let attachments: Vec<Bytes> = self.frames[1..].iter().map(Frame::payload).collect();
        let text = self.frames[0].payload();
        let written =
            str::from_utf8(&text[1..]).map_err(|error| error.to_string()).and_then(|text| {
                msgpack::encode(text, &attachments).map_err(|error| match error {
                    ParseError::Data(error) => error.to_string(),
                    error => error.to_string(),
                })
            });
        // No frame: over one that is no packet the stock parser throws, and its client comes back for
        // the same again.
        let refused = |error: &String| {
            tracing::warn!(error, "a packet has no MessagePack form, and is not sent as one");
        };
        written.inspect_err(refused).ok().map(|packet| Frame::binary(&packet))
    }
}

fn message() -> Vec<u8> {
    let mut packet = Vec::with_capacity(256);
    packet.push(MESSAGE);
    packet
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;
    use crate::wire::socket_io::{ARGS_MAX, Binary};

    #[test]
    fn frames_carry_engine_io_messages() {
        let payload = json!({ "userId": "ada" });
        let event = Outgoing::event(Namespace::ROOT, "typing:stop", None, &[&payload]).unwrap();
        assert_eq!(
            event.frames(Parser::Text)[0].payload(),
            r#"42["typing:stop",{"userId":"ada"}]"#
        );
        let ack = Outgoing::ack(Namespace::ROOT, 7, &[&payload]).unwrap();
        assert_eq!(ack.frames(Parser::Text)[0].payload(), r#"437[{"userId":"ada"}]"#);
        assert!(Outgoing::event(Namespace::ROOT, "disconnect", None, &[&payload]).is_err());
    }

    #[test]
    fn an_offset_goes_behind_the_arguments() {
        let offset = Offset { epoch: 10, position: 3 };
        let draft = Draft::event(Namespace::ROOT, "hi", &("a", 7)).unwrap();
        let packet = draft.with_offset(&offset);
        assert_eq!(
            packet.frames(Parser::Text)[0].payload(),
            r#"42["hi","a",7,"000000000000000a-3"]"#
        );
    }

    #[test]
    fn an_event_that_is_acknowledged_is_written_as_one() {
        for namespace in ["/", "/a-[7"] {
            let namespace = Namespace::new(namespace).unwrap();
            let bytes = || Binary::from(&b"\x01"[..]);
            let text = Draft::event(namespace, "hi", &("a-/,", 7)).unwrap();
            let asked = Outgoing::event(namespace, "hi", Some(12), &("a-/,", 7)).unwrap();
            assert_eq!(text.with_ack(12).parts(), asked.parts());
            let binary = Draft::event(namespace, "hi", &("a-/,", bytes())).unwrap();
            let asked = Outgoing::event(namespace, "hi", Some(12), &("a-/,", bytes())).unwrap();
            assert_eq!(binary.with_ack(12).parts(), asked.parts());
        }
    }

    #[test]
    fn a_last_argument_that_is_a_text_is_noticed() {
        let ends_in_text = |draft: Result<Draft, EncodeError>| draft.unwrap().ends_in_text();
        assert!(ends_in_text(Draft::event(Namespace::ROOT, "hi", &(7, "a\"]"))));
        assert!(ends_in_text(Draft::event(Namespace::ROOT, "no arguments", &())));
        assert!(!ends_in_text(Draft::event(Namespace::ROOT, "hi", &("a", json!(["a"])))));
        assert!(!ends_in_text(Draft::event(Namespace::ROOT, "hi", &("a", 7))));
    }

    #[test]
    fn packets_in_a_row_are_one_frame_for_either_parser() {
        let packet = |name: &str, args: &dyn Fn() -> Binary| {
            Outgoing::event(Namespace::ROOT, name, None, &(name, args())).unwrap()
        };
        let bytes = || Binary::from(&b"\x01"[..]);
        for parser in [Parser::Text, Parser::MessagePack] {
            let row = Outgoing::joined(vec![packet("a", &bytes), packet("b", &bytes)]);
            let [together] = row.frames(parser) else { panic!("one frame") };
            let (mut rest, mut frames) = (Some(together.clone()), Vec::new());
            while let Some(frame) = rest {
                let (first, others) = frame.split_first();
                frames.push(first);
                rest = others;
            }
            let apart: Vec<Frame> = ["a", "b"]
                .iter()
                .flat_map(|name| packet(name, &bytes).frames(parser).to_vec())
                .collect();
            assert_eq!(frames, apart);
        }
    }

    #[test]
    fn what_has_no_messagepack_form_is_no_frame_there() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        for json in [&*deep, "1e400", r#""\ud800""#, r#"{"\ud800":1}"#] {
            let event = || Outgoing::event(Namespace::ROOT, "up", None, &[&raw(json)]).unwrap();
            assert_eq!(event().frames(Parser::Text).len(), 1);
            assert!(event().frames(Parser::MessagePack).is_empty(), "{json}");
            assert!(
                Outgoing::joined(vec![event(), event()]).frames(Parser::MessagePack).is_empty()
            );
            let next = || Outgoing::event(Namespace::ROOT, "next", None, &()).unwrap();
            let row = Outgoing::joined(vec![event(), next()]);
            assert_eq!(row.frames(Parser::MessagePack), next().frames(Parser::MessagePack));
        }
        let many = vec![0; ARGS_MAX + 1];
        let many = Outgoing::event(Namespace::ROOT, "up", None, &*many).unwrap();
        assert!(many.frames(Parser::MessagePack).is_empty());
    }

    #[test]
    fn attachments_follow_in_frames_of_their_own_or_lie_in_the_one() {
        let bytes = Binary::from(&b"\x01\x02"[..]);
        let event = Outgoing::event(Namespace::ROOT, "up", Some(7), &("a", bytes)).unwrap();
        let frames = event.frames(Parser::Text);
        assert_eq!(frames[0].payload(), r#"451-7["up","a",{"_placeholder":true,"num":0}]"#);
        assert!(frames[1].is_binary());
        assert_eq!(frames[1].payload(), &b"\x01\x02"[..]);
        let frames = event.frames(Parser::MessagePack);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].is_binary() && frames[0].payload().ends_with(b"\xa1a\xc4\x02\x01\x02"));
    }
}
