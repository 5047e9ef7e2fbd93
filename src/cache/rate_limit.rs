//! A fixed-window rate limit on a counter key.

use std::time::Duration;

use bytes::Bytes;

use super::command::parse_integer;
use super::deadline::lifetime;
use super::error::CacheError;
use super::keyspace::{Keyspace, Ttl};

/// The answer of a fixed-window rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub allowed: bool,
    /// Calls left in the window.
    pub remaining: u32,
    /// Until the window ends, in milliseconds.
    pub reset_ms: u64,
}

impl Keyspace {
    /// INCR, and PEXPIRE if the window is not open, in one step: no counter is ever left without a
    /// deadline. A call that is refused is not counted and changes nothing.
    pub(super) fn rate_limit(
        &mut self,
        key: &[u8],
        limit: u32,
        window: Duration,
    ) -> Result<RateLimit, CacheError> {
        let now_ms = self.now_ms();
        let (calls, open_until_ms) = match self.slot(key) {
            None => (0, None),
            Some(slot) => {
                let value = slot.value().text().ok_or(CacheError::WrongType)?;
                let calls = parse_integer(value).ok_or(CacheError::NotAnInteger)?;
                (u64::try_from(calls).unwrap_or(0), slot.expires_at_ms())
            }
        };
        let ends_ms = match open_until_ms {
            Some(at_ms) => at_ms,
            None => lifetime("pexpire", window, now_ms)?,
        };
        let reset_ms = ends_ms.saturating_sub(now_ms);
        if calls >= u64::from(limit) {
            // A window that is full but has no end would refuse for ever.
            if calls > 0 && open_until_ms.is_none() {
                self.expire_at(key, Some(ends_ms));
            }
            return Ok(RateLimit { allowed: false, remaining: 0, reset_ms });
        }
        let calls = calls + 1;
        self.set(key, Bytes::from(calls.to_string()), Ttl::Until(ends_ms))?;
        let remaining = u32::try_from(u64::from(limit) - calls).unwrap_or(0);
        Ok(RateLimit { allowed: true, remaining, reset_ms })
    }
}
