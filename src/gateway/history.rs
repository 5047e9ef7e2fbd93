//! Messages as a room's history keeps them, and what of it a newcomer is shown. Pure.

use ahash::AHashSet;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::io::Outgoing;
use crate::model::clock::UnixMs;
use crate::model::names::{RoomId, UserId};
use crate::wire::socket_io::Namespace;

/// Messages that a room's list keeps.
pub const MESSAGES_KEPT: usize = 100;

/// Messages that a newcomer is shown.
pub const MESSAGES_SHOWN: usize = 50;

/// The cache's key of a room's history: a list of JSON texts, the newest first.
pub fn key(room: &RoomId) -> String {
    format!("room:{room}:messages")
}

/// A message, in the fields of `message:new`; the history keeps the same JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage<'a> {
    pub id: &'a str,
    pub room_id: &'a str,
    pub user_id: &'a str,
    pub username: &'a str,
    pub content: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The sender's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: UnixMs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct History<'a> {
    room_id: &'a str,
    messages: Vec<&'a RawValue>,
}

/// What `room:history` shows of `list`, the newest entries of a room's list: the newest
/// [`MESSAGES_SHOWN`] but the `untold` ones: those still to be broadcast, since the newcomer gets these
/// as `message:new`, and those that failed. So history and what follows it are the log, without a gap
/// and without a duplicate.
///
/// The untold ones are known by their bytes, not by their number: the list is open to the cache's other
/// users, and may have been trimmed or pushed to.
fn shown<'a>(list: &'a [Bytes], untold: &AHashSet<&[u8]>) -> Vec<&'a RawValue> {
    list.iter()
        .filter(|message| !untold.contains(&message[..]))
        .filter_map(|message| serde_json::from_slice(message).ok())
        .take(MESSAGES_SHOWN)
        .collect()
}

/// Of a message in the list, what tells it from others of its sender.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedMessage {
    pub id: String,
    pub user_id: UserId,
    pub client_id: String,
}

/// `None`: its sender gave the message no name.
pub fn named(message: &Bytes) -> Option<NamedMessage> {
    serde_json::from_slice(message).ok()
}

/// The `room:history` event. `None` does not happen: texts always have a JSON form.
pub fn packet(
    namespace: Namespace<'_>,
    room: &RoomId,
    list: &[Bytes],
    untold: &AHashSet<&[u8]>,
) -> Option<Outgoing> {
    let history = History { room_id: room.as_str(), messages: shown(list, untold) };
    Outgoing::event(namespace, "room:history", None, &&history).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(range: std::ops::Range<u32>) -> Vec<Bytes> {
        range.rev().map(|n| Bytes::from(format!(r#"{{"id":"{n}"}}"#))).collect()
    }

    fn ids(shown: &[&RawValue]) -> Vec<u32> {
        let id = |raw: &&RawValue| raw.get()[7..raw.get().len() - 2].parse().unwrap();
        shown.iter().map(id).collect()
    }

    #[test]
    fn a_newcomer_is_shown_the_newest_that_were_broadcast() {
        let list = list(0..100);
        let newest: Vec<u32> = (50..100).rev().collect();
        assert_eq!(ids(&shown(&list, &AHashSet::new())), newest);

        let pending: AHashSet<&[u8]> = list[..3].iter().map(|message| &message[..]).collect();
        let newest: Vec<u32> = (47..97).rev().collect();
        assert_eq!(ids(&shown(&list, &pending)), newest);
    }

    #[test]
    fn entries_that_are_no_json_are_passed_over() {
        let list = [Bytes::from_static(b"not json"), Bytes::from_static(br#"{"id":"1"}"#)];
        assert_eq!(ids(&shown(&list, &AHashSet::new())), [1]);
    }
}
