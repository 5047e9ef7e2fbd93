//! Counts the questions after keys, by whether the key was there.

use std::cell::Cell;

use metrics::Counter;

use super::Keyspace;
use super::slot::{Slot, Value};
use crate::cache::notifications::Events;

/// What is counted.
pub(in crate::cache) struct Lookups {
    /// Reads of values, for whoever watches the program.
    hit: Counter,
    miss: Counter,
    /// Redis's `keyspace_hits` and `keyspace_misses`: also what is asked of a key beside its value.
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Lookups {
    pub(in crate::cache) fn new(hit: Counter, miss: Counter) -> Self {
        Self { hit, miss, hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// Nobody watches.
    pub(in crate::cache) fn unwatched() -> Self {
        Self::new(Counter::noop(), Counter::noop())
    }
}

impl Keyspace {
    /// Reads a key's value; counted as a hit or a miss, and as a use of the key.
    pub(in crate::cache) fn read(&self, key: &[u8]) -> Option<&Value> {
        let slot = self.ask(key);
        let counter = if slot.is_some() { &self.lookups.hit } else { &self.lookups.miss };
        counter.increment(1);
        self.use_slot(slot?);
        slot.map(Slot::value)
    }

    /// Asks of a key what is not its value, which is no use of it.
    pub(in crate::cache) fn ask(&self, key: &[u8]) -> Option<&Slot> {
        let slot = self.inspect(key);
        if slot.is_none() {
            self.notify(Events::MISS, "keymiss", key);
        }
        slot
    }

    /// As [`Keyspace::ask`], but that nobody is told of a miss.
    pub(in crate::cache) fn inspect(&self, key: &[u8]) -> Option<&Slot> {
        let slot = self.slot(key);
        let count = if slot.is_some() { &self.lookups.hits } else { &self.lookups.misses };
        count.set(count.get() + 1);
        slot
    }

    /// Questions that found their key, and that did not, since they were counted anew.
    pub(in crate::cache) fn hits_and_misses(&self) -> (u64, u64) {
        (self.lookups.hits.get(), self.lookups.misses.get())
    }

    /// Counts hits, misses and removed keys anew: CONFIG RESETSTAT.
    pub(in crate::cache) fn reset_counts(&mut self) {
        self.lookups.hits.set(0);
        self.lookups.misses.set(0);
        self.expired = 0;
        self.eviction.evicted = 0;
    }
}
