//! Copies what counts of a mostly dead segment to the active one, a slice a commit, so that its
//! file can be deleted.
//!
//! Only a segment of which less than a half counts is a victim. Each byte that is copied frees at
//! least one that died, and every byte dies once, so less than twice what was appended is written in
//! all. A victim is looked for once a half of all sealed segments is dead, so the log takes about
//! twice what lives. Beyond that, a start may merge small segments that earlier starts left.

use super::liveness::Liveness;
use super::row::{Record, RecordReader, decode_row};
use super::row_writer::RowWriter;
use super::segment::{Rows, SealedSegment, SegmentError};
use super::store::SegmentStore;
use super::{Entry, Position};

/// What one slice reads at most, beyond a record's end.
const SLICE_READ_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A victim, and how far it was copied.
pub(super) struct Compaction {
    pub victim: u64,
    segment: SealedSegment,
    reader: RecordReader,
    next_row: u64,
}

impl Compaction {
    pub(super) fn of(store: &dyn SegmentStore, victim: u64) -> Result<Self, SegmentError> {
        let segment = SealedSegment::open(store, victim, false)?;
        Ok(Self { victim, segment, reader: RecordReader::default(), next_row: 0 })
    }

    /// Copies the next rows to `active` until `bytes_max` are copied; the rest of a row or a large
    /// record may pass that. Whether the victim's last row was read.
    pub(super) fn slice(
        &mut self,
        active: u64,
        bytes_max: u64,
        liveness: &mut Liveness,
        writer: &mut RowWriter,
        rows: &mut Rows<'_>,
    ) -> Result<bool, SegmentError> {
        let Self { victim, segment, reader, next_row } = self;
        let mut emit = |row: &[u8]| rows.append(row);
        let mut copied = 0;
        let mut read = 0;
        let rest = segment.rows(*next_row, |key, bytes| {
            let damaged = |error| SegmentError::damaged(Some(key), error);
            let row = decode_row(bytes).map_err(damaged)?;
            for record in reader.read(&row).map_err(damaged)? {
                copied += match record.map_err(damaged)? {
                    Record::Fact { position, kind, weight, tag, payload }
                        if liveness.locate(position) == Some(*victim) =>
                    {
                        liveness.copy(active, Entry { position: Position(position), weight });
                        let copy = |out: &mut Vec<u8>| {
                            out.extend_from_slice(tag);
                            out.extend_from_slice(payload);
                            u8::try_from(tag.len()).unwrap_or(u8::MAX)
                        };
                        writer.fact((position, kind, weight), copy, &mut emit)? as u64
                    }
                    Record::End { position, segment: of }
                        if of != *victim && liveness.is_present(of) =>
                    {
                        liveness.keep_end(active, of);
                        writer.end(position, of, &mut emit)? as u64
                    }
                    _ => 0,
                };
            }
            read += bytes.len() as u64;
            Ok(reader.is_within_record() || (copied < bytes_max && read < SLICE_READ_BYTES_MAX))
        })?;
        writer.finish(&mut emit)?;
        match rest {
            Some(rest) => *next_row = rest,
            None => return Ok(true),
        }
        Ok(false)
    }
}
