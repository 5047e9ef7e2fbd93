//! The keys: where they are, what they hold, when they expire, what of them is recorded.
//!
//! Owns the state that all data types share; what the commands of one type mean lies in that type's
//! file. May import: the types' values, `model`, `journal`. Time stands still in it until
//! [`Keyspace::begin`] moves it on.
//!
//! What always holds: `index` and `slots` have the same keys; `deadlines` has exactly the slots with
//! an expiry; between two pipelines everything is [`Recorded::At`] its entry.

mod effects;
mod expiry;
mod record;
mod recording;
mod recovery;
mod slot;

use std::collections::BTreeSet;

use ahash::RandomState;
use bytes::Bytes;
use hashbrown::HashTable;
use metrics::Counter;
use slab::Slab;

pub(super) use effects::{Effects, Recorded};
pub(super) use record::ListId;
pub use recovery::Recovery;
pub(super) use slot::{Key, Slot, SlotId, TEXT_BYTES, Value, check_value, owned};

use super::error::CacheError;
use super::list::{List, ListEdit};
use crate::model::clock::UnixMs;
use effects::Fresh;

/// What a write does to the key's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ttl {
    Keep,
    None,
    Until(UnixMs),
}

/// Counts the reads that found a value, and those that did not.
pub(super) struct Lookups {
    pub hit: Counter,
    pub miss: Counter,
}

pub(super) struct Keyspace {
    now_ms: UnixMs,
    index: HashTable<SlotId>,
    hasher: RandomState,
    slots: Slab<Slot>,
    deadlines: BTreeSet<(UnixMs, SlotId)>,
    driver: expiry::Driver,
    effects: Effects,
    next_list: ListId,
    bytes: usize,
    lookups: Lookups,
}

impl Keyspace {
    pub(super) fn new(lookups: Lookups) -> Self {
        Self {
            now_ms: 0,
            index: HashTable::new(),
            hasher: RandomState::new(),
            slots: Slab::new(),
            deadlines: BTreeSet::new(),
            driver: expiry::Driver::default(),
            effects: Effects::default(),
            next_list: ListId(1),
            bytes: 0,
            lookups,
        }
    }

    /// A pipeline begins: its time is `now_ms` throughout.
    pub(super) fn begin(&mut self, now_ms: UnixMs) {
        self.now_ms = now_ms;
    }

    pub(super) fn now_ms(&self) -> UnixMs {
        self.now_ms
    }

    /// Keys. Those that have expired and are not yet taken back count, as in Redis.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory that the keys take, estimated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks at a key.
    pub(super) fn slot(&self, key: &[u8]) -> Option<&Slot> {
        self.find(key).and_then(|id| self.slots.get(id)).filter(|slot| !slot.is_due(self.now_ms))
    }

    /// Reads a key's value; counted as a hit or a miss.
    pub(super) fn read(&self, key: &[u8]) -> Option<&Value> {
        let slot = self.slot(key);
        let counter = if slot.is_some() { &self.lookups.hit } else { &self.lookups.miss };
        counter.increment(1);
        slot.map(Slot::value)
    }

    pub(super) fn live_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot).filter(|slot| !slot.is_due(self.now_ms))
    }

    /// Writes a key's value, whatever the key held before. A deadline that has passed removes the key.
    pub(super) fn put(&mut self, key: &[u8], value: Value, ttl: Ttl) -> Result<(), CacheError> {
        let id = match self.live(key) {
            Some(id) => {
                self.replace(id, value);
                id
            }
            None => self.insert(key, value)?,
        };
        match ttl {
            Ttl::Keep => {}
            Ttl::None => self.set_deadline(id, None),
            Ttl::Until(at_ms) => self.expire_slot(id, at_ms),
        }
        Ok(())
    }

    /// Whether the key was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(id) = self.live(key) else { return false };
        self.remove_slot(id);
        true
    }

    /// Removes every key. Takes time in proportion to what there is, as Redis's own does.
    pub(super) fn clear(&mut self) {
        for (_, slot) in &self.slots {
            self.effects.end(slot.value_recorded);
            slot.value.end_parts(&mut self.effects);
            if let Some(expiry) = slot.expiry {
                self.effects.end(expiry.recorded);
            }
        }
        self.slots = Slab::new();
        self.index = HashTable::new();
        self.deadlines = BTreeSet::new();
        self.bytes = 0;
    }

    /// Changes the string at `key`, which is made when there is no such key; its deadline stays.
    pub(super) fn edit_string<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Bytes) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let Some(id) = self.live(key) else {
            let mut value = Bytes::new();
            let result = edit(&mut value)?;
            self.insert(key, Value::String(value))?;
            return Ok(result);
        };
        let slot = &mut self.slots[id];
        let Value::String(value) = &mut slot.value else { return Err(CacheError::WrongType) };
        let bytes_before = value.len();
        let result = edit(value)?;
        self.bytes = self.bytes - bytes_before + value.len();
        self.effects.end(std::mem::replace(&mut slot.value_recorded, Recorded::New));
        self.effects.fresh.push(Fresh::Value(id));
        Ok(result)
    }

    /// Changes the list at `key`; `None` when there is no such key. A list that is empty afterwards
    /// is removed.
    pub(super) fn edit_list<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut ListEdit<'_>) -> T,
    ) -> Result<Option<T>, CacheError> {
        let Some(id) = self.live(key) else { return Ok(None) };
        self.edit_list_slot(id, edit).map(Some)
    }

    /// Changes the list at `key`, which is made when there is no such key.
    pub(super) fn edit_or_make_list<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut ListEdit<'_>) -> T,
    ) -> Result<T, CacheError> {
        let id = match self.live(key) {
            Some(id) => id,
            None => {
                let list = List::new(self.next_list);
                self.next_list = self.next_list.next();
                self.insert(key, Value::List(Box::new(list)))?
            }
        };
        self.edit_list_slot(id, edit)
    }

    fn edit_list_slot<T>(
        &mut self,
        id: SlotId,
        edit: impl FnOnce(&mut ListEdit<'_>) -> T,
    ) -> Result<T, CacheError> {
        let Value::List(list) = &mut self.slots[id].value else {
            return Err(CacheError::WrongType);
        };
        let bytes_before = list.bytes();
        let result = edit(&mut ListEdit::new(list, id, &mut self.effects));
        self.bytes = self.bytes - bytes_before + list.bytes();
        if list.is_empty() {
            self.remove_slot(id);
        }
        Ok(result)
    }

    fn find(&self, key: &[u8]) -> Option<SlotId> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&id| *self.slots[id].key == *key).copied()
    }

    /// The key's slot; one that has expired is removed first.
    fn live(&mut self, key: &[u8]) -> Option<SlotId> {
        let id = self.find(key)?;
        if self.slots[id].is_due(self.now_ms) {
            self.remove_slot(id);
            return None;
        }
        Some(id)
    }

    fn replace(&mut self, id: SlotId, value: Value) {
        let slot = &mut self.slots[id];
        self.effects.end(slot.value_recorded);
        slot.value.end_parts(&mut self.effects);
        self.bytes = self.bytes - slot.value.bytes() + value.bytes();
        slot.value = value;
        slot.value_recorded = Recorded::New;
        self.effects.fresh.push(Fresh::Value(id));
    }

    fn insert(&mut self, key: &[u8], value: Value) -> Result<SlotId, CacheError> {
        let id = self.place(slot::new_key(key)?, value, Recorded::New);
        self.effects.fresh.push(Fresh::Value(id));
        Ok(id)
    }

    /// Puts a key that is not there into the tables.
    fn place(&mut self, key: Key, value: Value, value_recorded: Recorded) -> SlotId {
        let hash = self.hasher.hash_one(&*key);
        let slot = Slot { key, value, value_recorded, expiry: None };
        self.bytes += slot.bytes();
        let id = self.slots.insert(slot);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, id, |&id| hasher.hash_one(&*slots[id].key));
        id
    }

    fn remove_slot(&mut self, id: SlotId) {
        self.set_deadline(id, None);
        let slot = &self.slots[id];
        let hash = self.hasher.hash_one(&*slot.key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.bytes -= slot.bytes();
        self.effects.end(slot.value_recorded);
        slot.value.end_parts(&mut self.effects);
        self.slots.remove(id);
    }
}
