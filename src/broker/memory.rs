//! How much memory the messages take, and the alarm that holds publishers off.
//!
//! What is counted is what the broker holds: the weight of every message in memory, once, however many
//! queues it is in, and what is noted of those that are in several. The size of the process would follow the allocator and the page cache, and come
//! late; this number is exact, and falls with the message that is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::alarm::Alarm;

/// The alarm ends when this share of the limit is free again, so that it does not flap.
const FREE_SHARE: usize = 16;

pub(super) struct Memory {
    used_bytes: AtomicUsize,
    limit_bytes: AtomicUsize,
    alarmed: AtomicBool,
    changes: watch::Sender<bool>,
}

impl Default for Memory {
    /// Without a limit.
    fn default() -> Self {
        Self {
            used_bytes: AtomicUsize::new(0),
            limit_bytes: AtomicUsize::new(usize::MAX),
            alarmed: AtomicBool::new(false),
            changes: watch::Sender::new(false),
        }
    }
}

/// Counts a message for as long as it is in memory.
pub(super) struct Counted {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn count(self: &Arc<Self>, bytes: usize) -> Counted {
        self.take(bytes);
        self.taken(bytes)
    }

    /// Of many that [`Memory::take`] counts together, before any of them goes.
    pub(super) fn taken(self: &Arc<Self>, bytes: usize) -> Counted {
        Counted { memory: self.clone(), bytes }
    }

    /// Counts what nothing of its own stands for; [`Memory::give_back`] ends that.
    pub(super) fn take(&self, bytes: usize) {
        let used_bytes = self.used_bytes.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        if used_bytes > self.limit_bytes.load(Ordering::Relaxed) && !self.is_alarmed() {
            self.look();
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_alarmed() && self.is_low(self.limit_bytes.load(Ordering::Relaxed)) {
            self.look();
        }
    }

    pub(super) fn set_limit(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::SeqCst);
        self.look();
    }

    pub(super) fn is_alarmed(&self) -> bool {
        self.alarmed.load(Ordering::SeqCst)
    }

    pub(super) fn alarm(&self) -> Option<Alarm> {
        self.is_alarmed().then(|| Alarm::Memory {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            limit_bytes: self.limit_bytes.load(Ordering::Relaxed),
        })
    }

    pub(super) fn changes(&self) -> watch::Receiver<bool> {
        self.changes.subscribe()
    }

    /// Waits while the alarm is on.
    pub(super) async fn admit(&self) {
        if self.is_alarmed() {
            // The sender is this one's own.
            let _ = self.changes().wait_for(|alarmed| !alarmed).await;
        }
    }

    /// Raises or ends the alarm. One caller at a time; a message that goes meanwhile sees the alarm, or
    /// is seen here: both sides write first and look then.
    fn look(&self) {
        self.changes.send_if_modified(|alarmed| {
            let was = *alarmed;
            loop {
                let limit_bytes = self.limit_bytes.load(Ordering::SeqCst);
                let is = match self.alarmed.load(Ordering::SeqCst) {
                    true => !self.is_low(limit_bytes),
                    false => self.used_bytes.load(Ordering::SeqCst) > limit_bytes,
                };
                if is == self.alarmed.swap(is, Ordering::SeqCst) {
                    *alarmed = is;
                    break;
                }
            }
            if was != *alarmed {
                metrics::gauge!("leveret_alarm", "kind" => "memory").set(f64::from(*alarmed));
                match *alarmed {
                    true => tracing::warn!("low on memory: publishers wait"),
                    false => tracing::info!("memory is free again: publishers go on"),
                }
            }
            was != *alarmed
        });
    }

    fn is_low(&self, limit_bytes: usize) -> bool {
        self.used_bytes.load(Ordering::SeqCst) <= limit_bytes - limit_bytes / FREE_SHARE
    }
}

impl Counted {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_is_raised_above_the_limit_and_ends_below_its_share() {
        let memory = Arc::new(Memory::default());
        memory.set_limit(160);
        let first = memory.count(8);
        let second = memory.count(152);
        assert_eq!(memory.alarm(), None);
        let third = memory.count(1);
        assert_eq!(memory.alarm(), Some(Alarm::Memory { used_bytes: 161, limit_bytes: 160 }));
        drop(third);
        assert!(memory.is_alarmed(), "it must not flap");
        drop(first);
        assert!(memory.is_alarmed());
        let less = memory.count(0);
        drop(less);
        drop(second);
        assert!(!memory.is_alarmed());
    }

    #[test]
    fn a_new_limit_is_looked_at_at_once() {
        let memory = Arc::new(Memory::default());
        let _held = memory.count(100);
        memory.set_limit(50);
        assert!(memory.is_alarmed());
        memory.set_limit(200);
        assert!(!memory.is_alarmed());
    }

    #[test]
    fn threads_that_come_and_go_leave_no_alarm_behind() {
        let memory = Arc::new(Memory::default());
        memory.set_limit(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        drop(memory.count(60));
                    }
                });
            }
        });
        assert!(!memory.is_alarmed());
    }
}
