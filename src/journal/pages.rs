//! Pages of a file that lie over what the file itself holds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Range;

pub(super) const PAGE_BYTES: usize = 4_096;

pub(super) type Page = Box<[u8; PAGE_BYTES]>;

/// By their number: the offset divided by [`PAGE_BYTES`].
#[derive(Default)]
pub(super) struct Pages(BTreeMap<u64, Page>);

/// The pages that a range touches: the page, where the range begins in it, where in the range the
/// page begins, and how many bytes they share.
fn touched(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or_default();
        let share = (PAGE_BYTES - within).min(bytes - done);
        let item = (at / PAGE_BYTES as u64, within, done, share);
        done += share;
        Some(item)
    })
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, page: u64) -> Option<&Page> {
        self.0.get(&page)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Page)> {
        self.0.iter().map(|(&page, bytes)| (page, bytes))
    }

    /// Pages that follow each other at once, with the offset of the first, as far as a file of `len` bytes
    /// has them.
    pub(super) fn each_stretch(
        &self,
        len: u64,
        visit: impl Fn(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let visit = |offset: u64, bytes: &[u8]| {
            let there = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
            match bytes.get(..there.min(bytes.len())) {
                None | Some([]) => Ok(()),
                Some(bytes) => visit(offset, bytes),
            }
        };
        let (mut begins_at, mut bytes) = (0, Vec::new());
        for (page, content) in self.iter() {
            let offset = page * PAGE_BYTES as u64;
            if offset != begins_at + bytes.len() as u64 {
                visit(begins_at, &bytes)?;
                begins_at = offset;
                bytes.clear();
            }
            bytes.extend_from_slice(content.as_slice());
        }
        visit(begins_at, &bytes)
    }

    pub(super) fn insert(&mut self, page: u64, bytes: Page) {
        self.0.insert(page, bytes);
    }

    pub(super) fn remove(&mut self, page: u64) -> bool {
        self.0.remove(&page).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts what lies over a range of the file over what was read of it.
    pub(super) fn lay_over(&self, offset: u64, out: &mut [u8]) {
        if self.0.is_empty() {
            return;
        }
        for (page, within, at, share) in touched(offset, out.len()) {
            if let Some(bytes) = self.0.get(&page) {
                out[at..at + share].copy_from_slice(&bytes[within..within + share]);
            }
        }
    }

    /// Writes over the file, and says the number of each page that it touched; `base` reads what a
    /// page holds that is written in part.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        base: impl Fn(u64, &mut [u8]) -> io::Result<()>,
        mut touches: impl FnMut(u64),
    ) -> io::Result<()> {
        for (page, within, at, share) in touched(offset, data.len()) {
            let bytes = match self.0.entry(page) {
                Entry::Occupied(bytes) => bytes.into_mut(),
                Entry::Vacant(place) => {
                    let mut bytes = Box::new([0; PAGE_BYTES]);
                    if share < PAGE_BYTES {
                        base(page * PAGE_BYTES as u64, bytes.as_mut_slice())?;
                    }
                    place.insert(bytes)
                }
            };
            bytes[within..within + share].copy_from_slice(&data[at..at + share]);
            touches(page);
        }
        Ok(())
    }

    /// Takes out the pages of a range that are here; their numbers.
    pub(super) fn remove_range(&mut self, range: Range<u64>) -> Vec<u64> {
        let pages: Vec<u64> = self.0.range(range).map(|(&page, _)| page).collect();
        for page in &pages {
            self.0.remove(page);
        }
        pages
    }

    /// The file has `len` bytes from now on: what is cut off reads as zero when it grows again. Says
    /// which pages changed or went.
    pub(super) fn cut(&mut self, len: u64, mut touches: impl FnMut(u64)) {
        let gone = self.0.split_off(&len.div_ceil(PAGE_BYTES as u64));
        gone.into_keys().for_each(&mut touches);
        let within = usize::try_from(len % PAGE_BYTES as u64).unwrap_or_default();
        let last = len / PAGE_BYTES as u64;
        if let Some(page) = self.0.get_mut(&last) {
            page[within..].fill(0);
            touches(last);
        }
    }
}
