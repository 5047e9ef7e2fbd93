//! Setting a value that is still the one that was read.

use std::time::Duration;

use bytes::Bytes;

use super::command::Access;
use super::deadline::lifetime;
use super::engine::Cache;
use super::keyspace::Ttl;
use super::typed::Write;

impl Cache {
    /// Sets `key` for `ttl` if its value is `expected`, or if there is no such key where that is `None`. Whether
    /// it was; a key of another type has no value that could be expected.
    ///
    /// # Errors
    /// See [`Cache::set_ex`].
    pub fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Write<bool> {
        self.write(Access::Grow, |keyspace| {
            let at_ms = lifetime("set", ttl, keyspace.now_ms())?;
            let held = keyspace.slot(key.as_ref()).map(|slot| slot.value().text());
            let is_expected = match (held, expected) {
                (None, None) => true,
                (Some(Some(held)), Some(expected)) => *held == *expected,
                _ => false,
            };
            if is_expected {
                keyspace.set(key.as_ref(), value.into(), Ttl::Until(at_ms))?;
            }
            Ok(is_expected)
        })
    }
}
