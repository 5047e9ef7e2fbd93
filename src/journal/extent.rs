//! The backend of the active segment: the same file, with fewer requests to the disk.
//!
//! redb doubles a file as it grows, and syncs each time before it uses the space; it also syncs a new
//! file several times before its first commit. Here a file is as long from the start as the segment will
//! be, and is not synced before it is published, in one go. After a crash it is longer than redb believes,
//! which takes that as free space; a clean close cuts it off. What nothing was written to may be anything
//! (see `SegmentStore::create`).
//!
//! What redb writes in small pieces goes to the redo area (see `redo`) when its transaction is done, side by
//! side, and to its place when the area is full. Rows that are larger go to their place at once. So a
//! transaction counts as a whole from its one record on, and takes one sync. What redb
//! changes as it closes is one record more.
//!
//! A sync is only noted when a transaction is done, and done by who calls `finish_commits`, maybe on another
//! thread: so the next transaction is prepared meanwhile, up to its record, which is written by who ends the
//! sync. Until then nothing is written to the file but rows, to places where nothing was before:
//! whatever the disk holds speaks of none of them. So the file never says anything that it would
//! not say if redb had waited. That goes for the first transaction of a file, too, and the sync of the file
//! before (`follow`).

mod backend;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use redb::StorageBackend;

use super::pages::{PAGE_BYTES, Pages};
use super::position_set::PositionSet;
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
    /// The length of redb's file when it is published.
    extent_bytes: u64,
    state: Mutex<State>,
    synced: Condvar,
}

/// How far the sync is that redb asked for last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Done,
    /// No record is written before it is done.
    Owed,
    /// Somebody is at it.
    Running,
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
    /// Everything that was ever written to: a tree that is on disk may hold it.
    used: PositionSet,
    redo: Redo,
    /// The file was changed in other places than the redo area after the last sync.
    dirty: bool,
    sync: Sync,
    /// The record of the next transaction, and its place in the redo area: written when the sync is done.
    next_record: Option<(u64, Vec<u8>)>,
    /// Transactions that were committed, and those of them that are on disk.
    commits: u64,
    synced_commits: u64,
    /// The file whose sync is owed, if it is not this one's.
    before: Option<Extent>,
    published: bool,
    /// redb closes: its last changes become one record, and the file gets its length after it.
    closing: bool,
    /// Why what is on disk is unknown: nothing may be added that would make it count.
    failure: Option<String>,
}

impl Extent {
    /// Over a file that `create` makes of the bytes that it is given, and that is not published.
    pub(super) fn over(
        extent_bytes: u64,
        create: impl FnOnce(u64) -> io::Result<Box<dyn StorageBackend>>,
    ) -> io::Result<Self> {
        let redo = Redo::new(extent_bytes)?;
        let begins_at = redo.area_bytes();
        let base = create(begins_at + extent_bytes)?;
        let state = State {
            len: 0,
            base_len: extent_bytes,
            pages: Pages::default(),
            changed: BTreeSet::new(),
            used: PositionSet::default(),
            redo,
            dirty: true,
            sync: Sync::Done,
            next_record: None,
            commits: 0,
            synced_commits: 0,
            before: None,
            published: false,
            closing: false,
            failure: None,
        };
        let (state, synced) = (Mutex::new(state), Condvar::new());
        Ok(Self(Arc::new(File { base, begins_at, extent_bytes, state, synced })))
    }

    /// Syncs what was written so far; what follows, when a transaction is done and [`Self::finish_sync`]
    /// is called.
    pub(super) fn begin_syncing(&self) -> io::Result<()> {
        self.0.step(|file, state| {
            state.published = true;
            file.write_in_place(state)?;
            // A file system changes nothing of its own for what is written over.
            let area = usize::try_from(file.begins_at).unwrap_or_default();
            file.base.write(0, &vec![0; area])?;
            file.base.write(0, &state.redo.begin())?;
            state.sync = Sync::Owed;
            Ok(())
        })?;
        self.finish_sync()
    }

    /// No record is written from here on before the last sync of another file is done, which counts as a
    /// commit of this one: how many there are by now.
    pub(super) fn follow(&self, before: Extent) -> u64 {
        let mut state = self.0.state.lock();
        state.before = Some(before);
        state.sync = Sync::Owed;
        state.commits += 1;
        state.commits
    }

    /// How many transactions were committed by now.
    pub(super) fn commits(&self) -> u64 {
        self.0.state.lock().commits
    }

    /// redb has written a transaction: what it changed becomes one record, and a sync is owed. How many there
    /// are by now. The record waits in memory while an earlier sync is owed; that of a second transaction
    /// waits here.
    fn commit(&self) -> io::Result<u64> {
        let file = &*self.0;
        let mut state = file.state.lock();
        file.wait_until(&mut state, |state| state.next_record.is_none())?;
        let outcome = match state.sync {
            Sync::Done => file.commit(&mut state),
            _ if !state.has_changes() => Ok(()),
            _ => match file.next_record(&mut state) {
                Some(record) => {
                    state.next_record = Some(record);
                    state.commits += 1;
                    Ok(())
                }
                None => {
                    file.wait_until(&mut state, |_| false)?;
                    file.commit(&mut state)
                }
            },
        };
        state.noted(outcome)?;
        Ok(state.commits)
    }

    /// Returns when every transaction is on disk that was committed.
    pub(super) fn finish_sync(&self) -> io::Result<()> {
        self.0.synced().map(drop)
    }

    /// Returns when the first `commits` transactions are on disk.
    pub(super) fn finish_commits(&self, commits: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        self.0.wait_until(&mut state, |state| state.synced_commits >= commits)
    }

    /// What redb writes from now on is for its close. The redo area begins again, which takes two
    /// syncs, unless a half of it is free: it must have room for that, because a file that was not closed is
    /// walked through at each opening.
    pub(super) fn begin_closing(&self) -> io::Result<()> {
        self.0.step(|file, state| {
            if !state.redo.is_half_free() {
                file.checkpoint(state)?;
            }
            state.closing = true;
            Ok(())
        })
    }
}

impl State {
    fn check_failure(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |reason| Err(io::Error::other(reason.clone())))
    }

    fn has_changes(&self) -> bool {
        self.published && (!self.changed.is_empty() || self.dirty)
    }

    /// Remembers a failure.
    fn noted<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            self.failure.get_or_insert_with(|| error.to_string());
        }
        outcome
    }
}

impl File {
    /// The state, when no sync is owed.
    fn synced(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        self.wait_until(&mut state, |_| false)?;
        Ok(state)
    }

    /// Syncs what is owed, or waits for who is at it, until `is_enough`, or nothing is owed.
    fn wait_until(
        &self,
        state: &mut MutexGuard<'_, State>,
        is_enough: impl Fn(&State) -> bool,
    ) -> io::Result<()> {
        loop {
            state.check_failure()?;
            match state.sync {
                _ if is_enough(state) => return Ok(()),
                Sync::Done => return Ok(()),
                Sync::Running => self.synced.wait(state),
                Sync::Owed => self.sync(state)?,
            }
        }
    }

    /// Does the sync that is owed, and writes the record that waited for it, whose sync is owed then.
    fn sync(&self, state: &mut MutexGuard<'_, State>) -> io::Result<()> {
        state.sync = Sync::Running;
        let before = state.before.take();
        let commits = state.commits - u64::from(state.next_record.is_some());
        // What is written while it runs is for the next.
        state.dirty &= before.is_some();
        let sync = || before.map_or_else(|| self.base.sync_data(), |it| it.finish_sync());
        let sync = || {
            catch_unwind(AssertUnwindSafe(sync))
                .unwrap_or_else(|_| Err(io::Error::other("the sync panicked")))
        };
        // Who reads does not wait for the disk.
        let mut outcome = MutexGuard::unlocked(state, sync);
        state.sync = Sync::Done;
        if outcome.is_ok() {
            state.synced_commits = commits;
            if let Some((at, record)) = state.next_record.take() {
                outcome = self.base.write(at, &record);
                state.sync = Sync::Owed;
            }
        }
        self.synced.notify_all();
        state.noted(outcome)
    }

    /// Runs a step that changes the file; after one that failed there is no other.
    fn step<T>(&self, step: impl FnOnce(&Self, &mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.synced()?;
        let outcome = step(self, &mut state);
        state.noted(outcome)
    }

    fn set_base_len(&self, state: &mut State, len: u64) -> io::Result<()> {
        state.dirty = true;
        self.base.set_len(self.begins_at + len)?;
        state.base_len = len;
        Ok(())
    }

    /// Writes each page to its place, neighbours at once.
    fn write_in_place(&self, state: &mut State) -> io::Result<()> {
        let write = |offset, bytes: &[u8]| self.base.write(self.begins_at + offset, bytes);
        state.pages.each_stretch(state.len, write)?;
        state.pages.clear();
        state.changed.clear();
        state.dirty = true;
        Ok(())
    }

    /// Writes each page to its place for good, and lets the redo area begin again.
    fn checkpoint(&self, state: &mut State) -> io::Result<()> {
        self.write_in_place(state)?;
        self.base.sync_data()?;
        self.base.write(0, &state.redo.begin())?;
        state.sync = Sync::Owed;
        Ok(())
    }

    fn commit(&self, state: &mut State) -> io::Result<()> {
        if !state.has_changes() {
            return Ok(());
        }
        state.commits += 1;
        match self.write_record(state)? {
            true => Ok(()),
            false => self.checkpoint(state),
        }
    }

    /// What was written to its place is on disk before the next step, if a crash may leave the file: redb's
    /// commit in two phases trusts it unseen, and a record counts on the file's length.
    fn owe_sync(&self, state: &mut State) {
        if state.published && state.dirty {
            state.sync = Sync::Owed;
        }
    }

    /// Cuts the file to what redb believes. What is beyond must read as zero when it grows again; but it is
    /// not cut before a file that a crash leaves says so.
    fn shrink(&self, len: u64) -> io::Result<()> {
        self.step(|file, state| {
            file.owe_sync(state);
            Ok(())
        })?;
        let is_cut = self.step(|file, state| {
            let State { pages, changed, .. } = state;
            pages.cut(len, |page| {
                changed.insert(page);
            });
            state.len = len;
            // A file that is being closed is cut in the end.
            match state.closing {
                true => Ok(false),
                false => file.commit(state).map(|()| true),
            }
        })?;
        match is_cut {
            true => self.step(|file, state| file.set_base_len(state, len)),
            false => Ok(()),
        }
    }

    /// Writes the changed pages to the redo area; false when it has no room.
    fn write_record(&self, state: &mut State) -> io::Result<bool> {
        let Some((at, record)) = self.next_record(state) else { return Ok(false) };
        self.base.write(at, &record)?;
        state.sync = Sync::Owed;
        Ok(true)
    }

    /// The record of what changed, and its place; none when it has no room, or too much is in memory.
    fn next_record(&self, state: &mut State) -> Option<(u64, Vec<u8>)> {
        let State { pages, changed, redo, .. } = state;
        if pages.len() > PAGES_MAX {
            return None;
        }
        let changes = changed.iter().map(|&page| (page, pages.get(page)));
        let (at, record) = redo.record(changes)?;
        let record = (at, record.to_vec());
        changed.clear();
        Some(record)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let whole_pages =
            offset.is_multiple_of(PAGE_BYTES as u64) && data.len().is_multiple_of(PAGE_BYTES);
        if data.len() <= SMALL_BYTES_MAX || !whole_pages {
            return self.write_small(offset, data);
        }
        let first = offset / PAGE_BYTES as u64;
        let range = first..first + (data.len() / PAGE_BYTES) as u64;
        let write = |file: &Self, state: &mut State| {
            check(state, offset, data.len())?;
            state.changed.extend(state.pages.remove_range(range.clone()));
            state.dirty = true;
            file.base.write(file.begins_at + offset, data)
        };
        let mut state = self.state.lock();
        let used = range.clone().fold(false, |used, page| used | !state.used.insert(page));
        if used {
            drop(state);
            return self.step(write);
        }
        state.check_failure()?;
        let outcome = write(self, &mut state);
        state.noted(outcome)
    }

    /// To memory, so it waits for no sync.
    fn write_small(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_failure()?;
        check(&state, offset, data.len())?;
        let State { base_len, pages, changed, used, .. } = &mut *state;
        let is_used = |page| used.contains(page);
        let base = |offset: u64, out: &mut [u8]| {
            if !is_used(offset / PAGE_BYTES as u64) {
                return Ok(());
            }
            let there = base_len.saturating_sub(offset).min(out.len() as u64);
            let there = usize::try_from(there).unwrap_or(out.len());
            self.base.read(self.begins_at + offset, &mut out[..there])
        };
        pages.write(offset, data, base, |page| {
            changed.insert(page);
        })?;
        let end = offset + data.len() as u64;
        (offset / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64)).for_each(|page| {
            used.insert(page);
        });
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::backend::HEADER_PAGE;
    use super::*;
    use crate::journal::overlay::Overlay;
    use redb::backends::InMemoryBackend;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const FAILS: usize = usize::MAX;
    const ANYTHING: u8 = 0xAA;

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

    /// Over a file that was something else.
    fn extent(base: Shared, extent_bytes: u64) -> Extent {
        let create = |bytes| {
            base.set_len(bytes)?;
            base.write(0, &vec![ANYTHING; usize::try_from(bytes).unwrap()])?;
            Ok(Box::new(base) as Box<dyn StorageBackend>)
        };
        Extent::over(extent_bytes, create).unwrap()
    }

    fn synced(extent: &Extent) {
        extent.commit().unwrap();
        extent.finish_sync().unwrap();
    }

    fn reopened(base: &Arc<InMemoryBackend>) -> Overlay {
        Overlay::over(Box::new(Shared(base.clone(), Arc::default()))).unwrap()
    }

    #[test]
    fn only_what_changed_a_published_file_is_synced() {
        let base = Shared::default();
        let syncs = base.1.clone();
        let extent = extent(base, 10_000);
        extent.set_len(100).unwrap();
        extent.write(0, &[1; 100]).unwrap();
        extent.sync_data().unwrap();
        extent.finish_sync().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 0);
        extent.begin_syncing().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 1);
        extent.set_len(200).unwrap();
        synced(&extent);
        assert_eq!(syncs.load(Ordering::Relaxed), 1, "it is longer already");
        extent.write(100, &[1; 100]).unwrap();
        synced(&extent);
        assert_eq!(syncs.load(Ordering::Relaxed), 2);
        extent.set_len(20_000).unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 2, "who reads does not wait for the disk");
        extent.write(19_000, &[1; 100]).unwrap();
        extent.commit().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 2, "nor who commits");
        extent.finish_sync().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 4, "it has its length before a record needs it");
    }

    #[test]
    fn a_file_that_was_cut_gets_its_length_back_at_once() {
        let base = Shared::default();
        let syncs = base.1.clone();
        let extent = extent(base, 10_000);
        extent.set_len(8_000).unwrap();
        extent.begin_syncing().unwrap();
        extent.set_len(100).unwrap();
        extent.set_len(200).unwrap();
        synced(&extent);
        let before = syncs.load(Ordering::Relaxed);
        for len in [400, 800, 1_600, 9_999] {
            extent.set_len(len).unwrap();
            synced(&extent);
        }
        assert_eq!(syncs.load(Ordering::Relaxed), before);
    }

    /// redb's close is a commit in two phases: it is not recovered from what its last header names and
    /// the disk has not.
    #[test]
    fn what_the_last_record_names_is_on_disk_before_it() {
        for shrinks in [true, false] {
            let base = Shared::default();
            let (memory, syncs) = (base.0.clone(), base.1.clone());
            let extent = extent(base, 1 << 20);
            extent.set_len(32 * PAGE_BYTES as u64).unwrap();
            extent.begin_syncing().unwrap();
            extent.write(0, &[1; PAGE_BYTES]).unwrap();
            synced(&extent);
            if !shrinks {
                extent.begin_closing().unwrap();
            }
            extent.write(8 * PAGE_BYTES as u64, &[2; 8 * PAGE_BYTES]).unwrap();
            extent.write(0, &[2; PAGE_BYTES]).unwrap();
            syncs.store(FAILS, Ordering::Relaxed);
            let ended = match shrinks {
                // As when a database is dropped that nobody closed.
                true => extent.set_len(16 * PAGE_BYTES as u64),
                false => extent.close(),
            };
            assert!(ended.is_err());
            let mut read = [0; PAGE_BYTES];
            reopened(&memory).read(0, &mut read).unwrap();
            assert_eq!(read, [1; PAGE_BYTES], "shrinks: {shrinks}");
        }
    }

    #[test]
    fn it_is_as_long_as_redb_believes() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = extent(Shared(base.clone(), Arc::default()), 10_000);
        extent.set_len(100).unwrap();
        extent.set_len(200).unwrap();
        extent.begin_syncing().unwrap();
        assert_eq!(extent.len().unwrap(), 200);
        assert_eq!(base.len().unwrap(), extent.0.begins_at + 10_000);
        assert!(extent.write(150, &[1; 51]).is_err());
        assert!(extent.read(150, &mut [0; 51]).is_err());
    }

    #[test]
    fn what_was_cut_off_reads_as_zero() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = extent(Shared(base.clone(), Arc::default()), 10_000);
        extent.set_len(200).unwrap();
        extent.write(150, &[1; 50]).unwrap();
        extent.set_len(160).unwrap();
        extent.set_len(200).unwrap();
        let mut read = [9; 50];
        extent.read(150, &mut read).unwrap();
        assert_eq!(read, [[1; 10], [0; 10], [0; 10], [0; 10], [0; 10]].concat()[..]);
        extent.begin_syncing().unwrap();
        extent.begin_closing().unwrap();
        extent.close().unwrap();
        assert_eq!(base.len().unwrap(), extent.0.begins_at + 200);
        assert_eq!(reopened(&base).len().unwrap(), 200);
    }

    /// Whatever is written, a file that was left after a sync reads as it did.
    #[test]
    fn what_was_synced_is_read_back_from_places_and_redo_area() {
        let base = Arc::new(InMemoryBackend::new());
        let extent = extent(Shared(base.clone(), Arc::default()), 1 << 20);
        let len = 600_000usize;
        extent.set_len(len as u64).unwrap();
        extent.begin_syncing().unwrap();
        let mut expected = vec![0u8; len];
        extent.write(0, &expected).unwrap();
        for round in 0..500usize {
            for write in 0..3 {
                // Small pages, part of a page, and rows that cover pages written before.
                let bytes = [PAGE_BYTES, 320, 8 * PAGE_BYTES][(round * 7 + write) % 3];
                let page = (round * 37 + write * 11) % 100;
                let data = vec![u8::try_from((round + write) % 251).unwrap(); bytes];
                extent.write((page * PAGE_BYTES) as u64, &data).unwrap();
                expected[page * PAGE_BYTES..][..bytes].copy_from_slice(&data);
            }
            synced(&extent);
            if round % 16 == 0 {
                let mut read = vec![0; len];
                extent.read(0, &mut read).unwrap();
                assert!(read == expected, "round {round}, open");
                reopened(&base).read(0, &mut read).unwrap();
                assert!(read == expected, "round {round}, left behind");
            }
        }
        extent.begin_closing().unwrap();
        extent.close().unwrap();
        let mut read = vec![0; len];
        reopened(&base).read(0, &mut read).unwrap();
        assert!(read == expected);
    }

    /// One whose first page is 1, by a commit whose sync is owed.
    fn with_owed_sync(base: Shared) -> Extent {
        let extent = extent(base, 1 << 20);
        extent.set_len(1 << 20).unwrap();
        extent.begin_syncing().unwrap();
        extent.write(0, &[1; PAGE_BYTES]).unwrap();
        assert_eq!(extent.commit().unwrap(), 1);
        extent
    }

    fn first_page(base: &Arc<InMemoryBackend>) -> u8 {
        let mut read = [0; PAGE_BYTES];
        reopened(base).read(0, &mut read).unwrap();
        read[0]
    }

    #[test]
    fn nothing_of_use_is_written_over_before_an_owed_sync_is_done() {
        let base = Shared::default();
        let (memory, syncs) = (base.0.clone(), base.1.clone());
        let extent = with_owed_sync(base);
        let before = syncs.load(Ordering::Relaxed);
        extent.write(0, &[2; PAGE_BYTES]).unwrap();
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (1, before));
        // Rows to where nothing was wait for nothing.
        let offset = 8 * PAGE_BYTES as u64;
        extent.write(offset, &[4; 8 * PAGE_BYTES]).unwrap();
        let mut row = [0; PAGE_BYTES];
        memory.read(extent.0.begins_at + offset, &mut row).unwrap();
        assert_eq!((row[0], syncs.load(Ordering::Relaxed)), (4, before));
        extent.write(offset, &[5; 8 * PAGE_BYTES]).unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), before + 1, "who writes over them syncs first");
        extent.write(0, &[3; 8 * PAGE_BYTES]).unwrap();
        extent.finish_sync().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), before + 1);
    }

    #[test]
    fn what_redb_writes_behind_a_transaction_comes_with_the_next() {
        let base = Shared::default();
        let memory = base.0.clone();
        let extent = extent(base, 1 << 20);
        extent.set_len(1 << 20).unwrap();
        extent.begin_syncing().unwrap();
        let write = |page: u64, byte| {
            extent.write(page * PAGE_BYTES as u64, &[byte; PAGE_BYTES]).unwrap();
        };
        let read = |page: u64| {
            let mut read = [0; PAGE_BYTES];
            reopened(&memory).read(page * PAGE_BYTES as u64, &mut read).unwrap();
            read[0]
        };
        write(5, 1);
        write(HEADER_PAGE, 1);
        extent.sync_data().unwrap();
        // It was of the tree before, and is used anew.
        write(5, 2);
        extent.sync_data().unwrap();
        extent.finish_sync().unwrap();
        assert_eq!((extent.commits(), read(HEADER_PAGE), read(5)), (1, 1, 1));
        write(HEADER_PAGE, 2);
        extent.sync_data().unwrap();
        extent.finish_sync().unwrap();
        assert_eq!((extent.commits(), read(HEADER_PAGE), read(5)), (2, 2, 2));
    }

    #[test]
    fn a_record_waits_for_the_sync_of_the_one_before() {
        let base = Shared::default();
        let (memory, syncs) = (base.0.clone(), base.1.clone());
        let extent = with_owed_sync(base);
        let before = syncs.load(Ordering::Relaxed);
        extent.write(8 * PAGE_BYTES as u64, &[4; 8 * PAGE_BYTES]).unwrap();
        extent.write(0, &[2; PAGE_BYTES]).unwrap();
        assert_eq!(extent.commit().unwrap(), 2);
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (1, before));
        extent.finish_commits(1).unwrap();
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (2, before + 1));
        extent.write(0, &[3; PAGE_BYTES]).unwrap();
        assert_eq!(extent.commit().unwrap(), 3);
        assert_eq!(first_page(&memory), 2);
        extent.write(0, &[4; PAGE_BYTES]).unwrap();
        assert_eq!(extent.commit().unwrap(), 4);
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (3, before + 2));
        extent.finish_commits(4).unwrap();
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (4, before + 4));
    }

    #[test]
    fn a_record_is_not_written_after_a_sync_that_failed() {
        let base = Shared::default();
        let (memory, syncs) = (base.0.clone(), base.1.clone());
        let extent = with_owed_sync(base);
        extent.write(0, &[2; PAGE_BYTES]).unwrap();
        extent.commit().unwrap();
        syncs.store(FAILS, Ordering::Relaxed);
        assert!(extent.finish_commits(1).is_err());
        syncs.store(0, Ordering::Relaxed);
        assert!(extent.finish_commits(2).is_err());
        assert!(extent.commit().is_err());
        assert_eq!((first_page(&memory), syncs.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn the_first_record_waits_for_the_file_before() {
        let before = Shared::default();
        let (old, syncs) = (before.0.clone(), before.1.clone());
        let first = with_owed_sync(before);
        let base = Shared::default();
        let (memory, own_syncs) = (base.0.clone(), base.1.clone());
        let extent = extent(base, 1 << 20);
        extent.set_len(1 << 20).unwrap();
        extent.begin_syncing().unwrap();
        let (earlier, own_earlier) =
            (syncs.load(Ordering::Relaxed), own_syncs.load(Ordering::Relaxed));
        assert_eq!(extent.follow(first), 1);
        extent.write(0, &[2; PAGE_BYTES]).unwrap();
        assert_eq!(extent.commit().unwrap(), 2);
        assert_eq!((first_page(&old), first_page(&memory)), (1, ANYTHING));
        extent.finish_commits(1).unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), earlier + 1);
        assert_eq!((first_page(&memory), own_syncs.load(Ordering::Relaxed)), (2, own_earlier));
        extent.finish_commits(2).unwrap();
        assert_eq!(own_syncs.load(Ordering::Relaxed), own_earlier + 1);
    }

    #[test]
    fn what_has_room_in_the_redo_area_is_closed_with_one_sync() {
        let base = Shared::default();
        let (memory, syncs) = (base.0.clone(), base.1.clone());
        let extent = extent(base, 1 << 20);
        extent.set_len(8 * PAGE_BYTES as u64).unwrap();
        extent.begin_syncing().unwrap();
        extent.write(0, &[1; PAGE_BYTES]).unwrap();
        synced(&extent);
        let before = syncs.load(Ordering::Relaxed);
        extent.begin_closing().unwrap();
        extent.write(PAGE_BYTES as u64, &[2; PAGE_BYTES]).unwrap();
        extent.close().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), before + 1);
        let mut read = [0; 2 * PAGE_BYTES];
        reopened(&memory).read(0, &mut read).unwrap();
        assert_eq!((read[0], read[PAGE_BYTES]), (1, 2));
    }

    #[test]
    fn nothing_is_written_after_a_failure() {
        let base = Shared::default();
        let failing = base.1.clone();
        let memory = base.0.clone();
        let extent = extent(base, 10_000);
        extent.set_len(8_192).unwrap();
        extent.begin_syncing().unwrap();
        extent.write(0, &[1; 4_096]).unwrap();
        failing.store(FAILS, Ordering::Relaxed);
        extent.commit().unwrap();
        assert!(extent.finish_sync().is_err());
        failing.store(0, Ordering::Relaxed);
        assert!(extent.sync_data().is_err());
        assert!(extent.write(0, &[2; 4_096]).is_err());
        assert!(extent.close().is_err());
        let mut page = [9; 4_096];
        memory.read(extent.0.begins_at, &mut page).unwrap();
        assert_eq!(page, [ANYTHING; 4_096]);
    }
}
