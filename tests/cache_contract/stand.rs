//! A cache on a journal in a folder of its own, under a clock that is moved by hand.

use std::sync::Arc;

use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions, Position};
use leveret::model::clock::{ManualClock, SharedClock};

use crate::START_MS;

pub struct Stand {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    fsync: AppendFsync,
    cache: Option<Cache>,
    last_position: Position,
}

impl Stand {
    pub fn new() -> Self {
        Self::with_fsync(AppendFsync::EverySec)
    }

    pub fn with_fsync(fsync: AppendFsync) -> Self {
        let mut stand = Self {
            folder: tempfile::tempdir().expect("a folder"),
            clock: ManualClock::at(START_MS),
            fsync,
            cache: None,
            last_position: Position(0),
        };
        assert_eq!(stand.restart(), 0);
        stand
    }

    pub fn cache(&self) -> &Cache {
        self.cache.as_ref().expect("a cache between restarts")
    }

    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock) as _
    }

    pub fn wait_ms(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    /// Positions rise from push to push, also over restarts.
    pub fn note_position(&mut self, position: Position) {
        assert!(position > self.last_position);
        self.last_position = position;
    }

    /// Closes the journal and opens it again. Returns how many facts it held.
    pub fn restart(&mut self) -> usize {
        if let Some(cache) = self.cache.take() {
            cache.journal().close();
        }
        let store = FolderStore::open(self.folder.path()).expect("the folder is free");
        let mut recovery = Recovery::default();
        let mut facts = 0;
        let journal =
            Journal::open(Box::new(store), JournalOptions::default(), &mut |entry, kind, bytes| {
                facts += 1;
                recovery.accept(entry, kind, bytes)
            })
            .expect("the journal opens");
        self.cache = Some(Cache::new(journal, self.clock(), self.fsync, recovery));
        facts
    }
}
