//! The writer's thread: the only one that touches the segments.
//!
//! It takes the open batch, encodes it, and commits it as one transaction of the active segment;
//! meanwhile the next batch grows. Unless a batch is small, another thread waits for the disk and settles
//! those who wait (`syncer`), while this one writes the next, as soon as that is not small. Between batches
//! it compacts. Any failure ends it, and with it the journal.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, Content, Slot, Taken};
use super::compaction::Compaction;
use super::group::encode_content;
use super::liveness::{Facts, Liveness};
use super::reading::Reader;
use super::rolling::Rolling;
use super::row::empty_row;
use super::row_writer::RowWriter;
use super::segment::{ActiveSegment, Head, Rows, SegmentError, empty_bytes};
use super::shared::{Shared, Work};
use super::stats::Counters;
use super::store::SegmentStore;
use super::syncer::{Syncer, Unsynced};
use super::{Entry, JournalError};

/// While little lives, segments stay small, so that what died leaves the disk soon.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// A segment holds at most this share of what lives, so that compaction moves little at a time.
const LIVE_SHARE: u64 = 4;

/// A small disk is never filled by one segment.
const DISK_SHARE: u64 = 16;

/// Parts of a small segment: what a slice of compaction copies while nothing else is due (1 MiB), and
/// at least beside a batch (64 KiB).
const SLICES: u64 = 16;
const SLICES_BESIDE_BATCH: u64 = 256;

/// More small segments than this are merged; each start leaves one.
const SMALL_SEGMENTS_MAX: usize = 16;

const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Bounds of a segment's size, in bytes of rows.
#[derive(Clone, Copy)]
pub(super) struct SegmentSize {
    min: u64,
    max: u64,
}

impl SegmentSize {
    pub(super) fn new(segment_bytes_max: u64, disk_bytes: u64) -> Self {
        let max = segment_bytes_max.min(disk_bytes / DISK_SHARE).max(64 * 1024);
        Self { min: SEGMENT_BYTES_MIN.min(max), max }
    }

    /// At how many bytes of rows a segment is sealed.
    pub(super) fn seal_at(self, live_bytes: u64) -> u64 {
        (live_bytes / LIVE_SHARE).clamp(self.min, self.max)
    }

    fn small(self) -> u64 {
        self.min / 4
    }
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub counters: Arc<Counters>,
    pub reader: Arc<Reader>,
    pub store: Arc<dyn SegmentStore>,
    pub syncer: Syncer,
    pub rolling: Rolling,
    pub head: Head,
    pub active: ActiveSegment,
    pub liveness: Liveness,
    /// Bytes of the rows of each sealed segment.
    pub sealed_bytes: BTreeMap<u64, u64>,
    pub segment_size: SegmentSize,
    pub rows: RowWriter,
    pub compaction: Option<Compaction>,
    /// The last position that a committed row carries.
    pub committed_position: u64,
    pub disk_checked: Instant,
    pub bytes_since_check: u64,
}

impl Writer {
    /// Works until the journal is closed or fails.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{}: {error}", self.store.name(self.active.id))),
            Err(_) => Some("the writer panicked".to_owned()),
        };
        self.syncer.stop();
        if let Some(reason) = &failure {
            // Who waits is told first: closing what failed may fail in its own way, and take its time.
            shared.fail(JournalError::Poisoned { reason: reason.as_str().into() });
        }
        self.rolling.stop();
        let active = self.active;
        let close = || match &failure {
            None => active.seal().err(),
            Some(_) => {
                drop(active);
                None
            }
        };
        self.reader.roll(None);
        let closed =
            catch_unwind(AssertUnwindSafe(|| self.reader.closing(close))).unwrap_or_else(|_| {
                Some(SegmentError::damaged(None, "the writer panicked as it closed"))
            });
        let failure = failure.or_else(|| closed.map(|error| error.to_string()));
        if let Some(reason) = &failure {
            tracing::error!(%reason, "the journal failed and takes no more writes");
        }
        // The store is still held here: who sees the journal closed may open it again only after
        // the thread was joined.
        shared.fail(match failure {
            Some(reason) => JournalError::Poisoned { reason: reason.into() },
            None => JournalError::Closed,
        });
    }

    fn serve(&mut self) -> Result<(), SegmentError> {
        self.delete_dead_segments()?;
        loop {
            self.choose_victim()?;
            self.publish_counters();
            match self.shared.next_work(self.may_compact()) {
                Work::Commit(batch) => {
                    self.check_disk(false)?;
                    self.commit(&mut batch.lock())?;
                    self.publish_counters();
                    self.settle(batch)?;
                }
                Work::Spare => {
                    self.check_disk(true)?;
                    self.leave_the_dead()?;
                    if self.may_compact() {
                        self.commit(&mut Batch::default())?;
                        self.active.unfinished_sync().finish()?;
                    }
                }
                Work::Close => return self.carry_position(),
            }
            self.delete_dead_segments()?;
        }
    }

    /// Settles a batch when it is on disk. A small commit is not worth the way over another thread.
    fn settle(&mut self, batch: Taken) -> Result<(), SegmentError> {
        let sync = self.active.unfinished_sync();
        if batch.lock().is_large() {
            self.shared.begin_syncing();
            self.syncer.settle(Unsynced { batch, sync });
            return Ok(());
        }
        sync.finish()?;
        self.shared.committed(batch);
        Ok(())
    }

    /// Encodes a batch and a slice of compaction, and commits both as one.
    fn commit(&mut self, batch: &mut Batch) -> Result<(), SegmentError> {
        let slice_bytes = match batch.is_untouched() {
            true => self.segment_size.min / SLICES,
            false => (batch.live_bytes() as u64)
                .clamp(self.segment_size.min / SLICES_BESIDE_BATCH, self.segment_size.min / SLICES),
        };
        let compacts = self.may_compact();
        if batch.is_moot() && !compacts {
            return Ok(());
        }
        self.roll_if_full(batch.live_bytes() as u64)?;
        let Self { active, liveness, rows: writer, compaction, shared, .. } = self;
        let id = active.id;
        // The batch was taken before this is read.
        let last_position = shared.last_position();
        let (mut appended, mut completed) = (0, false);
        let bytes = active.commit(|rows| {
            writer.begin(false, last_position);
            write_batch(batch, id, liveness, writer, rows)?;
            writer.finish(&mut |row| rows.append(row))?;
            appended = rows.bytes();
            if let Some(compaction) = compaction.as_mut().filter(|_| compacts) {
                writer.begin(true, last_position);
                completed = compaction.slice(id, slice_bytes, liveness, writer, rows)?;
            }
            Ok(())
        })?;
        if bytes > 0 {
            self.reader.wrote(id, self.active.take_written());
            self.committed_position = last_position;
            self.bytes_since_check += bytes;
            self.shared.gate.disk_took(bytes);
            self.counters.committed(appended, bytes - appended);
        }
        if completed && let Some(compaction) = self.compaction.take() {
            let victim = compaction.victim;
            if !self.liveness.copied(victim) {
                let reason = format!("segment {victim} holds what compaction did not find");
                return Err(SegmentError::damaged(None, reason));
            }
        }
        Ok(())
    }

    /// Begins a new segment when the active one has its size; the next is made ready before.
    fn roll_if_full(&mut self, bytes: u64) -> Result<(), SegmentError> {
        let size = self.segment_size.seal_at(self.liveness.live_bytes());
        let (full, has) = (size.min(self.active.bytes_planned), self.active.row_bytes);
        if has >= full / 2 && !self.rolling.is_prepared() && !self.shared.gate.is_alarmed() {
            self.rolling.prepare(self.next_head(), size);
        }
        if has == 0 || has + bytes <= full {
            return Ok(());
        }
        self.roll(size)
    }

    /// Under the alarm, what is dead in the active segment is space too, and without publishers nothing fills
    /// it any more: it is sealed, to be deleted or compacted.
    fn leave_the_dead(&mut self) -> Result<(), SegmentError> {
        let Self { active, liveness, segment_size, shared, .. } = self;
        let size = segment_size.seal_at(liveness.live_bytes());
        let copies = liveness.kept_bytes(active.id) + empty_bytes(size);
        if shared.gate.is_alarmed()
            && self.compaction.is_none()
            && active.row_bytes >= segment_size.min / SLICES
            && liveness.is_half_dead(active.id)
            && shared.gate.may_copy(copies)
        {
            self.roll(size)?;
        }
        Ok(())
    }

    fn roll(&mut self, size: u64) -> Result<(), SegmentError> {
        self.head = self.next_head();
        let mut next = self.rolling.next(&self.head, size)?;
        next.follow(&self.active);
        let sealed = std::mem::replace(&mut self.active, next);
        self.sealed_bytes.insert(sealed.id, sealed.row_bytes);
        self.liveness.add_segment(self.active.id);
        self.reader.roll(Some((self.active.id, self.active.reading())));
        self.rolling.seal(sealed);
        Ok(())
    }

    fn next_head(&self) -> Head {
        Head { segment: self.head.segment + 1, ..self.head.clone() }
    }

    fn choose_victim(&mut self) -> Result<(), SegmentError> {
        if self.compaction.is_none() {
            let small = self.segment_size.small();
            let scarce = self.shared.gate.is_alarmed();
            let victim = self.liveness.victim(self.active.id, scarce, small, SMALL_SEGMENTS_MAX);
            if let Some(victim) = victim {
                self.rolling.finish_sealing_of(victim);
                self.compaction = Some(Compaction::of(self.store.as_ref(), victim)?);
            }
        }
        Ok(())
    }

    fn may_compact(&self) -> bool {
        self.compaction.as_ref().is_some_and(|compaction| {
            self.shared.gate.may_copy(self.liveness.kept_bytes(compaction.victim))
        })
    }

    /// Deletes what nothing lives in and nothing needs; each removal is on disk before the next.
    fn delete_dead_segments(&mut self) -> Result<(), SegmentError> {
        while let Some(dead) = self.liveness.deletable(self.active.id) {
            if self.compaction.as_ref().is_some_and(|compaction| compaction.victim == dead) {
                self.compaction = None;
            }
            // What ended the last of it has to be on disk.
            self.active.unfinished_sync().finish()?;
            self.rolling.finish_sealing_of(dead);
            self.reader.deleted(dead);
            self.store.remove(dead)?;
            self.liveness.remove(dead);
            self.sealed_bytes.remove(&dead);
        }
        Ok(())
    }

    fn check_disk(&mut self, now: bool) -> Result<(), SegmentError> {
        let much = self.bytes_since_check > self.shared.gate.reserve_bytes() / 16;
        if now || much || self.disk_checked.elapsed() >= DISK_CHECK_INTERVAL {
            self.shared.gate.disk_has(self.store.free_bytes()?);
            self.disk_checked = Instant::now();
            self.bytes_since_check = 0;
        }
        Ok(())
    }

    /// Positions that were given to what is never written must not be given again after a restart.
    fn carry_position(&mut self) -> Result<(), SegmentError> {
        let last_position = self.shared.last_position();
        if last_position > self.committed_position {
            self.active.commit(|rows| rows.append(&empty_row(last_position)))?;
        }
        Ok(())
    }

    fn publish_counters(&self) {
        let row_bytes = self.active.row_bytes + self.sealed_bytes.values().sum::<u64>();
        self.counters.measured(&self.liveness, row_bytes);
    }
}

/// The facts and ends of a batch. What is not alive any more, or never was, is left out.
fn write_batch(
    batch: &mut Batch,
    segment: u64,
    liveness: &mut Liveness,
    writer: &mut RowWriter,
    rows: &mut Rows<'_>,
) -> Result<(), SegmentError> {
    let mut facts = liveness.facts(segment);
    if let Some(packed) = batch.rows() {
        let mut packed = packed.peekable();
        while let Some(row) = packed.next() {
            for slot in row.slots {
                add_fact(&mut facts, slot)?;
            }
            if packed.peek().is_none() {
                // What comes next may go into it, or it is divided.
                writer.begin_with(row.bytes, row.beginnings());
                break;
            }
            writer.seal(row.bytes);
            rows.append_of(row.bytes, row.records(rows.next_row()))?;
        }
    } else {
        let emit = &mut |row: &[u8]| rows.append(row);
        batch.take_facts(|slot, content| {
            add_fact(&mut facts, slot)?;
            let Entry { position, weight } = slot.entry();
            let fact = (position.0, slot.kind.0, weight);
            match content {
                Content::Payload(payload) => {
                    writer.fact(fact, |out| encode_content(payload.as_ref(), out), emit)?
                }
                Content::Encoded { content, tag_bytes } => {
                    writer.encoded_fact(fact, tag_bytes, content, emit)?
                }
            };
            Ok::<_, SegmentError>(())
        })?;
    }
    for &entry in &batch.ends {
        match liveness.end(segment, entry) {
            Some(of) => {
                writer.end(entry.position.0, of, &mut |row| rows.append(row))?;
            }
            None => tracing::warn!(position = entry.position.0, "an end of nothing that lives"),
        }
    }
    Ok(())
}

fn add_fact(facts: &mut Option<Facts<'_>>, slot: &Slot) -> Result<(), SegmentError> {
    if facts.as_mut().is_some_and(|facts| facts.add(slot.entry())) {
        return Ok(());
    }
    let reason = format!("position {} was given twice", slot.entry().position.0);
    Err(SegmentError::damaged(None, reason))
}
