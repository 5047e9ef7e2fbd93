//! Expire times as commands give them.

use std::time::Duration;

use super::error::CacheError;
use crate::model::clock::UnixMs;

/// When a key is to expire, as the command says it. Any number is a deadline, also one in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Seconds from now.
    InSeconds(i64),
    /// Milliseconds from now.
    InMs(i64),
    /// Seconds since the Unix epoch.
    AtSeconds(i64),
    /// Milliseconds since the Unix epoch.
    AtMs(i64),
}

impl Deadline {
    /// The deadline in milliseconds since the Unix epoch; `None` when that leaves 64 bits. One before
    /// the epoch becomes the epoch itself, which is just as much past.
    pub(super) fn at_ms(self, now_ms: UnixMs) -> Option<UnixMs> {
        let (amount_ms, base_ms) = match self {
            Self::InSeconds(seconds) => (seconds.checked_mul(1_000)?, now_ms),
            Self::InMs(ms) => (ms, now_ms),
            Self::AtSeconds(seconds) => (seconds.checked_mul(1_000)?, 0),
            Self::AtMs(ms) => (ms, 0),
        };
        let at_ms = amount_ms.checked_add(i64::try_from(base_ms).ok()?)?;
        Some(UnixMs::try_from(at_ms).unwrap_or(0))
    }

    /// The number that the command gave.
    pub(super) fn amount(self) -> i64 {
        match self {
            Self::InSeconds(amount)
            | Self::InMs(amount)
            | Self::AtSeconds(amount)
            | Self::AtMs(amount) => amount,
        }
    }
}

/// When something that lives for `ttl` from now ends, in milliseconds since the Unix epoch. It lives
/// for at least one.
pub(super) fn lifetime(
    command: &'static str,
    ttl: Duration,
    now_ms: UnixMs,
) -> Result<UnixMs, CacheError> {
    i64::try_from(ttl.as_millis().max(1))
        .ok()
        .and_then(|ttl_ms| Deadline::InMs(ttl_ms).at_ms(now_ms))
        .ok_or(CacheError::InvalidExpireTime { command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_absolute_and_overflow_is_seen() {
        assert_eq!(Deadline::InSeconds(2).at_ms(5), Some(2_005));
        assert_eq!(Deadline::InMs(2).at_ms(5), Some(7));
        assert_eq!(Deadline::AtSeconds(2).at_ms(5), Some(2_000));
        assert_eq!(Deadline::AtMs(2).at_ms(5), Some(2));
        assert_eq!(Deadline::InMs(-9).at_ms(5), Some(0));
        assert_eq!(Deadline::InMs(i64::MIN).at_ms(5), Some(0));
        assert_eq!(Deadline::InSeconds(i64::MAX / 1_000 + 1).at_ms(5), None);
        assert_eq!(Deadline::InMs(i64::MAX - 4).at_ms(5), None);
        assert_eq!(Deadline::InMs(i64::MAX - 5).at_ms(5), Some(i64::MAX as u64));
    }
}
