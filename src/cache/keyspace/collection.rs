//! What lists, hashes, sets and sorted sets have in common: parts that are recorded one by one.

use super::Keyspace;
use super::effects::{Effects, Recorded};
use super::name::Key;
use super::record::CollectionId;
use super::slot::{SlotId, Value};
use crate::cache::error::CacheError;
use crate::cache::notifications::Events;

/// A type of value that is made of parts.
///
/// What always holds outside an edit: an empty collection is no key.
pub(in crate::cache) trait Collection: Sized {
    fn new(id: CollectionId) -> Self;
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
    fn is_empty(&self) -> bool;
    /// Bytes of memory that the parts take, estimated.
    fn bytes(&self) -> usize;
}

/// A collection that is being changed.
pub(in crate::cache) struct Edit<'a, C> {
    pub collection: &'a mut C,
    /// Every change of a part is noted here.
    pub notes: Notes<'a>,
}

/// Takes what the journal has to hear of a collection's change.
pub(in crate::cache) struct Notes<'a> {
    slot: SlotId,
    effects: &'a mut Effects,
    event: Option<(Events, &'static str)>,
}

impl Notes<'_> {
    /// Whether the journal keeps anything.
    pub(in crate::cache) fn are_taken(&self) -> bool {
        self.effects.are_kept
    }

    /// What the change is to be told as, when the edit is done.
    pub(in crate::cache) fn event(&mut self, class: Events, event: &'static str) {
        self.event = Some((class, event));
    }

    /// A list got an element with this index.
    pub(in crate::cache) fn add_element(&mut self, index: i64) {
        self.effects.add_element(self.slot, index);
    }

    /// The part of this name is new, or has another value.
    pub(in crate::cache) fn add_part(&mut self, name: &Key) {
        self.effects.add_part(self.slot, name);
    }

    /// A part is gone or replaced.
    pub(in crate::cache) fn end(&mut self, recorded: Recorded) {
        self.effects.end(recorded);
    }
}

impl Keyspace {
    /// Reads the collection at `key`; counted as a hit or a miss.
    pub(in crate::cache) fn collection<C: Collection>(
        &self,
        key: &[u8],
    ) -> Result<Option<&C>, CacheError> {
        self.read(key).map(|value| C::of(value).ok_or(CacheError::WrongType)).transpose()
    }

    /// Looks at the collection at `key` before a change; no read is counted.
    pub(in crate::cache) fn looked_at<C: Collection>(
        &self,
        key: &[u8],
    ) -> Result<Option<&C>, CacheError> {
        self.slot(key).map(|slot| C::of(slot.value()).ok_or(CacheError::WrongType)).transpose()
    }

    /// Changes the collection at `key`; `None` when there is no such key. One that is empty
    /// afterwards is removed.
    pub(in crate::cache) fn edit<C: Collection, T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Edit<'_, C>) -> T,
    ) -> Result<Option<T>, CacheError> {
        let Some(id) = self.live(key) else { return Ok(None) };
        self.edit_slot(id, edit).map(Some)
    }

    /// Changes the collection at `key`, which is made when there is no such key.
    pub(in crate::cache) fn edit_or_make<C: Collection, T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Edit<'_, C>) -> T,
    ) -> Result<T, CacheError> {
        let id = match self.live(key) {
            Some(id) => id,
            None => {
                let id = self.next_collection;
                self.next_collection = id.next();
                self.insert(key, C::new(id).into_value())?
            }
        };
        self.edit_slot(id, edit)
    }

    fn edit_slot<C: Collection, T>(
        &mut self,
        id: SlotId,
        edit: impl FnOnce(&mut Edit<'_, C>) -> T,
    ) -> Result<T, CacheError> {
        let collection = self
            .databases
            .get_mut(usize::from(id.db))
            .and_then(|database| database.get_mut(id.at))
            .and_then(|slot| C::of_mut(&mut slot.value))
            .ok_or(CacheError::WrongType)?;
        let bytes_before = collection.bytes();
        let changes_before = self.effects.count();
        let notes = Notes { slot: id, effects: &mut self.effects, event: None };
        let mut editing = Edit { collection: &mut *collection, notes };
        let result = edit(&mut editing);
        let event = editing.notes.event;
        self.bytes = self.bytes - bytes_before + collection.bytes();
        let is_empty = collection.is_empty();
        if let Some(slot) = self.slot_at(id) {
            if let Some((class, event)) = event {
                self.notify_of(id.db, class, event, &slot.key);
            }
            if is_empty {
                self.notify_of(id.db, Events::GENERIC, "del", &slot.key);
            }
        }
        if is_empty {
            self.remove_slot(id);
        } else if event.is_some() || self.effects.count() != changes_before {
            self.touch(id);
        }
        Ok(result)
    }
}
