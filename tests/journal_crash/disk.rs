//! A disk in memory that loses power.
//!
//! It remembers what was written and not synced. When the power goes it keeps, loses or tears each of
//! those writes, sector by sector, in any combination; a sector itself is whole or untouched. Names
//! (publish, remove) last when the call returns, as `SegmentStore` demands. A new file is made of what a
//! removed one held. It may have a capacity, and then does not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leveret::journal::{SegmentStore, StorageBackend};

const SECTOR_BYTES: usize = 512;
/// What a file takes of the disk's capacity is counted in these, once something is written to one.
const BLOCK_BYTES: usize = 4_096;

/// A sync that lingers does so for at most this long, if nothing is written meanwhile.
const LINGER_MAX: Duration = Duration::from_millis(2);

/// SplitMix64: small, and the same on every machine.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

enum Unsynced {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// The blocks that something was written to; the others are holes.
    blocks: HashSet<usize>,
}

fn put(bytes: &mut [u8], offset: usize, data: &[u8]) {
    // What lies beyond an end that did not last is lost with it.
    if let Some(bytes) = bytes.get_mut(offset..) {
        let share = bytes.len().min(data.len());
        bytes[..share].copy_from_slice(&data[..share]);
    }
}

impl File {
    fn lose_power(&mut self, random: &mut Random) {
        let mut kept = std::mem::take(&mut self.synced);
        // Sometimes everything is kept, or lost: the extremes are worth their own share.
        let mood = random.below(4);
        for change in self.unsynced.drain(..) {
            let fate = match mood {
                0 => 0,
                1 => 1,
                _ => random.below(3),
            };
            match (fate, change) {
                (0, Unsynced::Length(bytes)) => kept.resize(bytes, 0),
                (0, Unsynced::Write { offset, data }) => put(&mut kept, offset, &data),
                (2, Unsynced::Write { offset, data }) => {
                    for (sector, piece) in data.chunks(SECTOR_BYTES).enumerate() {
                        if random.one_in(2) {
                            put(&mut kept, offset + sector * SECTOR_BYTES, piece);
                        }
                    }
                }
                _ => {}
            }
        }
        self.now = kept.clone();
        self.synced = kept;
    }
}

#[derive(Default)]
pub struct DiskState {
    files: HashMap<u64, File>,
    /// (segment, published) to file.
    names: BTreeMap<(u64, bool), u64>,
    /// What removed files held: a new one is made of it.
    removed: Vec<Vec<u8>>,
    next_file: u64,
    /// Operations until the power goes.
    pub until_crash: Option<u64>,
    pub crashed: bool,
    /// Operations until one fails, once.
    pub until_error: Option<u64>,
    /// The canary: a sync answers and does nothing.
    pub lies: bool,
    /// A sync goes on until something more is written, which it does not cover.
    pub lingers: bool,
    /// Writes that came during a sync.
    pub overtaken: u64,
    writes: u64,
    /// What is free on a disk whose capacity is not counted.
    pub free_bytes: u64,
    /// `Some`: a write that finds no block fails, and what is free follows from what was written.
    pub capacity_bytes: Option<u64>,
    /// What is not the journal's takes so much of the capacity.
    pub others_bytes: u64,
    random: Option<Random>,
}

impl DiskState {
    fn free_bytes(&self) -> u64 {
        let Some(capacity_bytes) = self.capacity_bytes else { return self.free_bytes };
        let named = self.names.values().filter_map(|file| self.files.get(file));
        let blocks: usize = named.map(|file| file.blocks.len()).sum();
        capacity_bytes.saturating_sub(self.others_bytes + (blocks * BLOCK_BYTES) as u64)
    }

    /// Takes the blocks for a write, all or none.
    fn take_blocks(&mut self, file: u64, offset: usize, bytes: usize) -> io::Result<()> {
        if self.capacity_bytes.is_none() || bytes == 0 {
            return Ok(());
        }
        let blocks = offset / BLOCK_BYTES..=(offset + bytes - 1) / BLOCK_BYTES;
        let free_bytes = self.free_bytes();
        let file = self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        let new = blocks.clone().filter(|block| !file.blocks.contains(block)).count();
        if (new * BLOCK_BYTES) as u64 > free_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.blocks.extend(blocks);
        Ok(())
    }

    /// Counts an operation. `Err` when it fails; then whether it had an effect all the same.
    fn operation(&mut self) -> Result<(), (io::Error, bool)> {
        if self.crashed {
            return Err((io::Error::other("the power is off"), false));
        }
        if let Some(left) = &mut self.until_error {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.until_error = None;
                return Err((io::Error::other("the disk failed"), false));
            }
        }
        if let Some(left) = &mut self.until_crash {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.crashed = true;
                let took_effect = self.random.as_mut().is_some_and(|random| random.one_in(2));
                return Err((io::Error::other("the power went off"), took_effect));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

impl Disk {
    pub fn new(random: Random) -> Self {
        let disk = Self::default();
        let mut state = disk.state();
        state.random = Some(random);
        state.free_bytes = 1 << 40;
        drop(state);
        disk
    }

    pub fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.0.lock().unwrap()
    }

    pub fn store(&self) -> Box<dyn SegmentStore> {
        Box::new(self.clone())
    }

    /// What the files that have a name take.
    #[allow(dead_code, reason = "not each of the tests that share this disk asks")]
    pub fn used_bytes(&self) -> u64 {
        let state = self.state();
        let named = state.names.values().filter_map(|file| state.files.get(file));
        named.map(|file| file.now.len() as u64).sum()
    }

    /// Lets the power go at once.
    pub fn pull_the_plug(&self) {
        self.state().crashed = true;
    }

    /// The process was killed and comes back: what it wrote is there, and what it did not sync may still be
    /// lost.
    #[allow(dead_code, reason = "not each of the tests that share this disk kills")]
    pub fn restart(&self) {
        let mut state = self.state();
        state.crashed = false;
        state.until_crash = None;
        state.until_error = None;
    }

    /// The power is back: what was not synced is kept, lost or torn.
    pub fn reboot(&self) {
        let mut state = self.state();
        let mut random = state.random.clone().unwrap();
        for file in state.files.values_mut() {
            file.lose_power(&mut random);
        }
        state.random = Some(random);
        state.crashed = false;
        state.until_crash = None;
        state.until_error = None;
        let kept: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|file, _| kept.contains(file));
    }
}

impl SegmentStore for Disk {
    fn list(&self) -> io::Result<Vec<u64>> {
        let state = self.state();
        Ok(state.names.keys().filter(|(_, published)| *published).map(|&(id, _)| id).collect())
    }

    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.state().names.get(&(segment, true)).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Backend { disk: self.clone(), file }))
    }

    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        state.operation().map_err(|(error, _)| error)?;
        state.next_file += 1;
        let file = state.next_file;
        let mut content = state.removed.pop().unwrap_or_default();
        content.resize(usize::try_from(bytes).unwrap(), 0);
        let content = File { now: content.clone(), synced: content, ..File::default() };
        state.files.insert(file, content);
        state.names.insert((segment, false), file);
        Ok(Box::new(Backend { disk: self.clone(), file }))
    }

    fn publish(&self, segment: u64) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.operation();
        if matches!(outcome, Ok(()) | Err((_, true))) {
            let file = state.names.remove(&(segment, false)).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert((segment, true), file);
        }
        outcome.map_err(|(error, _)| error)
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.operation();
        if matches!(outcome, Ok(()) | Err((_, true))) {
            let file = state.names.remove(&(segment, true)).ok_or(io::ErrorKind::NotFound)?;
            if let Some(file) = state.files.get(&file).filter(|_| state.capacity_bytes.is_none()) {
                let content = file.now.clone();
                state.removed.push(content);
            }
        }
        outcome.map_err(|(error, _)| error)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.state().capacity_bytes.unwrap_or(1 << 40))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free_bytes())
    }
}

struct Backend {
    disk: Disk,
    file: u64,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {}", self.file)
    }
}

impl Backend {
    /// Changes the file after counting the operation; a half-done one may leave its mark.
    fn change(&self, change: impl FnOnce(&mut File)) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.operation();
        if matches!(outcome, Ok(()) | Err((_, true)))
            && let Some(file) = state.files.get_mut(&self.file)
        {
            change(file);
        }
        outcome.map_err(|(error, _)| error)
    }
}

impl Backend {
    /// Lets others write while a sync goes on. How many changes it covers: those that there were before.
    fn linger(&self) -> usize {
        let state = self.disk.state();
        let covered = state.files.get(&self.file).map_or(0, |file| file.unsynced.len());
        if state.lingers && !state.crashed {
            let writes = state.writes;
            let lingered = self.disk.0.1.wait_timeout_while(state, LINGER_MAX, |state| {
                state.writes == writes && !state.crashed
            });
            let mut state = lingered.unwrap_or_else(PoisonError::into_inner).0;
            state.overtaken += u64::from(state.writes != writes);
        }
        covered
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let file = state.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        let offset = usize::try_from(offset).unwrap();
        let bytes = file.now.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.change(|file| {
            file.now.resize(len, 0);
            file.blocks.retain(|block| block * BLOCK_BYTES < len);
            file.unsynced.push(Unsynced::Length(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.disk.state().lies {
            return self.change(|_| {});
        }
        let covered = self.linger();
        self.change(|file| {
            for change in file.unsynced.drain(..covered) {
                match change {
                    Unsynced::Length(len) => file.synced.resize(len, 0),
                    Unsynced::Write { offset, data } => put(&mut file.synced, offset, &data),
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.disk.state().take_blocks(self.file, offset, data.len())?;
        let outcome = self.change(|file| {
            put(&mut file.now, offset, data);
            file.unsynced.push(Unsynced::Write { offset, data: data.to_vec() });
        });
        self.disk.state().writes += 1;
        self.disk.0.1.notify_all();
        outcome
    }
}
