//! What the handles and the writer's thread share: the open batch, and who wakes whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use super::batch::{Added, Batch};
use super::commit::{Commit, Waiters};
use super::gate::Gate;
use super::{Appended, Durability, Entry, Group, JournalError, Position, Urgency};

/// Under relaxed durability a commit follows an append within this time.
const RELAXED_DELAY: Duration = Duration::from_millis(100);

/// How often the disk is looked at while its alarm is on.
const ALARM_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked at while nothing is written: something else may fill it.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// More facts than this are not gathered before a commit, however much time they have.
const BATCH_SLOTS_MAX: usize = 64 * 1024;

pub(super) struct Shared {
    next: Arc<AtomicU64>,
    durability: Durability,
    open: Mutex<Open>,
    wake: Condvar,
    pub(super) gate: Gate,
}

#[derive(Default)]
struct Open {
    batch: Batch,
    /// Emptied, to be the next open batch.
    spare: Batch,
    /// Who waits for the batch that the writer has taken.
    committing: Option<Arc<Waiters>>,
    /// Commit as soon as the writer can.
    due_now: bool,
    due: Option<Instant>,
    closing: bool,
}

/// What the writer is to do next.
pub(super) enum Work {
    Commit(Batch),
    /// Nothing is due: there is time for a slice of compaction, or for a look at the disk.
    Spare,
    Close,
}

impl Shared {
    pub(super) fn new(next: Arc<AtomicU64>, durability: Durability, gate: Gate) -> Self {
        let (open, wake) = (Mutex::default(), Condvar::new());
        Self { next, durability, open, wake, gate }
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
        let commit = self.commit_of(&open, position, &added);
        if added.group.is_some() {
            self.set_due(&mut open, urgency);
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

    fn commit_of(&self, open: &Open, position: Position, added: &Added) -> Commit {
        match added.group {
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
            group.facts.iter().map(|(_, payload)| entry(payload.weight())).collect();
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
        if sooner {
            self.wake.notify_one();
        }
    }

    /// Resolves when everything that was appended so far is on disk, whatever the durability.
    pub(super) fn flush(&self) -> Commit {
        let position = Position(self.last_position());
        let mut open = self.open.lock();
        if let Some(refusal) = self.refusal(&open) {
            return Commit::settled(position, Err(refusal));
        }
        if open.batch.is_untouched() && open.committing.is_none() {
            return Commit::settled(position, Ok(()));
        }
        let group = open.batch.wait_for_all();
        if !std::mem::replace(&mut open.due_now, true) {
            self.wake.notify_one();
        }
        Commit::waiting(position, open.batch.waiters.clone(), group)
    }

    /// The writer's next piece of work; waits for one unless `busy`.
    pub(super) fn next_work(&self, busy: bool) -> Work {
        let mut open = self.open.lock();
        loop {
            let due =
                open.due_now || open.closing || open.due.is_some_and(|due| due <= Instant::now());
            if due {
                open.due_now = false;
                open.due = None;
                if !open.batch.is_untouched() {
                    let spare = std::mem::take(&mut open.spare);
                    let batch = std::mem::replace(&mut open.batch, spare);
                    open.committing = Some(batch.waiters.clone());
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
            if self.wake.wait_until(&mut open, wake).timed_out() && wake == look {
                return Work::Spare;
            }
        }
    }

    /// A batch is on disk: settles those who wait for it, and takes its memory back.
    pub(super) fn committed(&self, mut batch: Batch) {
        batch.waiters.resolve(Ok(()));
        let bytes = batch.bytes;
        batch.reset();
        {
            let mut open = self.open.lock();
            open.committing = None;
            open.spare = batch;
        }
        self.gate.released(bytes);
    }

    /// Takes no more, and fails what waits.
    pub(super) fn fail(&self, failure: JournalError) {
        let failure = self.gate.fail(failure).clone();
        let (open, committing) = {
            let mut open = self.open.lock();
            open.closing = true;
            (std::mem::take(&mut open.batch), open.committing.take())
        };
        open.waiters.resolve(Err(failure.clone()));
        if let Some(committing) = committing {
            committing.resolve(Err(failure));
        }
    }

    /// Asks the writer to commit what is open, and to end.
    pub(super) fn close(&self) {
        self.open.lock().closing = true;
        self.wake.notify_one();
    }
}
