//! The redo area: the front of a segment's file, where the small pages of each commit are written
//! side by side before they reach their places.
//!
//! redb changes about seven pages a commit, scattered over the file: so many requests to the disk,
//! where a log needs one. Here they become one record, and stay in memory until the area is full; then
//! they are written to their places, and the area begins again. What a reader finds in the area lies
//! over the rest of the file.
//!
//! | bytes of the first block | what |
//! | --- | --- |
//! | 0..8 | `leveret`, line feed |
//! | 8 | format version, 1 |
//! | 9..12 | zero |
//! | 12..16 | bytes of the area, this block included |
//! | 16..24 | drawn for the file: records of another one are recognised |
//! | 24..32 | number of the first record that counts |
//! | 32..36 | CRC-32 of bytes 0..32 |
//!
//! Each record begins a block, the first one the second block, and each of the others where the one
//! before ended; their numbers rise by one:
//!
//! | bytes of a record | what |
//! | --- | --- |
//! | 0..4 | `REDO` |
//! | 4..8 | CRC-32 of the rest of the record |
//! | 8..16 | as bytes 16..24 of the first block |
//! | 16..24 | number of the record |
//! | 24..28 | number of entries |
//! | 28..32 | bytes of the pages |
//! | 10 an entry | number of a page, and its bytes up to the last that is not zero; 65,535 when what the file holds in its place counts from now on |
//! | the rest | the bytes of the pages |
//!
//! All numbers are little-endian. Only the last record can be torn, because each is on disk before the
//! next is written; so a record that is missing before others is damage.

use std::io;

use redb::StorageBackend;
use smallvec::SmallVec;

use super::pages::{PAGE_BYTES, Page, Pages};

const MAGIC: [u8; 8] = *b"leveret\n";
const FORMAT_VERSION: u8 = 1;
const FIRST_BLOCK_BYTES: usize = 36;
const RECORD_MAGIC: [u8; 4] = *b"REDO";
const RECORD_HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 10;
const IN_PLACE: u16 = u16::MAX;

const AREA_BYTES_MIN: u32 = 16 * PAGE_BYTES as u32;
const AREA_BYTES_MAX: u32 = 1024 * 1024;

/// What the area takes of a file that will have about `extent_bytes` beside it.
pub(super) fn area_bytes(extent_bytes: u64) -> u32 {
    let share = u32::try_from(extent_bytes / 16).unwrap_or(u32::MAX);
    share.clamp(AREA_BYTES_MIN, AREA_BYTES_MAX) / PAGE_BYTES as u32 * PAGE_BYTES as u32
}

/// Writes the records of a file.
pub(super) struct Redo {
    area_bytes: u32,
    nonce: u64,
    /// Where the next record begins.
    tail: usize,
    next_number: u64,
    record: Vec<u8>,
}

impl Redo {
    /// For a file that will have about `extent_bytes` beside the area.
    pub(super) fn new(extent_bytes: u64) -> io::Result<Self> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        Ok(Self {
            area_bytes: area_bytes(extent_bytes),
            nonce: u64::from_le_bytes(nonce),
            tail: PAGE_BYTES,
            next_number: 1,
            record: Vec::new(),
        })
    }

    /// What the area takes of the file.
    pub(super) fn area_bytes(&self) -> u64 {
        u64::from(self.area_bytes)
    }

    /// Whether at least a half of it is free.
    pub(super) fn is_half_free(&self) -> bool {
        self.tail <= self.area_bytes as usize / 2
    }

    /// The area begins again: the first block, which excludes all records so far. It has to be on
    /// disk before the next record is written, and the pages in their places before it is.
    pub(super) fn begin(&mut self) -> [u8; FIRST_BLOCK_BYTES] {
        self.tail = PAGE_BYTES;
        let mut block = [0; FIRST_BLOCK_BYTES];
        block[..8].copy_from_slice(&MAGIC);
        block[8] = FORMAT_VERSION;
        block[12..16].copy_from_slice(&self.area_bytes.to_le_bytes());
        block[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        block[24..32].copy_from_slice(&self.next_number.to_le_bytes());
        let sum = crc32fast::hash(&block[..32]);
        block[32..].copy_from_slice(&sum.to_le_bytes());
        block
    }

    /// The next record, in whole blocks, and where it belongs. A page without bytes counts in its
    /// place from now on. `None` when the area has no room for it.
    pub(super) fn record<'p>(
        &mut self,
        pages: impl Iterator<Item = (u64, Option<&'p Page>)>,
    ) -> Option<(u64, &[u8])> {
        let record = &mut self.record;
        record.clear();
        record.resize(RECORD_HEADER_BYTES, 0);
        let mut entries = 0u32;
        let mut used: SmallVec<[&[u8]; 16]> = SmallVec::new();
        for (page, bytes) in pages {
            record.extend_from_slice(&page.to_le_bytes());
            let bytes_used = bytes.map_or(IN_PLACE, used_bytes);
            record.extend_from_slice(&bytes_used.to_le_bytes());
            used.extend(bytes.and_then(|bytes| bytes.get(..usize::from(bytes_used))));
            entries += 1;
        }
        let pages_at = record.len();
        used.iter().for_each(|bytes| record.extend_from_slice(bytes));
        let page_bytes = u32::try_from(record.len() - pages_at).ok()?;
        record[..4].copy_from_slice(&RECORD_MAGIC);
        record[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        record[16..24].copy_from_slice(&self.next_number.to_le_bytes());
        record[24..28].copy_from_slice(&entries.to_le_bytes());
        record[28..32].copy_from_slice(&page_bytes.to_le_bytes());
        let sum = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&sum.to_le_bytes());
        record.resize(record.len().next_multiple_of(PAGE_BYTES), 0);
        let at = self.tail;
        if at + record.len() > self.area_bytes as usize {
            return None;
        }
        self.tail += record.len();
        self.next_number += 1;
        Some((at as u64, record))
    }
}

/// Bytes of a page up to the last one that is not zero.
fn used_bytes(page: &Page) -> u16 {
    // Most pages end with many zeroes: those go by the line, which the compiler does at once.
    const LINE_BYTES: usize = 64;
    let lines = page.rchunks_exact(LINE_BYTES);
    let zeroes = LINE_BYTES * lines.take_while(|line| line.iter().all(|&byte| byte == 0)).count();
    let rest = page.get(..PAGE_BYTES - zeroes).unwrap_or_default();
    let zeroes = zeroes + rest.iter().rev().take_while(|&&byte| byte == 0).count();
    u16::try_from(PAGE_BYTES - zeroes).unwrap_or(IN_PLACE)
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Reads the area of a file: its bytes, and the pages that lie over the rest of the file.
///
/// # Errors
/// Invalid data when the file does not begin with an area, or records of it are missing.
pub(super) fn replay(file: &dyn StorageBackend) -> io::Result<(u64, Pages)> {
    let file_bytes = file.len()?;
    if file_bytes < PAGE_BYTES as u64 {
        return Err(damaged("the file is shorter than its first block"));
    }
    let mut block = [0; FIRST_BLOCK_BYTES];
    file.read(0, &mut block)?;
    let first = FirstBlock::read(&block)?;
    if file_bytes < u64::from(first.area_bytes) {
        return Err(damaged("the file is shorter than its redo area"));
    }
    let mut area = vec![0; first.area_bytes as usize];
    file.read(0, &mut area)?;

    let mut pages = Pages::default();
    let mut rest = area.get(PAGE_BYTES..).unwrap_or_default();
    let mut next_number = first.first_number;
    while let Some(record) = Record::read(rest, first.nonce)
        && record.number == next_number
    {
        record.apply(&mut pages)?;
        rest = rest.get(record.blocks_bytes()..).unwrap_or_default();
        next_number += 1;
    }
    // The record after the last one may be torn, but then nothing followed it.
    let later = area
        .chunks(PAGE_BYTES)
        .enumerate()
        .filter_map(|(block, _)| Record::read(area.get(block * PAGE_BYTES..)?, first.nonce));
    if later.map(|record| record.number).max().is_some_and(|last| last >= next_number) {
        return Err(damaged("a record of the redo area is damaged"));
    }
    Ok((u64::from(first.area_bytes), pages))
}

struct FirstBlock {
    area_bytes: u32,
    nonce: u64,
    first_number: u64,
}

impl FirstBlock {
    fn read(block: &[u8; FIRST_BLOCK_BYTES]) -> io::Result<Self> {
        let (checked, sum) = block.split_at(32);
        if checked.get(..8) != Some(MAGIC.as_slice()) {
            return Err(damaged("the file is no segment of a journal"));
        }
        if sum != crc32fast::hash(checked).to_le_bytes() {
            return Err(damaged("the first block's checksum is wrong"));
        }
        if block[8] != FORMAT_VERSION {
            return Err(damaged(&format!("segment format version {} is not known", block[8])));
        }
        let malformed = || damaged("the first block is malformed");
        let area_bytes = u32::from_le_bytes(number(checked, 12).ok_or_else(malformed)?);
        let fits = (AREA_BYTES_MIN..=AREA_BYTES_MAX).contains(&area_bytes);
        if !fits || !area_bytes.is_multiple_of(PAGE_BYTES as u32) {
            return Err(malformed());
        }
        Ok(Self {
            area_bytes,
            nonce: u64::from_le_bytes(number(checked, 16).ok_or_else(malformed)?),
            first_number: u64::from_le_bytes(number(checked, 24).ok_or_else(malformed)?),
        })
    }
}

/// A record whose checksum was verified.
struct Record<'a> {
    number: u64,
    entries: &'a [u8],
    pages: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the front of `bytes`, if one is there, whole and of this file.
    fn read(bytes: &'a [u8], nonce: u64) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
        if header.get(..4)? != RECORD_MAGIC || number(header, 8)? != nonce.to_le_bytes() {
            return None;
        }
        let entries = u32::from_le_bytes(number(header, 24)?) as usize;
        let (entries, rest) = rest.split_at_checked(entries.checked_mul(ENTRY_BYTES)?)?;
        let pages = rest.get(..u32::from_le_bytes(number(header, 28)?) as usize)?;
        let said = u32::from_le_bytes(number(header, 4)?);
        let found =
            crc32fast::hash(bytes.get(8..RECORD_HEADER_BYTES + entries.len() + pages.len())?);
        let number = u64::from_le_bytes(number(header, 16)?);
        (said == found).then_some(Self { number, entries, pages })
    }

    fn blocks_bytes(&self) -> usize {
        (RECORD_HEADER_BYTES + self.entries.len() + self.pages.len()).next_multiple_of(PAGE_BYTES)
    }

    fn apply(&self, pages: &mut Pages) -> io::Result<()> {
        let malformed = || damaged("a record of the redo area is malformed");
        let mut rest = self.pages;
        for entry in self.entries.chunks(ENTRY_BYTES) {
            let page = u64::from_le_bytes(number(entry, 0).ok_or_else(malformed)?);
            let used = u16::from_le_bytes(number(entry, 8).ok_or_else(malformed)?);
            if used == IN_PLACE {
                pages.remove(page);
                continue;
            }
            let (used, after) = rest.split_at_checked(used.into()).ok_or_else(malformed)?;
            rest = after;
            let mut bytes = Box::new([0; PAGE_BYTES]);
            bytes.get_mut(..used.len()).ok_or_else(malformed)?.copy_from_slice(used);
            pages.insert(page, bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    /// A file of an area and nothing else, with `records` of one page each: page n of value n.
    fn file(records: u8) -> InMemoryBackend {
        let base = InMemoryBackend::new();
        let mut redo = Redo::new(0).unwrap();
        base.set_len(redo.area_bytes()).unwrap();
        base.write(0, &redo.begin()).unwrap();
        for value in 1..=records {
            let page: Page = Box::new([value; PAGE_BYTES]);
            let pages = [(u64::from(value), Some(&page))];
            let Some((at, record)) = redo.record(pages.into_iter()) else {
                base.write(0, &redo.begin()).unwrap();
                continue;
            };
            base.write(at, record).unwrap();
        }
        base
    }

    fn found(base: &InMemoryBackend) -> io::Result<Vec<u64>> {
        replay(base).map(|(_, pages)| pages.iter().map(|(page, _)| page).collect())
    }

    #[test]
    fn records_are_found_until_the_area_begins_again() {
        assert!(found(&file(0)).unwrap().is_empty());
        assert_eq!(found(&file(3)).unwrap(), [1, 2, 3]);
        // A record takes two of the fifteen blocks; the eighth began the area again.
        assert_eq!(found(&file(7)).unwrap(), [1, 2, 3, 4, 5, 6, 7]);
        assert!(found(&file(8)).unwrap().is_empty());
        assert_eq!(found(&file(10)).unwrap(), [9, 10]);
    }

    #[test]
    fn a_page_in_its_place_lies_over_nothing() {
        let base = file(0);
        let mut redo = Redo::new(0).unwrap();
        base.write(0, &redo.begin()).unwrap();
        let page: Page = Box::new([1; PAGE_BYTES]);
        for pages in [[(1, Some(&page)), (2, Some(&page))], [(1, None), (3, None)]] {
            let (at, record) = redo.record(pages.into_iter()).unwrap();
            base.write(at, record).unwrap();
        }
        assert_eq!(found(&base).unwrap(), [2]);
    }

    #[test]
    fn the_last_record_may_be_torn_and_no_other() {
        for record in 1..=3u8 {
            let base = file(3);
            let block = 1 + 2 * (u64::from(record) - 1);
            base.write(block * PAGE_BYTES as u64 + 700, &[0]).unwrap();
            match found(&base) {
                Ok(pages) => assert_eq!((record, pages), (3, vec![1, 2])),
                Err(error) => {
                    assert!(record < 3);
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_the_first_block_is_found() {
        for bit in 0..FIRST_BLOCK_BYTES * 8 {
            let base = file(1);
            let mut byte = [0];
            base.read((bit / 8) as u64, &mut byte).unwrap();
            base.write((bit / 8) as u64, &[byte[0] ^ (1 << (bit % 8))]).unwrap();
            assert!(found(&base).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn records_of_another_file_are_none() {
        let (base, other) = (file(3), file(0));
        let mut area = vec![0; 16 * PAGE_BYTES];
        base.read(0, &mut area).unwrap();
        other.write(PAGE_BYTES as u64, &area[PAGE_BYTES..]).unwrap();
        assert!(found(&other).unwrap().is_empty());
    }
}
