//! What the log says of messages that lie in several queues: where one is settled already, and how often
//! it was delivered.
//!
//! It is kept by the messages' places in the log and apart from them. So a message may leave memory from
//! one queue and stay in another, and be read back for each; and a message that nothing was noted of, as
//! in a backlog without consumers, takes nothing here. A note takes 32 bytes, and the room that a hash table
//! leaves free. What one step costs follows neither the notes of the message's neighbours nor, once it
//! has more than a few, its own: those of a message in many queues are found by the queue.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::bodies::Bodies;
use super::memory::Memory;
use super::records::{
    DeliveredRecord, KIND_DELIVERED, KIND_SETTLED, QueueId, SettledRecord, record,
};
use crate::journal::{Appended, Entry, Group, Journal, Position, Urgency};

/// So many queues can settle messages at once, most of the time.
const SHARDS: usize = 32;
/// More notes of one message have a table of their own.
const FEW: usize = 8;
/// A table gives back what it does not need when so small a part of it is in use.
const USED_SHARE_MIN: usize = 8;
/// A table of so many notes is not worth it.
const SMALL_TABLE: usize = 64;
/// What a table of one message's own takes beside its notes: its place, and the room that it leaves free.
const MANY_BYTES: usize = 320;

#[derive(Default)]
pub(super) struct Spread {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Those that are in memory and that a queue reads back.
    pub bodies: Bodies,
    /// Counts what is noted; the broker's own.
    pub memory: Arc<Memory>,
}

#[derive(Default)]
struct Shard {
    /// By the messages' places: all notes of one message have one hash.
    few: HashTable<Kept>,
    /// Those of messages that had more than a few; none of them is in `few`.
    many: HashMap<Position, Many, RandomState>,
}

/// The notes of one message, by their queues.
#[derive(Default)]
struct Many {
    notes: HashTable<Kept>,
    settled: usize,
}

/// A note as it is kept: small, there may be millions.
#[derive(Clone, Copy)]
struct Kept {
    message: Position,
    queue: QueueId,
    entry: Position,
    deliveries: u32,
    /// Of its record, which has two numbers or three.
    weight: u16,
    what: KeptWhat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
    spread: &'a Spread,
}

impl Spread {
    fn shard(&self, position: Position) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(position.0 % SHARDS as u64).unwrap_or_default();
        self.shards[at].lock()
    }

    fn hash(&self, position: Position) -> u64 {
        self.hasher.hash_one(position.0)
    }

    pub(super) fn enter(&self, position: Position) -> Notes<'_> {
        Notes { shard: self.shard(position), position, spread: self }
    }

    /// As [`Spread::enter`], to look only.
    pub(super) fn look(&self, position: Position) -> SmallVec<[Note; 2]> {
        self.enter(position).kept().map(Kept::note).collect()
    }

    pub(super) fn is_settled_in(&self, position: Position, queue: QueueId) -> bool {
        let notes = self.enter(position);
        notes.find(queue).is_some_and(|kept| kept.what == KeptWhat::Settled)
    }

    /// Every message that something is noted of, rising.
    pub(super) fn positions(&self) -> Vec<Position> {
        let mut positions = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            positions.extend(shard.few.iter().map(|kept| kept.message));
            positions.extend(shard.many.keys());
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

impl Kept {
    fn new(message: Position, note: &Note) -> Self {
        let (what, deliveries) = match note.what {
            Noted::Settled => (KeptWhat::Settled, 0),
            Noted::Delivered(deliveries) => (KeptWhat::Delivered, deliveries),
            Noted::Followed => (KeptWhat::Followed, 0),
        };
        Self {
            message,
            queue: note.queue,
            entry: note.entry.position,
            deliveries,
            weight: u16::try_from(note.entry.weight).unwrap_or(u16::MAX),
            what,
        }
    }

    fn note(&self) -> Note {
        let what = match self.what {
            KeptWhat::Settled => Noted::Settled,
            KeptWhat::Delivered => Noted::Delivered(self.deliveries),
            KeptWhat::Followed => Noted::Followed,
        };
        let entry = Entry { position: self.entry, weight: self.weight.into() };
        Note { queue: self.queue, entry, what }
    }
}

impl Notes<'_> {
    fn hash(&self) -> u64 {
        self.spread.hash(self.position)
    }

    fn many(&self) -> Option<&Many> {
        self.shard.many.get(&self.position)
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        let position = self.position;
        let few = self.shard.few.iter_hash(self.hash());
        let many = self.many().into_iter().flat_map(|many| &many.notes);
        few.filter(move |kept| kept.message == position).chain(many)
    }

    fn find(&self, queue: QueueId) -> Option<&Kept> {
        match self.many() {
            Some(many) => many.notes.find(self.spread.hash(queue), |kept| kept.queue == queue),
            None => {
                let is_it = |kept: &Kept| kept.message == self.position && kept.queue == queue;
                self.shard.few.find(self.hash(), is_it)
            }
        }
    }

    /// Takes what is noted of it in `queue`.
    fn take(&mut self, queue: QueueId) -> Option<Note> {
        let (position, hasher) = (self.position, &self.spread.hasher);
        let Some(many) = self.shard.many.get_mut(&position) else {
            return self.take_of_few(|kept| kept.queue == queue);
        };
        let of_queue = many.notes.find_entry(hasher.hash_one(queue.0), |kept| kept.queue == queue);
        let (kept, _) = of_queue.ok()?.remove();
        many.settled -= usize::from(kept.what == KeptWhat::Settled);
        shrink(&mut many.notes, |kept| hasher.hash_one(kept.queue.0));
        if many.notes.is_empty() {
            self.take_many();
        }
        self.spread.memory.give_back(size_of::<Kept>());
        Some(kept.note())
    }

    /// Takes the table of its own.
    fn take_many(&mut self) -> Option<Many> {
        let table = &mut self.shard.many;
        let many = table.remove(&self.position)?;
        if table.capacity() > SMALL_TABLE && table.len() < table.capacity() / USED_SHARE_MIN {
            table.shrink_to(2 * table.len());
        }
        self.spread.memory.give_back(MANY_BYTES);
        Some(many)
    }

    /// Takes one away that is so.
    fn take_of_few(&mut self, is_it: impl Fn(&Kept) -> bool) -> Option<Note> {
        let (hash, position, hasher) = (self.hash(), self.position, &self.spread.hasher);
        let table = &mut self.shard.few;
        let is_it = |kept: &Kept| kept.message == position && is_it(kept);
        let (kept, _) = table.find_entry(hash, is_it).ok()?.remove();
        shrink(table, |kept| hasher.hash_one(kept.message.0));
        self.spread.memory.give_back(size_of::<Kept>());
        Some(kept.note())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept().next().is_none()
    }

    pub(super) fn add(&mut self, note: Note) {
        let (hash, hasher) = (self.hash(), &self.spread.hasher);
        let kept = Kept::new(self.position, &note);
        self.spread.memory.take(size_of::<Kept>());
        if self.many().is_none() && self.kept().take(FEW).count() < FEW {
            let hash_of = |kept: &Kept| hasher.hash_one(kept.message.0);
            self.shard.few.insert_unique(hash, kept, hash_of);
            return;
        }
        let Shard { few, many } = &mut *self.shard;
        let many = many.entry(self.position).or_insert_with(|| {
            self.spread.memory.take(MANY_BYTES);
            Many::default()
        });
        many.add(kept, hasher);
        while let Ok(entry) = few.find_entry(hash, |kept| kept.message == self.position) {
            many.add(entry.remove().0, hasher);
        }
        shrink(few, |kept| hasher.hash_one(kept.message.0));
    }

    /// Traces the message from now on.
    pub(super) fn follow(&mut self) {
        let queue = QueueId::default();
        if self.find(queue).is_none() {
            let entry = Entry { position: Position(0), weight: 0 };
            self.add(Note { queue, entry, what: Noted::Followed });
        }
    }

    /// In how many of its `queues` it is not settled.
    pub(super) fn open(&self, queues: usize) -> usize {
        let settled = match self.many() {
            Some(many) => many.settled,
            None => self.kept().filter(|kept| kept.what == KeptWhat::Settled).count(),
        };
        queues.saturating_sub(settled)
    }

    /// Ends all that is noted. For one whose message ends, or is not there.
    pub(super) fn end_all(&mut self, group: &mut Group) {
        if let Some(many) = self.take_many() {
            self.spread.memory.give_back(many.notes.len() * size_of::<Kept>());
            many.notes.iter().for_each(|kept| kept.note().end(group));
        }
        while let Some(note) = self.take_of_few(|_| true) {
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
        while let Some(note) = self.take(queue) {
            note.end(&mut group);
        }
        let settled = SettledRecord { message: message.position, queue };
        group.fact(KIND_SETTLED, record(&settled));
        let appended = journal.append(group, Urgency::Now);
        if let Some(&entry) = appended.entries.last() {
            self.add(Note { queue, entry, what: Noted::Settled });
        }
        appended
    }

    /// Marks that it was handed to a consumer of `queue`, unless it is settled there or the mark that
    /// is there says as much.
    pub(super) fn mark(
        &mut self,
        journal: &Journal,
        queue: QueueId,
        (deliveries, urgency): (u32, Urgency),
    ) {
        let noted = self.find(queue).map(Kept::note);
        let mut group = Group::new();
        if let Some(note) = noted {
            match note.what {
                Noted::Delivered(before) if before < deliveries => note.end(&mut group),
                _ => return,
            }
        }
        let message = self.position;
        group.fact(KIND_DELIVERED, record(&DeliveredRecord { message, queue, deliveries }));
        let appended = journal.append(group, urgency);
        let Some(&entry) = appended.entries.first() else { return };
        self.take(queue);
        self.add(Note { queue, entry, what: Noted::Delivered(deliveries) });
    }
}

impl Many {
    fn add(&mut self, kept: Kept, hasher: &RandomState) {
        self.settled += usize::from(kept.what == KeptWhat::Settled);
        let hash_of = |kept: &Kept| hasher.hash_one(kept.queue.0);
        self.notes.insert_unique(hash_of(&kept), kept, hash_of);
    }
}

/// Gives back what a table does not need.
fn shrink(table: &mut HashTable<Kept>, hash_of: impl Fn(&Kept) -> u64) {
    if table.capacity() > SMALL_TABLE && table.len() < table.capacity() / USED_SHARE_MIN {
        // To twice what is left: as many have to go or come before the next time.
        table.shrink_to(2 * table.len(), hash_of);
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

    #[test]
    fn what_is_noted_of_one_message_says_nothing_of_its_neighbours() {
        let spread = Spread::default();
        let note = |message: u64, queue| Note {
            queue: Position(queue),
            entry: Entry { position: Position(1_000_000 + 10 * message + queue), weight: 9 },
            what: if queue == 1 { Noted::Settled } else { Noted::Delivered(3) },
        };
        let messages = 10_000;
        for message in 0..messages {
            (1..=2).for_each(|queue| spread.enter(Position(message)).add(note(message, queue)));
        }
        // Every other one ends, from the last on.
        for message in (0..messages).rev().step_by(2) {
            let mut group = Group::new();
            spread.enter(Position(message)).end_all(&mut group);
            assert!(!group.is_empty());
        }
        for message in 0..messages {
            let mut notes = spread.look(Position(message)).to_vec();
            notes.sort_unstable_by_key(|note| note.queue);
            let expected =
                if message % 2 == 0 { vec![note(message, 1), note(message, 2)] } else { vec![] };
            assert_eq!(notes, expected);
            assert_eq!(spread.is_settled_in(Position(message), Position(1)), message % 2 == 0);
            assert!(!spread.is_settled_in(Position(message), Position(2)));
            assert_eq!(
                spread.enter(Position(message)).open(2),
                if message % 2 == 0 { 1 } else { 2 }
            );
        }
        assert!(spread.positions().into_iter().eq((0..messages).step_by(2).map(Position)));
    }

    #[test]
    fn a_drained_backlog_gives_the_tables_back() {
        let spread = Spread::default();
        let messages = 100_000;
        let entry = Entry { position: Position(1), weight: 9 };
        let room = || {
            let room = |shard: &Mutex<Shard>| {
                let shard = shard.lock();
                shard.few.capacity() + shard.many.capacity()
            };
            spread.shards.iter().map(room).sum::<usize>()
        };
        spread.memory.set_limit(1);
        for queues in [1, 1 + FEW as u64] {
            for queue in 1..=queues {
                let note = Note { queue: Position(queue), entry, what: Noted::Settled };
                (0..messages).for_each(|message| spread.enter(Position(message)).add(note));
            }
            assert!(room() >= 100_000);
            let mut group = Group::new();
            (0..messages).for_each(|message| spread.enter(Position(message)).end_all(&mut group));
            assert!(room() <= 2 * SHARDS * SMALL_TABLE, "{}", room());
            assert!(!spread.memory.is_alarmed(), "nothing is counted any more");
        }
    }

    /// The steps of a message in many queues, beside a plain list of what is noted.
    #[test]
    fn a_message_in_many_queues_is_noted_by_each() {
        let spread = Spread::default();
        spread.memory.set_limit(1);
        let (message, queues) = (Position(7), 1_000);
        let entry = |at| Entry { position: Position(at), weight: 9 };
        let note =
            |queue: u64, what| Note { queue: Position(queue), entry: entry(10_000 + queue), what };
        spread.enter(message).follow();
        let mut expected = vec![Note {
            queue: Position(0),
            entry: Entry { position: Position(0), weight: 0 },
            what: Noted::Followed,
        }];
        for queue in 1..=queues {
            let what = if queue % 3 == 0 { Noted::Delivered(2) } else { Noted::Settled };
            spread.enter(message).add(note(queue, what));
            expected.push(note(queue, what));
        }
        spread.enter(message).follow();
        let noted = || {
            let mut notes = spread.look(message).to_vec();
            notes.sort_unstable_by_key(|note| note.queue);
            notes
        };
        assert!(noted() == expected);
        assert_eq!(spread.positions(), vec![message; 1]);
        // Every other one goes, until few are left.
        for queue in (1..=queues).filter(|queue| queue % 2 == 0 || *queue > 10) {
            let settled = spread.is_settled_in(message, Position(queue));
            assert_eq!(settled, queue % 3 != 0, "{queue}");
            assert_eq!(
                spread.enter(message).take(Position(queue)),
                expected.iter().find(|note| note.queue == Position(queue)).copied()
            );
            assert!(!spread.is_settled_in(message, Position(queue)));
        }
        expected.retain(|note| note.queue.0 <= 10 && (note.queue.0 == 0 || note.queue.0 % 2 == 1));
        assert!(noted() == expected);
        // 1, 5 and 7 are settled; 3 and 9 were delivered.
        assert_eq!(spread.enter(message).open(1_000), 997);
        let mut group = Group::new();
        spread.enter(message).end_all(&mut group);
        assert!(spread.enter(message).is_empty() && spread.positions().is_empty());
        assert!(!spread.memory.is_alarmed(), "nothing is counted any more");
    }
}
