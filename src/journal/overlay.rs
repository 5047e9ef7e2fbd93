//! A backend that never writes to what it reads: redb's repair happens in memory.
//!
//! A sealed segment stays as it was written, byte by byte, until it is deleted; even one that a crash
//! left in need of repair, and even when a damaged one is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

const PAGE_BYTES: usize = 4_096;

pub(super) struct Overlay {
    base: Box<dyn StorageBackend>,
    state: Mutex<State>,
}

struct State {
    len: u64,
    /// Beyond this the base is not read: it was cut off, or never was there.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Overlay {
    pub(super) fn over(base: Box<dyn StorageBackend>) -> io::Result<Self> {
        let len = base.len()?;
        let state = Mutex::new(State { len, base_len: len, pages: BTreeMap::new() });
        Ok(Self { base, state })
    }
}

impl State {
    fn read_base(&self, base: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.base_len.saturating_sub(offset).min(out.len() as u64);
        let (there, beyond) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { base.read(offset, there) }
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("base", &self.base).finish_non_exhaustive()
    }
}

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

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.read_base(self.base.as_ref(), offset, out)?;
        if state.pages.is_empty() {
            return Ok(());
        }
        for (page, within, at, share) in touched(offset, out.len()) {
            if let Some(bytes) = state.pages.get(&page) {
                out[at..at + share].copy_from_slice(&bytes[within..within + share]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = len;
        state.base_len = state.base_len.min(len);
        state.pages.split_off(&len.div_ceil(PAGE_BYTES as u64));
        // What is cut off reads as zero when the length grows again.
        let within = usize::try_from(len % PAGE_BYTES as u64).unwrap_or_default();
        if let Some(page) = state.pages.get_mut(&(len / PAGE_BYTES as u64)) {
            page[within..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, at, share) in touched(offset, data.len()) {
            if !state.pages.contains_key(&page) {
                let mut bytes = Box::new([0; PAGE_BYTES]);
                if share < PAGE_BYTES {
                    let start = page * PAGE_BYTES as u64;
                    state.read_base(self.base.as_ref(), start, bytes.as_mut_slice())?;
                }
                state.pages.insert(page, bytes);
            }
            if let Some(bytes) = state.pages.get_mut(&page) {
                bytes[within..within + share].copy_from_slice(&data[at..at + share]);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.base.close()
    }

    // The folder's lock guards the segments; redb falls back to none of its own.
    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Err(BackendError::Unsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    #[test]
    fn writes_are_seen_and_the_base_is_not_touched() {
        let base = InMemoryBackend::new();
        base.set_len(10_000).unwrap();
        base.write(0, &[1; 10_000]).unwrap();
        let overlay = Overlay::over(Box::new(base)).unwrap();
        overlay.write(4_000, &[2; 200]).unwrap();
        let mut read = vec![0; 10_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read[..4_000].iter().all(|&byte| byte == 1));
        assert!(read[4_000..4_200].iter().all(|&byte| byte == 2));
        assert!(read[4_200..].iter().all(|&byte| byte == 1));
        overlay.base.read(0, &mut read).unwrap();
        assert!(read.iter().all(|&byte| byte == 1));
    }

    #[test]
    fn what_was_cut_off_reads_as_zero() {
        let base = InMemoryBackend::new();
        base.set_len(10_000).unwrap();
        base.write(0, &[1; 10_000]).unwrap();
        let overlay = Overlay::over(Box::new(base)).unwrap();
        overlay.write(5_000, &[2; 1_000]).unwrap();
        overlay.set_len(5_500).unwrap();
        let mut read = vec![0; 1];
        assert!(overlay.read(5_500, &mut read).is_err());
        assert!(overlay.write(5_500, &[1]).is_err());
        overlay.set_len(9_000).unwrap();
        let mut read = vec![9; 9_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read[..5_000].iter().all(|&byte| byte == 1));
        assert!(read[5_000..5_500].iter().all(|&byte| byte == 2));
        assert!(read[5_500..].iter().all(|&byte| byte == 0));
    }
}
