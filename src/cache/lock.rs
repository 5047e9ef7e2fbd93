//! Locks with a time to live.

use std::time::Duration;

use bytes::Bytes;

use super::command::Access;
use super::deadline::lifetime;
use super::engine::Cache;
use super::keyspace::{Keyspace, Ttl, Value};
use super::typed::Write;

impl Cache {
    /// Takes the lock `key` for `ttl`; `None` while another holds it.
    ///
    /// The fencing token that it gives is higher than all that were given before, over restarts and
    /// crashes too: whoever guards something by the lock refuses a token that is lower than one it has
    /// seen. The key holds it in decimal.
    ///
    /// # Errors
    /// See [`Cache::set_ex`].
    pub fn lock(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Write<Option<u64>> {
        self.write(Access::Grow, |keyspace| {
            let at_ms = lifetime("set", ttl, keyspace.now_ms())?;
            if keyspace.slot(key.as_ref()).is_some() {
                return Ok(None);
            }
            let token = self.next_token();
            keyspace.set(key.as_ref(), Bytes::from(token.to_string()), Ttl::Until(at_ms))?;
            Ok(Some(token))
        })
    }

    /// Holds a lock for `ttl` from now on; `false` when it is not, or no longer, the token's.
    ///
    /// # Errors
    /// See [`Cache::set_ex`].
    pub fn renew(&self, key: impl AsRef<[u8]>, token: u64, ttl: Duration) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| {
            let at_ms = lifetime("pexpire", ttl, keyspace.now_ms())?;
            let key = key.as_ref();
            Ok(keyspace.is_locked_by(key, token) && keyspace.expire_at(key, Some(at_ms)))
        })
    }

    /// Gives a lock back; `false` when it is not, or no longer, the token's.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn release(&self, key: impl AsRef<[u8]>, token: u64) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| {
            Ok(keyspace.is_locked_by(key.as_ref(), token) && keyspace.remove(key.as_ref()))
        })
    }

    /// A token begins with the number of the log's opens, which is on disk before anything is locked:
    /// so no crash takes one back.
    fn next_token(&self) -> u64 {
        /// Enough for a million locks a second, for twelve days without a restart.
        const COUNT_BITS: u32 = 40;
        let count = self.shared.locks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (self.journal().epoch() << COUNT_BITS) + count + 1
    }
}

impl Keyspace {
    fn is_locked_by(&self, key: &[u8], token: u64) -> bool {
        let held = self.slot(key).map(|slot| slot.value());
        matches!(held, Some(Value::String(held)) if **held == *token.to_string().as_bytes())
    }
}
