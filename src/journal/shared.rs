//! What the handles and the writer's thread share: the open batch, and who wakes whom.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::batch::{Batch, Taken, Unwritten};
use super::commit::{Commit, Commits, Waiters};
use super::doorbell::Doorbell;
use super::gate::Gate;
use super::syncing::Syncing;
use super::{Appended, Durability, Entry, Group, JournalError, Kind, Payload, Position, Urgency};

/// Under relaxed durability a commit follows an append within this time.
const RELAXED_DELAY: Duration = Duration::from_millis(100);

/// How often the disk is looked at while its alarm is on.
const ALARM_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked at while nothing is written: something else may fill it.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A batch is worth writing while the one before is on its way to the disk. A smaller one waits for
/// that: until then what is settled leaves it.
pub(super) const LARGE_BATCH_BYTES: usize = 32 * 1024;

/// More facts than this are not gathered before a commit, however much time they have.
const BATCH_SLOTS_MAX: usize = 64 * 1024;

pub(super) struct Shared {
    next: Arc<AtomicU64>,
    /// Everything that was appended up to here is on disk.
    committed: AtomicU64,
    durability: Durability,
    open: Mutex<Open>,
    bell: Doorbell,
    pub(super) gate: Gate,
}

/// A batch that the writer has taken, who waits for it, and the positions that it lies between.
struct Committing {
    batch: Taken,
    waiters: Arc<Waiters>,
    first: Position,
    last: Position,
}

#[derive(Default)]
struct Open {
    batch: Batch,
    /// Emptied, to be the next open batch.
    spare: Batch,
    /// The batches that the writer has taken, in their order.
    committing: Vec<Committing>,
    syncing: Syncing,
    /// Commit as soon as the writer can.
    due_now: bool,
    due: Option<Instant>,
    closing: bool,
}

impl Open {
    /// The open batch, if anything is in it; what comes next is due by itself.
    fn take(&mut self) -> Option<Taken> {
        self.due_now = false;
        self.due = None;
        if self.batch.is_untouched() {
            return None;
        }
        let spare = std::mem::take(&mut self.spare);
        let batch = std::mem::replace(&mut self.batch, spare);
        let (first, last) = (batch.first_position(), batch.last_position());
        let waiters = batch.waiters.clone();
        let taken = Arc::new(Mutex::new(batch));
        self.committing.push(Committing { batch: taken.clone(), waiters, first, last });
        Some(taken)
    }
}

/// What the writer is to do next.
pub(super) enum Work {
    Commit(Taken),
    /// Nothing is due: there is time for a slice of compaction, or for a look at the disk.
    Spare,
    Close,
}

impl Shared {
    /// # Errors
    /// No more files may be opened.
    pub(super) fn new(
        next: Arc<AtomicU64>,
        durability: Durability,
        gate: Gate,
    ) -> io::Result<Self> {
        let (open, bell) = (Mutex::default(), Doorbell::new()?);
        let committed = AtomicU64::new(next.load(Ordering::Relaxed).saturating_sub(1));
        Ok(Self { next, committed, durability, open, bell, gate })
    }

    pub(super) fn committed_position(&self) -> Position {
        Position(self.committed.load(Ordering::Acquire))
    }

    pub(super) fn next_position(&self) -> Position {
        Position(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The highest position that was given so far.
    pub(super) fn last_position(&self) -> u64 {
        self.next.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The whole way of an append: positions, the open batch, the writer's alarm clock.
    pub(super) fn append(&self, group: Group, urgency: Urgency) -> Appended {
        let mut open = self.open.lock();
        if let Some(refusal) = self.refusal(&open) {
            return self.refuse(&group, refusal);
        }
        let mut added = open.batch.add(group, &mut || self.next_position());
        self.gate.appended(added.bytes_added);
        let position = match added.entries.last() {
            Some(entry) => entry.position,
            None => self.next_position(),
        };
        let commit = self.commit_of(&open, position, added.group);
        if added.group.is_some() {
            self.will_be_written(&mut open, added.bytes_added, urgency);
        }
        let mut bytes_freed = added.bytes_freed;
        if open.batch.is_refuse() {
            bytes_freed += open.batch.bytes;
            open.batch.reset();
        }
        drop(open);
        self.gate.released(bytes_freed);
        for waker in added.wakers.drain(..) {
            waker.wake();
        }
        Appended { entries: added.entries, commit }
    }

    /// As [`Shared::append`], of a single fact.
    pub(super) fn append_fact<P: Payload + 'static>(
        &self,
        kind: Kind,
        payload: &Arc<P>,
        urgency: Urgency,
    ) -> (Entry, Commit) {
        let weight = payload.weight();
        let mut open = self.open.lock();
        let entry = Entry { position: self.next_position(), weight };
        if let Some(refusal) = self.refusal(&open) {
            return (entry, Commit::settled(entry.position, Err(refusal)));
        }
        let (group, bytes) = open.batch.add_fact(entry, kind, payload);
        self.gate.appended(bytes);
        self.will_be_written(&mut open, bytes, urgency);
        (entry, self.commit_of(&open, entry.position, Some(group)))
    }

    /// As [`Shared::append_facts`], of payloads that weigh little: they are not kept. `None`: nothing is
    /// appended, since the journal takes no more.
    pub(super) fn append_small<P: Payload>(
        &self,
        kind: Kind,
        payloads: impl ExactSizeIterator<Item = P>,
        urgency: Urgency,
    ) -> Option<Commits> {
        let add = |batch: &mut Batch, position, payload: P| {
            batch.add_small(Entry { position, weight: payload.weight() }, kind, &payload)
        };
        self.append_each(payloads, add, urgency).ok()
    }

    /// As [`Shared::append_fact`], of many facts, each a group of its own: their positions follow each
    /// other, and their entries are left to the caller to make.
    pub(super) fn append_facts<P: Payload + 'static>(
        &self,
        kind: Kind,
        payloads: &[Arc<P>],
        urgency: Urgency,
    ) -> Commits {
        let add = |batch: &mut Batch, position, payload: &Arc<P>| {
            batch.add_fact(Entry { position, weight: payload.weight() }, kind, payload)
        };
        self.append_each(payloads.iter(), add, urgency).unwrap_or_else(|refused| refused)
    }

    /// Facts that `add` makes of each payload: its group, and the bytes that it added.
    ///
    /// # Errors
    /// What was refused, since the journal takes no more.
    fn append_each<P>(
        &self,
        payloads: impl ExactSizeIterator<Item = P>,
        add: impl Fn(&mut Batch, Position, P) -> (u32, usize),
        urgency: Urgency,
    ) -> Result<Commits, Commits> {
        // What one visit takes is bounded far below that by the callers.
        let count = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
        let mut open = self.open.lock();
        let first = Position(self.next.fetch_add(u64::from(count), Ordering::Relaxed));
        if let Some(refusal) = self.refusal(&open) {
            return Err(Commits::settled(first, count, Err(refusal)));
        }
        let (mut position, mut bytes_added, mut first_group) = (first, 0, None);
        for payload in payloads {
            let (group, bytes) = add(&mut open.batch, position, payload);
            first_group.get_or_insert(group);
            bytes_added += bytes;
            position.0 += 1;
        }
        let Some(first_group) = first_group else { return Ok(Commits::settled(first, 0, Ok(()))) };
        self.gate.appended(bytes_added);
        self.will_be_written(&mut open, bytes_added, urgency);
        Ok(match self.durability {
            Durability::Strict => {
                Commits::waiting(first, count, open.batch.waiters.clone(), first_group)
            }
            Durability::Relaxed => Commits::settled(first, count, Ok(())),
        })
    }

    /// So many bytes came to the open batch: sets the writer's alarm clock.
    fn will_be_written(&self, open: &mut Open, bytes_added: usize, urgency: Urgency) {
        self.set_due(open, urgency);
        let before = open.batch.live_bytes().saturating_sub(bytes_added);
        if open.syncing.is_any() && before < LARGE_BATCH_BYTES && open.batch.is_large() {
            self.bell.ring();
        }
    }

    fn commit_of(&self, open: &Open, position: Position, group: Option<u32>) -> Commit {
        match group {
            Some(group) if self.durability == Durability::Strict => {
                Commit::waiting(position, open.batch.waiters.clone(), group)
            }
            _ => Commit::settled(position, Ok(())),
        }
    }

    fn refusal(&self, open: &Open) -> Option<JournalError> {
        let closing = open.closing.then_some(JournalError::Closed);
        self.gate.failure().cloned().or(closing)
    }

    /// Positions are given even so: their owners go on to be consistent in memory.
    fn refuse(&self, group: &Group, refusal: JournalError) -> Appended {
        let entry = |weight| Entry { position: self.next_position(), weight };
        let entries: SmallVec<[Entry; 2]> =
            group.facts.iter().map(|(_, fact)| entry(fact.weight())).collect();
        let last = entries.last().map_or_else(|| self.next_position(), |entry| entry.position);
        Appended { entries, commit: Commit::settled(last, Err(refusal)) }
    }

    fn set_due(&self, open: &mut Open, urgency: Urgency) {
        let full = open.batch.slots.len() >= BATCH_SLOTS_MAX
            || open.batch.bytes >= self.gate.uncommitted_bytes_max() / 4;
        let delay = match (urgency, self.durability) {
            _ if full => None,
            (Urgency::Now, Durability::Strict) => None,
            (Urgency::Now, Durability::Relaxed) => Some(RELAXED_DELAY),
            (Urgency::Within(delay), Durability::Strict) => Some(delay),
            (Urgency::Within(delay), Durability::Relaxed) => Some(delay.min(RELAXED_DELAY)),
        };
        let sooner = match delay {
            None => !std::mem::replace(&mut open.due_now, true),
            // A delay beyond all time is none that anybody waits for.
            Some(delay) => Instant::now().checked_add(delay).is_some_and(|due| {
                let sooner = open.due.is_none_or(|earlier| due < earlier);
                if sooner {
                    open.due = Some(due);
                }
                sooner
            }),
        };
        // While the disk is at a commit, nothing but a large batch is taken (`next_work`).
        if sooner && !open.syncing.is_any() {
            self.bell.ring();
        }
    }

    /// Resolves when everything that was appended so far is on disk, whatever the durability.
    pub(super) fn flush(&self) -> Commit {
        let position = Position(self.last_position());
        let mut open = self.open.lock();
        if let Some(refusal) = self.refusal(&open) {
            return Commit::settled(position, Err(refusal));
        }
        if open.batch.is_untouched() && open.committing.is_empty() {
            return Commit::settled(position, Ok(()));
        }
        let group = open.batch.wait_for_all();
        if !std::mem::replace(&mut open.due_now, true) {
            self.bell.ring();
        }
        Commit::waiting(position, open.batch.waiters.clone(), group)
    }

    /// The writer's next piece of work; waits for one unless `busy`.
    pub(super) fn next_work(&self, busy: bool) -> Work {
        let mut open = self.open.lock();
        loop {
            let due =
                open.due_now || open.closing || open.due.is_some_and(|due| due <= Instant::now());
            if open.syncing.is_any()
                && !open.closing
                && !(due && open.batch.is_large() && open.syncing.takes_another())
            {
                self.bell.wait(&mut open);
                continue;
            }
            if due {
                if let Some(batch) = open.take() {
                    return Work::Commit(batch);
                }
                if open.closing {
                    return Work::Close;
                }
            }
            if busy {
                return Work::Spare;
            }
            let interval = match self.gate.is_alarmed() {
                true => ALARM_CHECK_INTERVAL,
                false => IDLE_CHECK_INTERVAL,
            };
            let look = Instant::now() + interval;
            let wake = open.due.map_or(look, |due| due.min(look));
            if self.bell.wait_until(&mut open, wake) && wake == look {
                return Work::Spare;
            }
        }
    }

    /// The commit that the writer wrote goes to the disk without it.
    pub(super) fn begin_syncing(&self) {
        self.open.lock().syncing.begin();
    }

    /// The commit is on disk.
    pub(super) fn synced(&self, batch: Taken) {
        self.committed(batch);
        self.open.lock().syncing.end();
        self.bell.ring();
    }

    /// A batch is on disk: takes its memory back, and settles those who wait for it.
    pub(super) fn committed(&self, taken: Taken) {
        // First of all: who is told that it is on disk may count on being the only one who holds it.
        let (bytes, last_position, waiters) = {
            let mut batch = taken.lock();
            (batch.bytes, batch.last_position(), batch.reset())
        };
        self.committed.fetch_max(last_position.0, Ordering::Release);
        self.gate.released(bytes);
        waiters.resolve(Ok(()));
        {
            let mut open = self.open.lock();
            open.committing.retain(|other| !Arc::ptr_eq(&other.batch, &taken));
            // Somebody may just be looking for something in it.
            open.spare = Arc::into_inner(taken).map(Mutex::into_inner).unwrap_or_default();
        }
    }

    /// Takes no more, and fails what waits. What is not written stays to be read.
    pub(super) fn fail(&self, failure: JournalError) {
        let failure = self.gate.fail(failure).clone();
        let waiting: SmallVec<[Arc<Waiters>; 4]> = {
            let mut open = self.open.lock();
            open.closing = true;
            let committing = open.committing.iter().map(|committing| &committing.waiters);
            committing.chain([&open.batch.waiters]).cloned().collect()
        };
        self.bell.ring();
        for waiters in waiting {
            waiters.resolve(Err(failure.clone()));
        }
    }

    /// Whether it takes what is appended.
    pub(super) fn is_taking(&self) -> bool {
        self.refusal(&self.open.lock()).is_none()
    }

    /// Of `positions`, which rise, the facts that are alive and not known to be on disk. What is being
    /// written is waited for, as long as the writer takes: then it is found here or on disk.
    pub(super) fn read_uncommitted(&self, positions: &[Position]) -> Vec<Unwritten> {
        let committed = self.committed_position();
        let first = positions.partition_point(|&position| position <= committed);
        let later = positions.get(first..).unwrap_or_default();
        if later.is_empty() {
            return Vec::new();
        }
        let (mut found, committing) = {
            let open = self.open.lock();
            let found: Vec<Unwritten> =
                later.iter().filter_map(|&position| open.batch.read(position)).collect();
            let has_some = |of: &&Committing| {
                let first = later.partition_point(|&position| position < of.first);
                later.get(first).is_some_and(|&position| position <= of.last)
            };
            let committing = open.committing.iter().filter(has_some);
            let committing: Vec<Taken> = committing.map(|of| of.batch.clone()).collect();
            (found, committing)
        };
        for taken in committing {
            let batch = taken.lock();
            found.extend(later.iter().filter_map(|&position| batch.read(position)));
        }
        found.sort_unstable_by_key(|(entry, ..)| entry.position);
        found
    }

    /// Asks the writer to commit what is open, and to end.
    pub(super) fn close(&self) {
        self.open.lock().closing = true;
        self.bell.ring();
    }
}
