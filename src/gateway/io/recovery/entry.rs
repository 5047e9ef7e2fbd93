//! One event of the log: who was to get it, and its packet.

use std::borrow::Cow;
use std::fmt;

use ahash::AHashMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::offset::Offset;
use crate::gateway::io::{Outgoing, SocketId};
use crate::model::clock::UnixMs;

/// Counted for each entry beside its bytes, so that a bound in bytes also bounds the entries.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Counted for each name of an audience, and its place in the index.
const TARGET_OVERHEAD_BYTES: usize = 96;

/// Of the form in which entries are kept; another one is not read.
const VERSION: u8 = 1;

/// Whom a name chooses. One that is a socket's id means that socket, and never a room: what is for one
/// client must not go to others who join a room of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    Socket(SocketId),
    Room(Cow<'a, str>),
}

impl<'a> Target<'a> {
    pub fn of(name: impl Into<Cow<'a, str>>) -> Self {
        let name = name.into();
        SocketId::parse(&name).map_or(Self::Room(name), Self::Socket)
    }

    pub fn by_ref(&self) -> Target<'_> {
        match self {
            Self::Socket(id) => Target::Socket(*id),
            Self::Room(room) => Target::Room(Cow::Borrowed(room)),
        }
    }

    pub fn into_owned(self) -> Target<'static> {
        match self {
            Self::Socket(id) => Target::Socket(id),
            Self::Room(room) => Target::Room(Cow::Owned(room.into_owned())),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Socket(_) => 0,
            Self::Room(room) => room.len(),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(id) => id.fmt(f),
            Self::Room(room) => room.fmt(f),
        }
    }
}

/// Who gets an event: members of rooms and single sockets, or everybody when neither is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    pub to: Vec<Target<'static>>,
    pub except_rooms: Vec<Target<'static>>,
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
    rooms: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except_rooms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<String>,
    text_bytes: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments_bytes: Vec<usize>,
}

impl Audience {
    /// One socket.
    pub fn socket(id: SocketId) -> Self {
        Self { to: vec![Target::Socket(id)], ..Self::default() }
    }

    /// As its targets and its socket are written. `None`: the socket is none.
    pub fn of_names(
        to: Vec<String>,
        except_rooms: Vec<String>,
        except: Option<String>,
    ) -> Option<Self> {
        let targets = |names: Vec<String>| names.into_iter().map(Target::of).collect();
        let except = match except {
            Some(text) => Some(SocketId::parse(&text)?),
            None => None,
        };
        Some(Self { to: targets(to), except_rooms: targets(except_rooms), except })
    }

    /// Whether a socket gets the event at `position` that joined its rooms at these positions.
    pub fn includes(&self, socket: SocketId, rooms: &AHashMap<&str, u64>, position: u64) -> bool {
        let is_in = |target: &Target<'_>| match target {
            Target::Socket(id) => *id == socket,
            Target::Room(room) => rooms.get(&**room).is_some_and(|since| *since < position),
        };
        (self.to.is_empty() || self.to.iter().any(is_in))
            && !self.except_rooms.iter().any(is_in)
            && self.except != Some(socket)
    }

    fn bytes(&self) -> usize {
        let targets = self.to.iter().chain(&self.except_rooms);
        targets.map(|target| target.bytes() + TARGET_OVERHEAD_BYTES).sum()
    }
}

impl Entry {
    /// What it counts in the log.
    pub fn bytes(&self) -> usize {
        self.packet.wire_bytes() + self.audience.bytes() + ENTRY_OVERHEAD_BYTES
    }

    pub fn encode(&self) -> Bytes {
        let (text, attachments) = self.packet.parts();
        let names = |targets: &[Target<'_>]| targets.iter().map(Target::to_string).collect();
        let head = Head {
            v: VERSION,
            offset: self.offset.to_string(),
            time_ms: self.time_ms,
            rooms: names(&self.audience.to),
            except_rooms: names(&self.audience.except_rooms),
            except: self.audience.except.map(|id| id.to_string()),
            text_bytes: text.len(),
            attachments_bytes: attachments.iter().map(Bytes::len).collect(),
        };
        // Texts and numbers always have a JSON form.
        let line = serde_json::to_vec(&head).unwrap_or_default();
        let packet_bytes = head.text_bytes + head.attachments_bytes.iter().sum::<usize>();
        // It is kept as it is made here, so that what is spare would be kept too.
        let mut bytes = Vec::with_capacity(line.len() + 1 + packet_bytes);
        bytes.extend_from_slice(&line);
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
        Some(Self {
            offset: Offset::parse(&head.offset)?,
            time_ms: head.time_ms,
            audience: Audience::of_names(head.rooms, head.except_rooms, head.except)?,
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
                to: vec![Target::of("a"), Target::of("b\n"), Target::Socket(SocketId::random())],
                except_rooms: vec![Target::of("c")],
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
        assert_eq!(entry.encode().try_into_mut().unwrap().capacity(), whole.len(), "spare bytes");
        for cut in [0, 1, whole.len() - 1] {
            assert!(Entry::decode(&whole.slice(..cut)).is_none());
        }
    }

    #[test]
    fn an_audience_is_rooms_without_those_that_are_excepted() {
        let (id, other) = (SocketId::random(), SocketId::random());
        let others_room = other.to_string();
        let rooms = AHashMap::from([("old", 3), ("new", 9), (&*others_room, 0)]);
        let gets = |audience: &Audience| audience.includes(id, &rooms, 5);
        let to = |names: &[&str]| Audience {
            to: names.iter().map(|name| Target::of(name.to_string())).collect(),
            ..Audience::default()
        };
        assert!(gets(&to(&[])) && gets(&to(&["none", "old"])) && gets(&Audience::socket(id)));
        assert!(!gets(&to(&["none"])) && !gets(&Audience::socket(other)));
        assert!(gets(&to(&[&id.to_string()])) && !gets(&to(&[&others_room])));
        assert!(!gets(&to(&["new"])), "it was not in the room then");
        assert!(!gets(&Audience { except: Some(id), ..to(&["old"]) }));
        assert!(!gets(&Audience { except_rooms: vec![Target::of("old")], ..to(&[]) }));
        assert!(gets(&Audience { except_rooms: vec![Target::of("new")], ..to(&[]) }));
    }
}
