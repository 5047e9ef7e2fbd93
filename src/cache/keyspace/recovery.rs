//! From the journal's facts back to keys.

use std::collections::VecDeque;

use ahash::AHashMap;
use bytes::Bytes;

use super::collection::Collection;
use super::effects::Recorded;
use super::name::Key;
use super::parts::PartRecord;
use super::record::{
    CollectionId, CollectionRecord, DEADLINE, DeadlineRecord, ELEMENT, ElementRecord, HASH, LIST,
    LONG_STRING, ORDER, OrderFact, OrderRecord, PART, PartFactRecord, SET, SORTED_SET, STRING,
    StringRecord, decode, decode_keyed,
};
use super::slot::Value;
use super::{DATABASES, Keyspace};
use crate::cache::hash::Hash;
use crate::cache::list::{Element, List};
use crate::cache::set::Set;
use crate::cache::sorted_set::SortedSet;
use crate::cache::string::Long;
use crate::journal::{Entry, Kind};
use crate::model::clock::UnixMs;

/// Takes the cache's facts as the journal replays them, in any order.
#[derive(Default)]
pub struct Recovery {
    values: AHashMap<(u8, Key), (RecoveredValue, Entry)>,
    deadlines: AHashMap<(u8, Key), (UnixMs, Entry)>,
    elements: AHashMap<CollectionId, Vec<RecoveredElement>>,
    parts: AHashMap<CollectionId, Vec<(Key, PartRecord, Entry)>>,
    order: Option<([u8; DATABASES], Entry)>,
}

enum RecoveredValue {
    String(Bytes),
    Collection(Kind, CollectionId),
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
                let (db, StringRecord { key, value }) = decode_keyed(payload)?;
                let value = (RecoveredValue::String(value), entry);
                self.values.insert((in_range(db)?, own(&key)), value).is_none()
            }
            LIST | HASH | SET | SORTED_SET | LONG_STRING => {
                let (db, CollectionRecord { key, collection }) = decode_keyed(payload)?;
                let value = (RecoveredValue::Collection(kind, collection), entry);
                self.values.insert((in_range(db)?, own(&key)), value).is_none()
            }
            PART => {
                let PartFactRecord { collection, name, value } = decode(payload)?;
                self.parts.entry(collection).or_default().push((own(&name), value, entry));
                true
            }
            ELEMENT => {
                let ElementRecord { list, index, value } = decode(payload)?;
                let element = RecoveredElement { index, value, entry };
                self.elements.entry(list).or_default().push(element);
                true
            }
            DEADLINE => {
                let (db, DeadlineRecord { key, at_ms }) = decode_keyed(payload)?;
                self.deadlines.insert((in_range(db)?, own(&key)), (at_ms, entry)).is_none()
            }
            ORDER => {
                let OrderRecord { places } = decode(payload)?;
                let places = OrderFact::read(&places).ok_or("no order of all databases")?;
                self.order.replace((places, entry)).is_none()
            }
            Kind(other) => return Err(format!("the cache knows no record of kind {other}")),
        };
        // One group replaces a fact by the next, so two of them can't both be live.
        taken.then_some(()).ok_or_else(|| format!("a key has two facts of kind {}", kind.0))
    }
}

fn own(key: &Bytes) -> Key {
    Key::from(&**key)
}

fn in_range(db: u8) -> Result<u8, String> {
    (usize::from(db) < DATABASES).then_some(db).ok_or_else(|| format!("there is no database {db}"))
}

impl Keyspace {
    /// Fills an empty keyspace. Facts of keys that have expired, and those that belong to no key, are
    /// ended with the next recording.
    pub(in crate::cache) fn restore(&mut self, recovery: Recovery) {
        let Recovery { values, mut deadlines, mut elements, mut parts, order } = recovery;
        if let Some((places, entry)) = order {
            self.restore_order(places, entry);
        }
        let in_values = values.values().filter_map(|(value, _)| match value {
            RecoveredValue::String(_) => None,
            RecoveredValue::Collection(_, id) => Some(*id),
        });
        let highest = elements.keys().chain(parts.keys()).copied().chain(in_values).max();
        self.next_collection = highest.map_or(self.next_collection, CollectionId::next);
        for ((db, key), (value, entry)) in values {
            let value = match value {
                RecoveredValue::String(value) => Value::String(value),
                RecoveredValue::Collection(kind, id) => {
                    let elements = elements.remove(&id).unwrap_or_default();
                    let parts = parts.remove(&id).unwrap_or_default();
                    self.collection_of(kind, id, elements, parts)
                }
            };
            let deadline = deadlines.remove(&(db, Key::clone(&key)));
            let Some(id) = self.place(db, key, value, Recorded::at(entry)) else { continue };
            if let Some((at_ms, entry)) = deadline {
                self.place_deadline(id, at_ms, Recorded::at(entry));
            }
        }
        let elements = elements.into_values().flatten().map(|element| element.entry);
        let parts = parts.into_values().flatten().map(|(.., entry)| entry);
        let deadlines = deadlines.into_values().map(|(_, entry)| entry);
        for ownerless in elements.chain(parts).chain(deadlines) {
            self.effects.end(Recorded::at(ownerless));
        }
        self.expire_due(usize::MAX);
    }

    fn collection_of(
        &mut self,
        kind: Kind,
        id: CollectionId,
        elements: Vec<RecoveredElement>,
        parts: Vec<(Key, PartRecord, Entry)>,
    ) -> Value {
        let mut value = match kind {
            HASH => Hash::new(id).into_value(),
            SET => Set::new(id).into_value(),
            SORTED_SET => SortedSet::new(id).into_value(),
            LONG_STRING => {
                let pieces = elements.into_iter().map(|it| (it.index, it.value, it.entry));
                let (long, strangers) = Long::recovered(id, pieces.collect());
                for stranger in strangers {
                    self.effects.end(Recorded::at(stranger));
                }
                Value::Long(Box::new(long))
            }
            _ => Value::List(Box::new(list(id, elements))),
        };
        for (name, record, entry) in parts {
            if !value.restore_part(name, record, entry) {
                self.effects.end(Recorded::at(entry));
            }
        }
        value
    }
}

fn list(id: CollectionId, mut elements: Vec<RecoveredElement>) -> List {
    elements.sort_unstable_by_key(|element| element.index);
    let first = elements.first().map_or(0, |element| element.index);
    let elements: VecDeque<Element> = elements
        .into_iter()
        .map(|element| Element {
            value: element.value.into(),
            recorded: Recorded::at(element.entry),
        })
        .collect();
    List::recovered(id, first, elements)
}
