//! Messages as a room's history keeps them, and what of it is shown.

use ahash::AHashSet;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::io::Outgoing;
use crate::backend::{BackendError, Cache};
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
    messages: &'a [Box<RawValue>],
}

/// The newest of a room's list, so many that `count` can be shown.
///
/// # Errors
/// A cache that does not answer.
pub async fn newest(
    cache: &Cache,
    room: &RoomId,
    count: usize,
    untold: usize,
) -> Result<Vec<Bytes>, BackendError> {
    // What was not broadcast is among the newest of the list.
    let last = i64::try_from(untold + count).unwrap_or(i64::MAX) - 1;
    cache.list_range(&key(room), 0, last).await
}

/// The newest `count` messages of a room's list but the `untold` ones: those still to be broadcast, since
/// a newcomer gets these as `message:new`, and those that failed. So history and what follows it are the
/// log, without a gap and without a duplicate.
///
/// The untold ones are known by their bytes, not by their number: the list is open to the cache's other
/// users, and may have been trimmed or pushed to.
pub fn shown(list: &[Bytes], untold: &AHashSet<&[u8]>, count: usize) -> Vec<Box<RawValue>> {
    list.iter()
        .filter(|message| !untold.contains(&message[..]))
        .filter_map(|message| serde_json::from_slice(message).ok())
        .take(count)
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
    messages: &[Box<RawValue>],
) -> Option<Outgoing> {
    let history = History { room_id: room.as_str(), messages };
    Outgoing::event(namespace, "room:history", None, &&history).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(range: std::ops::Range<u32>) -> Vec<Bytes> {
        range.rev().map(|n| Bytes::from(format!(r#"{{"id":"{n}"}}"#))).collect()
    }

    fn ids(shown: &[Box<RawValue>]) -> Vec<u32> {
        let id = |raw: &RawValue| raw.get()[7..raw.get().len() - 2].parse().unwrap();
        shown.iter().map(|raw| id(raw)).collect()
    }

    #[test]
    fn a_newcomer_is_shown_the_newest_that_were_broadcast() {
        let list = list(0..100);
        let newest: Vec<u32> = (50..100).rev().collect();
        assert_eq!(ids(&shown(&list, &AHashSet::new(), MESSAGES_SHOWN)), newest);

        let pending: AHashSet<&[u8]> = list[..3].iter().map(|message| &message[..]).collect();
        let newest: Vec<u32> = (47..97).rev().collect();
        assert_eq!(ids(&shown(&list, &pending, MESSAGES_SHOWN)), newest);
    }

    #[test]
    fn entries_that_are_no_json_are_passed_over() {
        let list = [Bytes::from_static(b"not json"), Bytes::from_static(br#"{"id":"1"}"#)];
        assert_eq!(ids(&shown(&list, &AHashSet::new(), MESSAGES_SHOWN)), [1]);
    }
}
