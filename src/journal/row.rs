//! Rows: the bytes that a commit writes.
//!
//! A row is a header and a body, [`ROW_BYTES_MAX`] together. The body holds whole records, or a
//! piece of one record that is too large for a row. All numbers of the header are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | format version, 2 |
//! | 1 | fragment: 0 whole records, 1 first piece of a record, 2 middle, 3 last |
//! | 2 | 1 when its records are copies that compaction made, else 0 |
//! | 3 | zero |
//! | 4..8 | length of the body |
//! | 8..16 | the last position that was given when the batch was encoded |
//! | 16..20 | CRC-32 (IEEE) of bytes 0..16 and the body |

use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, decode_plain, put_number, take_number};

/// The most that redb stores in one page of 256 KiB together with its own header: a value of
/// 256 KiB would take 512.
pub const ROW_BYTES_MAX: usize = 252 * 1024;

const FORMAT_VERSION: u8 = 2;
pub(super) const HEADER_BYTES: usize = 20;
const CHECKED_HEADER_BYTES: usize = 16;

/// The most that a tag may have.
pub const TAG_BYTES_MAX: usize = u8::MAX as usize;
pub(super) const BODY_BYTES_MAX: usize = ROW_BYTES_MAX - HEADER_BYTES;

/// Why bytes are not a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("{bytes} bytes are too few for a row's header")]
    Short { bytes: usize },
    #[error("row format version {found} is not known; version {FORMAT_VERSION} is")]
    UnknownVersion { found: u8 },
    #[error("the row's header is malformed")]
    Header,
    #[error("the row says that its body has {said} bytes and has {found}")]
    Length { said: usize, found: usize },
    #[error("the row's checksum is {said:08x} and its bytes give {found:08x}")]
    Checksum { said: u32, found: u32 },
    #[error("a piece of a record does not fit its neighbours")]
    Fragment,
    #[error("a record of the index is malformed")]
    Index,
    #[error("a record is malformed: {0}")]
    Record(#[from] DecodeError),
    #[error("a record says that it has {said} bytes, and {found} are left")]
    RecordLength { said: usize, found: usize },
}

/// What a row's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    First,
    Middle,
    Last,
}

impl Fragment {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Whole, Self::First, Self::Middle, Self::Last].get(usize::from(code)).copied()
    }
}

/// A row whose length and checksum were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    pub fragment: Fragment,
    /// Its records are copies: their positions are older than the rows around them.
    pub rewritten: bool,
    pub last_position: u64,
    pub body: &'a [u8],
}

/// One record of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    Fact {
        position: u64,
        kind: u8,
        weight: u32,
        /// What its owner wants to be told of it without its payload; at most [`TAG_BYTES_MAX`].
        tag: &'a [u8],
        payload: &'a [u8],
    },
    /// `segment` holds the copy of the fact that was ended.
    End { position: u64, segment: u64 },
}

/// The most that a [`Head`] takes.
pub(super) const HEAD_BYTES_MAX: usize = 24;

/// What a record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Head {
    Fact { kind: u8, position: u64, weight: u32, tag_bytes: u8, payload_bytes: u32 },
    End { position: u64, segment: u64 },
}

impl Head {
    /// Appends it as `encode_plain` would: there is one for each record, so it is written out by hand.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Fact { kind, position, weight, tag_bytes, payload_bytes } => {
                out.extend_from_slice(&[0, kind]);
                put_number(position, out);
                put_number(weight.into(), out);
                out.push(tag_bytes);
                put_number(payload_bytes.into(), out);
            }
            Self::End { position, segment } => {
                out.push(1);
                put_number(position, out);
                put_number(segment, out);
            }
        }
    }

    /// Reads one from the front of `bytes`, and how many bytes it took.
    fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        match Self::decode_by_hand(bytes) {
            Some((head, rest)) => Ok((head, bytes.len() - rest.len())),
            // It is not whole: this one can say why.
            None => decode_plain(bytes),
        }
    }

    fn decode_by_hand(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (code, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let byte = |rest: &mut &[u8]| {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            Some(*byte)
        };
        let head = match code {
            0 => Self::Fact {
                kind: byte(rest)?,
                position: take_number(rest)?,
                weight: take_number(rest)?.try_into().ok()?,
                tag_bytes: byte(rest)?,
                payload_bytes: take_number(rest)?.try_into().ok()?,
            },
            1 => Self::End { position: take_number(rest)?, segment: take_number(rest)? },
            _ => return None,
        };
        Some((head, rest))
    }
}

/// Reads a row and verifies it. Pure: never panics, allocates nothing.
///
/// # Errors
/// A [`RowError`] that says what is wrong with the bytes.
pub fn decode_row(bytes: &[u8]) -> Result<Row<'_>, RowError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(RowError::Short { bytes: bytes.len() });
    };
    let [version, fragment, rewritten, zero, l0, l1, l2, l3, position @ .., c0, c1, c2, c3] =
        *header;
    if version != FORMAT_VERSION {
        return Err(RowError::UnknownVersion { found: version });
    }
    let said = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if said != body.len() {
        return Err(RowError::Length { said, found: body.len() });
    }
    let said = u32::from_le_bytes([c0, c1, c2, c3]);
    let found = checksum(header, body);
    if said != found {
        return Err(RowError::Checksum { said, found });
    }
    let fragment = Fragment::from_code(fragment).ok_or(RowError::Header)?;
    if rewritten > 1 || zero != 0 {
        return Err(RowError::Header);
    }
    Ok(Row {
        fragment,
        rewritten: rewritten == 1,
        last_position: u64::from_le_bytes(position),
        body,
    })
}

/// A row that this process has just encoded: its checksum is not looked at.
pub(super) fn encoded_row(bytes: &[u8]) -> Option<Row<'_>> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [_, fragment, rewritten, _, _, _, _, _, position @ .., _, _, _, _] = *header;
    Some(Row {
        fragment: Fragment::from_code(fragment)?,
        rewritten: rewritten == 1,
        last_position: u64::from_le_bytes(position),
        body,
    })
}

/// The records that begin in a row, each as far as the row holds it: of a piece of a large one its tag
/// and a part of its payload. After an error it ends: the row was verified when it was read.
pub(super) fn beginnings<'a>(row: &Row<'a>) -> impl Iterator<Item = Record<'a>> {
    let mut rest = match row.fragment {
        Fragment::Whole | Fragment::First => row.body,
        Fragment::Middle | Fragment::Last => &[],
    };
    std::iter::from_fn(move || {
        let mut records = Records::of(rest);
        if let Some(Ok(record)) = records.next() {
            rest = records.rest;
            return Some(record);
        }
        let (head, used) = Head::decode(rest).ok()?;
        let piece = rest.get(used..)?;
        rest = &[];
        match head {
            Head::Fact { kind, position, weight, tag_bytes, .. } => {
                let (tag, payload) = piece.split_at_checked(usize::from(tag_bytes))?;
                Some(Record::Fact { position, kind, weight, tag, payload })
            }
            Head::End { .. } => None,
        }
    })
}

fn checksum(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CHECKED_HEADER_BYTES]);
    hasher.update(body);
    hasher.finalize()
}

/// The records of a whole body, in order. After an error it ends.
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub fn of(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    fn take(&mut self) -> Result<Record<'a>, RowError> {
        let (head, used) = Head::decode(self.rest)?;
        let rest = self.rest.get(used..).unwrap_or_default();
        let (record, rest) = match head {
            Head::End { position, segment } => (Record::End { position, segment }, rest),
            Head::Fact { kind, position, weight, tag_bytes, payload_bytes } => {
                let (tag_bytes, payload_bytes) = (usize::from(tag_bytes), payload_bytes as usize);
                let said = tag_bytes + payload_bytes;
                let too_few = RowError::RecordLength { said, found: rest.len() };
                let (content, rest) = rest.split_at_checked(said).ok_or(too_few)?;
                let (tag, payload) = content.split_at_checked(tag_bytes).unwrap_or_default();
                (Record::Fact { position, kind, weight, tag, payload }, rest)
            }
        };
        self.rest = rest;
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// Puts the pieces of large records together again, row by row.
#[derive(Default)]
pub struct RecordReader {
    pieces: Vec<u8>,
    /// The pieces are a whole record, which was handed out.
    complete: bool,
}

impl RecordReader {
    /// The records that end in this row: none while a large record goes on.
    ///
    /// # Errors
    /// When a piece follows what it can't follow.
    pub fn read<'a>(&'a mut self, row: &Row<'a>) -> Result<Records<'a>, RowError> {
        if self.complete {
            self.complete = false;
            self.pieces.clear();
            self.pieces.shrink_to(ROW_BYTES_MAX);
        }
        let within_record = !self.pieces.is_empty();
        match row.fragment {
            Fragment::Whole if !within_record => return Ok(Records::of(row.body)),
            Fragment::First if !within_record && !row.body.is_empty() => {}
            Fragment::Middle | Fragment::Last if within_record => {}
            _ => return Err(RowError::Fragment),
        }
        self.pieces.extend_from_slice(row.body);
        if row.fragment != Fragment::Last {
            return Ok(Records::of(&[]));
        }
        self.complete = true;
        Ok(Records::of(&self.pieces))
    }

    /// Whether the last row ended in the middle of a record.
    pub fn is_within_record(&self) -> bool {
        !self.pieces.is_empty() && !self.complete
    }
}

/// A row without records, which only carries the last position.
pub fn empty_row(last_position: u64) -> Vec<u8> {
    sealed_row(&[], last_position)
}

/// A body with a header in front of it.
pub(super) fn sealed_row(body: &[u8], last_position: u64) -> Vec<u8> {
    let mut row = vec![0; HEADER_BYTES];
    row.extend_from_slice(body);
    seal(&mut row, Fragment::Whole, false, last_position);
    row
}

/// Fills in the header in front of a body.
pub(super) fn seal(row: &mut [u8], fragment: Fragment, rewritten: bool, last_position: u64) {
    let Some((header, body)) = row.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    // A body is at most ROW_BYTES_MAX.
    let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    header[0] = FORMAT_VERSION;
    header[1] = fragment as u8;
    header[2] = u8::from(rewritten);
    header[3] = 0;
    header[4..8].copy_from_slice(&body_bytes.to_le_bytes());
    header[8..16].copy_from_slice(&last_position.to_le_bytes());
    let sum = checksum(header, body);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::row_writer::{DIVIDED_PAGE_BYTES_MIN, RowWriter, page_bytes};

    fn rows_of(records: &[(u64, usize)]) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        let mut emit = |row: &[u8]| -> Result<(), ()> {
            rows.push(row.to_vec());
            Ok(())
        };
        let mut writer = RowWriter::default();
        writer.begin(false, 99);
        for &(position, bytes) in records {
            let fill = |out: &mut Vec<u8>| {
                out.extend_from_slice(b"tag");
                out.resize(3 + bytes, u8::try_from(position % 251).unwrap());
                3
            };
            writer.fact((position, 7, 11), fill, &mut emit).unwrap();
            writer.end(position, 1, &mut emit).unwrap();
        }
        writer.finish(&mut emit).unwrap();
        rows
    }

    fn read(rows: &[Vec<u8>]) -> Vec<(u64, Option<usize>)> {
        let mut reader = RecordReader::default();
        let mut read = Vec::new();
        for bytes in rows {
            assert!(bytes.len() <= ROW_BYTES_MAX);
            let row = decode_row(bytes).unwrap();
            assert_eq!(row.last_position, 99);
            for record in reader.read(&row).unwrap() {
                match record.unwrap() {
                    Record::Fact { position, kind: 7, weight: 11, tag: b"tag", payload } => {
                        assert!(payload.iter().all(|&byte| u64::from(byte) == position % 251));
                        read.push((position, Some(payload.len())));
                    }
                    Record::End { position, segment: 1 } => read.push((position, None)),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(!reader.is_within_record());
        read
    }

    #[test]
    fn what_is_left_of_a_commit_fills_its_pages() {
        for bytes in (20..1_000).map(|kib| kib * 1_024) {
            let records: Vec<_> = (0..bytes / 220).map(|n| (n as u64, 200)).collect();
            let rows = rows_of(&records);
            let ends = records.iter().flat_map(|&(n, size)| [(n, Some(size)), (n, None)]);
            assert_eq!(read(&rows), ends.collect::<Vec<_>>());
            let row_bytes: usize = rows.iter().map(Vec::len).sum();
            let page_bytes: usize = rows.iter().map(|row| page_bytes(row.len())).sum();
            // Each full row leaves 4 KiB; the rest a quarter of a page, and what a small page leaves.
            let left = page_bytes - row_bytes;
            let of_the_rest = row_bytes % ROW_BYTES_MAX / 4 + DIVIDED_PAGE_BYTES_MIN;
            let most = row_bytes / ROW_BYTES_MAX * 5 * 1_024 + of_the_rest;
            assert!(left <= most, "{bytes}: {left} left, and not {most}");
        }
    }

    #[test]
    fn large_records_are_not_divided_for_a_page() {
        let rows = rows_of(&[(1, 130 * 1_024)]);
        assert_eq!(rows.len(), 1);
        assert_eq!(read(&rows), [(1, Some(130 * 1_024)), (1, None)]);
    }

    #[test]
    fn heads_are_written_by_hand_as_bincode_writes_them() {
        let numbers = [0, 250, 251, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX];
        for number in numbers {
            let small = u32::try_from(number).unwrap_or(u32::MAX);
            let fact = Head::Fact {
                kind: 255,
                position: number,
                weight: small,
                tag_bytes: 255,
                payload_bytes: small,
            };
            for head in [fact, Head::End { position: number, segment: number }] {
                let (mut by_hand, mut bytes) = (Vec::new(), Vec::new());
                head.encode(&mut by_hand);
                super::super::codec::encode_plain(&head, &mut bytes);
                assert_eq!(by_hand, bytes);
                assert!(bytes.len() <= HEAD_BYTES_MAX);
                assert_eq!(Head::decode(&bytes), Ok((head, bytes.len())));
                assert_eq!(decode_plain(&bytes), Ok((head, bytes.len())));
                for cut in 0..bytes.len() {
                    assert_eq!(Head::decode(&bytes[..cut]), decode_plain(&bytes[..cut]));
                }
            }
        }
    }

    #[test]
    fn records_of_every_size_come_back_in_order() {
        let sizes =
            [0, 1, 200, BODY_BYTES_MAX - 30, BODY_BYTES_MAX, BODY_BYTES_MAX + 1, 900_000, 5];
        let records: Vec<(u64, usize)> =
            sizes.iter().enumerate().map(|(at, &bytes)| (at as u64 * 300, bytes)).collect();
        let expected: Vec<(u64, Option<usize>)> =
            records.iter().flat_map(|&(at, bytes)| [(at, Some(bytes)), (at, None)]).collect();
        assert_eq!(read(&rows_of(&records)), expected);
    }

    #[test]
    fn a_record_is_seen_where_it_begins() {
        let rows = rows_of(&[(5, 300_000), (6, 10)]);
        let seen: Vec<Vec<(u64, bool)>> = rows
            .iter()
            .map(|bytes| {
                let row = encoded_row(bytes).unwrap();
                let records = beginnings(&row).map(|record| match record {
                    Record::Fact { position, tag, .. } => (position, tag == b"tag"),
                    Record::End { position, .. } => (position, false),
                });
                records.collect()
            })
            .collect();
        assert_eq!(seen, [vec![(5, true)], vec![], vec![(5, false), (6, true), (6, false)]]);
    }

    #[test]
    fn small_records_share_rows() {
        let records: Vec<(u64, usize)> = (0..1_000).map(|at| (at, 200)).collect();
        assert_eq!(rows_of(&records).len(), 1);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let row = rows_of(&[(5, 40)]).remove(0);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_row(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..row.len() {
            assert!(decode_row(&row[..length]).is_err());
        }
    }

    #[test]
    fn a_lost_piece_of_a_record_is_found() {
        let rows = rows_of(&[(5, 900_000)]);
        assert!(rows.len() >= 4);
        let mut reader = RecordReader::default();
        let first = decode_row(&rows[0]).unwrap();
        assert_eq!(reader.read(&first).unwrap().count(), 0);
        assert!(matches!(reader.read(&first), Err(RowError::Fragment)));
        let mut reader = RecordReader::default();
        assert!(matches!(reader.read(&decode_row(&rows[1]).unwrap()), Err(RowError::Fragment)));
    }

    #[test]
    fn malformed_records_end_the_row_with_an_error() {
        let fact = [0u8, 7, 5, 11, 1, 199, 1, 2, 3];
        let read: Vec<_> = Records::of(&fact).collect();
        assert_eq!(read, [Err(RowError::RecordLength { said: 200, found: 3 })]);
        assert!(matches!(Records::of(&[9]).next(), Some(Err(RowError::Record(_)))));
    }

    /// Format version 2, byte by byte: what is on disks must stay readable.
    #[test]
    fn the_format_is_as_it_was() {
        let mut rows = Vec::new();
        let mut emit = |row: &[u8]| -> Result<(), ()> {
            rows.push(row.to_vec());
            Ok(())
        };
        let mut writer = RowWriter::default();
        writer.begin(true, 0x0102_0304_0506);
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"tabc");
            1
        };
        writer.fact((300, 7, 11), fill, &mut emit).unwrap();
        writer.end(70_000, 2, &mut emit).unwrap();
        writer.finish(&mut emit).unwrap();
        #[rustfmt::skip]
        let expected = [
            2, 0, 1, 0, 19, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0,
            0, 7, 251, 44, 1, 11, 1, 3, b't', b'a', b'b', b'c',
            1, 252, 112, 17, 1, 0, 2,
        ];
        let mut found = rows.remove(0);
        assert!(decode_row(&found).is_ok());
        found[16..20].fill(0);
        assert_eq!(found, expected);
    }
}
