//! What the segments say at the start.
//!
//! The first pass goes over every record of every segment, oldest first, and rebuilds [`Liveness`] by the
//! same steps that the writer took. A crash between the copy of a fact and the removal of its old
//! segment leaves two rows with one position: the copy wins, as it did then. The second pass hands
//! out the facts that live.
//!
//! Both read the index of a segment instead of its rows, as far as it goes; of the rows that it covers,
//! those are read that hold payloads which are asked for. So what a start reads is verified, and what it
//! does not read is verified when it is; [`super::check`] reads all of it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::index::{Chunk, IndexWriter, Indexed, indexed, says_the_same};
use super::liveness::Liveness;
use super::places::{Places, Written};
use super::row::{Record, RecordReader, RowError, decode_row};
use super::segment::{Head, SealedSegment, SegmentError};
use super::store::SegmentStore;
use super::{Entry, Kind, OpenError, Position};

/// What an owner is told of a fact at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// What the fact was tagged with. The answer `false` asks for the payload, which follows at once.
    Tag(&'a [u8]),
    Payload(&'a [u8]),
}

/// Takes each live fact when a log is opened; the text of an error says why it was refused.
pub type Replay<'a> = dyn FnMut(Entry, Kind, Content<'_>) -> Result<bool, String> + 'a;

/// As [`Replay`], where every payload is wanted.
pub type ReplayPayloads<'a> = dyn FnMut(Entry, Kind, &[u8]) -> Result<(), String> + 'a;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The indexes, and the rows that are asked for.
    Needed,
    /// Every page and every row; and the indexes have to agree with them.
    Everything,
}

/// What was found.
#[derive(Default)]
pub(super) struct Recovered {
    pub liveness: Liveness,
    pub places: Places,
    /// The head of the newest segment; `None` when there is no segment.
    pub head: Option<Head>,
    pub last_position: u64,
    /// Bytes of the rows of each segment.
    pub row_bytes: BTreeMap<u64, u64>,
    /// Rows that were read in the first pass, and records.
    pub rows: u64,
    pub records: u64,
}

impl SegmentError {
    pub(super) fn at_open(self, store: &dyn SegmentStore, segment: u64) -> OpenError {
        let file = store.name(segment);
        match self.io {
            Some(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                OpenError::Io { what: file, source }
            }
            _ => OpenError::Damaged { file, row: self.row, reason: self.reason },
        }
    }
}

/// Both passes.
pub(super) fn recover(
    store: &dyn SegmentStore,
    depth: Depth,
    replay: &mut Replay<'_>,
) -> Result<Recovered, OpenError> {
    let mut segments = store.list().map_err(OpenError::io("can't list the segments"))?;
    segments.sort_unstable();
    let mut recovered = Recovered::default();
    for &id in &segments {
        SealedSegment::open(store, id, depth == Depth::Everything)
            .and_then(|segment| match depth {
                Depth::Needed => recovered.read(id, &segment),
                Depth::Everything => recovered.read_everything(id, &segment),
            })
            .map_err(|error| error.at_open(store, id))?;
    }
    recovered.liveness.begin_weighing();
    for id in segments {
        if !recovered.liveness.is_alive(id) {
            continue;
        }
        let mut refused = None;
        // Opened anew: so many open files as there may be segments would hold as many caches.
        SealedSegment::open(store, id, false)
            .and_then(|segment| recovered.hand_out(id, &segment, replay, &mut refused))
            .map_err(|error| refused.unwrap_or_else(|| error.at_open(store, id)))?;
    }
    Ok(recovered)
}

/// Puts on disk what was found: after a process that was killed it may lie in the system's memory alone, and
/// what is written from now on, or deleted, counts on it.
pub(super) fn settle(store: &dyn SegmentStore) -> Result<(), OpenError> {
    for id in store.list().map_err(OpenError::io("can't list the segments"))? {
        let synced = store.open(id).and_then(|segment| segment.sync_data());
        synced.map_err(OpenError::io(store.name(id)))?;
    }
    Ok(())
}

fn at(row: u64) -> impl Fn(RowError) -> SegmentError {
    move |error| SegmentError::damaged(Some(row), error)
}

/// The chunks of an index that follow each other from the first row on, and the first row that they do
/// not cover.
fn chunks(segment: &SealedSegment) -> (Vec<Vec<u8>>, u64) {
    let mut next_row = 0;
    let mut chunks = segment.chunks().unwrap_or_else(|error| {
        tracing::warn!(%error, "an index can't be read; the rows will do");
        Vec::new()
    });
    let follow = chunks.iter().take_while(|bytes| match Chunk::decode(bytes) {
        Ok(chunk) if chunk.first_row == next_row => {
            next_row = chunk.next_row;
            true
        }
        _ => false,
    });
    let follow = follow.count();
    if follow < chunks.len() {
        tracing::warn!(chunk = follow, "an index is damaged; the rows will do");
        chunks.truncate(follow);
    }
    (chunks, next_row)
}

impl Recovered {
    fn begin(&mut self, id: u64, segment: &SealedSegment) -> Result<(), SegmentError> {
        let head = segment.head()?;
        if head.segment != id {
            let reason = format!("it is segment {} under another name", head.segment);
            return Err(SegmentError::damaged(None, reason));
        }
        if self.head.as_ref().is_some_and(|older| older.log != head.log) {
            return Err(SegmentError::damaged(None, "it belongs to another log"));
        }
        if let Some(&(_, first_position)) = head.epochs.last() {
            self.last_position = self.last_position.max(first_position.saturating_sub(1));
        }
        self.head = Some(head);
        self.liveness.add_segment(id);
        Ok(())
    }

    /// The first pass over one segment.
    fn read(&mut self, id: u64, segment: &SealedSegment) -> Result<(), SegmentError> {
        self.begin(id, segment)?;
        let (chunks, next_row) = chunks(segment);
        let mut written = Written::default();
        let mut row_bytes = 0;
        for bytes in &chunks {
            let in_index = |error: RowError| SegmentError::damaged(None, error);
            let chunk = Chunk::decode(bytes).map_err(in_index)?;
            self.last_position = self.last_position.max(chunk.last_position);
            row_bytes += chunk.row_bytes;
            for record in chunk.records() {
                let record = record.map_err(in_index)?;
                self.apply(id, &record, chunk.last_position, None)?;
                written.note(&record);
            }
        }
        row_bytes += self.read_rows(id, segment, next_row, &mut written, |_, _| Ok(()))?;
        self.places.add(id, written);
        self.row_bytes.insert(id, row_bytes);
        Ok(())
    }

    /// The same, over all rows, and over the index to compare it.
    fn read_everything(&mut self, id: u64, segment: &SealedSegment) -> Result<(), SegmentError> {
        self.begin(id, segment)?;
        let mut written = Written::default();
        let mut index = IndexWriter::default();
        let mut chunks = segment.chunks()?.into_iter().peekable();
        let row_bytes = self.read_rows(id, segment, 0, &mut written, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            index.add_row(indexed(key, &row), bytes.len(), |_| ());
            let ends_here = |chunk: &Vec<u8>| match Chunk::decode(chunk) {
                Ok(chunk) => chunk.next_row == key + 1,
                Err(_) => true,
            };
            match chunks.next_if(ends_here) {
                Some(chunk) if !says_the_same(&chunk, &index.cut(key + 1, row.last_position)) => {
                    Err(SegmentError::damaged(Some(key), "its index says something else"))
                }
                _ => Ok(()),
            }
        })?;
        if chunks.next().is_some() {
            return Err(SegmentError::damaged(None, "its index does not end with a row"));
        }
        self.places.add(id, written);
        self.row_bytes.insert(id, row_bytes);
        Ok(())
    }

    /// Reads rows from `from` to the end; how many bytes those have. `also` sees each.
    fn read_rows(
        &mut self,
        id: u64,
        segment: &SealedSegment,
        from: u64,
        written: &mut Written,
        mut also: impl FnMut(u64, &[u8]) -> Result<(), SegmentError>,
    ) -> Result<u64, SegmentError> {
        let mut reader = RecordReader::default();
        let mut row_bytes = 0;
        segment.rows(from, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            self.rows += 1;
            row_bytes += bytes.len() as u64;
            self.last_position = self.last_position.max(row.last_position);
            for record in indexed(key, &row) {
                self.apply(id, &record, row.last_position, Some(key))?;
                written.note(&record);
            }
            // What begins in a row was seen; whether it is whole is seen here.
            for record in reader.read(&row).map_err(at(key))? {
                record.map_err(at(key))?;
                self.records += 1;
            }
            also(key, bytes)?;
            Ok(true)
        })?;
        if reader.is_within_record() {
            return Err(SegmentError::damaged(None, "its last record is cut off"));
        }
        Ok(row_bytes)
    }

    fn apply(
        &mut self,
        id: u64,
        record: &Indexed<'_>,
        last_position: u64,
        row: Option<u64>,
    ) -> Result<(), SegmentError> {
        let (position, undisturbed) = match *record {
            Indexed::Fact { position, weight, is_copy, .. } => {
                let entry = Entry { position: Position(position), weight };
                if is_copy {
                    self.liveness.copy(id, entry);
                    (position, true)
                } else {
                    (position, self.liveness.fact(id, entry))
                }
            }
            Indexed::End { position, segment } => {
                self.liveness.end_found(id, position, segment);
                (position, true)
            }
        };
        if !undisturbed || position > last_position {
            let reason = format!("position {position} is out of order");
            return Err(SegmentError::damaged(row, reason));
        }
        Ok(())
    }

    /// The second pass over one segment.
    fn hand_out(
        &mut self,
        id: u64,
        segment: &SealedSegment,
        replay: &mut Replay<'_>,
        refused: &mut Option<OpenError>,
    ) -> Result<(), SegmentError> {
        let mut offer = |entry: Entry, kind, row, content: Content<'_>| {
            replay(entry, Kind(kind), content).map_err(|reason| {
                let error = SegmentError::damaged(Some(row), &reason);
                let position = entry.position.0;
                *refused = Some(OpenError::Replay { position, kind, reason });
                error
            })
        };
        let (chunks, next_row) = chunks(segment);
        let mut loaded = LoadedRow::default();
        for bytes in &chunks {
            let in_index = |error: RowError| SegmentError::damaged(None, error);
            for record in Chunk::decode(bytes).map_err(in_index)?.records() {
                let Indexed::Fact { position, kind, weight, tag, row, .. } =
                    record.map_err(in_index)?
                else {
                    continue;
                };
                let entry = Entry { position: Position(position), weight };
                if !self.liveness.weigh(id, entry)
                    || (!tag.is_empty() && offer(entry, kind, row, Content::Tag(tag))?)
                {
                    continue;
                }
                let payload = loaded.payload(segment, row, position)?;
                offer(entry, kind, row, Content::Payload(payload))?;
            }
        }
        let mut reader = RecordReader::default();
        segment.rows(next_row, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            for record in reader.read(&row).map_err(at(key))? {
                let Record::Fact { position, kind, weight, tag, payload } =
                    record.map_err(at(key))?
                else {
                    continue;
                };
                let entry = Entry { position: Position(position), weight };
                if !self.liveness.weigh(id, entry)
                    || (!tag.is_empty() && offer(entry, kind, key, Content::Tag(tag))?)
                {
                    continue;
                }
                offer(entry, kind, key, Content::Payload(payload))?;
            }
            Ok(true)
        })?;
        Ok(())
    }
}

/// The payloads of the row that was asked for last: its neighbours are likely to be asked for next.
#[derive(Default)]
struct LoadedRow {
    row: Option<u64>,
    payloads: Vec<u8>,
    facts: Vec<(u64, Range<usize>)>,
    /// Behind the fact that was asked for last: mostly they are asked for in their order.
    next: usize,
}

impl LoadedRow {
    fn payload(
        &mut self,
        segment: &SealedSegment,
        row: u64,
        position: u64,
    ) -> Result<&[u8], SegmentError> {
        if self.row != Some(row) {
            self.load(segment, row)?;
        }
        let (before, behind) = self.facts.split_at(self.next.min(self.facts.len()));
        let mut places = (self.next..).zip(behind).chain((0..).zip(before));
        let found = places.find(|(_, (at, _))| *at == position);
        let range = found.map(|(place, (_, range))| {
            self.next = place + 1;
            range.clone()
        });
        range.and_then(|range| self.payloads.get(range)).ok_or_else(|| {
            let reason = format!("it does not hold position {position}, as its index says");
            SegmentError::damaged(Some(row), reason)
        })
    }

    /// Reads a row, and those that its last record goes on in.
    fn load(&mut self, segment: &SealedSegment, row: u64) -> Result<(), SegmentError> {
        self.row = None;
        self.payloads.clear();
        self.facts.clear();
        self.next = 0;
        let mut reader = RecordReader::default();
        segment.rows(row, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            for record in reader.read(&row).map_err(at(key))? {
                if let Record::Fact { position, payload, .. } = record.map_err(at(key))? {
                    let begin = self.payloads.len();
                    self.payloads.extend_from_slice(payload);
                    self.facts.push((position, begin..self.payloads.len()));
                }
            }
            Ok(reader.is_within_record())
        })?;
        self.row = Some(row);
        Ok(())
    }
}
