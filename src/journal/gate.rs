//! Who may append at this moment: the bound on what is uncommitted, the disk alarm, and failure.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, watch};

use super::{Journal, JournalError};

/// So much may be uncommitted however little is free beyond the reserve: commits stay worth their sync.
const UNCOMMITTED_BYTES_MIN: usize = 64 * 1024;

/// Nothing here is ever locked across an append; readers see each value by itself.
pub(super) struct Gate {
    /// Bytes ever appended, and of these what is not uncommitted any more; both wrap.
    appended_bytes: AtomicUsize,
    released_bytes: AtomicUsize,
    uncommitted_bytes_max: usize,
    alarm: AtomicBool,
    /// By the disk's last word, and by what was written since.
    free_bytes: AtomicU64,
    /// The disk's last word.
    told_bytes: AtomicU64,
    reserve_bytes: u64,
    failure: OnceLock<JournalError>,
    /// One waiter at a time looks at the gate, so that a crowd does not pass it together.
    turnstile: Semaphore,
    changed: Notify,
    /// The alarm, for those who tell others of it.
    alarm_changes: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn new(uncommitted_bytes_max: usize, reserve_bytes: u64) -> Self {
        Self {
            appended_bytes: AtomicUsize::new(0),
            released_bytes: AtomicUsize::new(0),
            uncommitted_bytes_max,
            alarm: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            told_bytes: AtomicU64::new(u64::MAX),
            reserve_bytes,
            failure: OnceLock::new(),
            turnstile: Semaphore::new(1),
            changed: Notify::new(),
            alarm_changes: watch::Sender::new(false),
        }
    }

    /// Waits until `bytes` more may be appended; what would take much of the reserve is refused.
    /// What was admitted counts from its append on, so
    /// the bound may be passed by what is between the two, a body a thread or so.
    pub(super) async fn admit(&self, bytes: usize) -> Result<(), JournalError> {
        if self.lets_in(bytes)? {
            return Ok(());
        }
        // The semaphore is never closed.
        let _turn = self.turnstile.acquire().await.map_err(|_| JournalError::Closed)?;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.is_open(bytes)? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Whether what comes now waits for nothing, and nobody waits before it.
    pub(super) fn lets_in(&self, bytes: usize) -> Result<bool, JournalError> {
        Ok(self.turnstile.available_permits() > 0 && self.is_open(bytes)?)
    }

    fn is_open(&self, bytes: usize) -> Result<bool, JournalError> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        if self.alarm.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let spare = self.spare_bytes();
        if bytes > spare {
            let free_bytes = self.free_bytes.load(Ordering::Relaxed);
            // The alarm may be about to come: the disk is asked soon.
            if free_bytes < self.reserve_bytes {
                return Ok(false);
            }
            // Alone it takes a little of the reserve, and the alarm comes next; what would take much of it
            // is not let through, and would wait without anybody knowing of an alarm.
            let kept_bytes = self.reserve_bytes - self.reserve_bytes / 4;
            let needed_bytes = kept_bytes.saturating_add(with_pages(bytes as u64));
            if free_bytes < needed_bytes {
                // What was written may have taken places that were free inside of files: the disk is asked
                // before its want of space is a reason.
                if self.told_bytes.load(Ordering::Relaxed) >= needed_bytes {
                    return Ok(false);
                }
                return Err(JournalError::DiskAlarm { free_bytes, needed_bytes });
            }
        }
        Ok(self.fits(bytes, self.uncommitted_bytes_max.min(spare)))
    }

    fn fits(&self, bytes: usize, bytes_max: usize) -> bool {
        // In this order it is never less than nothing.
        let released = self.released_bytes.load(Ordering::Acquire);
        let uncommitted = self.appended_bytes.load(Ordering::Relaxed).wrapping_sub(released);
        // Something larger than the bound passes alone.
        uncommitted == 0 || uncommitted.checked_add(bytes).is_some_and(|sum| sum <= bytes_max)
    }

    /// What publishers may have in flight for the disk's sake: the alarm is too late for it, so that it has
    /// to find its place beside the reserve, with a quarter for redb's pages.
    fn spare_bytes(&self) -> usize {
        let spare = self.free_bytes.load(Ordering::Relaxed).saturating_sub(self.reserve_bytes);
        let spare = usize::try_from(spare / 5 * 4).unwrap_or(usize::MAX);
        spare.max(UNCOMMITTED_BYTES_MIN)
    }

    /// Whether `bytes` more stay within the bound, whatever the alarm says: what is moved or removed
    /// must go on while the disk is nearly full. A gate that failed takes nothing that could be too much.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.failure.get().is_some() || self.fits(bytes, self.uncommitted_bytes_max)
    }

    /// Waits until there is room, past those who wait to be admitted: they may wait for the alarm.
    pub(super) async fn room(&self, bytes: usize) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.has_room(bytes) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn writable(&self) -> Result<(), JournalError> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        if self.alarm.load(Ordering::Relaxed) {
            return Err(JournalError::DiskAlarm {
                free_bytes: self.free_bytes.load(Ordering::Relaxed),
                needed_bytes: self.reserve_bytes,
            });
        }
        Ok(())
    }

    /// Only one caller at a time, under the lock of what is appended to: a plain addition is a tenth of an
    /// atomic one.
    pub(super) fn appended(&self, bytes: usize) {
        let appended = self.appended_bytes.load(Ordering::Relaxed).wrapping_add(bytes);
        self.appended_bytes.store(appended, Ordering::Relaxed);
    }

    pub(super) fn released(&self, bytes: usize) {
        if bytes > 0 {
            self.released_bytes.fetch_add(bytes, Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    /// Takes the disk's word. The alarm ends somewhat above where it began, so that it does not flap.
    pub(super) fn disk_has(&self, free_bytes: u64) {
        let thought_bytes = self.free_bytes.swap(free_bytes, Ordering::Relaxed);
        let told_bytes = self.told_bytes.swap(free_bytes, Ordering::Relaxed);
        let was = self.alarm.load(Ordering::Relaxed);
        let needed = self.reserve_bytes + if was { self.reserve_bytes / 8 } else { 0 };
        let is = free_bytes < needed;
        self.alarm.store(is, Ordering::Relaxed);
        if was != is {
            metrics::gauge!("leveret_alarm", "kind" => "disk").set(f64::from(is));
            self.alarm_changes.send_replace(is);
        }
        // Who looked between the two may wait for what is known by now.
        if (was || thought_bytes != free_bytes || told_bytes != free_bytes) && !is {
            self.changed.notify_waiters();
        }
    }

    /// Rows were written since the disk was asked. Only the writer's thread says so, and asks.
    pub(super) fn disk_took(&self, row_bytes: u64) {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        let left = free_bytes.saturating_sub(with_pages(row_bytes));
        self.free_bytes.store(left, Ordering::Relaxed);
    }

    pub(super) fn alarm_changes(&self) -> watch::Receiver<bool> {
        self.alarm_changes.subscribe()
    }

    pub(super) fn is_alarmed(&self) -> bool {
        self.alarm.load(Ordering::Relaxed)
    }

    /// Whether so many bytes may be copied, which takes space before it gives any: from the last half of the
    /// reserve only what is little beside the rest.
    pub(super) fn may_copy(&self, bytes: u64) -> bool {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        !self.is_alarmed() || free_bytes >= self.reserve_bytes / 2 || bytes <= free_bytes / 4
    }

    pub(super) fn uncommitted_bytes_max(&self) -> usize {
        self.uncommitted_bytes_max
    }

    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Refuses everything from now on. The first reason stays.
    pub(super) fn fail(&self, failure: JournalError) -> &JournalError {
        let failure = self.failure.get_or_init(|| failure);
        self.changed.notify_waiters();
        failure
    }

    pub(super) fn failure(&self) -> Option<&JournalError> {
        self.failure.get()
    }
}

/// Bytes that rows take on the disk, about.
fn with_pages(row_bytes: u64) -> u64 {
    row_bytes.saturating_add(row_bytes / 4)
}

impl Journal {
    /// Whether `bytes` more stay within the bound on what is uncommitted, also under the disk alarm: for
    /// what moves or removes what is here already, and is in nobody's hurry.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.log.as_ref().is_none_or(|log| log.shared.gate.has_room(bytes))
    }

    /// Waits for what [`Journal::has_room`] says; at once when the journal takes nothing any more.
    pub async fn room(&self, bytes: usize) {
        if let Some(log) = &self.log {
            log.shared.gate.room(bytes).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_bound_holds_until_bytes_are_released() {
        let gate = Arc::new(Gate::new(100, 10));
        gate.admit(1_000).await.unwrap();
        gate.appended(60);
        gate.admit(40).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit(41).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.released(60);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_in_flight_fits_beside_the_reserve() {
        const RESERVE: u64 = 1_000_000;
        let gate = Gate::new(1_000_000, RESERVE);
        gate.disk_has(RESERVE + 1_000_000);
        gate.admit(500_000).await.unwrap();
        gate.appended(500_000);
        assert_eq!(gate.is_open(300_000), Ok(true));
        assert_eq!(gate.is_open(300_001), Ok(false));
        // What is written leaves less for what follows, before the disk is asked again.
        gate.disk_took(400_000);
        gate.released(400_000);
        assert_eq!(gate.is_open(300_000), Ok(true));
        assert_eq!(gate.is_open(300_001), Ok(false));
        // The last of it is not taken byte by byte, and what must move is not held off.
        gate.disk_took(400_000);
        gate.released(50_000);
        assert_eq!((gate.is_open(14_000), gate.is_open(16_000)), (Ok(true), Ok(false)));
        assert!(gate.has_room(900_000));
    }

    #[tokio::test]
    async fn what_would_take_much_of_the_reserve_is_refused_also_when_it_is_alone() {
        const RESERVE: u64 = 1_000_000;
        let gate = Arc::new(Gate::new(100_000, RESERVE));
        gate.disk_has(RESERVE + 250_000);
        // More than the bound on what is uncommitted, and little of the reserve.
        gate.admit(400_000).await.unwrap();
        let refused = JournalError::DiskAlarm {
            free_bytes: RESERVE + 250_000,
            needed_bytes: RESERVE + 250_001,
        };
        assert_eq!(gate.admit(400_001).await, Err(refused));
        assert_eq!(gate.writable(), Ok(()));
        // One that waits for its turn is told when the others have taken its room, and that they have is the
        // disk's to say.
        for (took, is_refused) in [(0, false), (100_000, true)] {
            gate.disk_has(RESERVE + 250_000);
            gate.appended(100_000);
            let waiting = tokio::spawn({
                let gate = gate.clone();
                async move { gate.admit(400_000).await }
            });
            tokio::task::yield_now().await;
            gate.disk_took(100_000);
            gate.released(100_000);
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            gate.disk_has(RESERVE + 250_000 - took);
            let refused = matches!(waiting.await.unwrap(), Err(JournalError::DiskAlarm { .. }));
            assert_eq!(refused, is_refused);
        }
        // Under the alarm it waits with all the others, and while one may be about to come.
        for alarmed in [true, false] {
            if alarmed {
                gate.disk_has(RESERVE - 1);
            } else {
                gate.disk_took(RESERVE);
            }
            let waiting = tokio::spawn({
                let gate = gate.clone();
                async move { gate.admit(400_000).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            gate.disk_has(RESERVE * 2);
            waiting.await.unwrap().unwrap();
        }
    }

    #[test]
    fn from_the_last_half_of_the_reserve_little_is_copied() {
        let gate = Gate::new(100, 1_000);
        gate.disk_has(500);
        assert!(gate.may_copy(10_000));
        gate.disk_has(499);
        assert!(gate.may_copy(124) && !gate.may_copy(125));
        gate.disk_has(10);
        assert!(gate.may_copy(2) && !gate.may_copy(3));
    }

    #[tokio::test]
    async fn the_disk_alarm_stops_admission_and_ends_by_itself() {
        let gate = Arc::new(Gate::new(100, 80));
        gate.disk_has(79);
        assert_eq!(
            gate.writable(),
            Err(JournalError::DiskAlarm { free_bytes: 79, needed_bytes: 80 })
        );
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit(1).await }
        });
        tokio::task::yield_now().await;
        gate.disk_has(85);
        assert!(gate.writable().is_err(), "it must not flap");
        gate.disk_has(90);
        waiting.await.unwrap().unwrap();
        assert_eq!(gate.writable(), Ok(()));
    }

    #[tokio::test]
    async fn there_is_room_under_the_alarm_and_past_those_who_wait_for_its_end() {
        let gate = Arc::new(Gate::new(100, 80));
        gate.disk_has(79);
        gate.appended(60);
        let publisher = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit(1).await }
        });
        tokio::task::yield_now().await;
        gate.room(40).await;
        assert!(!gate.has_room(41));
        let mover = tokio::spawn({
            let gate = gate.clone();
            async move { gate.room(41).await }
        });
        tokio::task::yield_now().await;
        assert!(!mover.is_finished());
        gate.released(60);
        mover.await.unwrap();
        assert!(!publisher.is_finished());
        gate.fail(JournalError::Closed);
        assert!(publisher.await.unwrap().is_err() && gate.has_room(1_000));
    }

    #[tokio::test]
    async fn failure_wakes_and_refuses_everybody() {
        let gate = Arc::new(Gate::new(1, 0));
        gate.appended(1);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit(1).await }
        });
        tokio::task::yield_now().await;
        gate.fail(JournalError::Closed);
        assert_eq!(waiting.await.unwrap(), Err(JournalError::Closed));
        assert_eq!(gate.admit(0).await, Err(JournalError::Closed));
    }
}
