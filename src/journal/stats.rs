//! Figures of a running journal.

use std::sync::atomic::{AtomicU64, Ordering};

use super::liveness::Liveness;

/// Figures of a journal: sums since it was opened, and its content at the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of rows that commits wrote for what was appended.
    pub bytes_appended: u64,
    /// Bytes of rows that compaction wrote beside them.
    pub bytes_rewritten: u64,
    pub commits: u64,
    pub segments: u64,
    pub live_facts: u64,
    /// The weights of the facts that live.
    pub live_bytes: u64,
    /// Bytes of the rows of all segments; their files are larger by the pages of redb.
    pub row_bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    bytes_appended: AtomicU64,
    bytes_rewritten: AtomicU64,
    commits: AtomicU64,
    segments: AtomicU64,
    live_facts: AtomicU64,
    live_bytes: AtomicU64,
    row_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn committed(&self, bytes_appended: u64, bytes_rewritten: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes_appended.fetch_add(bytes_appended, Ordering::Relaxed);
        self.bytes_rewritten.fetch_add(bytes_rewritten, Ordering::Relaxed);
    }

    pub(super) fn measured(&self, liveness: &Liveness, row_bytes: u64) {
        self.segments.store(liveness.segments(), Ordering::Relaxed);
        self.live_facts.store(liveness.live_facts(), Ordering::Relaxed);
        self.live_bytes.store(liveness.live_bytes(), Ordering::Relaxed);
        self.row_bytes.store(row_bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            bytes_appended: self.bytes_appended.load(Ordering::Relaxed),
            bytes_rewritten: self.bytes_rewritten.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            live_facts: self.live_facts.load(Ordering::Relaxed),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
            row_bytes: self.row_bytes.load(Ordering::Relaxed),
        }
    }
}
