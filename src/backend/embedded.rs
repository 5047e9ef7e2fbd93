//! The embedded engines, together on one journal.

use std::path::Path;

use tokio::task::JoinHandle;

use super::{Broker, Cache};
use crate::broker;
use crate::cache::{self, AppendFsync};
use crate::journal::{
    Content, Entry, FolderStore, Journal, JournalError, JournalOptions, Kind, OpenError,
    SegmentStore,
};
use crate::model::clock::{SharedClock, SystemClock};

/// Record kinds by owner; see [`Kind`].
const BROKER_KINDS: std::ops::RangeInclusive<u8> = 1..=31;
const CACHE_KINDS: std::ops::RangeInclusive<u8> = 32..=63;

/// A broker and a cache in this process, and the tasks that drive their clocks.
pub struct Embedded {
    broker: broker::Broker,
    cache: cache::Cache,
    journal: Journal,
    drivers: [JoinHandle<()>; 2],
}

impl Embedded {
    /// Opens a data folder with the defaults (strict durability), or makes one. To be called within a
    /// tokio runtime; it reads the journal, so it takes the longer the more lives in it.
    ///
    /// # Errors
    /// A folder that another process uses, that can't be read or written, or that is damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(folder, JournalOptions::default(), SystemClock::shared())
    }

    /// As [`Embedded::open`].
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(
        folder: impl AsRef<Path>,
        options: JournalOptions,
        clock: SharedClock,
    ) -> Result<Self, OpenError> {
        Self::open_on(Box::new(FolderStore::open(folder.as_ref())?), options, clock)
    }

    /// As [`Embedded::open_with`], for a broker whose cache is elsewhere: its acknowledgements refuse to
    /// change a cache.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_apart(
        folder: impl AsRef<Path>,
        options: JournalOptions,
        clock: SharedClock,
    ) -> Result<Self, OpenError> {
        Self::read(Box::new(FolderStore::open(folder.as_ref())?), options, clock)
    }

    /// As [`Embedded::open`], wherever the segments are kept.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_on(
        store: Box<dyn SegmentStore>,
        options: JournalOptions,
        clock: SharedClock,
    ) -> Result<Self, OpenError> {
        Self::read(store, options, clock).map(Self::joined)
    }

    fn read(
        store: Box<dyn SegmentStore>,
        options: JournalOptions,
        clock: SharedClock,
    ) -> Result<Self, OpenError> {
        let mut broker = broker::Recovery::default();
        let mut cache = cache::Recovery::default();
        let mut replay = |entry: Entry, kind: Kind, content: Content<'_>| match (kind.0, content) {
            (code, _) if BROKER_KINDS.contains(&code) => {
                broker.accept_content(entry, kind, content)
            }
            (code, Content::Payload(payload)) if CACHE_KINDS.contains(&code) => {
                cache.accept(entry, kind, payload).map(|()| true)
            }
            (code, Content::Tag(_)) if CACHE_KINDS.contains(&code) => Ok(false),
            (code, _) => Err(format!("record kind {code} is not known to this version")),
        };
        let journal = Journal::open_by_tags(store, options, &mut replay)?;
        Ok(Self::start(journal, clock, broker, cache))
    }

    /// Engines that keep nothing: whatever is confirmed is gone with the process.
    pub fn in_memory(clock: SharedClock) -> Self {
        Self::in_memory_apart(clock).joined()
    }

    /// As [`Embedded::in_memory`], for a broker whose cache is elsewhere.
    pub fn in_memory_apart(clock: SharedClock) -> Self {
        Self::start(
            Journal::in_memory(),
            clock,
            broker::Recovery::default(),
            cache::Recovery::default(),
        )
    }

    fn start(
        journal: Journal,
        clock: SharedClock,
        broker: broker::Recovery,
        cache: cache::Recovery,
    ) -> Self {
        let broker = broker::Broker::new(journal.clone(), clock.clone(), broker);
        let cache = cache::Cache::new(journal.clone(), clock, AppendFsync::EverySec, cache);
        let drivers = [tokio::spawn(broker.run_timers()), tokio::spawn(cache.run_expiry())];
        Self { broker, cache, journal, drivers }
    }

    fn joined(self) -> Self {
        self.broker().join(&self.cache());
        self
    }

    /// The log itself, to ask whether it takes writes.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The broker itself, for what only it can do.
    pub fn broker_engine(&self) -> &broker::Broker {
        &self.broker
    }

    pub fn broker(&self) -> Broker {
        Broker::Embedded(self.broker.clone())
    }

    pub fn cache(&self) -> Cache {
        Cache::Embedded(self.cache.clone())
    }

    /// The cache's engine itself, for what the port does not have.
    pub fn cache_engine(&self) -> &cache::Cache {
        &self.cache
    }

    /// Writes what is not written yet and closes the log. Consumers end; whatever is published,
    /// settled or set afterwards fails.
    ///
    /// # Errors
    /// When the journal had failed: what was not confirmed may be lost.
    pub async fn close(self) -> Result<(), JournalError> {
        self.broker.cancel_consumers();
        for driver in &self.drivers {
            driver.abort();
        }
        let flushed = self.broker.close().await;
        let journal = self.journal;
        // Joins the writer's thread.
        let _joined = tokio::task::spawn_blocking(move || journal.close()).await;
        flushed.map(|_| ())
    }
}
