//! What the log says of messages that lie in several queues: where one is settled already, and how often
//! it was delivered.
//!
//! It is kept by the messages' places in the log and apart from them. So a message may leave memory from
//! one queue and stay in another, and be read back for each; and a message that nothing was noted of, as
//! in a backlog without consumers, takes nothing here. A note takes 24 bytes, and what the vectors and the
//! map take beside it.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::bodies::Bodies;
use super::memory::Memory;
use super::records::{
    DeliveredRecord, KIND_DELIVERED, KIND_SETTLED, QueueId, SettledRecord, record,
};
use super::stored::MARK_WITHIN;
use crate::journal::{Appended, Entry, Group, Journal, Position, Urgency};

/// So many queues can settle messages at once, most of the time.
const SHARDS: usize = 32;
/// Messages whose places differ in so many low bits share a vector.
const CHUNK_BITS: u32 = 8;

#[derive(Default)]
pub(super) struct Spread {
    shards: [Mutex<Shard>; SHARDS],
    /// Those that are in memory and that a queue reads back.
    pub bodies: Bodies,
    /// Counts what is noted; the broker's own.
    pub memory: Arc<Memory>,
}

/// By the high bits of the places; no vector is empty, and each is in the order of the low bits.
#[derive(Default)]
struct Shard(AHashMap<u64, Vec<Kept>>);

/// A note as it is kept: small, there may be millions.
#[derive(Clone, Copy)]
struct Kept {
    queue: u64,
    entry: u64,
    deliveries: u32,
    /// Of its record, which has two numbers or three.
    weight: u16,
    /// The low bits of the message's place.
    low: u8,
    what: KeptWhat,
}

#[derive(Clone, Copy)]
enum KeptWhat {
    Settled,
    Delivered,
    Followed,
}

/// Something that is known of a message in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub queue: QueueId,
    /// Its record.
    pub entry: Entry,
    pub what: Noted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Settled,
    /// How often it was delivered.
    Delivered(u32),
    /// What happens to the message in any queue is traced. The log does not say it.
    Followed,
}

/// The notes of one message, which is nobody else's meanwhile.
pub(super) struct Notes<'a> {
    shard: MutexGuard<'a, Shard>,
    position: Position,
    notes: SmallVec<[Note; 2]>,
    memory: &'a Memory,
    /// How many there were.
    counted: usize,
}

impl Spread {
    fn shard(&self, position: Position) -> MutexGuard<'_, Shard> {
        let at = usize::try_from((position.0 >> CHUNK_BITS) % SHARDS as u64).unwrap_or_default();
        self.shards[at].lock()
    }

    pub(super) fn enter(&self, position: Position) -> Notes<'_> {
        let mut shard = self.shard(position);
        let notes = shard.take(position);
        let counted = notes.len();
        Notes { shard, position, notes, memory: &self.memory, counted }
    }

    /// As [`Spread::enter`], to look only.
    pub(super) fn look(&self, position: Position) -> SmallVec<[Note; 2]> {
        self.shard(position).look(position)
    }

    pub(super) fn is_settled_in(&self, position: Position, queue: QueueId) -> bool {
        let is_its = |kept: &Kept| matches!(kept.what, KeptWhat::Settled) && kept.queue == queue.0;
        self.shard(position).of(position).iter().any(is_its)
    }

    /// Every message that something is noted of, rising.
    pub(super) fn positions(&self) -> Vec<Position> {
        let mut positions = Vec::new();
        for shard in &self.shards {
            for (high, kept) in &shard.lock().0 {
                let of = |kept: &Kept| Position((high << CHUNK_BITS) | u64::from(kept.low));
                positions.extend(kept.iter().map(of));
            }
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

impl Shard {
    fn range(kept: &[Kept], position: Position) -> Range<usize> {
        let low = low(position);
        kept.partition_point(|kept| kept.low < low)..kept.partition_point(|kept| kept.low <= low)
    }

    fn of(&self, position: Position) -> &[Kept] {
        let kept = self.0.get(&(position.0 >> CHUNK_BITS)).map_or(&[][..], Vec::as_slice);
        &kept[Self::range(kept, position)]
    }

    fn look(&self, position: Position) -> SmallVec<[Note; 2]> {
        self.of(position).iter().map(|kept| kept.note()).collect()
    }

    fn take(&mut self, position: Position) -> SmallVec<[Note; 2]> {
        let notes = self.look(position);
        if !notes.is_empty()
            && let Some(kept) = self.0.get_mut(&(position.0 >> CHUNK_BITS))
        {
            kept.drain(Self::range(kept, position));
        }
        notes
    }

    fn put(&mut self, position: Position, notes: &[Note]) {
        let high = position.0 >> CHUNK_BITS;
        if notes.is_empty() {
            if self.0.get(&high).is_some_and(Vec::is_empty) {
                self.0.remove(&high);
            }
            return;
        }
        let kept = self.0.entry(high).or_default();
        let at = Self::range(kept, position).start;
        kept.splice(at..at, notes.iter().map(|note| Kept::new(position, note)));
    }
}

fn low(position: Position) -> u8 {
    u8::try_from(position.0 & ((1 << CHUNK_BITS) - 1)).unwrap_or_default()
}

impl Kept {
    fn new(position: Position, note: &Note) -> Self {
        let (what, deliveries) = match note.what {
            Noted::Settled => (KeptWhat::Settled, 0),
            Noted::Delivered(deliveries) => (KeptWhat::Delivered, deliveries),
            Noted::Followed => (KeptWhat::Followed, 0),
        };
        Self {
            queue: note.queue.0,
            entry: note.entry.position.0,
            deliveries,
            weight: u16::try_from(note.entry.weight).unwrap_or(u16::MAX),
            low: low(position),
            what,
        }
    }

    fn note(&self) -> Note {
        let what = match self.what {
            KeptWhat::Settled => Noted::Settled,
            KeptWhat::Delivered => Noted::Delivered(self.deliveries),
            KeptWhat::Followed => Noted::Followed,
        };
        let entry = Entry { position: Position(self.entry), weight: self.weight.into() };
        Note { queue: Position(self.queue), entry, what }
    }
}

impl Drop for Notes<'_> {
    fn drop(&mut self) {
        self.shard.put(self.position, &self.notes);
        let bytes = |notes: usize| notes * size_of::<Kept>();
        match self.notes.len() {
            more if more > self.counted => self.memory.take(bytes(more - self.counted)),
            left => self.memory.give_back(bytes(self.counted - left)),
        }
    }
}

impl Notes<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(super) fn add(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Traces the message from now on.
    pub(super) fn follow(&mut self) {
        if !self.notes.iter().any(|note| note.what == Noted::Followed) {
            let (queue, entry) = (QueueId::default(), Entry { position: Position(0), weight: 0 });
            self.notes.push(Note { queue, entry, what: Noted::Followed });
        }
    }

    /// In how many of its `queues` it is not settled.
    pub(super) fn open(&self, queues: usize) -> usize {
        let settled = self.notes.iter().filter(|note| note.what == Noted::Settled).count();
        queues.saturating_sub(settled)
    }

    /// Ends all that is noted. For one whose message ends, or is not there.
    pub(super) fn end_all(&mut self, group: &mut Group) {
        for note in self.notes.drain(..) {
            note.end(group);
        }
    }

    /// Settles `message`, which is in so many `queues`, in one of them, together with `group`.
    pub(super) fn settle(
        &mut self,
        journal: &Journal,
        (message, queues): (Entry, usize),
        queue: QueueId,
        mut group: Group,
    ) -> Appended {
        if self.open(queues) <= 1 {
            self.end_all(&mut group);
            group.end(message);
            return journal.append(group, Urgency::Now);
        }
        self.notes.retain(|note| {
            let stays = note.queue != queue;
            if !stays {
                note.end(&mut group);
            }
            stays
        });
        let settled = SettledRecord { message: message.position, queue };
        group.fact(KIND_SETTLED, record(&settled));
        let appended = journal.append(group, Urgency::Now);
        if let Some(&entry) = appended.entries.last() {
            self.notes.push(Note { queue, entry, what: Noted::Settled });
        }
        appended
    }

    /// Marks that it was handed to a consumer of `queue`, unless it is settled there or the mark that
    /// is there says as much.
    pub(super) fn mark(&mut self, journal: &Journal, queue: QueueId, deliveries: u32) {
        let message = self.position;
        let noted = self.notes.iter().position(|note| note.queue == queue);
        let mut group = Group::new();
        match noted.and_then(|at| self.notes.get(at)) {
            None => {}
            Some(note) => match note.what {
                Noted::Delivered(before) if before < deliveries => note.end(&mut group),
                _ => return,
            },
        }
        group.fact(KIND_DELIVERED, record(&DeliveredRecord { message, queue, deliveries }));
        let appended = journal.append(group, Urgency::Within(MARK_WITHIN));
        let Some(&entry) = appended.entries.first() else { return };
        let note = Note { queue, entry, what: Noted::Delivered(deliveries) };
        match noted.and_then(|at| self.notes.get_mut(at)) {
            Some(before) => *before = note,
            None => self.notes.push(note),
        }
    }
}

impl Note {
    fn end(&self, group: &mut Group) {
        if self.what != Noted::Followed {
            group.end(self.entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_counts_as_memory_until_it_is_not() {
        let spread = Spread::default();
        spread.memory.set_limit(2 * size_of::<Kept>());
        let note = |queue| Note {
            queue: Position(queue),
            entry: Entry { position: Position(100 + queue), weight: 9 },
            what: Noted::Settled,
        };
        for queue in 1..=3 {
            assert!(!spread.memory.is_alarmed());
            spread.enter(Position(queue)).add(note(queue));
        }
        assert!(spread.memory.is_alarmed());
        drop(spread.enter(Position(1)));
        assert!(spread.memory.is_alarmed(), "a look changes nothing");
        let mut group = Group::new();
        for queue in 1..=3 {
            spread.enter(Position(queue)).end_all(&mut group);
        }
        assert!(!spread.memory.is_alarmed());
        spread.memory.set_limit(0);
        assert!(!spread.memory.is_alarmed(), "nothing is left");
    }
}
