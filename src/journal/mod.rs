//! The one log that everything durable is written to.
//!
//! Owns: positions, group commit, recovery, compaction; it is the only module that names redb, and
//! (in `codec`) the only one that names bincode. May import: `model`. What a record means is its
//! owner's business: a payload is opaque here.
//!
//! A record is a *fact* (something that holds until it is ended: a message in queues, a key's value)
//! or an *end* of earlier facts. What always holds: one group is atomic; an ended fact never comes
//! back; positions only rise.

mod codec;
mod commit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use codec::{DecodeError, decode_value, encode_value};
pub use commit::Commit;

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

/// What a fact says. Encoded by the writer, and only if the fact was not ended before that.
pub trait Payload: Send + Sync + 'static {
    /// About how many bytes `encode` will write.
    fn weight(&self) -> u32;
    fn encode(&self, out: &mut Vec<u8>);
}

impl Payload for Vec<u8> {
    fn weight(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// When an append has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// With the next commit, which starts as soon as the running one ends.
    Now,
    /// At the latest after this time; sooner if anything else commits.
    Within(Duration),
}

/// Facts and ends that become durable together or not at all.
#[derive(Default)]
pub struct Group {
    facts: SmallVec<[(Kind, Arc<dyn Payload>); 2]>,
    ends: SmallVec<[Entry; 4]>,
}

impl Group {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fact; the n-th call's entry is the n-th of [`Appended::entries`].
    pub fn fact(&mut self, kind: Kind, payload: Arc<dyn Payload>) -> &mut Self {
        self.facts.push((kind, payload));
        self
    }

    /// Ends a fact. An entry is ended at most once.
    pub fn end(&mut self, entry: Entry) -> &mut Self {
        self.ends.push(entry);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.ends.is_empty()
    }
}

/// What an append gave: an entry for each fact, in order, and the future of their commit.
pub struct Appended {
    pub entries: SmallVec<[Entry; 2]>,
    pub commit: Commit,
}

/// Why the journal does not take or keep a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("the journal failed and takes no more writes: {reason}")]
    Poisoned { reason: Arc<str> },
    #[error(
        "the disk is nearly full: {free_bytes} bytes are free, {needed_bytes} are kept in reserve"
    )]
    DiskAlarm { free_bytes: u64, needed_bytes: u64 },
    #[error("the journal is closed")]
    Closed,
}

/// A handle on the log; clones share it.
#[derive(Clone)]
pub struct Journal {
    next: Arc<AtomicU64>,
}

impl Journal {
    /// A log that forgets: positions are given, every commit resolves at once.
    pub fn in_memory() -> Self {
        Self { next: Arc::new(AtomicU64::new(1)) }
    }

    /// Appends a group to the open batch. Never waits and never fails: a failure shows in the commit.
    pub fn append(&self, group: Group, _urgency: Urgency) -> Appended {
        let entries: SmallVec<[Entry; 2]> = group
            .facts
            .iter()
            .map(|(_, payload)| Entry { position: self.next_position(), weight: payload.weight() })
            .collect();
        let last = entries.last().map_or_else(|| self.next_position(), |entry| entry.position);
        Appended { entries, commit: Commit::resolved(last) }
    }

    /// Takes a position for something that is never written, such as a transient message.
    pub fn next_position(&self) -> Position {
        Position(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until `bytes` more may be appended: while too much is uncommitted or the disk alarm is on.
    ///
    /// # Errors
    /// When the journal is poisoned or closed.
    pub async fn admit(&self, _bytes: usize) -> Result<(), JournalError> {
        Ok(())
    }

    /// Whether writes are taken at this moment: not poisoned, not closed, no disk alarm.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn writable(&self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Counts the opens of this log; part of every offset that leaves the process, so that a position
    /// that a crash took back is recognised.
    pub fn epoch(&self) -> u64 {
        1
    }
}
