//! One of the 16 databases: where its keys are.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::name::Key;
use super::slot::Slot;

/// One in so many places of the index is taken, at least.
const SPARSEST: usize = 16;
/// An index for so many keys is kept, however few there are.
const INDEX_KEPT: usize = 64;

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
        self.index.insert_unique(hash, at, |&at| hash_at(slots, hasher, at));
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
        } else if self.index.capacity() > INDEX_KEPT.max(SPARSEST * self.index.len()) {
            let slots = &self.slots;
            self.index.shrink_to(2 * self.index.len(), |&at| hash_at(slots, hasher, at));
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
        self.index.insert_unique(new_hash, at, |&at| hash_at(slots, hasher, at));
    }

    /// The place of some key, each as likely as the others; `below` gives a random number below another.
    /// The index is never sparse, so a few looks find one however many places are free.
    pub(super) fn random(&self, mut below: impl FnMut(usize) -> usize) -> Option<u32> {
        /// In the sparsest index as many looks miss once in 10^14.
        const LOOKS: usize = 16 * SPARSEST * 2;
        let found = (0..LOOKS).find_map(|_| self.index.get_bucket(below(self.index.num_buckets())));
        found.or_else(|| self.index.iter().next()).copied()
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

fn hash_at(slots: &Slab<Slot>, hasher: &RandomState, at: u32) -> u64 {
    slots.get(at as usize).map_or(0, |slot| hasher.hash_one(&*slot.key))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;

    use super::super::effects::Recorded;
    use super::super::slot::Value;
    use super::*;

    fn slot(number: usize) -> Slot {
        Slot {
            key: Key::from(number.to_string().as_bytes()),
            value: Value::String(Bytes::new()),
            value_recorded: Recorded::New,
            expiry: None,
            access: Cell::new(0),
        }
    }

    #[test]
    fn what_is_left_of_many_keys_is_found_at_random_in_a_few_looks() {
        const KEYS: usize = 100_000;
        const STEP: usize = 10_000;
        let (mut database, hasher) = (Database::default(), RandomState::with_seed(1));
        let places: Vec<u32> =
            (0..KEYS).map(|number| database.insert(&hasher, slot(number)).unwrap()).collect();
        let all_bytes = database.index.allocation_size();
        for at in places.iter().filter(|at| !(**at as usize).is_multiple_of(STEP)) {
            database.remove(&hasher, *at);
        }
        assert!(database.index.allocation_size() * 10 < all_bytes);
        let mut looks = 0;
        let mut seen = vec![0; KEYS / STEP];
        for _ in 0..1_000 {
            let at = database.random(|end| {
                looks += 1;
                hasher.hash_one(looks) as usize % end
            });
            seen[at.unwrap() as usize / STEP] += 1;
        }
        assert!(looks < 1_000 * 4 * SPARSEST, "{looks}");
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
        for number in (0..KEYS).step_by(STEP) {
            let found = database.find(&hasher, number.to_string().as_bytes());
            assert_eq!(found, Some(places[number]));
        }
    }
}
