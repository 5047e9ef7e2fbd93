//! How the disk gets on with the commits that the writer handed over (`syncer`).

use std::time::{Duration, Instant};

/// Commits that are on their way to the disk, or are being settled, while the writer goes on.
#[derive(Default)]
pub(super) struct Syncing {
    commits: usize,
    /// Since when the disk is at the first of them.
    since: Option<Instant>,
    /// How long it took for the last.
    took: Duration,
}

impl Syncing {
    pub(super) fn is_any(&self) -> bool {
        self.commits > 0
    }

    pub(super) fn begin(&mut self) {
        self.commits += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn end(&mut self) {
        self.commits = self.commits.saturating_sub(1);
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.took = now.duration_since(since);
        }
        self.since = self.is_any().then_some(now);
    }

    /// When the next commit is to be written so that the disk never waits for it: in the middle of a sync,
    /// as the kernel copies a commit in less than half of the time in which the disk takes it. `None` while
    /// another one has been written already.
    pub(super) fn write_at(&self) -> Option<Instant> {
        match (self.commits, self.since) {
            (1, Some(since)) => since.checked_add(self.took / 2),
            _ => None,
        }
    }
}
