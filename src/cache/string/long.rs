//! A long string that was changed in a part of it: the journal has it in pieces, so that the next change
//! records what it changes and not the whole.

use std::ops::Range;

use bytes::Bytes;

use crate::cache::keyspace::{CollectionId, Effects, Recorded, SlotId};
use crate::journal::Entry;

/// Bytes of a piece; the last one may have fewer.
const PIECE_BYTES: usize = 4 * 1024;

/// A shorter string is recorded as a whole.
const LONG_BYTES_MIN: usize = 4 * PIECE_BYTES;

/// So is a longer one: at its first change each piece is copied, and nobody else is served meanwhile.
const LONG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Its pieces are recorded as the elements of a list are, by the number of the string.
///
/// What always holds outside a change: there is a piece for each [`PIECE_BYTES`] that have begun.
#[derive(Debug)]
pub(in crate::cache) struct Long {
    id: CollectionId,
    text: Bytes,
    pieces: Vec<Recorded>,
}

impl Long {
    /// Whether a string of so many bytes is worth it.
    pub(in crate::cache) fn suits(bytes: usize) -> bool {
        (LONG_BYTES_MIN..=LONG_BYTES_MAX).contains(&bytes)
    }

    /// None of it is recorded yet.
    pub(in crate::cache) fn new(
        id: CollectionId,
        text: Bytes,
        slot: SlotId,
        effects: &mut Effects,
    ) -> Self {
        let len = text.len();
        let mut long = Self { id, text, pieces: Vec::new() };
        long.changed(0..len, slot, effects);
        long
    }

    /// As the journal had it. What does not belong to it is given back, to be ended.
    pub(in crate::cache) fn recovered(
        id: CollectionId,
        mut pieces: Vec<(i64, Bytes, Entry)>,
    ) -> (Self, Vec<Entry>) {
        pieces.sort_unstable_by_key(|(index, ..)| *index);
        let (mut text, mut recorded, mut strangers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, piece, entry) in pieces {
            let is_next = usize::try_from(index) == Ok(recorded.len());
            if is_next && text.len() == recorded.len() * PIECE_BYTES && piece.len() <= PIECE_BYTES {
                text.extend_from_slice(&piece);
                recorded.push(Recorded::At(entry.into()));
            } else {
                strangers.push(entry);
            }
        }
        (Self { id, text: text.into(), pieces: recorded }, strangers)
    }

    pub(in crate::cache) fn id(&self) -> CollectionId {
        self.id
    }

    pub(in crate::cache) fn text(&self) -> &Bytes {
        &self.text
    }

    /// Whoever changes it says then what was [changed](Self::changed).
    pub(in crate::cache) fn text_mut(&mut self) -> &mut Bytes {
        &mut self.text
    }

    /// Bytes of memory beside the text's own.
    pub(in crate::cache) fn overhead_bytes(&self) -> usize {
        size_of::<Self>() + self.pieces.len() * size_of::<Recorded>()
    }

    /// These bytes are new or others than before, and the text may be longer or shorter.
    pub(in crate::cache) fn changed(
        &mut self,
        bytes: Range<usize>,
        slot: SlotId,
        effects: &mut Effects,
    ) {
        let count = self.text.len().div_ceil(PIECE_BYTES);
        for gone in self.pieces.drain(count.min(self.pieces.len())..) {
            effects.end(gone);
        }
        self.pieces.resize(count, Recorded::New);
        let last = bytes.end.min(self.text.len()).div_ceil(PIECE_BYTES);
        let changed = bytes.start / PIECE_BYTES..last;
        for (piece, index) in
            self.pieces.iter_mut().zip(0..).skip(changed.start).take(changed.len())
        {
            effects.end(std::mem::replace(piece, Recorded::New));
            effects.add_element(slot, index);
        }
    }

    /// A piece as it is recorded: a copy, so that the text stays alone to be changed where it lies.
    pub(in crate::cache) fn piece(&self, index: i64) -> Option<Bytes> {
        let start = usize::try_from(index).ok()?.checked_mul(PIECE_BYTES)?;
        let end = start.saturating_add(PIECE_BYTES).min(self.text.len());
        self.text.get(start..end).map(Bytes::copy_from_slice)
    }

    pub(in crate::cache) fn recorded_at(&mut self, index: i64) -> Option<&mut Recorded> {
        self.pieces.get_mut(usize::try_from(index).ok()?)
    }

    pub(in crate::cache) fn end_all(&self, effects: &mut Effects) {
        for &piece in &self.pieces {
            effects.end(piece);
        }
    }
}
