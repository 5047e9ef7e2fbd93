//! The backend of the active segment: the same file, with fewer requests to the disk.
//!
//! redb doubles a file as it grows, and syncs each time before it uses the space; it also syncs a new
//! file several times before its first commit. Here a file is as long as the segment will be from
//! its first growth on, and is not synced before it is published, in one go. After a crash it is
//! longer than redb believes, by zeroes at its end, which redb takes as free space; a clean close cuts
//! them off.
//!
//! What redb writes in small pieces goes to the redo area (see `redo`) when redb syncs, side by side,
//! and to its place when the area is full or the file is closed. Rows that are larger go to their place
//! at once.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::pages::{PAGE_BYTES, Pages};
use super::redo::Redo;

/// A larger write, in whole pages, goes to its place at once: to move it twice costs more than a
/// second request.
const SMALL_BYTES_MAX: usize = 16 * 1024;

/// So many pages are kept in memory (4 MiB); with one more they are written to their places.
const PAGES_MAX: usize = 1_024;

/// redb owns one handle, and the segment another.
#[derive(Clone)]
pub(super) struct Extent(Arc<File>);

struct File {
    base: Box<dyn StorageBackend>,
    /// Where redb's file begins: behind the redo area.
    begins_at: u64,
    /// The length of redb's file after the first growth.
    extent_bytes: u64,
    state: Mutex<State>,
}

struct State {
    /// What redb believes.
    len: u64,
    /// The real length of redb's file; never less.
    base_len: u64,
    /// Written, and not in their places yet.
    pages: Pages,
    /// Those that differ from what the file and its redo area say, or that left `pages` for their place.
    changed: BTreeSet<u64>,
    redo: Redo,
    /// The file was changed in other places than the redo area after the last sync.
    dirty: bool,
    published: bool,
    /// What is on disk is unknown: nothing may be added that would make it count.
    failed: bool,
}

impl Extent {
    /// Over a file that is empty and not published.
    pub(super) fn over(base: Box<dyn StorageBackend>, extent_bytes: u64) -> io::Result<Self> {
        let redo = Redo::new(extent_bytes)?;
        let begins_at = redo.area_bytes();
        base.set_len(begins_at)?;
        let state = State {
            len: 0,
            base_len: 0,
            pages: Pages::default(),
            changed: BTreeSet::new(),
            redo,
            dirty: true,
            published: false,
            failed: false,
        };
        Ok(Self(Arc::new(File { base, begins_at, extent_bytes, state: Mutex::new(state) })))
    }

    /// Syncs what was written so far, and all that follows when redb asks for it.
    pub(super) fn begin_syncing(&self) -> io::Result<()> {
        self.0.step(|file, state| {
            state.published = true;
            file.write_in_place(state)?;
            file.base.write(0, &state.redo.begin())
        })?;
        self.0.sync_base()
    }
}

impl File {
    /// Runs a step that changes the file; after one that failed there is no other.
    fn step<T>(&self, step: impl FnOnce(&Self, &mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let outcome = step(self, &mut state);
        state.failed = outcome.is_err();
        outcome
    }

    /// Without the lock: who reads does not wait for the disk.
    fn sync_base(&self) -> io::Result<()> {
        let outcome = self.base.sync_data();
        self.step(|_, state| {
            state.dirty = false;
            outcome
        })
    }

    fn set_base_len(&self, state: &mut State, len: u64) -> io::Result<()> {
        state.dirty = true;
        self.base.set_len(self.begins_at + len)?;
        state.base_len = len;
        Ok(())
    }

    /// Writes each page to its place.
    fn write_in_place(&self, state: &mut State) -> io::Result<()> {
        for (page, bytes) in state.pages.iter() {
            let offset = page * PAGE_BYTES as u64;
            let there = state.len.saturating_sub(offset).min(PAGE_BYTES as u64);
            let bytes = bytes.get(..usize::try_from(there).unwrap_or(PAGE_BYTES));
            self.base.write(self.begins_at + offset, bytes.unwrap_or_default())?;
        }
        state.pages.clear();
        state.changed.clear();
        state.dirty = true;
        Ok(())
    }

    /// Writes each page to its place for good, and lets the redo area begin again.
    fn checkpoint(&self) -> io::Result<()> {
        self.step(Self::write_in_place)?;
        self.sync_base()?;
        let begins_again = self.step(|file, state| {
            let begins_again = state.redo.holds_records();
            if begins_again {
                file.base.write(0, &state.redo.begin())?;
            }
            Ok(begins_again)
        })?;
        if begins_again { self.sync_base() } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        enum Next {
            Nothing,
            Sync,
            Checkpoint,
        }
        let next = self.step(|file, state| {
            if !state.published || (state.changed.is_empty() && !state.dirty) {
                return Ok(Next::Nothing);
            }
            let State { pages, changed, redo, .. } = state;
            if pages.len() > PAGES_MAX {
                return Ok(Next::Checkpoint);
            }
            let changes = changed.iter().map(|&page| (page, pages.get(page)));
            let Some((at, record)) = redo.record(changes) else { return Ok(Next::Checkpoint) };
            file.base.write(at, record)?;
            changed.clear();
            Ok(Next::Sync)
        })?;
        match next {
            Next::Nothing => Ok(()),
            Next::Sync => self.sync_base(),
            Next::Checkpoint => self.checkpoint(),
        }
    }

    fn write(&self, state: &mut State, offset: u64, data: &[u8]) -> io::Result<()> {
        let State { base_len, pages, changed, .. } = state;
        let whole_pages =
            offset.is_multiple_of(PAGE_BYTES as u64) && data.len().is_multiple_of(PAGE_BYTES);
        if data.len() <= SMALL_BYTES_MAX || !whole_pages {
            let base = |offset, out: &mut [u8]| {
                let there = base_len.saturating_sub(offset).min(out.len() as u64);
                let there = usize::try_from(there).unwrap_or(out.len());
                self.base.read(self.begins_at + offset, &mut out[..there])
            };
            return pages.write(offset, data, base, |page| {
                changed.insert(page);
            });
        }
        let first = offset / PAGE_BYTES as u64;
        let end = first + (data.len() / PAGE_BYTES) as u64;
        changed.extend(pages.remove_range(first..end));
        state.dirty = true;
        self.base.write(self.begins_at + offset, data)
    }
}

fn check(state: &State, offset: u64, bytes: usize) -> io::Result<()> {
    let end = offset.checked_add(bytes as u64);
    match end.is_some_and(|end| end <= state.len) {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent").field("base", &self.0.base).finish_non_exhaustive()
    }
}

impl StorageBackend for Extent {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.state.lock();
        check(&state, offset, out.len())?;
        self.0.base.read(self.0.begins_at + offset, out)?;
        state.pages.lay_over(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.step(|file, state| {
            if len < state.len {
                // Cut for real: what is beyond must read as zero when it grows again.
                let State { pages, changed, .. } = state;
                pages.cut(len, |page| {
                    changed.insert(page);
                });
                file.set_base_len(state, len)?;
            } else if len > state.base_len {
                let first = state.base_len == 0;
                let base_len = if first { len } else { len.max(file.extent_bytes) };
                file.set_base_len(state, base_len)?;
            }
            state.len = len;
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.step(|file, state| {
            check(state, offset, data.len())?;
            file.write(state, offset, data)
        })
    }

    fn close(&self) -> io::Result<()> {
        let in_place = self.0.checkpoint().and_then(|()| {
            self.0.step(|file, state| match state.len < state.base_len {
                true => file.set_base_len(state, state.len),
                false => Ok(()),
            })
        });
        in_place.and(self.0.base.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::overlay::Overlay;
    use redb::backends::InMemoryBackend;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const FAILS: usize = usize::MAX;

    /// Counts the syncs, or fails them.
    #[derive(Debug, Default)]
    struct Shared(Arc<InMemoryBackend>, Arc<AtomicUsize>);

    impl StorageBackend for Shared {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            if self.1.load(Ordering::Relaxed) == FAILS {
                return Err(io::Error::other("the disk failed"));
            }
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    fn reopened(base: &Arc<InMemoryBackend>) -> Overlay {
        Overlay::over(Box::new(Shared(base.clone(), Arc::default()))).unwrap()
    }

    #[test]
    fn only_what_changed_a_published_file_is_synced() {
        let base = Shared::default();
        let syncs = base.1.clone();
        let extent = Extent::over(Box::new(base), 10_000).unwrap();
        extent.set_len(100).unwrap();
        extent.write(0, &[1; 100]).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 0);
        extent.begin_syncing().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 1);
        extent.set_len(200).unwrap();
        extent.sync_data().unwrap();
        extent.set_len(400).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 2, "the second growth is within the first");
        extent.write(300, &[1; 100]).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn it_is_as_long_as_redb_believes() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = Extent::over(Box::new(Shared(base.clone(), Arc::default())), 10_000).unwrap();
        extent.set_len(100).unwrap();
        extent.set_len(200).unwrap();
        assert_eq!(extent.len().unwrap(), 200);
        assert_eq!(base.len().unwrap(), extent.0.begins_at + 10_000);
        assert!(extent.write(150, &[1; 51]).is_err());
        assert!(extent.read(150, &mut [0; 51]).is_err());
    }

    #[test]
    fn what_was_cut_off_reads_as_zero() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = Extent::over(Box::new(Shared(base.clone(), Arc::default())), 10_000).unwrap();
        extent.set_len(200).unwrap();
        extent.write(150, &[1; 50]).unwrap();
        extent.set_len(160).unwrap();
        extent.set_len(200).unwrap();
        let mut read = [9; 50];
        extent.read(150, &mut read).unwrap();
        assert_eq!(read, [[1; 10], [0; 10], [0; 10], [0; 10], [0; 10]].concat()[..]);
        extent.begin_syncing().unwrap();
        extent.close().unwrap();
        assert_eq!(base.len().unwrap(), extent.0.begins_at + 200);
        assert_eq!(reopened(&base).len().unwrap(), 200);
    }

    /// Whatever is written, a file that was left after a sync reads as it did.
    #[test]
    fn what_was_synced_is_read_back_from_places_and_redo_area() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = Extent::over(Box::new(Shared(base.clone(), Arc::default())), 1 << 20).unwrap();
        let len = 600_000usize;
        extent.set_len(len as u64).unwrap();
        extent.begin_syncing().unwrap();
        let mut expected = vec![0u8; len];
        for round in 0..500usize {
            for write in 0..3 {
                // Small pages, part of a page, and rows that cover pages written before.
                let bytes = [PAGE_BYTES, 320, 8 * PAGE_BYTES][(round * 7 + write) % 3];
                let page = (round * 37 + write * 11) % 100;
                let data = vec![u8::try_from((round + write) % 251).unwrap(); bytes];
                extent.write((page * PAGE_BYTES) as u64, &data).unwrap();
                expected[page * PAGE_BYTES..][..bytes].copy_from_slice(&data);
            }
            extent.sync_data().unwrap();
            if round % 16 == 0 {
                let mut read = vec![0; len];
                extent.read(0, &mut read).unwrap();
                assert!(read == expected, "round {round}, open");
                reopened(&base).read(0, &mut read).unwrap();
                assert!(read == expected, "round {round}, left behind");
            }
        }
        extent.close().unwrap();
        let mut read = vec![0; len];
        reopened(&base).read(0, &mut read).unwrap();
        assert!(read == expected);
        assert!(extent.0.state.lock().pages.len() == 0, "everything is in its place");
    }

    #[test]
    fn nothing_is_written_after_a_failure() {
        let base = Shared::default();
        let failing = base.1.clone();
        let memory = base.0.clone();
        let extent = Extent::over(Box::new(base), 10_000).unwrap();
        extent.set_len(8_192).unwrap();
        extent.begin_syncing().unwrap();
        extent.write(0, &[1; 4_096]).unwrap();
        failing.store(FAILS, Ordering::Relaxed);
        assert!(extent.sync_data().is_err());
        failing.store(0, Ordering::Relaxed);
        assert!(extent.sync_data().is_err());
        assert!(extent.write(0, &[2; 4_096]).is_err());
        assert!(extent.close().is_err());
        let mut page = [9; 4_096];
        memory.read(extent.0.begins_at, &mut page).unwrap();
        assert_eq!(page, [0; 4_096]);
    }
}
