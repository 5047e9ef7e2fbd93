//! Where the facts lie, so that one can be read back without a search through the log.
//!
//! A segment's own facts are found by a sparse list: the first position of a row about every
//! [`STRIDE_BYTES`]; from there the rows are read on. Copies that compaction made lie anywhere, so each
//! has an entry of its own. No IO.

use std::collections::{BTreeMap, HashMap};

use super::row::{Fragment, Record, Records, Row, first_fact};

/// Bytes of rows from one entry of the list to the next: what a read passes over at most, beyond the
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
}

impl Default for Written {
    /// The first fact of a segment begins a stride.
    fn default() -> Self {
        Self { strides: Vec::new(), copies: Vec::new(), bytes_since_stride: STRIDE_BYTES }
    }
}

impl Written {
    /// Of the next commit to the same segment.
    pub(super) fn next(&self) -> Self {
        Self { bytes_since_stride: self.bytes_since_stride, ..Self::default() }
    }

    /// Notes a row, which was verified or has just been encoded.
    pub(super) fn note(&mut self, key: u64, row: &Row<'_>) {
        self.bytes_since_stride += row.body.len() as u64;
        match (row.fragment, row.rewritten) {
            (Fragment::Middle | Fragment::Last, _) => {}
            (Fragment::Whole, true) => {
                for record in Records::of(row.body).map_while(Result::ok) {
                    if let Record::Fact { position, .. } = record {
                        self.copies.push((position, key));
                    }
                }
            }
            (Fragment::First, true) => {
                self.copies.extend(first_fact(row.body).map(|position| (position, key)));
            }
            (Fragment::Whole | Fragment::First, false) => {
                if self.bytes_since_stride >= STRIDE_BYTES
                    && let Some(position) = first_fact(row.body)
                {
                    self.strides.push((position, key));
                    self.bytes_since_stride = 0;
                }
            }
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
}

impl Places {
    /// A commit to `segment` is on disk.
    pub(super) fn add(&mut self, segment: u64, written: Written) {
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
        if let Some(&(first_position, _)) =
            self.strides.remove(&segment).as_ref().and_then(|strides| strides.first())
        {
            self.by_first_position.remove(&first_position);
        }
        self.copies.retain(|_, (of, _)| *of != segment);
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
    use super::super::row::{RowWriter, decode_row};
    use super::*;

    /// Notes a commit of facts at `positions`, `bytes` each.
    fn written(rewritten: bool, positions: &[u64], bytes: usize, first_row: u64) -> Written {
        let mut noted = Written::default();
        let mut row = first_row;
        let mut emit = |bytes: &[u8]| -> Result<(), ()> {
            noted.note(row, &decode_row(bytes).unwrap());
            row += 1;
            Ok(())
        };
        let mut writer = RowWriter::default();
        writer.begin(rewritten, 1_000_000);
        for &position in positions {
            let fill = |out: &mut Vec<u8>| out.resize(bytes, 1);
            writer.fact((position, 7, 11), fill, &mut emit).unwrap();
        }
        writer.finish(&mut emit).unwrap();
        noted
    }

    #[test]
    fn a_fact_is_found_at_its_stride_and_a_copy_in_its_row() {
        let mut places = Places::default();
        let own: Vec<u64> = (10..1_010).collect();
        places.add(1, written(false, &own, 1_000, 0));
        places.add(2, written(false, &[2_000, 2_001], 300_000, 0));
        assert_eq!(places.find(9), None);
        assert_eq!(places.find(10), Some(Place { segment: 1, is_copy: false, row: 0 }));
        assert_eq!(places.find(600).map(|place| place.row), Some(2));
        assert_eq!(places.find(2_001).map(|place| place.segment), Some(2));
        places.add(2, written(true, &[600, 11], 300_000, 4));
        assert_eq!(places.find(600), Some(Place { segment: 2, is_copy: true, row: 4 }));
        assert_eq!(places.find(11), Some(Place { segment: 2, is_copy: true, row: 6 }));
        places.remove(1);
        assert_eq!(places.find(10), None);
        assert_eq!(places.find(11).map(|place| place.segment), Some(2));
        places.remove(2);
        assert_eq!(places.find(11), None);
        assert!(places.by_first_position.is_empty());
    }

    #[test]
    fn small_rows_share_an_entry() {
        let mut places = Places::default();
        let mut noted = Written::default();
        for position in 0..10_000 {
            noted = noted.next();
            let mut emit = |bytes: &[u8]| -> Result<(), ()> {
                noted.note(position, &decode_row(bytes).unwrap());
                Ok(())
            };
            let mut writer = RowWriter::default();
            writer.begin(false, position);
            writer.fact((position, 7, 11), |out| out.resize(100, 1), &mut emit).unwrap();
            writer.finish(&mut emit).unwrap();
            let next = noted.next();
            places.add(1, std::mem::replace(&mut noted, next));
        }
        assert!(places.strides[&1].len() < 30, "{}", places.strides[&1].len());
        assert!(places.find(9_999).is_some_and(|place| 9_999 - place.row < 700));
    }
}
