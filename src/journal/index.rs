//! What a segment holds, without the payloads: so a start reads the rows of those facts only whose owners
//! want them.
//!
//! An index is written along: a chunk of it is committed together with the rows that fill it, and says
//! of how many rows it is. What no chunk covers yet is read from the rows themselves, as all is when an
//! index can't be read. A chunk is a row in format (`row`); its body holds numbers of 7 bits a byte, the
//! lowest first, the high bit: more follow. Positions are told as the difference to the one before
//! (zigzag), rows as the step from the one before; both begin at 0 in each chunk.
//!
//! | what | bytes |
//! | --- | --- |
//! | chunk | the first row that it covers; the row after the last; bytes of the rows; records |
//! | fact | code 0, or 1 for a copy; kind; position; row; weight; length of the tag; tag |
//! | end | code 2; position; segment |
//! | fact | code 3; all as the fact before it in the chunk, but at the next position |
//! | fact | code 4; position; row; all else as the fact before it in the chunk |
//!
//! Codes 3 and 4 are younger than the others: chunks with them lie in a table of their own (`segment`).

use super::row::{Fragment, Record, Row, RowError, beginnings, decode_row, sealed_row};

/// A chunk is full when one more row like its largest would pass this share of its segment, or so many
/// bytes. Both are sizes of redb's pages, and what passes one takes the next, twice as large.
const CHUNK_SHARE: u64 = 256;
const CHUNK_BYTES_MAX: u64 = 128 * 1024;

/// Or when its rows have so many times that: a start reads what no chunk covers.
const ROWS_SHARE: u64 = 64;

/// What of a page is not for records: redb's own header, the row's, and the chunk's three numbers.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// A record as an index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexed<'a> {
    Fact { position: u64, kind: u8, weight: u32, tag: &'a [u8], is_copy: bool, row: u64 },
    End { position: u64, segment: u64 },
}

/// The records that begin in a row.
pub(super) fn indexed<'a>(key: u64, row: &Row<'a>) -> impl Iterator<Item = Indexed<'a>> {
    let is_copy = row.rewritten;
    beginnings(row).map(move |record| match record {
        Record::Fact { position, kind, weight, tag, .. } => {
            Indexed::Fact { position, kind, weight, tag, is_copy, row: key }
        }
        Record::End { position, segment } => Indexed::End { position, segment },
    })
}

const FACT: u8 = 0;
const COPY: u8 = 1;
const END: u8 = 2;
const NEXT: u8 = 3;
const ALIKE: u8 = 4;

/// What a fact says beside its place: mostly the same as the one before.
#[derive(Debug, Default)]
struct Kept {
    is_any: bool,
    kind: u8,
    weight: u32,
    is_copy: bool,
    tag: Vec<u8>,
}

/// Gathers the index of a segment.
#[derive(Debug, Default)]
pub(super) struct IndexWriter {
    chunk_bytes: usize,
    records: Vec<u8>,
    /// The most bytes of `records` that are one row's.
    of_row_max: usize,
    position: u64,
    row: u64,
    last: Kept,
    first_row: u64,
    row_bytes: u64,
}

impl IndexWriter {
    /// For a segment of about so many bytes of rows.
    pub(super) fn for_segment(bytes: u64) -> Self {
        let page_bytes = 1 << (bytes / CHUNK_SHARE).clamp(1, CHUNK_BYTES_MAX).ilog2();
        let chunk_bytes = usize::saturating_sub(page_bytes, CHUNK_OVERHEAD_BYTES);
        Self { chunk_bytes, ..Self::default() }
    }

    /// Adds the records of a row, and shows each to `visit`.
    pub(super) fn add_row<'a>(
        &mut self,
        records: impl Iterator<Item = Indexed<'a>>,
        bytes: usize,
        mut visit: impl FnMut(&Indexed<'_>),
    ) {
        let before = self.records.len();
        for record in records {
            visit(&record);
            self.add(record);
        }
        self.of_row_max = self.of_row_max.max(self.records.len() - before);
        self.row_bytes += bytes as u64;
    }

    /// Whether a chunk is full after this row. A record is not divided.
    pub(super) fn is_full_after(&self, row: &Row<'_>) -> bool {
        let is_full = self.records.len() + self.of_row_max > self.chunk_bytes
            || self.row_bytes / ROWS_SHARE > self.chunk_bytes as u64;
        is_full && matches!(row.fragment, Fragment::Whole | Fragment::Last)
    }

    /// The chunk that ends before `next_row`.
    pub(super) fn cut(&mut self, next_row: u64, last_position: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.records.len() + 30);
        put(&mut body, self.first_row);
        put(&mut body, next_row);
        put(&mut body, self.row_bytes);
        body.append(&mut self.records);
        self.records.shrink_to(2 * self.chunk_bytes);
        (self.position, self.row, self.row_bytes, self.of_row_max) = (0, 0, 0, 0);
        self.last.is_any = false;
        self.first_row = next_row;
        sealed_row(&body, last_position)
    }

    fn add(&mut self, record: Indexed<'_>) {
        let out = &mut self.records;
        match record {
            Indexed::Fact { position, kind, weight, tag, is_copy, row } => {
                let step = zigzag(position.wrapping_sub(self.position));
                let rows = row - self.row;
                (self.position, self.row) = (position, row);
                let last = &mut self.last;
                if last.is_any
                    && (last.kind, last.weight, last.is_copy) == (kind, weight, is_copy)
                    && last.tag == tag
                {
                    if (step, rows) == (zigzag(1), 0) {
                        return out.push(NEXT);
                    }
                    out.push(ALIKE);
                    put(out, step);
                    return put(out, rows);
                }
                last.is_any = true;
                (last.kind, last.weight, last.is_copy) = (kind, weight, is_copy);
                last.tag.clear();
                last.tag.extend_from_slice(tag);
                out.push(if is_copy { COPY } else { FACT });
                out.push(kind);
                put(out, step);
                put(out, rows);
                put(out, u64::from(weight));
                put(out, tag.len() as u64);
                out.extend_from_slice(tag);
            }
            Indexed::End { position, segment } => {
                out.push(END);
                put(out, zigzag(position.wrapping_sub(self.position)));
                put(out, segment);
                self.position = position;
            }
        }
    }
}

/// A chunk whose checksum was verified.
pub(super) struct Chunk<'a> {
    pub last_position: u64,
    pub first_row: u64,
    pub next_row: u64,
    pub row_bytes: u64,
    rest: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// # Errors
    /// When the bytes are no chunk.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, RowError> {
        let row = decode_row(bytes)?;
        let mut rest = row.body;
        let mut number = || take(&mut rest).ok_or(RowError::Index);
        let (first_row, next_row, row_bytes) = (number()?, number()?, number()?);
        Ok(Self { last_position: row.last_position, first_row, next_row, row_bytes, rest })
    }

    /// In the order in which they were written.
    pub(super) fn records(&self) -> impl Iterator<Item = Result<Indexed<'a>, RowError>> {
        let mut records = Records { rest: self.rest, position: 0, row: 0, last: None };
        std::iter::from_fn(move || {
            if records.rest.is_empty() {
                return None;
            }
            let record = records.take().ok_or(RowError::Index);
            if record.is_err() {
                records.rest = &[];
            }
            Some(record)
        })
    }
}

/// Whether two chunks are whole and stand for the same records of the same rows, however they are written:
/// an older program knew fewer codes.
pub(super) fn says_the_same(a: &[u8], b: &[u8]) -> bool {
    let (Ok(a), Ok(b)) = (Chunk::decode(a), Chunk::decode(b)) else { return false };
    let about =
        |chunk: &Chunk<'_>| (chunk.last_position, chunk.first_row, chunk.next_row, chunk.row_bytes);
    about(&a) == about(&b) && a.records().eq(b.records()) && a.records().all(|it| it.is_ok())
}

/// Reads the records of a chunk.
struct Records<'a> {
    rest: &'a [u8],
    position: u64,
    row: u64,
    /// The fact before.
    last: Option<Indexed<'a>>,
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Option<Indexed<'a>> {
        let rest = &mut self.rest;
        let code = take_bytes(rest, 1)?.first().copied()?;
        let record = match code {
            FACT | COPY => {
                let kind = take_bytes(rest, 1)?.first().copied()?;
                let position = self.position.wrapping_add(unzigzag(take(rest)?));
                let row = self.row.checked_add(take(rest)?)?;
                let weight = u32::try_from(take(rest)?).ok()?;
                let tag_bytes = usize::try_from(take(rest)?).ok()?;
                let tag = take_bytes(rest, tag_bytes)?;
                Indexed::Fact { position, kind, weight, tag, is_copy: code == COPY, row }
            }
            END => {
                self.position = self.position.wrapping_add(unzigzag(take(rest)?));
                return Some(Indexed::End { position: self.position, segment: take(rest)? });
            }
            NEXT | ALIKE => {
                let (step, rows) = match code {
                    NEXT => (1, 0),
                    _ => (unzigzag(take(rest)?), take(rest)?),
                };
                let mut alike = self.last?;
                if let Indexed::Fact { position, row, .. } = &mut alike {
                    *position = self.position.wrapping_add(step);
                    *row = self.row.checked_add(rows)?;
                }
                alike
            }
            _ => return None,
        };
        if let Indexed::Fact { position, row, .. } = record {
            (self.position, self.row) = (position, row);
        }
        self.last = Some(record);
        Some(record)
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

/// A difference with its sign in the lowest bit.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference >> 63).wrapping_neg()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0u64, 0u32);
    loop {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7F);
        if shift > 63 || (shift == 63 && bits > 1) {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records<'a>() -> Vec<Indexed<'a>> {
        let fact = |position, is_copy, row| {
            let (kind, weight, tag) = (4, u32::MAX, &b"tag"[..]);
            Indexed::Fact { position, kind, weight, tag, is_copy, row }
        };
        vec![
            fact(7, false, 0),
            fact(u64::MAX, false, 0),
            Indexed::End { position: 0, segment: 900 },
            fact(1, true, 3),
            fact(u64::MAX / 2 + 3, true, u64::MAX),
            fact(u64::MAX / 2 + 4, true, u64::MAX),
            fact(u64::MAX / 2 + 9, true, u64::MAX),
            Indexed::End { position: 12, segment: 900 },
            fact(13, true, u64::MAX),
        ]
    }

    #[test]
    fn a_chunk_gives_back_what_was_added() {
        let mut writer = IndexWriter::for_segment(1 << 20);
        for next_row in [1, 2] {
            records().into_iter().for_each(|record| writer.add(record));
            writer.row_bytes += 10;
            let bytes = writer.cut(next_row, 99);
            let chunk = Chunk::decode(&bytes).unwrap();
            assert_eq!((chunk.first_row, chunk.next_row), (next_row - 1, next_row));
            assert_eq!((chunk.row_bytes, chunk.last_position), (10, 99));
            let found: Result<Vec<Indexed<'_>>, RowError> = chunk.records().collect();
            assert!(found.unwrap() == records());
        }
    }

    #[test]
    fn facts_that_are_alike_take_a_byte() {
        let mut writer = IndexWriter::for_segment(1 << 20);
        let fact = |position: u64, row, tag| {
            let (kind, weight, is_copy) = (4, 300, false);
            Indexed::Fact { position, kind, weight, tag, is_copy, row }
        };
        let all: Vec<Indexed<'_>> = (0..3_000)
            .map(|at| fact(at + at / 500, at / 1_000, if at < 2_000 { b"one" } else { b"two" }))
            .collect();
        all.iter().for_each(|record| writer.add(*record));
        assert!(writer.records.len() < 3_060, "{}", writer.records.len());
        let bytes = writer.cut(3, 99);
        let chunk = Chunk::decode(&bytes).unwrap();
        let found: Result<Vec<Indexed<'_>>, RowError> = chunk.records().collect();
        assert!(found.unwrap() == all);
        // The next chunk stands for itself.
        writer.add(fact(4_000, 3, b"two"));
        let bytes = writer.cut(4, 99);
        let first = Chunk::decode(&bytes).unwrap().records().next();
        assert!(first.unwrap().unwrap() == fact(4_000, 3, b"two"));
        // As it was written before there were the codes for that.
        let mut older = vec![3, 4, 0];
        older.extend_from_slice(&[FACT, 4, 0xC0, 0x3E, 3, 0xAC, 2, 3]);
        older.extend_from_slice(b"two");
        let older_bytes = sealed_row(&older, 99);
        assert!(older_bytes.len() == bytes.len() && says_the_same(&older_bytes, &bytes));
        older.extend_from_slice(&[FACT, 4, 2, 0, 0xAC, 2, 3]);
        older.extend_from_slice(b"two");
        assert!(!says_the_same(&sealed_row(&older, 99), &bytes));
        writer.cut(4, 99);
        writer.first_row = 3;
        [4_000, 4_001].into_iter().for_each(|position| writer.add(fact(position, 3, b"two")));
        let younger = writer.cut(4, 99);
        assert!(
            younger.len() < older.len() + 20 && says_the_same(&sealed_row(&older, 99), &younger)
        );
        assert!(!says_the_same(&sealed_row(&older, 98), &younger));
        assert!(!says_the_same(&younger[..younger.len() - 1], &younger));
        // With nothing before it, nothing is alike.
        for code in [NEXT, ALIKE] {
            let bytes = sealed_row(&[0, 1, 1, code, 2, 0], 1);
            let first = Chunk::decode(&bytes).unwrap().records().next();
            assert_eq!(first, Some(Err(RowError::Index)));
        }
    }

    #[test]
    fn a_chunk_is_full_also_when_it_covers_many_rows() {
        let mut writer = IndexWriter::for_segment(1 << 24);
        let bytes = vec![0; 60_000];
        let row = sealed_row(&bytes, 1);
        let row = decode_row(&row).unwrap();
        let mut rows = 0;
        while !writer.is_full_after(&row) {
            writer.add_row(std::iter::empty(), bytes.len(), |_| ());
            rows += 1;
        }
        assert_eq!(rows * 60_000 / (4 << 20), 1);
    }

    #[test]
    fn numbers_of_every_size_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(take(&mut &out[..]), Some(number));
            assert_eq!(unzigzag(zigzag(number)), number);
            assert_eq!(take(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(take(&mut &[0xFF; 11][..]), None);
    }

    proptest::proptest! {
        /// Bytes that pass the checksum all the same are an error, never a panic.
        #[test]
        fn any_bytes_are_refused_or_read(body in proptest::collection::vec(0..=255u8, 0..60)) {
            let bytes = sealed_row(&body, 1);
            if let Ok(chunk) = Chunk::decode(&bytes) {
                let _ = chunk.records().count();
            }
        }
    }
}
