//! The open batch: what was appended since the writer took the last one.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use super::commit::Waiters;
use super::{Entry, Group, Kind, Payload, Position};

/// What a slot or an end counts in memory, beside the payload.
const SLOT_BYTES: usize = 64;

/// A batch without anything to write is dropped when it has this many dead slots.
const DEAD_SLOTS_MAX: usize = 1_024;

/// One fact. Its payload is gone when it was ended before the batch was taken.
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
    /// A fact that is ended while it is still here is not written, and neither is its end. Its
    /// commit resolves at once if the group that ends it does nothing else; otherwise that group
    /// took its place (a dead letter, a new value), and until the batch is durable neither is.
    pub(super) fn add(&mut self, group: Group, next: &mut impl FnMut() -> Position) -> Added {
        let mut added = Added::default();
        let id = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let only_ends = group.facts.is_empty();
        let ends_before = self.ends.len();
        for entry in group.ends {
            if !self.elide(entry, only_ends, &mut added) {
                self.ends.push(entry);
                added.bytes_added += SLOT_BYTES;
            }
        }
        for (kind, payload) in group.facts {
            let entry = Entry { position: next(), weight: payload.weight() };
            added.entries.push(entry);
            added.bytes_added += SLOT_BYTES + entry.weight as usize;
            self.slots.push(Slot { entry, kind, payload: Some(payload), group: id });
            self.live += 1;
        }
        let parts = added.entries.len() + self.ends.len() - ends_before;
        if parts > 0 {
            self.groups.push(u32::try_from(parts).unwrap_or(u32::MAX));
            added.group = Some(id);
        }
        self.bytes += added.bytes_added;
        self.bytes -= added.bytes_freed;
        added
    }

    /// A group that waits for the whole batch and is never settled before it.
    pub(super) fn wait_for_all(&mut self) -> u32 {
        self.awaited = true;
        self.groups.push(u32::MAX);
        u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
    }

    fn elide(&mut self, entry: Entry, at_once: bool, added: &mut Added) -> bool {
        if self.slots.first().is_none_or(|slot| entry.position < slot.entry.position) {
            return false;
        }
        let Ok(index) =
            self.slots.binary_search_by_key(&entry.position, |slot| slot.entry.position)
        else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let Some(payload) = slot.payload.take() else { return false };
        self.live -= 1;
        added.bytes_freed += slot.entry.weight as usize;
        added.elided.push(payload);
        if !at_once {
            self.awaited = true;
        } else if let Some(parts) = self.groups.get_mut(slot.group as usize) {
            *parts = parts.saturating_sub(1);
            if *parts == 0 {
                added.wakers.extend(self.waiters.settle(slot.group));
            }
        }
        true
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

    /// Empties it for reuse; the memory of a burst is given back.
    pub(super) fn reset(&mut self) {
        const SLOTS_KEPT: usize = 16 * 1_024;
        self.slots.clear();
        self.slots.shrink_to(SLOTS_KEPT);
        self.ends.clear();
        self.ends.shrink_to(SLOTS_KEPT);
        self.groups.clear();
        self.groups.shrink_to(SLOTS_KEPT);
        self.waiters = Arc::default();
        self.bytes = 0;
        self.live = 0;
        self.awaited = false;
    }
}
