//! What a client watches between WATCH and EXEC.

use std::sync::atomic::Ordering;

use ahash::AHashSet;

use super::engine::Cache;
use super::error::CacheError;
use super::keyspace::{Keyspace, Mark, Place};
use super::visit::Visit;

/// Keys that a client may watch at once.
const KEYS_MAX: usize = 1 << 16;

/// The keys that a client watches, until it is dropped.
///
/// A visit ends it by [`Visit::unwatch`]: to drop one that watches something takes the keyspace's lock.
pub struct Watch {
    cache: Cache,
    mark: Mark,
    places: AHashSet<Place>,
}

impl Watch {
    pub fn new(cache: Cache) -> Self {
        Self { cache, mark: Mark::default(), places: AHashSet::new() }
    }

    fn end(&mut self, keyspace: &mut Keyspace) {
        for place in self.places.drain() {
            keyspace.unwatch(&place, &self.mark);
        }
        self.mark.store(false, Ordering::Relaxed);
    }
}

impl Visit<'_> {
    /// WATCH: a key of the database `db`. One that is watched already stays as it is.
    ///
    /// # Errors
    /// When the client watches too many.
    pub fn watch(&mut self, watch: &mut Watch, db: u8, key: &[u8]) -> Result<(), CacheError> {
        self.keyspace.select(db);
        if watch.places.contains(&self.keyspace.watched_place(key)) {
            return Ok(());
        }
        if watch.places.len() >= KEYS_MAX {
            return Err(CacheError::TooManyWatched);
        }
        let place = self.keyspace.watch(key, &watch.mark);
        watch.places.insert(place);
        Ok(())
    }

    /// UNWATCH.
    pub fn unwatch(&mut self, watch: &mut Watch) {
        watch.end(self.keyspace);
    }

    /// EXEC's question, which ends the watch: whether a watched key was changed, came, went, or expired.
    pub fn was_changed(&mut self, watch: &mut Watch) -> bool {
        for place in &watch.places {
            self.keyspace.look_at(place);
        }
        let was_changed = watch.mark.load(Ordering::Relaxed);
        watch.end(self.keyspace);
        was_changed
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            let cache = self.cache.clone();
            cache.visit(|keyspace| self.end(keyspace));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::cache::{AppendFsync, Command, Recovery};
    use crate::journal::Journal;
    use crate::model::clock::ManualClock;

    #[test]
    fn whatever_changes_a_watched_key_is_seen_and_nothing_else() {
        let clock = ManualClock::at(1_000);
        let journal = Journal::in_memory();
        let cache = Cache::new(journal, clock.clone(), AppendFsync::EverySec, Recovery::default());
        let mut watch = Watch::new(cache.clone());
        let mut changed_by = |key: &str, change: &dyn Fn()| {
            cache.visit_with(None, |visit| visit.watch(&mut watch, 0, key.as_bytes())).0.unwrap();
            change();
            cache.visit_with(None, |visit| visit.was_changed(&mut watch)).0
        };
        let none = || {
            assert_eq!(cache.get("k").unwrap(), None);
            cache.set("other", "v").unwrap();
            cache.del("k").unwrap();
        };
        assert!(!changed_by("k", &none));
        assert!(changed_by("k", &|| drop(cache.set("k", "v").unwrap())));
        assert!(changed_by("k", &|| drop(cache.set("k", "v").unwrap())));
        assert!(changed_by("k", &|| drop(cache.expire("k", Duration::from_secs(1)).unwrap())));
        assert!(changed_by("k", &|| clock.advance_ms(1_000)), "it expired");
        assert!(changed_by("k", &|| {
            cache.set("k", "v").unwrap();
            cache.del("k").unwrap();
        }));
        assert!(changed_by("l", &|| drop(cache.rpush("l", "a").unwrap())));
        assert!(changed_by("l", &|| drop(cache.rpush("l", "b").unwrap())));
        assert!(changed_by("l", &|| drop(cache.del("l").unwrap())));
        assert!(!changed_by("l", &|| ()), "an earlier watch has ended");
        let ask = |line: &str| {
            let args: Vec<Bytes> =
                line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
            cache.execute(&[Command::parse(&args).unwrap()], None);
        };
        ask("HSET from f v");
        assert!(changed_by("to", &|| ask("RENAME from to")));
        assert!(changed_by("to", &|| ask("RENAME to from")));
        assert!(!changed_by("from", &|| ask("COPY from copy")));
        assert!(changed_by("copy", &|| ask("COPY from copy REPLACE")));
        assert!(changed_by("from", &|| ask("MOVE from 1")));
        assert!(changed_by("from", &|| ask("SWAPDB 0 1")));
        assert!(!changed_by("from", &|| ask("SWAPDB 2 3")));
        assert!(changed_by("from", &|| ask("HSET from f w")));
        ask("SWAPDB 0 1");
        // A key that neither has is the same afterwards, and is watched in the database of that number.
        assert!(!changed_by("none", &|| ask("SWAPDB 0 1")));
        assert!(changed_by("none", &|| {
            ask("SWAPDB 0 1");
            cache.set("none", "v").unwrap();
        }));
        assert!(changed_by("none", &|| {
            ask("SWAPDB 0 1");
            ask("SWAPDB 0 1");
        }));
        drop(watch);
        assert!(cache.visit(|keyspace| keyspace.is_unwatched()));
    }
}
