//! Wall-clock time behind a trait, so that TTLs, retries and presence can be tested without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// A source of wall-clock time. Deadlines that outlive the process are kept as [`UnixMs`].
pub trait Clock: Send + Sync + 'static {
    fn now_ms(&self) -> UnixMs;

    /// A time that may have passed some milliseconds ago, at a fraction of the price: for what no deadline
    /// hangs on.
    fn recent_ms(&self) -> UnixMs {
        self.now_ms()
    }
}

pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl SystemClock {
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now_ms(&self) -> UnixMs {
        // A clock before 1970 reads as the epoch: a TTL then lasts longer, and nothing is lost.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Of the kernel's last tick, which is 1 to 10 ms ago at most. See clock_gettime(2).
    fn recent_ms(&self) -> UnixMs {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
        let second_ms = u64::try_from(tv_sec).unwrap_or_default().saturating_mul(1_000);
        second_ms.saturating_add(u64::try_from(tv_nsec).unwrap_or_default() / 1_000_000)
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn at(now_ms: UnixMs) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now_ms)))
    }

    pub fn advance_ms(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> UnixMs {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recent_time_lies_little_behind() {
        for _ in 0..1_000 {
            let (recent_ms, now_ms) = (SystemClock.recent_ms(), SystemClock.now_ms());
            assert!(recent_ms <= now_ms && now_ms - recent_ms < 1_000, "{recent_ms} at {now_ms}");
        }
    }
}
