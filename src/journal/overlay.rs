//! A backend that never writes to what it reads: redb's repair happens in memory.
//!
//! A sealed segment stays as it was written, byte by byte, until it is deleted; even one that a crash
//! left in need of repair, and even when a damaged one is opened.

use std::fmt;
use std::io;

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::pages::Pages;
use super::redo::replay;

pub(super) struct Overlay {
    base: Box<dyn StorageBackend>,
    /// Where redb's file begins in the base: behind the redo area.
    begins_at: u64,
    state: Mutex<State>,
}

struct State {
    len: u64,
    /// Beyond this the base is not read: it was cut off, or never was there.
    base_len: u64,
    pages: Pages,
}

impl Overlay {
    /// # Errors
    /// Invalid data when the base is no segment's file, or its redo area is damaged.
    pub(super) fn over(base: Box<dyn StorageBackend>) -> io::Result<Self> {
        let (begins_at, mut pages) = replay(base.as_ref())?;
        let len = base.len()?.saturating_sub(begins_at);
        pages.cut(len, |_| {});
        let state = Mutex::new(State { len, base_len: len, pages });
        Ok(Self { base, begins_at, state })
    }

    /// What the base holds; zero beyond `base_len`.
    fn read_base(&self, base_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = base_len.saturating_sub(offset).min(out.len() as u64);
        let (there, beyond) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { self.base.read(self.begins_at + offset, there) }
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("base", &self.base).finish_non_exhaustive()
    }
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
        self.read_base(state.base_len, offset, out)?;
        state.pages.lay_over(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = len;
        state.base_len = state.base_len.min(len);
        state.pages.cut(len, |_| {});
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
        let State { base_len, pages, .. } = &mut *state;
        let base = |offset, out: &mut [u8]| self.read_base(*base_len, offset, out);
        pages.write(offset, data, base, |_| {})
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
    use crate::journal::redo::Redo;
    use redb::backends::InMemoryBackend;

    /// A segment's file that holds 10,000 ones.
    fn ones() -> Overlay {
        let mut redo = Redo::new(0).unwrap();
        let base = InMemoryBackend::new();
        base.set_len(redo.area_bytes() + 10_000).unwrap();
        base.write(0, &redo.begin()).unwrap();
        base.write(redo.area_bytes(), &[1; 10_000]).unwrap();
        Overlay::over(Box::new(base)).unwrap()
    }

    #[test]
    fn writes_are_seen_and_the_base_is_not_touched() {
        let overlay = ones();
        overlay.write(4_000, &[2; 200]).unwrap();
        let mut read = vec![0; 10_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read[..4_000].iter().all(|&byte| byte == 1));
        assert!(read[4_000..4_200].iter().all(|&byte| byte == 2));
        assert!(read[4_200..].iter().all(|&byte| byte == 1));
        overlay.base.read(overlay.begins_at, &mut read).unwrap();
        assert!(read.iter().all(|&byte| byte == 1));
    }

    #[test]
    fn what_was_cut_off_reads_as_zero() {
        let overlay = ones();
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
