//! What a pipeline did to the facts of the journal, gathered until the pipeline ends.

use std::ops::Range;

use ahash::AHashMap;

use super::name::Key;
use super::slot::SlotId;
use crate::journal::{Entry, Position};

/// An [`Entry`] in 12 bytes: every key, field, member and element has one.
#[repr(Rust, packed(4))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) struct PackedEntry {
    position: Position,
    weight: u32,
}

impl From<Entry> for PackedEntry {
    fn from(Entry { position, weight }: Entry) -> Self {
        Self { position, weight }
    }
}

impl From<PackedEntry> for Entry {
    fn from(PackedEntry { position, weight }: PackedEntry) -> Self {
        Self { position, weight }
    }
}

/// How a piece of state stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Recorded {
    /// Not yet: the running pipeline made it.
    New,
    /// In the group that is being put together; seen only while that happens.
    Queued,
    At(PackedEntry),
}

impl Recorded {
    pub(super) fn at(entry: Entry) -> Self {
        Self::At(entry.into())
    }

    /// Takes new state into the group; `None` when it is there already.
    pub(super) fn queue(&mut self) -> Option<()> {
        (*self == Self::New).then(|| *self = Self::Queued)
    }
}

const _: () = assert!(size_of::<Recorded>() == 16);

/// State that may have to be recorded when the pipeline ends. It names a place, not a value: what is
/// there by then and still [`Recorded::New`] is recorded, so what a pipeline made and overwrote or
/// removed again leaves no trace.
#[derive(Debug, Clone)]
pub(super) enum Fresh {
    Value(SlotId),
    Deadline(SlotId),
    /// Indexes of a list's elements.
    Elements(SlotId, Range<i64>),
    /// The part of a collection with this name.
    Part(SlotId, Key),
    /// A key went to another place, with all that was named by its old one before.
    Moved {
        from: SlotId,
        to: SlotId,
    },
    /// The order of the databases.
    Order,
}

impl Fresh {
    fn slot_mut(&mut self) -> Option<&mut SlotId> {
        match self {
            Self::Value(slot)
            | Self::Deadline(slot)
            | Self::Elements(slot, _)
            | Self::Part(slot, _) => Some(slot),
            Self::Moved { .. } | Self::Order => None,
        }
    }
}

/// The running pipeline's changes.
#[derive(Debug)]
pub(in crate::cache) struct Effects {
    /// Whether there is a journal that keeps them; without one they are only counted.
    pub(super) are_kept: bool,
    /// How many there were.
    count: usize,
    pub(super) ends: Vec<Entry>,
    fresh: Vec<Fresh>,
}

impl Effects {
    pub(super) fn new(are_kept: bool) -> Self {
        Self { are_kept, count: 0, ends: Vec::new(), fresh: Vec::new() }
    }

    /// Adds those that came later.
    pub(super) fn append(&mut self, later: Self) {
        self.count += later.count;
        self.ends.extend(later.ends);
        self.fresh.extend(later.fresh);
    }

    /// How many there were since this was last asked.
    pub(super) fn take_count(&mut self) -> usize {
        std::mem::take(&mut self.count)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, fresh: Fresh) {
        self.count += 1;
        if self.are_kept {
            self.fresh.push(fresh);
        }
    }

    /// What is fresh, by the places where it is now.
    pub(super) fn take_fresh(&mut self) -> Vec<Fresh> {
        let mut fresh = std::mem::take(&mut self.fresh);
        let mut now_at: AHashMap<SlotId, SlotId> = AHashMap::new();
        for fresh in fresh.iter_mut().rev() {
            if let Fresh::Moved { from, to } = fresh {
                let to = now_at.get(to).copied().unwrap_or(*to);
                now_at.insert(*from, to);
            } else if let Some(slot) = fresh.slot_mut()
                && let Some(now) = now_at.get(slot)
            {
                *slot = *now;
            }
        }
        fresh
    }

    /// Keeps the memory of what was taken, for the next pipeline.
    pub(super) fn reuse(&mut self, taken: Vec<Fresh>) {
        /// What a pipeline of usual size needs; a large one does not keep its memory.
        const KEPT: usize = 1_024;
        self.ends.shrink_to(KEPT);
        if self.fresh.is_empty() && taken.capacity() <= KEPT {
            self.fresh = taken;
            self.fresh.clear();
        }
    }

    /// A part got a value.
    pub(super) fn add_part(&mut self, slot: SlotId, name: &Key) {
        self.count += 1;
        if self.are_kept {
            self.fresh.push(Fresh::Part(slot, Key::clone(name)));
        }
    }

    /// A piece of state is gone or replaced.
    pub(in crate::cache) fn end(&mut self, recorded: Recorded) {
        self.count += 1;
        if let Recorded::At(entry) = recorded {
            self.ends.push(entry.into());
        }
    }

    /// An element was pushed. Neighbours share one range.
    pub(in crate::cache) fn add_element(&mut self, slot: SlotId, index: i64) {
        self.count += 1;
        if !self.are_kept {
            return;
        }
        if let Some(Fresh::Elements(last_slot, range)) = self.fresh.last_mut()
            && *last_slot == slot
        {
            if index == range.end {
                range.end += 1;
                return;
            }
            if index + 1 == range.start {
                range.start -= 1;
                return;
            }
        }
        self.fresh.push(Fresh::Elements(slot, index..index + 1));
    }
}
