//! The open batch: what was appended since the writer took the last one.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::commit::Waiters;
use super::group::{Fact, encode_content};
use super::index::Indexed;
use super::packed::{Packed, Placed};
use super::shared::LARGE_BATCH_BYTES;
use super::{Entry, Group, Kind, Payload, Position, SMALL_WEIGHT_MAX};

/// What a slot or an end counts in memory, beside the payload.
const SLOT_BYTES: usize = 64;

/// A batch without anything to write is dropped when it has this many dead slots.
const DEAD_SLOTS_MAX: usize = 1_024;

/// One fact. Small, and the writer only reads it: the two of them pass its memory between two cores.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    position: Position,
    /// Where what it says begins in [`Batch::packed`]; or its place in [`Batch::payloads`].
    at: usize,
    bytes: u32,
    weight: u32,
    group: u32,
    pub kind: Kind,
    tag_bytes: u8,
    /// What its record has in front of that.
    head_bytes: u8,
    content: Kept,
}

/// How a batch keeps what a fact says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Payload,
    /// Encoded, its tag first.
    Encoded,
    /// It was ended before the batch was taken.
    Not,
}

/// What a fact says.
pub(super) enum Content<'a> {
    Payload(Arc<dyn Payload>),
    Encoded { content: &'a [u8], tag_bytes: u8 },
}

impl Slot {
    pub(super) fn entry(&self) -> Entry {
        Entry { position: self.position, weight: self.weight }
    }

    /// Where the record begins that is packed.
    fn record_at(&self) -> usize {
        self.at - usize::from(self.head_bytes)
    }
}

/// A row of facts that are all still here, and where it begins among the batch's.
pub(super) struct PackedRow<'a> {
    pub bytes: &'a mut [u8],
    begins: usize,
    pub slots: &'a [Slot],
}

impl PackedRow<'_> {
    /// Its records, if it is the row with this number.
    pub(super) fn records(&self, row: u64) -> impl Iterator<Item = Indexed<'_>> {
        self.slots.iter().map(move |slot| {
            let at = slot.at - self.begins;
            let tag = self.bytes.get(at..at + usize::from(slot.tag_bytes)).unwrap_or_default();
            let (position, kind, weight) = (slot.position.0, slot.kind.0, slot.weight);
            Indexed::Fact { position, kind, weight, tag, is_copy: false, row }
        })
    }

    /// Where its records begin.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.record_at() - self.begins)
    }
}

/// The slots are in the order of their positions; those of messages that are never written are
/// missing between them.
#[derive(Default)]
pub(super) struct Batch {
    pub slots: Vec<Slot>,
    /// What small facts say, those included that were ended since.
    packed: Packed,
    /// What the others say, until they are written or ended.
    payloads: Vec<Option<Arc<dyn Payload>>>,
    pub ends: Vec<Entry>,
    pub waiters: Arc<Waiters>,
    /// What it weighs in memory, and what the writer gives back when it is committed.
    pub bytes: usize,
    /// Of these, what nothing of will be written.
    dead_bytes: usize,
    /// Facts of each group that may still be written, and its ends.
    groups: Vec<u32>,
    live: usize,
    /// Something waits for the batch as a whole.
    awaited: bool,
}

/// A fact of a batch, and what it says.
pub(super) type Unwritten = (Entry, Kind, Vec<u8>);

/// A batch that the writer has taken: it holds the lock until the batch is written, and what nothing has
/// ended can be read before and after that.
pub(super) type Taken = Arc<Mutex<Batch>>;

/// What a group did to the batch.
#[derive(Default)]
pub(super) struct Added {
    pub entries: SmallVec<[Entry; 2]>,
    /// The group in [`Batch::waiters`]; `None` when nothing of it has to be written.
    pub group: Option<u32>,
    pub bytes_added: usize,
    pub bytes_freed: usize,
    /// Payloads that are not needed any more; to be dropped once no lock is held.
    pub unneeded: SmallVec<[Arc<dyn Payload>; 4]>,
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
        let id = self.next_group();
        added.entries.reserve(group.facts.len());
        let slots_before = self.slots.len();
        for (kind, fact) in group.facts {
            let entry = Entry { position: next(), weight: fact.weight() };
            added.entries.push(entry);
            match fact {
                Fact::Place => continue,
                Fact::Shared(payload) if entry.weight > SMALL_WEIGHT_MAX => {
                    self.keep(entry, kind, id, payload);
                }
                Fact::Shared(payload) => {
                    self.pack(entry, kind, id, |out| encode_content(payload.as_ref(), out));
                    added.unneeded.push(payload);
                }
                Fact::Encoded { start, bytes, .. } => {
                    let content = group.encoded.get(start..start + bytes as usize);
                    self.pack(entry, kind, id, |out| {
                        out.extend_from_slice(content.unwrap_or_default());
                        0
                    });
                }
            }
            added.bytes_added += SLOT_BYTES + entry.weight as usize;
        }
        let parts = self.slots.len() - slots_before + self.ends.len() - ends_before;
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

    /// As [`Batch::add`], of a single fact: its group, and the bytes that it added.
    pub(super) fn add_fact<P: Payload + 'static>(
        &mut self,
        entry: Entry,
        kind: Kind,
        payload: &Arc<P>,
    ) -> (u32, usize) {
        if entry.weight <= SMALL_WEIGHT_MAX {
            return self.add_small(entry, kind, payload.as_ref());
        }
        let group = self.next_group();
        self.keep(entry, kind, group, Arc::<P>::clone(payload));
        self.added(entry, group)
    }

    /// As [`Batch::add_fact`], of a payload that weighs little: it is not kept.
    pub(super) fn add_small(
        &mut self,
        entry: Entry,
        kind: Kind,
        payload: &impl Payload,
    ) -> (u32, usize) {
        let group = self.next_group();
        self.pack(entry, kind, group, |out| encode_content(payload, out));
        self.added(entry, group)
    }

    fn next_group(&self) -> u32 {
        u32::try_from(self.groups.len()).unwrap_or(u32::MAX)
    }

    /// Counts a fact that is a group of its own.
    fn added(&mut self, entry: Entry, group: u32) -> (u32, usize) {
        self.groups.push(1);
        let bytes = SLOT_BYTES + entry.weight as usize;
        self.bytes += bytes;
        (group, bytes)
    }

    fn keep(&mut self, entry: Entry, kind: Kind, group: u32, payload: Arc<dyn Payload>) {
        let (at, bytes, tag_bytes, head_bytes) = (self.payloads.len(), 0, 0, 0);
        self.payloads.push(Some(payload));
        let placed = Placed { at, bytes, tag_bytes, head_bytes };
        self.push(entry, kind, group, placed, Kept::Payload);
    }

    fn pack(
        &mut self,
        entry: Entry,
        kind: Kind,
        group: u32,
        encode: impl FnOnce(&mut Vec<u8>) -> u8,
    ) {
        let placed = self.packed.add((entry.position.0, kind.0, entry.weight), encode);
        self.push(entry, kind, group, placed, Kept::Encoded);
    }

    fn push(&mut self, entry: Entry, kind: Kind, group: u32, placed: Placed, content: Kept) {
        let Entry { position, weight } = entry;
        let Placed { at, bytes, tag_bytes, head_bytes } = placed;
        self.slots.push(Slot {
            position,
            at,
            bytes,
            weight,
            group,
            kind,
            tag_bytes,
            head_bytes,
            content,
        });
        self.live += 1;
    }

    /// The facts as whole rows, whose headers are to be filled in; `None` if they are not: a large one is
    /// among them, or one was ended.
    pub(super) fn rows(&mut self) -> Option<impl Iterator<Item = PackedRow<'_>>> {
        if self.live != self.slots.len() || !self.payloads.is_empty() {
            return None;
        }
        let mut rest = self.slots.as_slice();
        let rows = self.packed.rows()?.map(move |(begins, bytes)| {
            let end = begins + bytes.len();
            let (slots, after) = rest.split_at(rest.partition_point(|slot| slot.record_at() < end));
            rest = after;
            PackedRow { bytes, begins, slots }
        });
        Some(rows)
    }

    /// Visits the facts that are still here, in their order. Each payload is let go of meanwhile, while it is
    /// at hand: later it would have to be fetched from memory once more.
    ///
    /// # Errors
    /// The first one of `visit`.
    pub(super) fn take_facts<E>(
        &mut self,
        mut visit: impl FnMut(&Slot, Content<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for slot in &self.slots {
            let content = match slot.content {
                Kept::Payload => {
                    self.payloads.get_mut(slot.at).and_then(Option::take).map(Content::Payload)
                }
                Kept::Encoded => {
                    let content = self.packed.content(slot.at, slot.bytes);
                    content.map(|content| Content::Encoded { content, tag_bytes: slot.tag_bytes })
                }
                Kept::Not => None,
            };
            if let Some(content) = content {
                visit(slot, content)?;
            }
        }
        Ok(())
    }

    /// What the fact at `position` says, if nothing has ended it: as a row has it.
    pub(super) fn read(&self, position: Position) -> Option<Unwritten> {
        let slot = self.slots.get(self.find(position)?)?;
        let mut payload = Vec::new();
        match slot.content {
            Kept::Payload => self.payloads.get(slot.at)?.as_ref()?.encode(&mut payload),
            Kept::Encoded => {
                let content = self.packed.content(slot.at, slot.bytes)?;
                payload.extend_from_slice(content.get(usize::from(slot.tag_bytes)..)?);
            }
            Kept::Not => return None,
        }
        Some((slot.entry(), slot.kind, payload))
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
        let index = self.find(entry.position)?;
        let slot = self.slots.get_mut(index)?;
        match std::mem::replace(&mut slot.content, Kept::Not) {
            Kept::Payload => {
                added.unneeded.extend(self.payloads.get_mut(slot.at).and_then(Option::take));
                added.bytes_freed += slot.weight as usize;
            }
            // Its bytes stay in the buffer, and count, so that they have the bound of all that is
            // uncommitted.
            Kept::Encoded => self.dead_bytes += slot.weight as usize,
            Kept::Not => return None,
        }
        self.live -= 1;
        Some(slot.group)
    }

    /// The slot of a position. Positions rise by one where none is missing, so it lies as far from the first
    /// slot as its position from the first one's, or nearer by those missing: a search by halves would
    /// miss the processor's cache at every step.
    fn find(&self, position: Position) -> Option<usize> {
        let first = self.slots.first()?.position;
        let distance = usize::try_from(position.0.checked_sub(first.0)?).unwrap_or(usize::MAX);
        let mut end = self.slots.len().min(distance.saturating_add(1));
        let mut step = 1;
        loop {
            let begin = end.saturating_sub(step);
            let stretch = self.slots.get(begin..end)?;
            if begin == 0 || stretch.first()?.position <= position {
                let at = stretch.binary_search_by_key(&position, |slot| slot.position).ok()?;
                return Some(begin + at);
            }
            (end, step) = (begin, 2 * step);
        }
    }

    /// The lowest position of its facts.
    pub(super) fn first_position(&self) -> Position {
        self.slots.first().map_or_else(Position::default, |slot| slot.position)
    }

    /// The highest position of its facts.
    pub(super) fn last_position(&self) -> Position {
        self.slots.last().map_or_else(Position::default, |slot| slot.position)
    }

    /// Whether it is worth encoding before the disk is free.
    pub(super) fn is_large(&self) -> bool {
        self.live_bytes() >= LARGE_BATCH_BYTES
    }

    /// What of it may have to be written weighs about so much.
    pub(super) fn live_bytes(&self) -> usize {
        self.bytes.saturating_sub(self.dead_bytes)
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
        self.packed.reset();
        self.slots.clear();
        self.slots.shrink_to(SLOTS_KEPT);
        self.payloads.clear();
        self.payloads.shrink_to(SLOTS_KEPT);
        self.ends.clear();
        self.ends.shrink_to(SLOTS_KEPT);
        self.groups.clear();
        self.groups.shrink_to(SLOTS_KEPT);
        self.bytes = 0;
        self.dead_bytes = 0;
        self.live = 0;
        self.awaited = false;
        std::mem::take(&mut self.waiters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_takes_half_a_line_of_the_cache() {
        assert_eq!(size_of::<Slot>(), 32);
    }

    #[test]
    fn a_slot_is_found_among_any_that_are_missing() {
        for gap in [1, 2, 3, 7, 64, 1_000] {
            let mut batch = Batch::default();
            let mut held = Vec::new();
            // Runs without one missing, and gaps of every length up to `gap`.
            for n in 0..500_u64 {
                let at = held.last().map_or(10, |last| last + 1 + (n % 5 / 4) * (n % gap));
                held.push(at);
                let entry = Entry { position: Position(at), weight: 1 };
                batch.add_fact(entry, Kind(1), &Arc::new(vec![1]));
            }
            let last = *held.last().expect("some");
            for position in (0..last + 3).chain([u64::MAX]) {
                let found = batch.find(Position(position));
                assert_eq!(found, held.binary_search(&position).ok(), "{position}, gap {gap}");
            }
        }
        assert_eq!(Batch::default().find(Position(1)), None);
    }
}
