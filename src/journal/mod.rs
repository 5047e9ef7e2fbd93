//! The one log that everything durable is written to.
//!
//! Owns: positions, group commit, recovery, compaction; it is the only module that names redb, and
//! (in `codec`) the only one that names bincode. May import: `model`. What a record means is its
//! owner's business: a payload is opaque here.
//!
//! A record is a *fact* (something that holds until it is ended: a message in queues, a key's value)
//! or an *end* of earlier facts. [`Journal::append`] puts a group of them into the open batch
//! (`batch`); the writer's thread (`writer`) takes the batch, encodes it into rows (`row`, `row_writer`), commits
//! them as one transaction of the active segment (`segment`, a redb file behind a `redo` area) and
//! settles every [`Commit`] (`commit`), itself or by the `syncer`. Which rows still count is kept in
//! memory (`liveness`): a segment is removed as a whole when nothing in it does, and copied to the
//! active one (`compaction`) when less than a half of it does. Files of removed segments become those of new
//! ones (`spares`). At a start `recovery` reads back what is
//! asked for, by the `index` of each segment; while the log runs `reading` gives single facts back, by
//! the `places` where they lie. `gate` says who may append.
//!
//! What always holds:
//! - A group is atomic: it never spans two batches, and a batch is one transaction of one segment.
//! - An ended fact never comes back: its end is kept as long as a copy of the fact is on disk.
//! - A fact that is ended before its batch is taken is never written.
//! - Positions only rise. A copy that compaction makes keeps its position.
//! - A sealed segment's file is not written to before it is removed, and a published one always opens.
//! - Every row carries its length and checksum, verified at each read.
//! - Any failure to write poisons the journal: later commits fail, reads go on.
//! - Less than twice what was appended is written in all (see `compaction`; [`Journal::stats`] counts).

mod batch;
mod check;
mod codec;
mod commit;
mod compaction;
mod doorbell;
mod error;
mod extent;
mod gate;
mod group;
mod index;
mod liveness;
mod overlay;
mod packed;
mod pages;
mod places;
mod position_set;
mod reading;
mod recovery;
mod redo;
mod rolling;
pub mod row;
pub mod row_writer;
mod segment;
mod shared;
mod spares;
mod stats;
mod store;
mod syncer;
mod syncing;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::watch;

pub use check::{CheckReport, check};
pub use codec::{DecodeError, decode_value, encode_plain, encode_value, put_bytes, put_number};
pub use commit::{Commit, Commits};
pub use error::{JournalError, OpenError, ReadError};
pub use group::{Group, Payload, SMALL_WEIGHT_MAX};
pub use reading::Visit;
pub use recovery::{Content, Replay, ReplayPayloads};
pub use redb::StorageBackend;
pub use row::decode_row;
pub use stats::Stats;
pub use store::{FolderStore, SegmentStore};

use gate::Gate;
use reading::Reader;
use recovery::{Depth, recover, settle};
use rolling::Rolling;
use segment::{ActiveSegment, Head};
use shared::Shared;
use stats::Counters;
use syncer::Syncer;
use writer::{SegmentSize, Writer};

/// A place in the log: total order over everything that was ever appended. Never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position(pub u64);

/// Says what a payload is, to its owner. The broker owns 1 to 31, the cache 32 to 63, the gateway
/// 64 to 95. Retired codes are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// A live fact: what its owner keeps, to end it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub position: Position,
    /// Bytes that the fact is counted with when space is accounted.
    pub weight: u32,
}

/// When an append has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// With the next commit, which starts as soon as the running one ends.
    Now,
    /// At the latest after this time; sooner if anything else commits.
    Within(Duration),
}

/// What an append gave: an entry for each fact, in order, and the future of their commit.
pub struct Appended {
    pub entries: SmallVec<[Entry; 2]>,
    pub commit: Commit,
}

/// When a commit resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When what was appended is on disk.
    #[default]
    Strict,
    /// At once; the disk follows within 100 ms.
    Relaxed,
}

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    pub durability: Durability,
    /// A segment is sealed at the latest with this many bytes of rows (one batch may pass it); a
    /// sixteenth of the disk if that is less.
    pub segment_bytes_max: u64,
    /// [`Journal::admit`] waits while more is appended and not committed; a sixteenth of the disk
    /// if that is less, or what finds its place beside the reserve.
    pub uncommitted_bytes_max: usize,
    /// The disk alarm is on while less is free; an eighth of the disk if that is less. It has to
    /// hold the acknowledgements that drain a full disk, and what moves meanwhile.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Strict,
            segment_bytes_max: 256 * 1024 * 1024,
            uncommitted_bytes_max: 64 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A handle on the log; clones share it. The log is closed when the last one is dropped.
#[derive(Clone)]
pub struct Journal {
    next: Arc<AtomicU64>,
    /// `None`: it forgets.
    log: Option<Arc<Log>>,
}

/// An open log.
struct Log {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    reader: Arc<Reader>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The latest opens: (epoch, first position that was given in it), rising; this one is the last.
    epochs: Vec<(u64, u64)>,
}

/// How many opens are remembered for [`Journal::is_known`].
const EPOCHS_MAX: usize = 1_024;

impl Journal {
    /// A log that forgets: positions are given, every commit resolves at once.
    pub fn in_memory() -> Self {
        Self { next: Arc::new(AtomicU64::new(1)), log: None }
    }

    /// As [`Journal::open_by_tags`], with the payload of every fact.
    ///
    /// # Errors
    /// As [`Journal::open_by_tags`].
    pub fn open(
        store: Box<dyn SegmentStore>,
        options: JournalOptions,
        replay: &mut ReplayPayloads<'_>,
    ) -> Result<Self, OpenError> {
        Self::open_by_tags(store, options, &mut |entry, kind, content| match content {
            Content::Tag(_) => Ok(false),
            Content::Payload(payload) => replay(entry, kind, payload).map(|()| true),
        })
    }

    /// Reads a log back, as far as its facts are asked for, and opens it for appending. Blocks.
    ///
    /// `replay` gets each live fact once, in the order of their positions as far as compaction did
    /// not copy them: those that it copied come later.
    ///
    /// # Errors
    /// An [`OpenError`] that names the file and what is wrong with it. Nothing was changed then.
    pub fn open_by_tags(
        store: Box<dyn SegmentStore>,
        options: JournalOptions,
        replay: &mut Replay<'_>,
    ) -> Result<Self, OpenError> {
        let store: Arc<dyn SegmentStore> = Arc::from(store);
        let recovered = recover(store.as_ref(), Depth::Needed, replay)?;
        settle(store.as_ref())?;
        let disk_bytes = store.size_bytes().map_err(OpenError::io("can't measure the disk"))?;
        let free_bytes = store.free_bytes().map_err(OpenError::io("can't measure the disk"))?;
        let share = usize::try_from(disk_bytes / 16).unwrap_or(usize::MAX);
        let gate = Gate::new(
            options.uncommitted_bytes_max.min(share),
            options.reserve_bytes.min(disk_bytes / 8),
        );
        gate.disk_has(free_bytes);

        let first_position = recovered.last_position + 1;
        let head = next_head(recovered.head, first_position)?;
        let mut liveness = recovered.liveness;
        let segment_size = SegmentSize::new(options.segment_bytes_max, disk_bytes);
        let bytes = segment_size.seal_at(liveness.live_bytes());
        let active = ActiveSegment::create(store.as_ref(), &head, bytes)
            .map_err(|error| error.at_open(store.as_ref(), head.segment))?;
        liveness.add_segment(head.segment);
        let reader = Arc::new(Reader::new(store.clone(), recovered.places));
        reader.roll(Some((active.id, active.reading())));

        let next = Arc::new(AtomicU64::new(first_position));
        let shared = Shared::new(next.clone(), options.durability, gate)
            .map_err(OpenError::io("can't make the journal's pipe"))?;
        let shared = Arc::new(shared);
        let counters = Arc::<Counters>::default();
        let epochs = head.epochs.clone();
        let syncer = Syncer::start(shared.clone())
            .map_err(OpenError::io("can't start the journal's thread"))?;
        let rolling = Rolling::new(shared.clone(), reader.clone(), store.clone());
        let writer = Writer {
            rolling,
            shared: shared.clone(),
            counters: counters.clone(),
            reader: reader.clone(),
            syncer,
            store,
            head,
            active,
            liveness,
            sealed_bytes: recovered.row_bytes,
            segment_size,
            rows: row_writer::RowWriter::default(),
            compaction: None,
            committed_position: recovered.last_position,
            disk_checked: Instant::now(),
            bytes_since_check: 0,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::io("can't start the journal's thread"))?;
        let log = Log { shared, counters, reader, writer: Mutex::new(Some(thread)), epochs };
        Ok(Self { next, log: Some(Arc::new(log)) })
    }

    /// Whether it keeps anything: one in memory does not.
    pub fn keeps(&self) -> bool {
        self.log.is_some()
    }

    /// Appends a group to the open batch. Never waits and never fails: a failure shows in the commit.
    pub fn append(&self, group: Group, urgency: Urgency) -> Appended {
        match &self.log {
            Some(log) => log.shared.append(group, urgency),
            None => self.forget(&group),
        }
    }

    /// As [`Journal::append`], of a single fact: the way of a message, and the one that is taken most.
    pub fn append_fact<P: Payload + 'static>(
        &self,
        kind: Kind,
        payload: &Arc<P>,
        urgency: Urgency,
    ) -> (Entry, Commit) {
        match &self.log {
            Some(log) => log.shared.append_fact(kind, payload, urgency),
            None => {
                let entry = Entry { position: self.next_position(), weight: payload.weight() };
                (entry, Commit::settled(entry.position, Ok(())))
            }
        }
    }

    /// As [`Journal::append_fact`] of each of `payloads`, in one visit of the open batch. Positions
    /// follow each other; a fact's entry has its payload's weight. Callers bound their number: others wait
    /// meanwhile.
    pub fn append_facts<P: Payload + 'static>(
        &self,
        kind: Kind,
        payloads: &[Arc<P>],
        urgency: Urgency,
    ) -> Commits {
        match &self.log {
            Some(log) => log.shared.append_facts(kind, payloads, urgency),
            None => {
                let count = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
                let first = Position(self.next.fetch_add(u64::from(count), Ordering::Relaxed));
                Commits::settled(first, count, Ok(()))
            }
        }
    }

    /// As [`Journal::append_facts`], of payloads that weigh at most [`SMALL_WEIGHT_MAX`] and are not kept:
    /// who wants them back reads them. `None`: nothing is appended, since the journal takes no more or
    /// keeps nothing.
    pub fn append_small<P: Payload>(
        &self,
        kind: Kind,
        payloads: impl ExactSizeIterator<Item = P>,
        urgency: Urgency,
    ) -> Option<Commits> {
        self.log.as_ref()?.shared.append_small(kind, payloads, urgency)
    }

    fn forget(&self, group: &Group) -> Appended {
        let entry = |weight| Entry { position: self.next_position(), weight };
        let entries: SmallVec<[Entry; 2]> =
            group.facts.iter().map(|(_, fact)| entry(fact.weight())).collect();
        let last = entries.last().map_or_else(|| self.next_position(), |entry| entry.position);
        Appended { entries, commit: Commit::settled(last, Ok(())) }
    }

    /// Takes a position for something that is never written, such as a transient message.
    pub fn next_position(&self) -> Position {
        Position(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Everything that was appended up to here is on disk; what was not appended, such as a position
    /// that was only taken, is of course not.
    pub fn committed_position(&self) -> Position {
        self.log.as_ref().map_or_else(Position::default, |log| log.shared.committed_position())
    }

    /// Whether [`Journal::admit`] would return at once.
    ///
    /// # Errors
    /// As [`Journal::admit`].
    pub fn is_open(&self, bytes: usize) -> Result<bool, JournalError> {
        self.log.as_ref().map_or(Ok(true), |log| log.shared.gate.lets_in(bytes))
    }

    /// Waits until `bytes` more may be appended: while too much is uncommitted or the disk alarm is on.
    ///
    /// # Errors
    /// When the journal is poisoned or closed; [`JournalError::DiskAlarm`] without waiting for what
    /// would take more than a quarter of the reserve.
    pub async fn admit(&self, bytes: usize) -> Result<(), JournalError> {
        match &self.log {
            Some(log) => log.shared.gate.admit(bytes).await,
            None => Ok(()),
        }
    }

    /// Whether writes are taken at this moment: not poisoned, not closed, no disk alarm.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn writable(&self) -> Result<(), JournalError> {
        self.log.as_ref().map_or(Ok(()), |log| log.shared.gate.writable())
    }

    /// The disk alarm as it changes; `None` when there is no disk.
    pub fn disk_alarm(&self) -> Option<watch::Receiver<bool>> {
        self.log.as_ref().map(|log| log.shared.gate.alarm_changes())
    }

    /// Resolves when everything that was appended so far is on disk, also under relaxed durability.
    pub fn flush(&self) -> Commit {
        match &self.log {
            Some(log) => log.shared.flush(),
            None => {
                let last = self.next.load(Ordering::Relaxed).saturating_sub(1);
                Commit::settled(Position(last), Ok(()))
            }
        }
    }

    /// Commits what was appended, and ends the journal: what is appended later is refused as
    /// [`JournalError::Closed`]. Blocks until the files are closed and the store is given back.
    pub fn close(&self) {
        if let Some(log) = &self.log {
            log.close();
        }
    }

    /// Counts the opens of this log; part of every offset that leaves the process, so that a position
    /// that a crash took back is recognised.
    pub fn epoch(&self) -> u64 {
        self.log.as_ref().and_then(|log| log.epochs.last()).map_or(1, |&(epoch, _)| epoch)
    }

    /// The open in which `position` was given, as far as opens are remembered: with it, a position names
    /// one thing for good, also when a crash took another back that had it before.
    pub fn epoch_of(&self, position: Position) -> u64 {
        let Some(log) = &self.log else { return 1 };
        let later = log.epochs.partition_point(|&(_, first_position)| first_position <= position.0);
        log.epochs.get(later.saturating_sub(1)).map_or(1, |&(epoch, _)| epoch)
    }

    /// Whether something that was seen at `position` in `epoch` is part of this log. Not if a crash
    /// took it back, and not if the epoch is unknown (there were 1,024 opens since).
    pub fn is_known(&self, epoch: u64, position: Position) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let Some(log) = &self.log else { return epoch == 1 && position.0 < next };
        let Ok(at) = log.epochs.binary_search_by_key(&epoch, |&(epoch, _)| epoch) else {
            return false;
        };
        position.0 < log.epochs.get(at + 1).map_or(next, |&(_, first_position)| first_position)
    }

    /// Whether a position that this log has was given in the life before this one: between the last
    /// open and the one before it.
    pub fn is_of_last_life(&self, position: Position) -> bool {
        !self.is_known(self.epoch().saturating_sub(2), position)
    }

    /// Figures, up to the last commit.
    pub fn stats(&self) -> Stats {
        self.log.as_ref().map_or_else(Stats::default, |log| log.counters.read())
    }
}

impl Log {
    fn close(&self) {
        self.shared.close();
        // Held until the end: whoever else closes it returns when it is closed.
        let mut writer = self.writer.lock();
        if let Some(writer) = writer.take() {
            // It catches its panics itself, and says so in its failure.
            let _ = writer.join();
        }
        self.reader.close();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

/// The head of the segment that an open begins.
fn next_head(newest: Option<Head>, first_position: u64) -> Result<Head, OpenError> {
    let mut head = match newest {
        Some(head) => head,
        None => {
            let mut log = [0; 16];
            getrandom::fill(&mut log).map_err(|error| {
                OpenError::io("can't name the log")(std::io::Error::other(error))
            })?;
            Head { log, segment: 0, epochs: Vec::new() }
        }
    };
    let epoch = head.epochs.last().map_or(0, |&(epoch, _)| epoch) + 1;
    head.segment += 1;
    head.epochs.push((epoch, first_position));
    if head.epochs.len() > EPOCHS_MAX {
        head.epochs.drain(..head.epochs.len() - EPOCHS_MAX);
    }
    Ok(head)
}
