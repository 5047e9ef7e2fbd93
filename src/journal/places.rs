//! Where the facts lie, so that one can be read back without a search through the log.
//!
//! A segment's own facts are found by a sparse list: the first position of a row about every
//! [`STRIDE_BYTES`]; from there the rows are read on. Copies that compaction made lie anywhere, so each
//! that may be read back has an entry of its own. No IO.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::index::Indexed;

/// Bytes of facts from one entry of the list to the next: what a read passes over at most, beyond the
/// row that it wants.
const STRIDE_BYTES: u64 = 64 * 1024;

/// Where a fact lies, or where the way to it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub segment: u64,
    /// It is a copy, and lies in `row`; else in that row or one of the next.
    pub is_copy: bool,
    pub row: u64,
}

/// What one commit wrote where.
#[derive(Debug)]
pub(super) struct Written {
    /// The first position of a row, about one a stride.
    strides: Vec<(u64, u64)>,
    copies: Vec<(u64, u64)>,
    bytes_since_stride: u64,
    last_row: Option<u64>,
}

impl Default for Written {
    /// The first fact of a segment begins a stride.
    fn default() -> Self {
        let (strides, copies) = (Vec::new(), Vec::new());
        Self { strides, copies, bytes_since_stride: STRIDE_BYTES, last_row: None }
    }
}

impl Written {
    /// Of the next commit to the same segment.
    pub(super) fn next(&self) -> Self {
        Self { bytes_since_stride: self.bytes_since_stride, ..Self::default() }
    }

    /// Notes a record. Copies without a tag are never read back.
    pub(super) fn note(&mut self, record: &Indexed<'_>) {
        match *record {
            Indexed::Fact { position, tag, is_copy: true, row, .. } => {
                if !tag.is_empty() {
                    self.copies.push((position, row));
                }
            }
            Indexed::Fact { position, weight, is_copy: false, row, .. } => {
                if self.bytes_since_stride >= STRIDE_BYTES && self.last_row != Some(row) {
                    self.strides.push((position, row));
                    self.bytes_since_stride = 0;
                }
                self.bytes_since_stride += u64::from(weight);
                self.last_row = Some(row);
            }
            Indexed::End { .. } => {}
        }
    }
}

/// All present segments.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By segment, rising in both.
    strides: BTreeMap<u64, Vec<(u64, u64)>>,
    /// The segments by the first position of their own facts.
    by_first_position: BTreeMap<u64, u64>,
    copies: HashMap<u64, (u64, u64), ahash::RandomState>,
    segments: BTreeSet<u64>,
}

impl Places {
    /// A commit to `segment` is done; it may be on its way to the disk still.
    pub(super) fn add(&mut self, segment: u64, written: Written) {
        self.segments.insert(segment);
        if let Some(&(first_position, _)) = written.strides.first() {
            let strides = self.strides.entry(segment).or_insert_with(|| {
                self.by_first_position.insert(first_position, segment);
                Vec::new()
            });
            strides.extend(written.strides);
        }
        let copies = written.copies.into_iter();
        self.copies.extend(copies.map(|(position, row)| (position, (segment, row))));
    }

    /// Forgets a segment that is deleted.
    pub(super) fn remove(&mut self, segment: u64) {
        self.segments.remove(&segment);
        if let Some(&(first_position, _)) =
            self.strides.remove(&segment).as_ref().and_then(|strides| strides.first())
        {
            self.by_first_position.remove(&first_position);
        }
        self.copies.retain(|_, (of, _)| *of != segment);
    }

    /// Whether a segment is here that something was written to.
    pub(super) fn has(&self, segment: u64) -> bool {
        self.segments.contains(&segment)
    }

    /// Where the fact at `position` is to be looked for. A copy hides what it was made from.
    pub(super) fn find(&self, position: u64) -> Option<Place> {
        if let Some(&(segment, row)) = self.copies.get(&position) {
            return Some(Place { segment, is_copy: true, row });
        }
        let (_, &segment) = self.by_first_position.range(..=position).next_back()?;
        let strides = self.strides.get(&segment)?;
        let after = strides.partition_point(|&(first, _)| first <= position);
        let &(_, row) = strides.get(after.checked_sub(1)?)?;
        Some(Place { segment, is_copy: false, row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(position: u64, weight: u32, is_copy: bool, row: u64) -> Indexed<'static> {
        Indexed::Fact { position, kind: 7, weight, tag: b"tag", is_copy, row }
    }

    fn written(records: impl IntoIterator<Item = Indexed<'static>>) -> Written {
        let mut written = Written::default();
        records.into_iter().for_each(|record| written.note(&record));
        written
    }

    #[test]
    fn a_fact_is_found_at_its_stride_and_a_copy_in_its_row() {
        let mut places = Places::default();
        // 250 facts a row.
        places.add(1, written((0..1_000).map(|at| fact(10 + at, 1_000, false, at / 250))));
        let end = Indexed::End { position: 5, segment: 1 };
        places.add(2, written([end, fact(2_000, 300_000, false, 1), fact(2_001, 1, false, 3)]));
        assert_eq!(places.find(9), None);
        assert_eq!(places.find(10), Some(Place { segment: 1, is_copy: false, row: 0 }));
        assert_eq!(places.find(600).map(|place| place.row), Some(2));
        assert_eq!(places.find(2_001).map(|place| place.row), Some(3));
        let untagged =
            Indexed::Fact { position: 12, kind: 7, weight: 1, tag: b"", is_copy: true, row: 5 };
        places.add(2, written([fact(600, 9, true, 4), fact(11, 9, true, 6), untagged]));
        assert_eq!(places.find(600), Some(Place { segment: 2, is_copy: true, row: 4 }));
        assert_eq!(places.find(11), Some(Place { segment: 2, is_copy: true, row: 6 }));
        assert_eq!(places.find(12).map(|place| place.segment), Some(1));
        places.remove(1);
        assert_eq!(places.find(10), None);
        assert!(!places.has(1) && places.has(2));
        assert_eq!(places.find(11).map(|place| place.segment), Some(2));
        places.remove(2);
        assert_eq!(places.find(11), None);
        assert!(places.by_first_position.is_empty());
    }

    #[test]
    fn small_rows_share_an_entry() {
        let mut places = Places::default();
        let mut last = Written::default();
        for position in 0..10_000 {
            let mut next = last.next();
            next.note(&fact(position, 100, false, position));
            last = next.next();
            places.add(1, next);
        }
        assert!(places.strides[&1].len() < 30, "{}", places.strides[&1].len());
        assert!(places.find(9_999).is_some_and(|place| 9_999 - place.row < 700));
    }
}
