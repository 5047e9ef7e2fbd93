//! Reading facts back while the log runs: from the active segment beside its writer, from sealed ones,
//! and from where compaction moved them. It goes on after the journal failed, for what was committed.
//!
//! The writer says where its commits lie before it settles who waits for them, so a committed fact is
//! always found. A read holds no lock of the writer's: a segment that is deleted during it stays
//! readable by the handle that is open, and one that is gone before is looked for where its facts
//! went.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::places::{Place, Places, Written};
use super::row::{Record, RecordReader, decode_row};
use super::segment::{OpenSegment, SealedSegment, SegmentError};
use super::store::SegmentStore;
use super::{Entry, Journal, Kind, Log, Position, ReadError};

/// Sealed segments that stay open for the next read, each with a cache of redb's.
const OPEN_SEGMENTS_MAX: usize = 8;

/// How often a read looks again for what compaction moved away under it.
const ATTEMPTS_MAX: usize = 4;

/// Takes each fact that a read finds.
pub type Visit<'a> = dyn FnMut(Entry, Kind, &[u8]) + 'a;

impl Journal {
    /// Reads facts back that are alive: `visit` gets each once, first those that are not known to be on
    /// disk, the others in the order in which they lie there. `positions` rise. Blocks for the disk,
    /// without holding the writer up; goes on when the journal has failed, with what waited to be written
    /// and is small ([`SMALL_WEIGHT_MAX`]).
    ///
    /// # Errors
    /// When one of them is not found, or the disk fails or is damaged; `visit` may have got others by
    /// then.
    pub fn read(&self, positions: &[Position], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        match (&self.log, positions.first()) {
            (_, None) => Ok(()),
            (Some(log), _) => log.read(positions, visit),
            (None, Some(&position)) => Err(ReadError::Missing { position }),
        }
    }

    /// Whether [`Journal::read`] gives small facts back that are not committed. Once the journal takes no
    /// more, what was refused has a place too, and is nowhere to be read.
    pub fn reads_uncommitted(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.shared.is_taking())
    }
}

impl Log {
    fn read(&self, positions: &[Position], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let uncommitted = self.shared.read_uncommitted(positions);
        if uncommitted.is_empty() {
            return self.reader.read(positions, visit);
        }
        let is_committed = |&position: &Position| {
            uncommitted.binary_search_by_key(&position, |(entry, ..)| entry.position).is_err()
        };
        let committed: Vec<Position> = positions.iter().copied().filter(is_committed).collect();
        for (entry, kind, payload) in &uncommitted {
            visit(*entry, *kind, payload);
        }
        self.reader.read(&committed, visit)
    }
}

pub(super) struct Reader {
    /// `None` once the journal is closed.
    store: RwLock<Option<Arc<dyn SegmentStore>>>,
    places: RwLock<Places>,
    /// The segment that is written to.
    active: RwLock<Option<(u64, OpenSegment)>>,
    /// The latest used last.
    sealed: Mutex<VecDeque<(u64, Arc<SealedSegment>)>>,
}

impl Reader {
    /// Over what recovery found.
    pub(super) fn new(store: Arc<dyn SegmentStore>, places: Places) -> Self {
        Self {
            store: RwLock::new(Some(store)),
            places: RwLock::new(places),
            active: RwLock::new(None),
            sealed: Mutex::default(),
        }
    }

    /// The writer goes on in `next`, or not at all. Nobody has the handle of the segment before any more.
    pub(super) fn roll(&self, next: Option<(u64, OpenSegment)>) {
        *self.active.write() = next;
    }

    /// Closes a segment that was active. Nothing is opened meanwhile: a file that is being closed is not
    /// whole. Before that it is, and who has it open then keeps what it needs of it.
    pub(super) fn closing<T>(&self, close: impl FnOnce() -> T) -> T {
        let _none_opens = self.store.write();
        close()
    }

    /// A commit is done; nobody asks for what is in it before it is on disk.
    pub(super) fn wrote(&self, segment: u64, written: Written) {
        self.places.write().add(segment, written);
    }

    /// A segment will be deleted: everything that lives is elsewhere.
    pub(super) fn deleted(&self, segment: u64) {
        self.places.write().remove(segment);
        self.sealed.lock().retain(|(open, _)| *open != segment);
    }

    /// Gives the store and every file back.
    pub(super) fn close(&self) {
        *self.active.write() = None;
        self.sealed.lock().clear();
        *self.store.write() = None;
    }

    pub(super) fn read(
        &self,
        positions: &[Position],
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let mut wanted: Vec<u64> = positions.iter().map(|position| position.0).collect();
        let mut failure = None;
        for _ in 0..ATTEMPTS_MAX {
            let places = self.find(&wanted);
            let mut found: Vec<bool> = vec![false; wanted.len()];
            let mut visit = |entry: Entry, kind: Kind, payload: &[u8]| {
                let at = wanted.binary_search(&entry.position.0);
                if let Some(found) = at.ok().and_then(|at| found.get_mut(at))
                    && !std::mem::replace(found, true)
                {
                    visit(entry, kind, payload);
                }
            };
            // Copies lie in the rows that are named, a segment's own facts from the first of theirs on:
            // rows between two that nothing is wanted of are not read.
            let together = |a: Place, b: Place| {
                let (own, near) = (!a.is_copy && !b.is_copy, b.row.abs_diff(a.row) <= 1);
                a == b || (a.segment == b.segment && own && near)
            };
            for stretch in places.chunk_by(|(a, _), (b, _)| together(*a, *b)) {
                if let Err(error) = self.read_stretch(stretch, &mut visit) {
                    failure = Some(error);
                }
            }
            let mut found = found.into_iter();
            wanted.retain(|_| !found.next().unwrap_or(false));
            if wanted.is_empty() {
                return Ok(());
            }
            // Compaction may have moved the rest meanwhile; if not, there is no better answer.
            if self.find(&wanted).iter().all(|place| places.contains(place)) {
                break;
            }
        }
        let position = Position(wanted.first().copied().unwrap_or_default());
        Err(failure.unwrap_or(ReadError::Missing { position }))
    }

    /// Where to look for each, by segment and row.
    fn find(&self, positions: &[u64]) -> Vec<(Place, u64)> {
        let places = self.places.read();
        let found = positions.iter().filter_map(|&at| Some((places.find(at)?, at)));
        let mut found: Vec<(Place, u64)> = found.collect();
        found.sort_unstable();
        found
    }

    /// Reads rows of one segment from the first place on until all positions, which rise, are found.
    fn read_stretch(
        &self,
        stretch: &[(Place, u64)],
        found: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let (Some(&(place, _)), Some(&(_, last))) = (stretch.first(), stretch.last()) else {
            return Ok(());
        };
        let mut reader = RecordReader::default();
        let mut left = stretch.len();
        let mut visit = |key: u64, bytes: &[u8]| {
            let damaged = |error| SegmentError::damaged(Some(key), error);
            let row = decode_row(bytes).map_err(damaged)?;
            if row.rewritten != place.is_copy {
                return Ok(true);
            }
            let mut passed = false;
            for record in reader.read(&row).map_err(damaged)? {
                let Record::Fact { position, kind, weight, payload, .. } =
                    record.map_err(damaged)?
                else {
                    continue;
                };
                if stretch.binary_search_by_key(&position, |&(_, at)| at).is_ok() {
                    left -= 1;
                    found(Entry { position: Position(position), weight }, Kind(kind), payload);
                }
                passed |= !place.is_copy && position > last;
            }
            Ok(left > 0 && !passed)
        };
        let active = self.active.read();
        let read = match &*active {
            Some((segment, active)) if *segment == place.segment => {
                active.rows(place.row, &mut visit)
            }
            _ => {
                drop(active);
                self.sealed(place.segment).and_then(|sealed| sealed.rows(place.row, &mut visit))
            }
        };
        read.map(|_| ()).map_err(|error| self.error(place.segment, error))
    }

    /// An open handle on a sealed segment. Its file was verified when the log was opened, or written
    /// since.
    fn sealed(&self, segment: u64) -> Result<Arc<SealedSegment>, SegmentError> {
        let of = |(open, _): &(u64, _)| *open == segment;
        {
            let mut sealed = self.sealed.lock();
            if let Some(used) = sealed.iter().position(of).and_then(|at| sealed.remove(at)) {
                let handle = used.1.clone();
                sealed.push_back(used);
                return Ok(handle);
            }
        }
        let handle = {
            let store = self.store.read();
            let store =
                store.as_ref().ok_or_else(|| SegmentError::damaged(None, "it is closed"))?;
            Arc::new(SealedSegment::open(store.as_ref(), segment, false)?)
        };
        let mut sealed = self.sealed.lock();
        // One that was deleted meanwhile would stay open, and its file on the disk: nobody asks for it
        // again. Looked at under the lock under which it would have been forgotten.
        if !self.places.read().has(segment) {
            return Ok(handle);
        }
        sealed.retain(|open| !of(open));
        while sealed.len() >= OPEN_SEGMENTS_MAX {
            sealed.pop_front();
        }
        sealed.push_back((segment, handle.clone()));
        Ok(handle)
    }

    fn error(&self, segment: u64, error: SegmentError) -> ReadError {
        let Some(store) = &*self.store.read() else { return ReadError::Closed };
        let reason: Arc<str> = match error.row {
            Some(row) => format!("{} at row {row}: {}", store.name(segment), error.reason).into(),
            None => format!("{}: {}", store.name(segment), error.reason).into(),
        };
        ReadError::Failed { reason }
    }
}
