//! The named parts of a collection: fields of a hash, members of a set or a sorted set.

use ahash::RandomState;
use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::collection::Notes;
use super::effects::{Effects, Recorded};
use super::memory::{allocated, text_bytes};
use super::name::Key;
use super::record::CollectionId;
use crate::cache::sorted_set::Score;
use crate::journal::Entry;

/// What a part has beside its name.
pub(in crate::cache) trait PartValue: Sized {
    /// Bytes of memory outside of `Self`, estimated.
    fn heap_bytes(&self) -> usize;
    fn to_record(&self) -> PartRecord;
    /// `None` when the record is one of another type of collection.
    fn from_record(record: PartRecord) -> Option<Self>;
}

/// A part's value as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cache) enum PartRecord {
    /// A member of a set.
    Member,
    /// A hash field's value.
    Text(Bytes),
    /// A sorted set's score, as the bits of the double.
    Score(u64),
}

impl PartRecord {
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Member | Self::Score(_) => 0,
        }
    }
}

impl PartValue for () {
    fn heap_bytes(&self) -> usize {
        0
    }

    fn to_record(&self) -> PartRecord {
        PartRecord::Member
    }

    fn from_record(record: PartRecord) -> Option<Self> {
        matches!(record, PartRecord::Member).then_some(())
    }
}

impl PartValue for Bytes {
    fn heap_bytes(&self) -> usize {
        text_bytes(self.len())
    }

    fn to_record(&self) -> PartRecord {
        PartRecord::Text(self.clone())
    }

    fn from_record(record: PartRecord) -> Option<Self> {
        match record {
            PartRecord::Text(text) => Some(text),
            PartRecord::Member | PartRecord::Score(_) => None,
        }
    }
}

impl PartValue for Score {
    fn heap_bytes(&self) -> usize {
        0
    }

    fn to_record(&self) -> PartRecord {
        PartRecord::Score(self.get().to_bits())
    }

    fn from_record(record: PartRecord) -> Option<Self> {
        match record {
            PartRecord::Score(bits) => Self::new(f64::from_bits(bits)),
            PartRecord::Member | PartRecord::Text(_) => None,
        }
    }
}

#[derive(Debug)]
struct Part<V> {
    value: V,
    recorded: Recorded,
}

/// Parts by name, and by an index below their number: a part that goes is replaced by the last one.
/// So a random pick is one look, and a scan from the highest index down meets every part that stays.
#[derive(Debug)]
pub(in crate::cache) struct Parts<V> {
    id: CollectionId,
    map: IndexMap<Key, Part<V>, RandomState>,
    /// What its texts take.
    bytes: usize,
}

impl<V: PartValue> Parts<V> {
    pub(in crate::cache) fn new(id: CollectionId) -> Self {
        Self { id, map: IndexMap::default(), bytes: 0 }
    }

    pub(in crate::cache) fn id(&self) -> CollectionId {
        self.id
    }

    pub(in crate::cache) fn len(&self) -> usize {
        self.map.len()
    }

    pub(in crate::cache) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes of memory that the parts take, estimated.
    pub(in crate::cache) fn bytes(&self) -> usize {
        self.bytes + Self::table_bytes(self.map.len())
    }

    /// What a table of so many parts takes that has only grown: it doubles, and keeps room for as many
    /// parts as its index has.
    fn table_bytes(len: usize) -> usize {
        const BUCKETS_MIN: usize = 4;
        const INDEX_BYTES: usize = size_of::<usize>() + 1;
        /// The index is read in groups: its first one is there twice.
        const GROUP_BYTES: usize = 16;
        const PLACE_BYTES: usize = size_of::<(usize, Key)>();
        if len == 0 {
            return 0;
        }
        let buckets = (len + 1 + len / 7).next_power_of_two().max(BUCKETS_MIN);
        let places = buckets - (buckets / 8).max(1);
        allocated(buckets * INDEX_BYTES + GROUP_BYTES)
            + allocated(places * (PLACE_BYTES + size_of::<Part<V>>()))
    }

    pub(in crate::cache) fn contains(&self, name: &[u8]) -> bool {
        self.map.contains_key(name)
    }

    pub(in crate::cache) fn get(&self, name: &[u8]) -> Option<&V> {
        self.map.get(name).map(|part| &part.value)
    }

    /// The name as it is kept.
    pub(in crate::cache) fn name(&self, name: &[u8]) -> Option<&Key> {
        self.map.get_key_value(name).map(|(name, _)| name)
    }

    /// The part at an index; which one that is changes with every removal.
    pub(in crate::cache) fn at(&self, index: usize) -> Option<(&Key, &V)> {
        self.map.get_index(index).map(|(name, part)| (name, &part.value))
    }

    pub(in crate::cache) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &V)> {
        self.map.iter().map(|(name, part)| (name, &part.value))
    }

    /// Gives the part of this name a value; returns the one that it had.
    pub(in crate::cache) fn insert(
        &mut self,
        name: &[u8],
        value: V,
        notes: &mut Notes<'_>,
    ) -> Option<V> {
        self.bytes += value.heap_bytes();
        if let Some(part) = self.map.get_mut(name) {
            notes.end(std::mem::replace(&mut part.recorded, Recorded::New));
            let old = std::mem::replace(&mut part.value, value);
            self.bytes -= old.heap_bytes();
            if let Some((name, _)) =
                notes.are_taken().then(|| self.map.get_key_value(name)).flatten()
            {
                notes.add_part(name);
            }
            return Some(old);
        }
        let name = Key::from(name);
        notes.add_part(&name);
        self.bytes += name.heap_bytes();
        self.map.insert(name, Part { value, recorded: Recorded::New });
        None
    }

    pub(in crate::cache) fn remove(&mut self, name: &[u8], notes: &mut Notes<'_>) -> Option<V> {
        let (name, part) = self.map.swap_remove_entry(name)?;
        Some(self.removed(&name, part, notes))
    }

    /// Removes the part at an index.
    pub(in crate::cache) fn remove_at(
        &mut self,
        index: usize,
        notes: &mut Notes<'_>,
    ) -> Option<(Key, V)> {
        let (name, part) = self.map.swap_remove_index(index)?;
        let value = self.removed(&name, part, notes);
        Some((name, value))
    }

    fn removed(&mut self, name: &Key, part: Part<V>, notes: &mut Notes<'_>) -> V {
        notes.end(part.recorded);
        self.bytes -= name.heap_bytes() + part.value.heap_bytes();
        const CAPACITY_KEPT: usize = 64;
        if self.map.capacity() > CAPACITY_KEPT.max(4 * self.map.len()) {
            self.map.shrink_to(2 * self.map.len());
        }
        part.value
    }

    /// Takes a part from the journal; `false` when it is one of another type.
    pub(in crate::cache) fn restore(
        &mut self,
        name: Key,
        record: PartRecord,
        entry: Entry,
    ) -> bool {
        let Some(value) = V::from_record(record) else { return false };
        self.bytes += name.heap_bytes() + value.heap_bytes();
        self.map.insert(name, Part { value, recorded: Recorded::at(entry) }).is_none()
    }

    pub(in crate::cache) fn record(&self, name: &[u8]) -> Option<PartRecord> {
        self.map.get(name).map(|part| part.value.to_record())
    }

    pub(in crate::cache) fn recorded_mut(&mut self, name: &[u8]) -> Option<&mut Recorded> {
        self.map.get_mut(name).map(|part| &mut part.recorded)
    }

    pub(in crate::cache) fn end_all(&self, effects: &mut Effects) {
        for part in self.map.values() {
            effects.end(part.recorded);
        }
    }
}
