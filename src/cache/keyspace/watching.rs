//! WATCH: who has to hear that a key was changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::AHashMap;

use super::Keyspace;
use super::name::Key;
use super::slot::SlotId;

/// Set when one of the keys that it stands for is changed.
pub(in crate::cache) type Mark = Arc<AtomicBool>;

/// The marks on keys, whether these are there or not. A write costs one look at it while it is empty.
pub(super) type Watched = AHashMap<(u8, Key), Vec<Mark>>;

impl Keyspace {
    /// Puts a mark on a key of the selected database. Whoever asks has none on it yet.
    pub(in crate::cache) fn watch(&mut self, key: &[u8], mark: &Mark) -> (u8, Key) {
        // One that has expired is gone for good: that it leaves later is no change.
        self.live(key);
        let place = self.watched_place(key);
        self.watched.entry(place.clone()).or_default().push(Mark::clone(mark));
        place
    }

    /// What a mark on a key of the selected database is kept by: the database's place, not its number.
    pub(in crate::cache) fn watched_place(&self, key: &[u8]) -> (u8, Key) {
        (self.selected, Key::from(key))
    }

    /// Takes a mark away again.
    pub(in crate::cache) fn unwatch(&mut self, place: &(u8, Key), mark: &Mark) {
        if let Some(marks) = self.watched.get_mut(place) {
            marks.retain(|other| !Arc::ptr_eq(other, mark));
            if marks.is_empty() {
                self.watched.remove(place);
            }
        }
    }

    /// A key that has expired since it was marked is changed by that.
    pub(in crate::cache) fn look_at(&mut self, (db, key): &(u8, Key)) {
        let selected = std::mem::replace(&mut self.selected, *db);
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
        let marks = self.watched.get(&(id.db, Key::clone(&slot.key)));
        marks.into_iter().flatten().for_each(|mark| mark.store(true, Ordering::Relaxed));
    }

    /// A command has been at this key, whatever it changed.
    pub(in crate::cache) fn touch_key(&mut self, key: &[u8]) {
        if let Some(id) = self.live(key) {
            self.touch(id);
        }
    }

    /// A database gets another number, so its marks stand for other keys than was meant.
    pub(super) fn touch_all_watched(&self, db: u8) {
        for (_, marks) in self.watched.iter().filter(|((of, _), _)| *of == db) {
            marks.iter().for_each(|mark| mark.store(true, Ordering::Relaxed));
        }
    }

    /// Every key of a database goes.
    pub(super) fn touch_all(&self, db: u8) {
        let database = self.database(db);
        for ((_, key), marks) in self.watched.iter().filter(|((of, _), _)| *of == db) {
            if database.find(&self.hasher, key).is_some() {
                marks.iter().for_each(|mark| mark.store(true, Ordering::Relaxed));
            }
        }
    }
}
