//! The commands on keys as Rust methods; those on one key's time to live are with the strings'.

use bytes::Bytes;

use crate::cache::command::Access;
use crate::cache::engine::Cache;
use crate::cache::keyspace::Slot;
use crate::cache::typed::Write;
use crate::model::glob;

impl Cache {
    /// KEYS: looks at every key there is.
    pub fn keys(&self, pattern: impl AsRef<[u8]>) -> Vec<Bytes> {
        self.read(|keyspace| {
            let keys = keyspace.live_slots().map(Slot::key);
            let found = keys.filter(|key| glob::matches(pattern.as_ref(), key));
            found.map(Bytes::copy_from_slice).collect()
        })
    }

    /// DEL: how many keys were there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn del_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Write<usize> {
        self.write(Access::Shrink, |keyspace| {
            Ok(keys.iter().filter(|key| keyspace.remove(key.as_ref())).count())
        })
    }

    /// RENAME: whether the key was there. Its value and its time to live stay; what `to` held is gone.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| keyspace.rename(from.as_ref(), to.as_ref()))
    }
}
