//! Records of small facts, laid out side by side as rows have them, while what they say is at hand: the writer
//! hands out whole rows, and copies nothing.

use super::row::{BODY_BYTES_MAX, HEADER_BYTES, Head};

#[derive(Default)]
pub(super) struct Packed {
    /// Rows, each with room for its header in front.
    bytes: Vec<u8>,
    /// Where the last whole record ends: one whose content panicked leaves nothing.
    end: usize,
    /// Where each row begins, rising.
    rows: Vec<usize>,
    /// One record is too large for a row.
    is_too_large: bool,
    head: Vec<u8>,
}

/// Where a record's content lies: its tag, and then its payload.
pub(super) struct Placed {
    pub at: usize,
    pub bytes: u32,
    pub tag_bytes: u8,
    /// In front of the content.
    pub head_bytes: u8,
}

impl Packed {
    /// Adds the record of a fact; `encode` appends its content, and says how many bytes the tag has.
    pub(super) fn add(
        &mut self,
        (position, kind, weight): (u64, u8, u32),
        encode: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> Placed {
        self.bytes.truncate(self.end);
        if self.rows.is_empty() {
            self.rows.push(self.end);
            self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
            self.end = self.bytes.len();
        }
        // The head says how long the rest is, which is not known yet. It is mostly as long as the last one.
        let begins = self.bytes.len();
        let guessed = begins + self.head.len();
        self.bytes.extend_from_slice(&self.head);
        let tag_bytes = encode(&mut self.bytes);
        let bytes = u32::try_from(self.bytes.len() - guessed).unwrap_or(u32::MAX);
        let payload_bytes = bytes.saturating_sub(tag_bytes.into());
        self.head.clear();
        Head::Fact { kind, position, weight, tag_bytes, payload_bytes }.encode(&mut self.head);
        let mut at = begins + self.head.len();
        match self.bytes.get_mut(begins..guessed) {
            Some(room) if at == guessed => room.copy_from_slice(&self.head),
            _ => drop(self.bytes.splice(begins..guessed, self.head.iter().copied())),
        }
        at += self.keep_row_bounds(begins);
        self.end = self.bytes.len();
        Placed {
            at,
            bytes,
            tag_bytes,
            head_bytes: u8::try_from(self.head.len()).unwrap_or(u8::MAX),
        }
    }

    /// Begins a new row with the last record, if the row that it is in has no room for it. How far it moved.
    fn keep_row_bounds(&mut self, begins: usize) -> usize {
        let first = self.rows.last().map_or(0, |row| row + HEADER_BYTES);
        if self.bytes.len() - first <= BODY_BYTES_MAX {
            return 0;
        }
        self.is_too_large |= self.bytes.len() - begins > BODY_BYTES_MAX;
        if begins == first {
            return 0;
        }
        self.rows.push(begins);
        self.bytes.splice(begins..begins, [0; HEADER_BYTES]);
        HEADER_BYTES
    }

    /// Content that [`Packed::add`] placed.
    pub(super) fn content(&self, at: usize, bytes: u32) -> Option<&[u8]> {
        self.bytes.get(at..at + bytes as usize)
    }

    /// The rows, each with where it begins among all; their headers are to be filled in. `None`: they
    /// are none, since one record is too large.
    pub(super) fn rows(&mut self) -> Option<impl Iterator<Item = (usize, &mut [u8])>> {
        self.bytes.truncate(self.end);
        let last = self.rows.first().map(|_| self.end);
        let ends = self.rows.iter().skip(1).copied().chain(last);
        let (mut rest, mut begins) = (self.bytes.as_mut_slice(), 0);
        let rows = ends.map(move |end| {
            let (row, after) = std::mem::take(&mut rest).split_at_mut(end - begins);
            rest = after;
            (std::mem::replace(&mut begins, end), row)
        });
        (!self.is_too_large).then_some(rows)
    }

    /// Empties it for reuse; the memory of a burst is given back.
    pub(super) fn reset(&mut self) {
        const BYTES_KEPT: usize = 4 * 1_024 * 1_024;
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
        self.rows.clear();
        self.end = 0;
        self.is_too_large = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::row::{Fragment, Record, Records, decode_row, seal};

    fn pattern(number: u64) -> Vec<u8> {
        // Heads of several lengths, and some rows' worth of them all.
        let bytes = [0, 1, 200, 249, 250, 251, 300, 3_000][(number % 8) as usize];
        (0..bytes).map(|at| (at as u64 + number) as u8).collect()
    }

    #[test]
    fn what_is_added_lies_in_rows_that_can_be_read() {
        const COUNT: u64 = 3_000;
        let mut packed = Packed::default();
        for _reused in 0..2 {
            let mut placed = Vec::new();
            for number in 0..COUNT {
                let position = 1 + number * 100;
                placed.push(packed.add((position, 7, number as u32), |out| {
                    out.extend_from_slice(b"tag");
                    out.extend_from_slice(&pattern(number));
                    3
                }));
            }
            for (number, placed) in (0..).zip(&placed) {
                let content = packed.content(placed.at, placed.bytes).unwrap();
                assert_eq!(content, [b"tag".as_slice(), &pattern(number)].concat());
            }
            let mut number = 0;
            let mut rows = 0;
            for (begins, row) in packed.rows().unwrap() {
                seal(row, Fragment::Whole, false, COUNT);
                for record in Records::of(decode_row(row).unwrap().body) {
                    let Record::Fact { position, kind, weight, tag, payload } = record.unwrap()
                    else {
                        panic!("an end");
                    };
                    assert_eq!((position, kind, weight), (1 + number * 100, 7, number as u32));
                    assert_eq!((tag, payload), (b"tag".as_slice(), pattern(number).as_slice()));
                    let Placed { at, head_bytes, .. } = placed[number as usize];
                    assert!((begins..begins + row.len()).contains(&(at - usize::from(head_bytes))));
                    number += 1;
                }
                rows += 1;
            }
            assert_eq!(number, COUNT);
            assert!(rows >= 6);
            packed.reset();
        }
        assert_eq!(packed.rows().unwrap().count(), 0);
    }

    #[test]
    fn what_panics_leaves_nothing() {
        let mut packed = Packed::default();
        for round in 0..3_u8 {
            let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                packed.add((7, 1, 1), |out| {
                    out.extend_from_slice(b"half of it");
                    panic!("planted");
                })
            }));
            assert!(panics.is_err());
            packed.add((u64::from(round), 1, 1), |out| {
                out.push(round);
                0
            });
        }
        let (_, row) = packed.rows().unwrap().next().unwrap();
        seal(row, Fragment::Whole, false, 9);
        let row = decode_row(row).unwrap();
        let payloads = Records::of(row.body).map(|record| match record.unwrap() {
            Record::Fact { payload, .. } => payload[0],
            Record::End { .. } => panic!("an end"),
        });
        assert!(payloads.eq(0..3));
    }

    #[test]
    fn what_is_too_large_for_a_row_makes_no_rows() {
        let mut packed = Packed::default();
        let mut add = |bytes: usize| {
            packed.add((1, 1, 1), |out| {
                out.resize(out.len() + bytes, 9);
                0
            })
        };
        add(10);
        let large = add(BODY_BYTES_MAX);
        let small = add(20);
        assert_eq!(packed.content(large.at, large.bytes), Some([9; BODY_BYTES_MAX].as_slice()));
        assert_eq!(packed.content(small.at, small.bytes), Some([9; 20].as_slice()));
        assert!(packed.rows().is_none());
    }
}
