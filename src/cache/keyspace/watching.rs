//! WATCH: who has to hear that a key was changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::AHashMap;

use super::Keyspace;
use super::name::Key;
use super::slot::SlotId;

/// Set when one of the keys that it stands for is changed.
pub(in crate::cache) type Mark = Arc<AtomicBool>;

/// What is watched: a database by its number, as who watches has named it, and a key.
pub(in crate::cache) type Place = (u8, Key);

/// The marks on keys, whether these are there or not. A write costs one look at it while it is empty.
pub(super) type Watched = AHashMap<Place, Vec<Mark>>;

impl Keyspace {
    /// Puts a mark on a key of the selected database. Whoever asks has none on it yet.
    pub(in crate::cache) fn watch(&mut self, key: &[u8], mark: &Mark) -> Place {
        // One that has expired is gone for good: that it leaves later is no change.
        self.live(key);
        let place = self.watched_place(key);
        self.watched.entry(place.clone()).or_default().push(Mark::clone(mark));
        place
    }

    /// What a mark on a key of the selected database is kept by.
    pub(in crate::cache) fn watched_place(&self, key: &[u8]) -> Place {
        (self.selected(), Key::from(key))
    }

    /// Takes a mark away again.
    pub(in crate::cache) fn unwatch(&mut self, place: &Place, mark: &Mark) {
        if let Some(marks) = self.watched.get_mut(place) {
            marks.retain(|other| !Arc::ptr_eq(other, mark));
            if marks.is_empty() {
                self.watched.remove(place);
            }
        }
    }

    /// A key that has expired since it was marked is changed by that.
    pub(in crate::cache) fn look_at(&mut self, (number, key): &Place) {
        let place = self.numbered(Some(*number));
        let selected = std::mem::replace(&mut self.selected, place);
        self.live(key);
        self.selected = selected;
    }

    #[cfg(test)]
    pub(in crate::cache) fn is_unwatched(&self) -> bool {
        self.watched.is_empty()
    }

    /// The key of this slot is new, or has another value.
    pub(super) fn touch_value(&mut self, id: SlotId) {
        self.touch(id);
        if !self.waiters.is_empty()
            && let Some(key) = self.slot_at(id).map(|slot| Key::clone(&slot.key))
        {
            // Who waits has named the database by its number.
            let number = self.number_of(id.db);
            self.waiters.key_changed(number, &key);
        }
    }

    /// The key of this slot was changed, or comes, or goes.
    pub(super) fn touch(&self, id: SlotId) {
        if self.watched.is_empty() {
            return;
        }
        let Some(slot) = self.slot_at(id) else { return };
        let marks = self.watched.get(&(self.number_of(id.db), Key::clone(&slot.key)));
        marks.into_iter().flatten().for_each(|mark| mark.store(true, Ordering::Relaxed));
    }

    /// A command has been at this key, whatever it changed.
    pub(in crate::cache) fn touch_key(&mut self, key: &[u8]) {
        if let Some(id) = self.live(key) {
            self.touch(id);
        }
    }

    /// Two numbers are about to be swapped: what either of them has of a watched key, the other one gets.
    pub(super) fn touch_swapped(&self, numbers: [u8; 2]) {
        let is_there = |key: &Key, number| {
            self.database(self.numbered(Some(number))).find(&self.hasher, key).is_some()
        };
        for ((_, key), marks) in self.watched.iter().filter(|((of, _), _)| numbers.contains(of)) {
            if numbers.iter().any(|number| is_there(key, *number)) {
                marks.iter().for_each(|mark| mark.store(true, Ordering::Relaxed));
            }
        }
    }

    /// Every key of a database goes.
    pub(super) fn touch_all(&self, db: u8) {
        let (database, number) = (self.database(db), self.number_of(db));
        for ((_, key), marks) in self.watched.iter().filter(|((of, _), _)| *of == number) {
            if database.find(&self.hasher, key).is_some() {
                marks.iter().for_each(|mark| mark.store(true, Ordering::Relaxed));
            }
        }
    }
}
