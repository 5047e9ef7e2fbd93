//! From the journal's facts back to keys.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;

use super::Keyspace;
use super::effects::Recorded;
use super::record::{
    DEADLINE, DeadlineRecord, ELEMENT, ElementRecord, LIST, ListId, ListRecord, STRING,
    StringRecord, decode,
};
use super::slot::{Key, Value};
use crate::cache::list::{Element, List};
use crate::journal::{Entry, Kind};
use crate::model::clock::UnixMs;

/// Takes the cache's facts as the journal replays them, in any order.
#[derive(Default)]
pub struct Recovery {
    values: AHashMap<Key, (RecoveredValue, Entry)>,
    deadlines: AHashMap<Key, (UnixMs, Entry)>,
    elements: AHashMap<ListId, Vec<RecoveredElement>>,
}

enum RecoveredValue {
    String(Bytes),
    List(ListId),
}

struct RecoveredElement {
    index: i64,
    value: Bytes,
    entry: Entry,
}

impl Recovery {
    /// Takes a live fact of a kind that the cache owns (32 to 63).
    ///
    /// # Errors
    /// What is wrong with it: an unknown kind, a payload that can't be read, a second value or
    /// deadline of one key.
    pub fn accept(&mut self, entry: Entry, kind: Kind, payload: &[u8]) -> Result<(), String> {
        let taken = match kind {
            STRING => {
                let StringRecord { key, value } = decode(payload)?;
                self.values.insert(own(&key), (RecoveredValue::String(value), entry)).is_none()
            }
            LIST => {
                let ListRecord { key, list } = decode(payload)?;
                self.values.insert(own(&key), (RecoveredValue::List(list), entry)).is_none()
            }
            ELEMENT => {
                let ElementRecord { list, index, value } = decode(payload)?;
                let element = RecoveredElement { index, value, entry };
                self.elements.entry(list).or_default().push(element);
                true
            }
            DEADLINE => {
                let DeadlineRecord { key, at_ms } = decode(payload)?;
                self.deadlines.insert(own(&key), (at_ms, entry)).is_none()
            }
            Kind(other) => return Err(format!("the cache knows no record of kind {other}")),
        };
        // One group replaces a fact by the next, so two of them can't both be live.
        taken.then_some(()).ok_or_else(|| format!("a key has two facts of kind {}", kind.0))
    }
}

fn own(key: &Bytes) -> Key {
    Arc::from(&**key)
}

impl Keyspace {
    /// Fills an empty keyspace. Facts of keys that have expired, and those that belong to no key, are
    /// ended with the next recording.
    pub(in crate::cache) fn restore(&mut self, recovery: Recovery) {
        let Recovery { values, mut deadlines, mut elements } = recovery;
        let highest_list =
            elements.keys().copied().chain(values.values().filter_map(list_of)).max();
        self.next_list = highest_list.map_or(self.next_list, ListId::next);
        for (key, (value, entry)) in values {
            let value = match value {
                RecoveredValue::String(value) => Value::String(value),
                RecoveredValue::List(id) => {
                    Value::List(Box::new(list(id, elements.remove(&id).unwrap_or_default())))
                }
            };
            let deadline = deadlines.remove(&key);
            let id = self.place(key, value, Recorded::At(entry));
            if let Some((at_ms, entry)) = deadline {
                self.place_deadline(id, at_ms, Recorded::At(entry));
            }
        }
        let ownerless = elements.into_values().flatten().map(|element| element.entry);
        let keyless = deadlines.into_values().map(|(_, entry)| entry);
        self.effects.ends.extend(ownerless.chain(keyless));
        self.expire_due(usize::MAX);
    }
}

fn list_of((value, _): &(RecoveredValue, Entry)) -> Option<ListId> {
    match value {
        RecoveredValue::String(_) => None,
        RecoveredValue::List(id) => Some(*id),
    }
}

fn list(id: ListId, mut elements: Vec<RecoveredElement>) -> List {
    elements.sort_unstable_by_key(|element| element.index);
    let first = elements.first().map_or(0, |element| element.index);
    let elements: VecDeque<Element> = elements
        .into_iter()
        .map(|element| Element { value: element.value, recorded: Recorded::At(element.entry) })
        .collect();
    List::recovered(id, first, elements)
}
