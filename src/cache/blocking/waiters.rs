//! Who waits for which key, in the order in which they came.

use std::collections::BTreeSet;

use ahash::{AHashMap, RandomState};
use bytes::Bytes;
use indexmap::IndexSet;
use tokio::sync::oneshot;

use super::command::Pop;
use crate::cache::keyspace::Keyspace;
use crate::cache::reply::Reply;

pub(super) type WaiterId = u64;
type Place = (u8, Bytes);

/// Those that wait. A write costs one look at it while it is empty.
#[derive(Default)]
pub(in crate::cache) struct Waiters {
    last_id: WaiterId,
    by_id: AHashMap<WaiterId, Waiter>,
    /// Ids rise, so the first one came first.
    by_place: AHashMap<Place, BTreeSet<WaiterId>>,
    /// Keys that were made, or got another value, and have waiters; each once, in that order.
    ready: IndexSet<Place, RandomState>,
    /// A script runs: nobody is served before it ends.
    are_held: bool,
}

struct Waiter {
    db: u8,
    pop: Pop,
    answer: oneshot::Sender<Reply>,
}

impl Waiters {
    pub(super) fn join(&mut self, db: u8, pop: Pop, answer: oneshot::Sender<Reply>) -> WaiterId {
        self.last_id += 1;
        for key in pop.keys() {
            self.by_place.entry((db, key.to_bytes())).or_default().insert(self.last_id);
        }
        self.by_id.insert(self.last_id, Waiter { db, pop, answer });
        self.last_id
    }

    /// Stops waiting. One that was served is not there any more.
    pub(super) fn leave(&mut self, id: WaiterId) {
        self.take(id);
    }

    fn take(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.by_id.remove(&id)?;
        for key in waiter.pop.keys() {
            let place = (waiter.db, key.to_bytes());
            if let Some(ids) = self.by_place.get_mut(&place) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_place.remove(&place);
                }
            }
        }
        Some(waiter)
    }

    /// A key was made, or has another value.
    pub(in crate::cache) fn key_changed(&mut self, db: u8, key: &[u8]) {
        if self.by_id.is_empty() {
            return;
        }
        let place = (db, Bytes::copy_from_slice(key));
        if self.by_place.contains_key(&place) {
            self.ready.insert(place);
        }
    }

    /// Databases hold other keys now, so any key in them may be ready.
    pub(in crate::cache) fn databases_changed(&mut self, numbers: [u8; 2]) {
        let waited_for = self.by_place.keys().filter(|(db, _)| numbers.contains(db));
        self.ready.extend(waited_for.cloned());
    }

    /// The one that came first of those behind `after` that wait for a key.
    fn next_for(&self, place: &Place, after: WaiterId) -> Option<WaiterId> {
        self.by_place.get(place)?.range(after + 1..).next().copied()
    }

    /// Whether someone may have to be served now.
    pub(in crate::cache) fn are_ready(&self) -> bool {
        !self.ready.is_empty() && !self.are_held
    }

    /// A script begins, or ends: what lies between two of its calls is nothing that they may see.
    pub(in crate::cache) fn hold(&mut self, are_held: bool) {
        self.are_held = are_held;
    }

    pub(in crate::cache) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_place.is_empty()
    }
}

impl Keyspace {
    /// Serves those that wait for keys that are ready, until none is left. What one takes may make
    /// another key ready.
    pub(in crate::cache) fn serve_waiters(&mut self) {
        let selected = self.selected();
        while self.waiters.are_ready() {
            for (db, key) in std::mem::take(&mut self.waiters.ready) {
                self.select(db);
                let place = (db, key);
                let mut served = 0;
                while self.slot(&place.1).is_some()
                    && let Some(id) = self.waiters.next_for(&place, served)
                {
                    self.serve_waiter(id, &place.1);
                    served = id;
                }
            }
        }
        self.select(selected);
    }

    fn serve_waiter(&mut self, id: WaiterId, key: &Bytes) {
        let Some(waiter) = self.waiters.by_id.get(&id) else { return };
        let pop = waiter.pop.clone();
        let answer = match pop.attempt_on(self, key) {
            Ok(Some(reply)) => reply,
            // It moves to a key of another type: that does not get better.
            Err(error) if pop.waits_for_type_of(self, key) => Reply::Error(error),
            // The key is of a type that it does not wait for.
            Ok(None) | Err(_) => return,
        };
        if let Some(waiter) = self.waiters.take(id) {
            // It leaves under the lock before it stops listening, so it listens.
            let _ = waiter.answer.send(answer);
        }
    }
}
