//! What one node says to all, as it is written: a line of JSON, then the packet.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::asking::Question;
use crate::gateway::io::recovery::{Audience, Target};

/// Of the form; another one is not read.
const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Event {
        is_logged: bool,
        is_volatile: bool,
    },
    /// Ends the sockets' sessions.
    Close,
    /// Takes the sockets off the namespace.
    Disconnect,
    /// The sockets join a room, but those of the node that says it, which have; of no node where these are to
    /// do it in its place too.
    Join {
        room: String,
        node: String,
    },
    /// And leave one, on that node too, which counts them.
    Leave {
        room: String,
        node: String,
        #[serde(default)]
        nth: u64,
    },
    /// A node has a session from now on, as one that was taken so often.
    Taken {
        pid: String,
        node: String,
        takes: u64,
    },
    /// Another node wants to know something.
    Ask {
        id: u64,
        node: String,
        question: Question,
    },
    /// And waits no longer for what is acknowledged.
    GiveUp {
        id: u64,
        node: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub op: Op,
    pub audience: Audience,
    /// The text, as an Engine.IO message, and the attachments.
    pub packet: (Bytes, Vec<Bytes>),
}

#[derive(Serialize, Deserialize)]
struct Head {
    v: u8,
    op: Op,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except_rooms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments_bytes: Vec<usize>,
}

impl Frame {
    /// The text is last.
    pub fn encode(&self) -> Vec<u8> {
        let (text, attachments) = &self.packet;
        let names = |targets: &[Target<'_>]| targets.iter().map(Target::to_string).collect();
        let head = Head {
            v: VERSION,
            op: self.op.clone(),
            to: names(&self.audience.to),
            except_rooms: names(&self.audience.except_rooms),
            except: self.audience.except.map(|id| id.to_string()),
            attachments_bytes: attachments.iter().map(Bytes::len).collect(),
        };
        // Texts and numbers always have a JSON form.
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        attachments.iter().for_each(|attachment| bytes.extend_from_slice(attachment));
        bytes.extend_from_slice(text);
        bytes
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
        let attachments: Vec<Bytes> =
            head.attachments_bytes.iter().map(|&length| take(length)).collect::<Option<_>>()?;
        let audience = Audience::of_names(head.to, head.except_rooms, head.except)?;
        Some(Self { op: head.op, audience, packet: (rest, attachments) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::io::SocketId;

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let binary = Bytes::from_static(b"\x00\n\xff");
        let frame = Frame {
            op: Op::Event { is_logged: true, is_volatile: false },
            audience: Audience {
                to: vec![Target::of("a"), Target::of("b\n"), Target::Socket(SocketId::random())],
                except_rooms: vec![Target::of("c")],
                except: Some(SocketId::random()),
            },
            packet: (Bytes::from_static(b"451-[\"up\",\"line\\n\"]"), vec![binary]),
        };
        let written = Bytes::from(frame.encode());
        assert_eq!(Frame::decode(&written), Some(frame));
        for cut in [0, 1, 20] {
            assert_eq!(Frame::decode(&written.slice(..cut)), None);
        }
        let close =
            Frame { op: Op::Close, audience: Audience::default(), packet: Default::default() };
        assert_eq!(Frame::decode(&close.encode().into()), Some(close));
        assert_eq!(Frame::decode(&Bytes::from_static(b"{\"v\":2,\"op\":\"close\"}\n")), None);
    }
}
