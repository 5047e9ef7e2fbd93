//! The journal on a disk that loses power: what was confirmed is there, what was ended and confirmed
//! stays away, groups are whole. `LEVERET_SEEDS` sets how many seeds are played.
//!
//! The disk remembers what was written and not synced. When the power goes it keeps, loses or tears
//! each of those writes, sector by sector, in any combination; a sector itself is whole or untouched.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use leveret::journal::{
    Commit, Durability, Entry, Group, Journal, JournalError, JournalOptions, Kind, OpenError,
    SegmentStore, Stats, StorageBackend, Urgency,
};

const SECTOR_BYTES: usize = 512;

/// SplitMix64: small, and the same on every machine.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
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
struct DiskState {
    files: HashMap<u64, File>,
    /// (segment, published) to file.
    names: BTreeMap<(u64, bool), u64>,
    next_file: u64,
    /// Operations until the power goes.
    until_crash: Option<u64>,
    crashed: bool,
    /// Operations until one fails, once.
    until_error: Option<u64>,
    /// The canary: a sync answers and does nothing.
    lies: bool,
    free_bytes: u64,
    operations: u64,
    random: Option<Random>,
}

impl DiskState {
    /// Counts an operation. `Err` when it fails; then whether it had an effect all the same.
    fn operation(&mut self) -> Result<(), (io::Error, bool)> {
        self.operations += 1;
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
struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    fn new(random: Random) -> Self {
        let disk = Self::default();
        let mut state = disk.state();
        state.random = Some(random);
        state.free_bytes = 1 << 40;
        drop(state);
        disk
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    fn store(&self) -> Box<dyn SegmentStore> {
        Box::new(self.clone())
    }

    /// Lets the power go at once.
    fn pull_the_plug(&self) {
        self.state().crashed = true;
    }

    /// The power is back: what was not synced is kept, lost or torn.
    fn reboot(&self) {
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

    fn create(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        state.operation().map_err(|(error, _)| error)?;
        state.next_file += 1;
        let file = state.next_file;
        state.files.insert(file, File::default());
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
            state.names.remove(&(segment, true)).ok_or(io::ErrorKind::NotFound)?;
        }
        outcome.map_err(|(error, _)| error)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free_bytes)
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
            file.unsynced.push(Unsynced::Length(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.disk.state().lies {
            return self.change(|_| {});
        }
        self.change(|file| {
            for change in file.unsynced.drain(..) {
                match change {
                    Unsynced::Length(len) => file.synced.resize(len, 0),
                    Unsynced::Write { offset, data } => put(&mut file.synced, offset, &data),
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.change(|file| {
            put(&mut file.now, offset, data);
            file.unsynced.push(Unsynced::Write { offset, data: data.to_vec() });
        })
    }
}

/// A fact as the model knows it. `id` is part of the payload: positions of what a crash took back may
/// be given again.
#[derive(Debug, Clone)]
struct Known {
    entry: Entry,
    payload: Vec<u8>,
    group: usize,
    /// The group that ended it.
    ended_by: Option<usize>,
    /// It was not there after a restart, and must stay away.
    gone: bool,
}

#[derive(Default)]
struct Model {
    facts: Vec<Known>,
    by_id: HashMap<u64, usize>,
    /// Whether the commit of each group resolved well.
    confirmed: Vec<bool>,
    next_id: u64,
}

const KIND: Kind = Kind(9);

fn id_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Model {
    /// Compares what was replayed with what must be, can be and can't be there; then takes it as
    /// the truth.
    fn check(&mut self, replayed: &[(Entry, Vec<u8>)]) -> Result<(), String> {
        let mut present = vec![false; self.facts.len()];
        let mut positions = BTreeMap::new();
        for (entry, payload) in replayed {
            let index = id_of(payload).and_then(|id| self.by_id.get(&id)).copied();
            let index = index.ok_or_else(|| format!("{entry:?} was never appended"))?;
            let fact = &self.facts[index];
            if fact.entry != *entry || fact.payload != *payload {
                return Err(format!("{fact:?} came back as {entry:?}"));
            }
            if fact.gone {
                return Err(format!("{fact:?} rose from the dead"));
            }
            if positions.insert(entry.position, ()).is_some() {
                return Err(format!("{entry:?} came twice"));
            }
            present[index] = true;
        }
        let mut whole = vec![None::<bool>; self.confirmed.len()];
        let mut evidence = |group: usize, there: bool, fact: &Known| {
            if self.confirmed[group] && !there {
                return Err(format!("group {group} was confirmed and is lost: {fact:?}"));
            }
            match whole[group].replace(there) {
                Some(before) if before != there => {
                    Err(format!("group {group} is there in part: {fact:?}"))
                }
                _ => Ok(()),
            }
        };
        for (fact, &present) in self.facts.iter().zip(&present).filter(|(fact, _)| !fact.gone) {
            match (present, fact.ended_by) {
                (true, None) => evidence(fact.group, true, fact)?,
                (false, None) => evidence(fact.group, false, fact)?,
                (true, Some(ender)) => {
                    evidence(fact.group, true, fact)?;
                    evidence(ender, false, fact)?;
                }
                // Ended, or never there. If it was confirmed, its end must have happened; and
                // if its end was confirmed, so must what added it.
                (false, Some(ender)) => {
                    if self.confirmed[fact.group] {
                        evidence(ender, true, fact)?;
                    }
                    if self.confirmed[ender] {
                        evidence(fact.group, true, fact)?;
                    }
                }
            }
        }
        for (fact, present) in self.facts.iter_mut().zip(present) {
            fact.gone |= !present;
            fact.ended_by = None;
        }
        // The groups of the past are settled: what is there is durable.
        for fact in self.facts.iter().filter(|fact| !fact.gone) {
            self.confirmed[fact.group] = true;
        }
        Ok(())
    }
}

/// How a run looks.
#[derive(Clone, Copy)]
struct Plan {
    lives: u64,
    groups: u64,
    lies: bool,
}

fn options() -> JournalOptions {
    JournalOptions {
        durability: Durability::Strict,
        segment_bytes_max: 64 * 1024,
        reserve_bytes: 0,
        ..JournalOptions::default()
    }
}

fn reopen(disk: &Disk) -> Result<(Journal, Vec<(Entry, Vec<u8>)>), OpenError> {
    let mut replayed = Vec::new();
    let journal = Journal::open(disk.store(), options(), &mut |entry, kind, payload| {
        assert_eq!(kind, KIND);
        replayed.push((entry, payload.to_vec()));
        Ok(())
    })?;
    Ok((journal, replayed))
}

/// What a run did: a test that never compacts shows nothing.
#[derive(Debug, Default)]
struct Done {
    bytes_rewritten: u64,
    confirmed: usize,
    failed_opens: u64,
    poisoned: u64,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.bytes_rewritten += other.bytes_rewritten;
        self.confirmed += other.confirmed;
        self.failed_opens += other.failed_opens;
        self.poisoned += other.poisoned;
    }
}

/// Plays one seed: several lives of one journal, each ended by a power failure or a clean stop.
fn play(seed: u64, plan: Plan) -> Result<Done, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut random = Random(seed);
    let disk = Disk::new(Random(random.next()));
    disk.state().lies = plan.lies;
    let mut model = Model::default();
    let mut done = Done::default();
    for life in 0..plan.lives {
        // The power may also go while the journal opens.
        let typical = plan.groups * 12;
        disk.state().until_crash = (!random.one_in(4)).then(|| 1 + random.below(typical));
        let (journal, replayed) = match reopen(&disk) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. }) if disk.state().crashed => {
                done.failed_opens += 1;
                disk.reboot();
                continue;
            }
            Err(error) => return Err(format!("life {life}: {error}")),
        };
        model.check(&replayed).map_err(|error| format!("life {life}: {error}"))?;
        let stats = runtime.block_on(live(&journal, &disk, &mut model, &mut random, plan.groups));
        done.bytes_rewritten += stats.bytes_rewritten;
        done.poisoned += u64::from(journal.writable() != Err(JournalError::Closed));
        disk.reboot();
    }
    let (_, replayed) = reopen(&disk).map_err(|error| format!("at the end: {error}"))?;
    model.check(&replayed).map_err(|error| format!("at the end: {error}"))?;
    done.confirmed = model.confirmed.iter().filter(|&&confirmed| confirmed).count();
    Ok(done)
}

async fn live(
    journal: &Journal,
    disk: &Disk,
    model: &mut Model,
    random: &mut Random,
    groups: u64,
) -> Stats {
    let mut commits: Vec<(usize, Commit)> = Vec::new();
    let mut alive: Vec<usize> = model
        .facts
        .iter()
        .enumerate()
        .filter(|(_, fact)| !fact.gone)
        .map(|(index, _)| index)
        .collect();
    let patient = random.one_in(2);
    for _ in 0..groups {
        let group_index = model.confirmed.len();
        model.confirmed.push(false);
        let mut group = Group::new();
        for _ in 0..random.below(4) {
            if !alive.is_empty() && (alive.len() > 60 || random.one_in(2)) {
                // Mostly the oldest, as a queue; sometimes any.
                let at = match random.below(3) {
                    0 => random.below(alive.len() as u64),
                    _ => 0,
                };
                let index = alive.remove(usize::try_from(at).unwrap());
                model.facts[index].ended_by = Some(group_index);
                group.end(model.facts[index].entry);
            }
        }
        let mut payloads = Vec::new();
        for _ in 0..random.below(4) {
            let bytes = match random.below(40) {
                0 => 300_000,
                1..4 => random.below(60_000),
                _ => random.below(3_000),
            };
            let mut payload = model.next_id.to_le_bytes().to_vec();
            payload.resize(8 + usize::try_from(bytes).unwrap(), random.next() as u8);
            model.next_id += 1;
            group.fact(KIND, Arc::new(payload.clone()));
            payloads.push(payload);
        }
        let urgency = match patient {
            true => Urgency::Within(Duration::from_secs(3_600)),
            false => Urgency::Now,
        };
        let appended = journal.append(group, urgency);
        for (entry, payload) in appended.entries.iter().zip(payloads) {
            alive.push(model.facts.len());
            model.by_id.insert(id_of(&payload).unwrap(), model.facts.len());
            model.facts.push(Known {
                entry: *entry,
                payload,
                group: group_index,
                ended_by: None,
                gone: false,
            });
        }
        commits.push((group_index, appended.commit));
        if random.one_in(5) {
            let flushed = journal.flush().await;
            settle(&mut commits, model).await;
            if flushed.is_err() {
                break;
            }
        } else if !patient && random.one_in(4) {
            settle(&mut commits, model).await;
        }
        journal.next_position();
    }
    match random.below(3) {
        0 => journal.close(),
        1 => {
            let _ = journal.flush().await;
        }
        _ => {}
    }
    for (group, commit) in &mut commits {
        // What is settled at this moment, before the batch that it was in is.
        let settled = poll_fn(|context| Poll::Ready(Pin::new(&mut *commit).poll(context))).await;
        model.confirmed[*group] |= matches!(settled, Poll::Ready(Ok(_)));
    }
    disk.pull_the_plug();
    journal.close();
    settle(&mut commits, model).await;
    journal.stats()
}

/// Notes which groups were confirmed.
async fn settle(commits: &mut Vec<(usize, Commit)>, model: &mut Model) {
    for (group, commit) in commits.drain(..) {
        match commit.await {
            Ok(_) => model.confirmed[group] = true,
            Err(JournalError::Poisoned { .. } | JournalError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn seeds(default: u64) -> u64 {
    std::env::var("LEVERET_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn what_was_confirmed_survives_every_power_failure() {
    let plan = Plan { lives: 4, groups: 40, lies: false };
    let mut done = Done::default();
    for seed in 0..seeds(300) {
        match play(seed, plan) {
            Ok(one) => done.add(&one),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{done:?}");
    assert!(done.bytes_rewritten > 1_000_000, "compaction was hardly tried: {done:?}");
    assert!(done.confirmed > 1_000 && done.failed_opens > 0 && done.poisoned > 0, "{done:?}");
}

#[test]
fn the_model_catches_a_confirm_before_the_sync() {
    let plan = Plan { lives: 4, groups: 40, lies: true };
    let caught = (0..40).filter(|&seed| play(seed, plan).is_err()).count();
    assert!(caught >= 10, "only {caught} of 40 seeds noticed that nothing was ever synced");
}
