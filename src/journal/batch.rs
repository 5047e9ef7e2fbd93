//! The open batch: what was appended since the writer took the last one.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use super::commit::Waiters;
use super::shared::LARGE_BATCH_BYTES;
use super::{Entry, Group, Kind, Payload, Position};

/// What a slot or an end counts in memory, beside the payload.
const SLOT_BYTES: usize = 64;

/// A batch without anything to write is dropped when it has this many dead slots.
const DEAD_SLOTS_MAX: usize = 1_024;

/// One fact. Its payload is gone when it was ended before the batch was taken, and once it is encoded.
pub(super) struct Slot {
    pub entry: Entry,
    pub kind: Kind,
    pub payload: Option<Arc<dyn Payload>>,
    group: u32,
}

/// The slots are in the order of their positions; those of messages that are never written are
/// missing between them.
#[derive(Default)]
pub(super) struct Batch {
    pub slots: Vec<Slot>,
    pub ends: Vec<Entry>,
    pub waiters: Arc<Waiters>,
    /// What it weighs in memory, and what the writer gives back when it is committed.
    pub bytes: usize,
    /// Facts of each group that may still be written, and its ends.
    groups: Vec<u32>,
    live: usize,
    /// Something waits for the batch as a whole.
    awaited: bool,
}

/// What a group did to the batch.
#[derive(Default)]
pub(super) struct Added {
    pub entries: SmallVec<[Entry; 2]>,
    /// The group in [`Batch::waiters`]; `None` when nothing of it has to be written.
    pub group: Option<u32>,
    pub bytes_added: usize,
    pub bytes_freed: usize,
    /// Payloads that will not be written; to be dropped once no lock is held.
    pub elided: SmallVec<[Arc<dyn Payload>; 4]>,
    /// To be woken once no lock is held.
    pub wakers: SmallVec<[Waker; 4]>,
}

impl Batch {
    /// Adds a group; `next` gives the positions, rising from call to call.
    ///
    /// A fact that is ended while it is still here is not written, and neither is its end. Both
    /// groups are settled at once if nothing else of either has to be written and the second need not
    /// keep its order. Otherwise they wait for the batch: a group that also adds a fact put it in the
    /// place of the one that it ended (a dead letter, a new value), and a group of which more is to be
    /// written may be undone by a crash, and with it whatever led to the fact that was ended. So does
    /// what hangs on these.
    pub(super) fn add(&mut self, group: Group, next: &mut impl FnMut() -> Position) -> Added {
        let mut added = Added::default();
        let mut settled = SmallVec::<[u32; 4]>::new();
        let ends_before = self.ends.len();
        for entry in group.ends {
            match self.elide(entry, &mut added) {
                Some(of) => settled.push(of),
                None => {
                    self.ends.push(entry);
                    added.bytes_added += SLOT_BYTES;
                }
            }
        }
        let id = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        for (kind, payload) in group.facts {
            let entry = Entry { position: next(), weight: payload.weight() };
            added.entries.push(entry);
            added.bytes_added += SLOT_BYTES + entry.weight as usize;
            self.slots.push(Slot { entry, kind, payload: Some(payload), group: id });
            self.live += 1;
        }
        let parts = added.entries.len() + self.ends.len() - ends_before;
        // A group that waits for the batch counts one part more, which only the batch settles.
        let moot = parts == 0 && !group.in_order;
        let hangs = usize::from(!self.settle(&settled, moot, &mut added));
        if parts + hangs > 0 {
            self.groups.push(u32::try_from(parts + hangs).unwrap_or(u32::MAX));
            added.group = Some(id);
        }
        self.bytes += added.bytes_added;
        self.bytes -= added.bytes_freed;
        added
    }

    /// Settles the groups whose facts one group ended (a group as often as facts of it), if nothing
    /// else of them has to be written, and nothing of the ending one. Whether it did.
    fn settle(&mut self, ended: &[u32], moot: bool, added: &mut Added) -> bool {
        for &of in ended {
            if let Some(parts) = self.groups.get_mut(of as usize) {
                *parts = parts.saturating_sub(1);
            }
        }
        let none_left = |of: &u32| self.groups.get(*of as usize).is_none_or(|&parts| parts == 0);
        if ended.is_empty() {
            return true;
        }
        if moot && ended.iter().all(none_left) {
            added.wakers.extend(ended.iter().filter_map(|&of| self.waiters.settle(of)));
            return true;
        }
        for &of in ended {
            if let Some(parts) = self.groups.get_mut(of as usize) {
                *parts += 1;
            }
        }
        self.awaited = true;
        false
    }

    /// A group that waits for the whole batch and is never settled before it.
    pub(super) fn wait_for_all(&mut self) -> u32 {
        self.awaited = true;
        self.groups.push(u32::MAX);
        u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes a fact out that is still here; the group that it was added with.
    fn elide(&mut self, entry: Entry, added: &mut Added) -> Option<u32> {
        if self.slots.first().is_none_or(|slot| entry.position < slot.entry.position) {
            return None;
        }
        let index =
            self.slots.binary_search_by_key(&entry.position, |slot| slot.entry.position).ok()?;
        let slot = self.slots.get_mut(index)?;
        added.elided.push(slot.payload.take()?);
        added.bytes_freed += slot.entry.weight as usize;
        self.live -= 1;
        Some(slot.group)
    }

    /// The highest position of its facts.
    pub(super) fn last_position(&self) -> Position {
        self.slots.last().map_or_else(Position::default, |slot| slot.entry.position)
    }

    /// Whether it is worth encoding before the disk is free.
    pub(super) fn is_large(&self) -> bool {
        self.bytes >= LARGE_BATCH_BYTES
    }

    /// Whether nothing of it has to be written.
    pub(super) fn is_moot(&self) -> bool {
        self.live == 0 && self.ends.is_empty()
    }

    /// Whether it is better dropped than kept: nothing to write, nobody waiting, many dead slots.
    pub(super) fn is_refuse(&self) -> bool {
        self.is_moot() && !self.awaited && self.slots.len() >= DEAD_SLOTS_MAX
    }

    /// Whether the writer has anything to do with it.
    pub(super) fn is_untouched(&self) -> bool {
        self.slots.is_empty() && self.ends.is_empty() && !self.awaited
    }

    /// Empties it for reuse; the memory of a burst is given back. Who waited for it.
    pub(super) fn reset(&mut self) -> Arc<Waiters> {
        const SLOTS_KEPT: usize = 16 * 1_024;
        self.slots.clear();
        self.slots.shrink_to(SLOTS_KEPT);
        self.ends.clear();
        self.ends.shrink_to(SLOTS_KEPT);
        self.groups.clear();
        self.groups.shrink_to(SLOTS_KEPT);
        self.bytes = 0;
        self.live = 0;
        self.awaited = false;
        std::mem::take(&mut self.waiters)
    }
}
