//! Keys that change their name or their database. What they hold is not touched: a collection's parts
//! name its number, so only the key's own facts are recorded again.

use super::effects::{Fresh, Recorded};
use super::slot::{self, SlotId};
use super::{DATABASES, Keyspace};
use crate::cache::error::CacheError;
use crate::cache::notifications::Events;

impl Keyspace {
    /// Works in the database at another place.
    pub(in crate::cache) fn in_database<T>(
        &mut self,
        db: u8,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let selected = std::mem::replace(&mut self.selected, db);
        let result = work(self);
        self.selected = selected;
        result
    }

    /// RENAME: the key keeps its place, its value and its deadline. Whether it was there.
    pub(in crate::cache) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<bool, CacheError> {
        let Some(id) = self.live(from) else { return Ok(false) };
        if from == to {
            return Ok(true);
        }
        let key = slot::new_key(to)?;
        self.quietly(|keyspace| keyspace.remove(to));
        self.touch(id);
        let from_bytes = self.slot_at(id).map_or(0, |slot| slot.key.heap_bytes());
        self.bytes = self.bytes - from_bytes + key.heap_bytes();
        self.databases[usize::from(id.db) % DATABASES].rename(&self.hasher, id.at, key);
        self.record_key_again(id);
        self.notify(Events::NEW, "new", to);
        self.notify(Events::GENERIC, "rename_from", from);
        self.notify(Events::GENERIC, "rename_to", to);
        Ok(true)
    }

    /// MOVE: whether the key was there, and not in the database at the other place, too.
    pub(in crate::cache) fn move_key(&mut self, key: &[u8], db: u8) -> Result<bool, CacheError> {
        let Some(from) = self.live(key) else { return Ok(false) };
        if self.in_database(db, |keyspace| keyspace.live(key)).is_some() {
            return Ok(false);
        }
        if self.database(db).is_full() {
            return Err(CacheError::OutOfMemory);
        }
        self.touch(from);
        let Some(slot) =
            self.databases[usize::from(from.db) % DATABASES].remove(&self.hasher, from.at)
        else {
            return Ok(false);
        };
        let expires_at_ms = slot.expires_at_ms();
        let Some(at) = self.databases[usize::from(db) % DATABASES].insert(&self.hasher, slot)
        else {
            return Ok(false);
        };
        let to = SlotId { at, db };
        if let Some(at_ms) = expires_at_ms {
            self.deadlines.remove(&(at_ms, from));
            self.deadlines.insert((at_ms, to));
            self.database_mut(from.db).expiring -= 1;
            self.database_mut(to.db).expiring += 1;
        }
        self.effects.add(Fresh::Moved { from, to });
        self.record_key_again(to);
        self.notify_of(to.db, Events::NEW, "new", key);
        self.notify_of(from.db, Events::GENERIC, "move_from", key);
        self.notify_of(to.db, Events::GENERIC, "move_to", key);
        Ok(true)
    }

    /// The facts that name the key or its database.
    fn record_key_again(&mut self, id: SlotId) {
        self.touch_value(id);
        let Some(slot) = self.slot_mut(id) else { return };
        let value = std::mem::replace(&mut slot.value_recorded, Recorded::New);
        let deadline = slot.expiry.as_mut();
        let deadline = deadline.map(|it| std::mem::replace(&mut it.recorded, Recorded::New));
        self.effects.end(value);
        self.effects.add(Fresh::Value(id));
        if let Some(deadline) = deadline {
            self.effects.end(deadline);
            self.effects.add(Fresh::Deadline(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Keyspace;
    use crate::cache::keyspace::{Lookups, Ttl};

    #[test]
    fn a_key_weighs_what_its_name_does_whatever_it_was_called_before() {
        let bytes_of = |names: &[&[u8]]| {
            let mut keyspace = Keyspace::new(Lookups::unwatched(), false);
            keyspace.set(names[0], Bytes::from_static(b"v"), Ttl::None).unwrap();
            for pair in names.windows(2) {
                assert_eq!(keyspace.rename(pair[0], pair[1]), Ok(true));
            }
            let bytes = keyspace.bytes();
            keyspace.clear();
            assert_eq!(keyspace.bytes(), 0);
            bytes
        };
        let long = [b'n'; 100];
        assert_eq!(bytes_of(&[b"short", &long]), bytes_of(&[&long]));
        assert_eq!(bytes_of(&[&long, b"short"]), bytes_of(&[b"short"]));
        assert!(bytes_of(&[b"short"]) < bytes_of(&[&long]));
    }
}
