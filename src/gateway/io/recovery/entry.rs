//! One event of the log: who was to get it, and its packet.

use ahash::AHashMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::offset::Offset;
use crate::gateway::io::{Outgoing, SocketId};
use crate::model::clock::UnixMs;

/// Counted for each entry beside its bytes, so that a bound in bytes also bounds the entries.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Of the form in which entries are kept; another one is not read.
const VERSION: u8 = 1;

/// Who gets an event: the members of rooms, everybody without any; a socket's id is a room of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    pub rooms: Vec<Box<str>>,
    pub except_rooms: Vec<Box<str>>,
    pub except: Option<SocketId>,
}

#[derive(Debug)]
pub struct Entry {
    pub offset: Offset,
    pub time_ms: UnixMs,
    pub audience: Audience,
    pub packet: Outgoing,
}

/// The first line of an entry as it is kept; the packet follows.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u8,
    offset: String,
    time_ms: UnixMs,
    rooms: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except_rooms: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<String>,
    text_bytes: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments_bytes: Vec<usize>,
}

impl Audience {
    /// One socket.
    pub fn socket(id: SocketId) -> Self {
        Self { rooms: vec![id.to_string().into()], ..Self::default() }
    }

    /// Whether a socket gets the event at `position` that joined its rooms at these positions.
    pub fn includes(
        &self,
        socket: SocketId,
        own_room: &str,
        rooms: &AHashMap<&str, u64>,
        position: u64,
    ) -> bool {
        let is_in =
            |room: &str| room == own_room || rooms.get(room).is_some_and(|since| *since < position);
        (self.rooms.is_empty() || self.rooms.iter().any(|room| is_in(room)))
            && !self.except_rooms.iter().any(|room| is_in(room))
            && self.except != Some(socket)
    }

    fn bytes(&self) -> usize {
        self.rooms.iter().chain(&self.except_rooms).map(|room| room.len() + 16).sum()
    }
}

impl Entry {
    /// What it counts in the log.
    pub fn bytes(&self) -> usize {
        self.packet.wire_bytes() + self.audience.bytes() + ENTRY_OVERHEAD_BYTES
    }

    pub fn encode(&self) -> Bytes {
        let (text, attachments) = self.packet.parts();
        let head = Head {
            v: VERSION,
            offset: self.offset.to_string(),
            time_ms: self.time_ms,
            rooms: self.audience.rooms.clone(),
            except_rooms: self.audience.except_rooms.clone(),
            except: self.audience.except.map(|id| id.to_string()),
            text_bytes: text.len(),
            attachments_bytes: attachments.iter().map(Bytes::len).collect(),
        };
        // Texts and numbers always have a JSON form.
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(&text);
        attachments.iter().for_each(|attachment| bytes.extend_from_slice(attachment));
        bytes.into()
    }

    /// `None`: it is none, or of another version.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let line = bytes.iter().position(|&byte| byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..line]).ok()?;
        if head.v != VERSION {
            return None;
        }
        let mut rest = bytes.slice(line + 1..);
        let mut take = |length: usize| (length <= rest.len()).then(|| rest.split_to(length));
        let text = take(head.text_bytes)?;
        let attachments: Vec<Bytes> =
            head.attachments_bytes.iter().map(|&length| take(length)).collect::<Option<_>>()?;
        let except = match head.except {
            Some(text) => Some(SocketId::parse(&text)?),
            None => None,
        };
        Some(Self {
            offset: Offset::parse(&head.offset)?,
            time_ms: head.time_ms,
            audience: Audience { rooms: head.rooms, except_rooms: head.except_rooms, except },
            packet: Outgoing::of_parts(&text, &attachments),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::io::{Draft, Parser};
    use crate::wire::socket_io::{Binary, Namespace};

    #[test]
    fn an_entry_reads_back_as_it_was_kept() {
        let offset = Offset { epoch: u64::MAX - 1, position: 7 };
        let args = ("line\nbreak", Binary::from(&b"\x00\n\x01"[..]));
        let draft = Draft::event(Namespace::ROOT, "up", &args).unwrap();
        let entry = Entry {
            offset,
            time_ms: 12,
            audience: Audience {
                rooms: vec!["a".into(), "b\n".into()],
                except_rooms: vec!["c".into()],
                except: Some(SocketId::random()),
            },
            packet: draft.with_offset(&offset),
        };
        let read = Entry::decode(&entry.encode()).unwrap();
        assert_eq!((read.offset, read.time_ms), (entry.offset, entry.time_ms));
        assert_eq!(read.audience, entry.audience);
        for parser in [Parser::Text, Parser::MessagePack] {
            assert_eq!(read.packet.frames(parser), entry.packet.frames(parser));
        }
        let whole = entry.encode();
        for cut in [0, 1, whole.len() - 1] {
            assert!(Entry::decode(&whole.slice(..cut)).is_none());
        }
    }

    #[test]
    fn an_audience_is_rooms_without_those_that_are_excepted() {
        let (id, other) = (SocketId::random(), SocketId::random());
        let own = id.to_string();
        let rooms = AHashMap::from([("old", 3), ("new", 9)]);
        let gets = |audience: &Audience| audience.includes(id, &own, &rooms, 5);
        let to = |rooms: &[&str]| Audience {
            rooms: rooms.iter().map(|&room| room.into()).collect(),
            ..Audience::default()
        };
        assert!(gets(&to(&[])) && gets(&to(&["none", "old"])) && gets(&Audience::socket(id)));
        assert!(!gets(&to(&["none"])) && !gets(&Audience::socket(other)));
        assert!(!gets(&to(&["new"])), "it was not in the room then");
        assert!(!gets(&Audience { except: Some(id), ..to(&["old"]) }));
        assert!(!gets(&Audience { except_rooms: vec!["old".into()], ..to(&[]) }));
        assert!(gets(&Audience { except_rooms: vec!["new".into()], ..to(&[]) }));
    }
}
