//! Commits that are on their way to the disk, or are being settled, while the writer goes on (`syncer`).

#[derive(Default)]
pub(super) struct Syncing {
    commits: usize,
}

impl Syncing {
    pub(super) fn is_any(&self) -> bool {
        self.commits > 0
    }

    /// Whether the next one is to be written at once, so that the disk never waits for it. With another
    /// written before it, it would only wait longer and be smaller.
    pub(super) fn takes_another(&self) -> bool {
        self.commits < 2
    }

    pub(super) fn begin(&mut self) {
        self.commits += 1;
    }

    pub(super) fn end(&mut self) {
        self.commits = self.commits.saturating_sub(1);
    }
}
