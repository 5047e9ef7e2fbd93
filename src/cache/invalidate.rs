//! Many keys removed by a pattern.

use bytes::Bytes;

use super::command::Access;
use super::engine::Cache;
use super::error::CacheError;
use crate::model::glob;

/// Places of keys that one visit to the keyspace looks at.
const SLICE_PLACES: usize = 1_000;

impl Cache {
    /// Removes the keys that match a pattern of KEYS: how many. Every key is met that is there before and
    /// after. It visits the keyspace in slices, between which others get the lock and the thread.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub async fn invalidate_pattern(&self, pattern: impl AsRef<[u8]>) -> Result<usize, CacheError> {
        let pattern = pattern.as_ref();
        let mut removed = 0;
        let mut cursor = 0;
        loop {
            let written = self.write(Access::Shrink, |keyspace| {
                let mut next_cursor = None;
                let mut keys: Vec<Bytes> = Vec::new();
                for (next, slot) in keyspace.slots_from(cursor).take(SLICE_PLACES) {
                    next_cursor = Some(next);
                    if let Some(slot) = slot
                        && glob::matches(pattern, slot.key())
                    {
                        keys.push(Bytes::copy_from_slice(slot.key()));
                    }
                }
                removed += keys.iter().filter(|key| keyspace.remove(key)).count();
                Ok(next_cursor)
            })?;
            match self.settle(written).await? {
                Some(next) => cursor = next,
                None => return Ok(removed),
            }
            tokio::task::yield_now().await;
        }
    }
}
