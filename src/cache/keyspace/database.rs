//! One of the 16 databases: where its keys are.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::slot::{Key, Slot};

/// A database's keys. A key keeps its place for as long as it lives, so a scan in the order of the
/// places misses none that stays.
///
/// What always holds: `index` and `slots` have the same keys.
#[derive(Default)]
pub(super) struct Database {
    index: HashTable<u32>,
    slots: Slab<Slot>,
    /// Keys with a deadline.
    pub expiring: usize,
}

impl Database {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, hasher: &RandomState, key: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = hasher.hash_one(key);
        self.index.find(hash, |&at| self.get(at).is_some_and(|slot| *slot.key == *key)).copied()
    }

    pub(super) fn get(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)
    }

    /// Puts a key in that is not there; `None` when its place has no number.
    pub(super) fn insert(&mut self, hasher: &RandomState, slot: Slot) -> Option<u32> {
        let entry = self.slots.vacant_entry();
        let at = u32::try_from(entry.key()).ok()?;
        let hash = hasher.hash_one(&*slot.key);
        entry.insert(slot);
        let slots = &self.slots;
        self.index.insert_unique(hash, at, |&at| {
            slots.get(at as usize).map_or(0, |slot| hasher.hash_one(&*slot.key))
        });
        Some(at)
    }

    pub(super) fn remove(&mut self, hasher: &RandomState, at: u32) -> Option<Slot> {
        let slot = self.slots.try_remove(at as usize)?;
        let hash = hasher.hash_one(&*slot.key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        if self.slots.is_empty() {
            // The next keys begin at the first place again, and a scan is short.
            (self.slots, self.index) = Default::default();
        }
        Some(slot)
    }

    /// Gives a key another name, which no key has.
    pub(super) fn rename(&mut self, hasher: &RandomState, at: u32, key: Key) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        let (hash, new_hash) = (hasher.hash_one(&*slot.key), hasher.hash_one(&*key));
        slot.key = key;
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        let slots = &self.slots;
        self.index.insert_unique(new_hash, at, |&at| {
            slots.get(at as usize).map_or(0, |slot| hasher.hash_one(&*slot.key))
        });
    }

    /// Whether the next key's place had no number.
    pub(super) fn is_full(&self) -> bool {
        u32::try_from(self.slots.vacant_key()).is_err()
    }

    /// The keys, by rising places.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        // Whoever was put in has a place with a number.
        self.slots.iter().map(|(at, slot)| (u32::try_from(at).unwrap_or(u32::MAX), slot))
    }

    /// Places are below this: also those that are free again.
    pub(super) fn places_end(&self) -> usize {
        self.slots.capacity()
    }
}
