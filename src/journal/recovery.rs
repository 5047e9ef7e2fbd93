//! What the segments say at the start: verified in full, then the live facts handed to their owners.
//!
//! The first pass reads every row of every segment, oldest first, and rebuilds [`Liveness`] by the
//! same steps that the writer took. A crash between the copy of a fact and the removal of its old
//! segment leaves two rows with one position: the copy wins, as it did then. The second pass hands
//! out the facts that live.

use std::collections::BTreeMap;
use std::io;

use super::liveness::Liveness;
use super::places::{Places, Written};
use super::row::{Record, RecordReader, RowError, decode_row};
use super::segment::{Head, SealedSegment, SegmentError};
use super::store::SegmentStore;
use super::{Entry, Kind, OpenError, Position};

/// Takes each live fact when a log is opened; the text of an error says why it was refused.
pub type Replay<'a> = dyn FnMut(Entry, Kind, &[u8]) -> Result<(), String> + 'a;

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
    replay: &mut Replay<'_>,
) -> Result<Recovered, OpenError> {
    let mut segments = store.list().map_err(OpenError::io("can't list the segments"))?;
    segments.sort_unstable();
    let mut recovered = Recovered::default();
    let mut sealed = Vec::with_capacity(segments.len());
    for &id in &segments {
        let segment = SealedSegment::open(store, id, true)
            .and_then(|segment| recovered.read(id, &segment).map(|()| segment))
            .map_err(|error| error.at_open(store, id))?;
        sealed.push((id, segment));
    }
    recovered.liveness.begin_weighing();
    for (id, segment) in sealed {
        let mut refused = None;
        recovered
            .hand_out(id, &segment, replay, &mut refused)
            .map_err(|error| refused.unwrap_or_else(|| error.at_open(store, id)))?;
    }
    Ok(recovered)
}

fn at(row: u64) -> impl Fn(RowError) -> SegmentError {
    move |error| SegmentError::damaged(Some(row), error)
}

impl Recovered {
    /// The first pass over one segment.
    fn read(&mut self, id: u64, segment: &SealedSegment) -> Result<(), SegmentError> {
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
        let mut reader = RecordReader::default();
        let mut written = Written::default();
        let mut row_bytes = 0;
        segment.rows(0, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            self.rows += 1;
            row_bytes += bytes.len() as u64;
            written.note(key, &row);
            self.last_position = self.last_position.max(row.last_position);
            for record in reader.read(&row).map_err(at(key))? {
                self.records += 1;
                let (position, undisturbed) = match record.map_err(at(key))? {
                    Record::Fact { position, weight, .. } => {
                        let entry = Entry { position: Position(position), weight };
                        if row.rewritten {
                            self.liveness.copy(id, entry);
                            (position, true)
                        } else {
                            (position, self.liveness.fact(id, entry))
                        }
                    }
                    Record::End { position, segment } => {
                        self.liveness.end_found(id, position, segment);
                        (position, true)
                    }
                };
                if !undisturbed || position > row.last_position {
                    let reason = format!("position {position} is out of order");
                    return Err(SegmentError::damaged(Some(key), reason));
                }
            }
            Ok(true)
        })?;
        if reader.is_within_record() {
            return Err(SegmentError::damaged(None, "its last record is cut off"));
        }
        self.places.add(id, written);
        self.row_bytes.insert(id, row_bytes);
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
        let mut reader = RecordReader::default();
        segment.rows(0, |key, bytes| {
            let row = decode_row(bytes).map_err(at(key))?;
            for record in reader.read(&row).map_err(at(key))? {
                let Record::Fact { position, kind, weight, payload } = record.map_err(at(key))?
                else {
                    continue;
                };
                let entry = Entry { position: Position(position), weight };
                if !self.liveness.weigh(id, entry) {
                    continue;
                }
                if let Err(reason) = replay(entry, Kind(kind), payload) {
                    let error = SegmentError::damaged(Some(key), &reason);
                    *refused = Some(OpenError::Replay { position, kind, reason });
                    return Err(error);
                }
            }
            Ok(true)
        })?;
        Ok(())
    }
}
