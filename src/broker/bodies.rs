//! Messages of several queues that are in memory, for a queue that has put one out of it and wants it back.
//!
//! A message that is found here is not read again, so it is in memory once, however many queues hold it.
//! Nothing goes wrong when one is there twice, as for a moment when two queues read at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use ahash::AHashMap;
use parking_lot::{Mutex, MutexGuard};

use super::stored::Stored;
use crate::journal::Position;

const SHARDS: usize = 32;

#[derive(Default)]
pub(super) struct Bodies {
    shards: [Mutex<AHashMap<Position, Weak<Stored>>>; SHARDS],
    count: AtomicUsize,
}

impl Bodies {
    fn shard(&self, position: Position) -> MutexGuard<'_, AHashMap<Position, Weak<Stored>>> {
        let at = usize::try_from(position.0 % SHARDS as u64).unwrap_or_default();
        self.shards[at].lock()
    }

    pub(super) fn find(&self, position: Position) -> Option<Arc<Stored>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.shard(position).get(&position)?.upgrade()
    }

    /// Shows `stored` to whoever looks for its place as long as it is in memory. The one that is to be
    /// used: it, or one that is there already.
    pub(super) fn share(&self, position: Position, stored: &Arc<Stored>) -> Arc<Stored> {
        let mut shard = self.shard(position);
        if let Some(there) = shard.get(&position).and_then(Weak::upgrade) {
            return there;
        }
        if shard.insert(position, Arc::downgrade(stored)).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        stored.clone()
    }

    /// `stored`, which was shared, leaves memory.
    pub(super) fn forget(&self, position: Position, stored: &Stored) {
        let mut shard = self.shard(position);
        // Another one may have come in its place.
        if shard.get(&position).is_some_and(|there| std::ptr::eq(there.as_ptr(), stored)) {
            shard.remove(&position);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
