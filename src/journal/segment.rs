//! One file of the log: the only place that opens, reads and writes redb databases.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, Table, TableDefinition,
    TableError,
};
use serde::{Deserialize, Serialize};

use super::codec::{decode_value, encode_value};
use super::extent::Extent;
use super::index::{IndexWriter, Indexed, indexed};
use super::overlay::Overlay;
use super::places::Written;
use super::redo::area_bytes;
use super::row::encoded_row;
use super::store::SegmentStore;

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
/// By the row after the last that a chunk covers. A program that does not know all codes of the chunks does
/// not know the table either, and reads the rows.
const INDEX: TableDefinition<u64, &[u8]> = TableDefinition::new("index 2");
/// As it was before facts that are alike had a code.
const INDEX_1: TableDefinition<u64, &[u8]> = TableDefinition::new("index");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const HEAD_KEY: &str = "head";
const HEAD_VERSION: u8 = 1;

/// What redb keeps in memory of a sealed segment: it is read in order.
const READ_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// What redb keeps in memory of the active segment. A half of it is for what a transaction writes: pages
/// beyond that are written early, read again for their checksums, and written once more.
const WRITE_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The file of a segment with `row_bytes` of rows: redb's pages around them and the copies that it
/// makes of small ones, an eighth, and what redb rounds up as it doubles a file.
fn extent_bytes(row_bytes: u64) -> u64 {
    const PAGE_BYTES: u64 = 4_096;
    (row_bytes + row_bytes / 8 + row_bytes / 32).next_multiple_of(PAGE_BYTES)
}

/// What a segment for `row_bytes` of rows takes of the disk before it has any.
pub(super) fn empty_bytes(row_bytes: u64) -> u64 {
    const PAGES_BYTES: u64 = 64 * 1024;
    u64::from(area_bytes(extent_bytes(row_bytes))) + PAGES_BYTES
}

/// What every segment says about itself and about the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Drawn when the log began: segments of another log are recognised.
    pub log: [u8; 16],
    pub segment: u64,
    /// The latest opens: (epoch, first position that was given in it), rising.
    pub epochs: Vec<(u64, u64)>,
}

/// Why a segment failed: with the row, where one was concerned.
#[derive(Debug)]
pub(super) struct SegmentError {
    pub row: Option<u64>,
    pub reason: String,
    /// The store failed; the content may be sound.
    pub io: Option<io::Error>,
}

impl SegmentError {
    pub(super) fn damaged(row: Option<u64>, reason: impl fmt::Display) -> Self {
        Self { row, reason: reason.to_string(), io: None }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.row, &self.io) {
            (_, Some(error)) => write!(f, "{error}"),
            (Some(row), None) => write!(f, "row {row}: {}", self.reason),
            (None, None) => f.write_str(&self.reason),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for SegmentError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                Self { row: None, reason: error.to_string(), io: Some(error) }
            }
            error => Self::damaged(None, error),
        }
    }
}

/// A defect in redb, or in what it was given to read, must not take the process down.
fn caught<T>(work: impl FnOnce() -> Result<T, SegmentError>) -> Result<T, SegmentError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(SegmentError::damaged(None, format!("the storage engine panicked: {reason}")))
    })
}

/// The segment that is written to.
pub(super) struct ActiveSegment {
    pub id: u64,
    database: Arc<Database>,
    extent: Extent,
    next_row: u64,
    /// Bytes of all its rows.
    pub row_bytes: u64,
    /// How many it was created for.
    pub bytes_planned: u64,
    /// Where the last commit's facts lie.
    written: Written,
    index: IndexWriter,
    /// How many its extent has had.
    commits: u64,
}

/// The rows of an open transaction.
pub(super) struct Rows<'txn> {
    table: Table<'txn, u64, &'static [u8]>,
    index: &'txn mut IndexWriter,
    /// By the row after the last that a chunk covers.
    chunks: Vec<(u64, Vec<u8>)>,
    next_row: u64,
    bytes: u64,
    written: Written,
}

impl Rows<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next_row(&self) -> u64 {
        self.next_row
    }

    pub(super) fn append(&mut self, row: &[u8]) -> Result<(), SegmentError> {
        let (number, encoded) = (self.next_row, encoded_row(row));
        self.append_of(row, encoded.iter().flat_map(|row| indexed(number, row)))
    }

    /// As [`Rows::append`], by who knows the records of the row, which will have the number
    /// [`Rows::next_row`].
    pub(super) fn append_of<'a>(
        &mut self,
        row: &[u8],
        records: impl Iterator<Item = Indexed<'a>>,
    ) -> Result<(), SegmentError> {
        self.table.insert(self.next_row, row)?;
        if let Some(encoded) = encoded_row(row) {
            let written = &mut self.written;
            let note = |record: &Indexed<'_>| written.note(record);
            self.index.add_row(records, row.len(), note);
            if self.index.is_full_after(&encoded) {
                let next_row = self.next_row + 1;
                self.chunks.push((next_row, self.index.cut(next_row, encoded.last_position)));
            }
        }
        self.next_row += 1;
        self.bytes += row.len() as u64;
        Ok(())
    }
}

impl ActiveSegment {
    /// Creates a segment for about `bytes` of rows, and publishes it once its head is on disk.
    pub(super) fn create(
        store: &dyn SegmentStore,
        head: &Head,
        bytes: u64,
    ) -> Result<Self, SegmentError> {
        let extent = Extent::over(extent_bytes(bytes), |bytes| store.create(head.segment, bytes))?;
        let database = Database::builder()
            .set_cache_size(WRITE_CACHE_BYTES)
            .create_with_backend(extent.clone())?;
        let mut encoded = Vec::new();
        encode_value(HEAD_VERSION, head, &mut encoded);
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(HEAD_KEY, encoded.as_slice())?;
        transaction.open_table(ROWS)?;
        transaction.commit()?;
        extent.begin_syncing()?;
        store.publish(head.segment)?;
        Ok(Self {
            id: head.segment,
            database: Arc::new(database),
            extent,
            next_row: 0,
            row_bytes: 0,
            bytes_planned: bytes,
            written: Written::default(),
            index: IndexWriter::for_segment(bytes),
            commits: 0,
        })
    }

    /// Commits the rows that `fill` appends, in one transaction. How many bytes they have. They are on
    /// disk when [`UnfinishedSync::finish`] says so.
    /// After an error the segment must not be written to again: what is on disk is unknown.
    pub(super) fn commit(
        &mut self,
        fill: impl FnOnce(&mut Rows<'_>) -> Result<(), SegmentError>,
    ) -> Result<u64, SegmentError> {
        let transaction = self.database.begin_write()?;
        let (next_row, bytes, written, chunks) = {
            let table = transaction.open_table(ROWS)?;
            let (next_row, written, index) = (self.next_row, self.written.next(), &mut self.index);
            let mut rows = Rows { table, index, chunks: Vec::new(), next_row, bytes: 0, written };
            fill(&mut rows)?;
            (rows.next_row, rows.bytes, rows.written, rows.chunks)
        };
        if !chunks.is_empty() {
            let mut index = transaction.open_table(INDEX)?;
            for (row, chunk) in chunks {
                index.insert(row, chunk.as_slice())?;
            }
        }
        if bytes == 0 {
            transaction.abort()?;
            return Ok(0);
        }
        transaction.commit()?;
        self.commits = self.extent.commits();
        self.next_row = next_row;
        self.row_bytes += bytes;
        self.written = written;
        Ok(bytes)
    }

    /// Where the facts of the last commit lie, once.
    pub(super) fn take_written(&mut self) -> Written {
        let next = self.written.next();
        std::mem::replace(&mut self.written, next)
    }

    /// A handle to read it by, which is to be dropped before it is sealed.
    pub(super) fn reading(&self) -> OpenSegment {
        OpenSegment(self.database.clone())
    }

    /// The sync of the last commit, and of all before it.
    pub(super) fn unfinished_sync(&self) -> UnfinishedSync {
        UnfinishedSync { extent: self.extent.clone(), commits: self.commits }
    }

    /// It is written to after `before`, whose last commits may be on their way to the disk.
    pub(super) fn follow(&mut self, before: &Self) {
        self.commits = self.extent.follow(before.extent.clone());
    }

    /// Closes it for good.
    pub(super) fn seal(self) -> Result<(), SegmentError> {
        self.extent.finish_sync()?;
        self.extent.begin_closing()?;
        match Arc::into_inner(self.database) {
            Some(database) => Ok(database.close()?),
            None => Err(SegmentError::damaged(None, "it is still being read")),
        }
    }
}

/// The segment that is written to, as its readers see it: what is committed.
pub(super) struct OpenSegment(Arc<Database>);

impl OpenSegment {
    /// As [`SealedSegment::rows`].
    pub(super) fn rows(
        &self,
        from: u64,
        visit: impl FnMut(u64, &[u8]) -> Result<bool, SegmentError>,
    ) -> Result<Option<u64>, SegmentError> {
        visit_rows(&self.0, from, visit)
    }
}

/// A commit that is on its way to the disk.
pub(super) struct UnfinishedSync {
    extent: Extent,
    commits: u64,
}

impl UnfinishedSync {
    /// Returns when it is on disk.
    pub(super) fn finish(&self) -> Result<(), SegmentError> {
        Ok(self.extent.finish_commits(self.commits)?)
    }
}

/// A segment that is only read. Its file is never written to.
pub(super) struct SealedSegment {
    /// There until it is dropped.
    database: Option<Database>,
}

impl Drop for SealedSegment {
    /// redb closes it in memory, over the file: whatever it finds wrong then is nobody's loss.
    fn drop(&mut self) {
        let database = self.database.take();
        let close = || {
            drop(database);
            Ok(())
        };
        if let Err(error) = caught(close) {
            tracing::warn!(%error, "a segment that was only read could not be closed");
        }
    }
}

impl SealedSegment {
    /// Opens a published segment. `verify` checks every page of the file, which makes reading a
    /// damaged one safe; without it the file must have been verified before.
    pub(super) fn open(
        store: &dyn SegmentStore,
        segment: u64,
        verify: bool,
    ) -> Result<Self, SegmentError> {
        let overlay = Overlay::over(store.open(segment)?)?;
        if overlay.len()? == 0 {
            return Err(SegmentError::damaged(None, "the file is empty"));
        }
        caught(|| {
            let database = Database::builder()
                .set_cache_size(READ_CACHE_BYTES)
                .set_check_integrity_on_open(verify)
                .create_with_backend(overlay)?;
            Ok(Self { database: Some(database) })
        })
    }

    pub(super) fn head(&self) -> Result<Head, SegmentError> {
        caught(|| {
            let meta = self.database()?.begin_read()?.open_table(META)?;
            let bytes =
                meta.get(HEAD_KEY)?.ok_or_else(|| SegmentError::damaged(None, "it has no head"))?;
            decode_value(HEAD_VERSION, bytes.value())
                .map_err(|error| SegmentError::damaged(None, format!("its head: {error}")))
        })
    }

    /// The chunks of its index, in order; none if it is short.
    pub(super) fn chunks(&self) -> Result<Vec<Vec<u8>>, SegmentError> {
        caught(|| {
            let transaction = self.database()?.begin_read()?;
            let table = match transaction.open_table(INDEX) {
                Err(TableError::TableDoesNotExist(_)) => transaction.open_table(INDEX_1),
                table => table,
            };
            let table = match table {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut chunks = Vec::new();
            for chunk in table.range::<u64>(..)? {
                chunks.push(chunk?.1.value().to_vec());
            }
            Ok(chunks)
        })
    }

    /// Visits the rows from `from` on, in order, until `visit` says false. The row after the last
    /// one that was visited; `None` when that was the last of the segment.
    pub(super) fn rows(
        &self,
        from: u64,
        visit: impl FnMut(u64, &[u8]) -> Result<bool, SegmentError>,
    ) -> Result<Option<u64>, SegmentError> {
        visit_rows(self.database()?, from, visit)
    }

    fn database(&self) -> Result<&Database, SegmentError> {
        self.database.as_ref().ok_or_else(|| SegmentError::damaged(None, "it is closed"))
    }
}

/// Visits rows of a database, as [`SealedSegment::rows`] says.
fn visit_rows(
    database: &Database,
    from: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Result<bool, SegmentError>,
) -> Result<Option<u64>, SegmentError> {
    caught(|| {
        let table = database.begin_read()?.open_table(ROWS)?;
        let count = table.len()?;
        let mut next = from;
        for row in table.range((Bound::Included(from), Bound::Unbounded))? {
            let (key, bytes) = row?;
            if key.value() != next {
                return Err(SegmentError::damaged(Some(next), "the row is missing"));
            }
            next += 1;
            if !visit(key.value(), bytes.value())? {
                return Ok((next < count).then_some(next));
            }
        }
        if next != count {
            return Err(SegmentError::damaged(Some(next), "the row is missing"));
        }
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::FolderStore;

    #[test]
    fn an_index_under_its_older_name_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        let head = Head { log: [1; 16], segment: 1, epochs: vec![(1, 1)] };
        for (name, segment) in [(INDEX_1, 1), (INDEX, 2)] {
            let head = Head { segment, ..head.clone() };
            let active = ActiveSegment::create(&store, &head, 1 << 20).unwrap();
            let transaction = active.database.begin_write().unwrap();
            transaction.open_table(name).unwrap().insert(3, b"chunk".as_slice()).unwrap();
            transaction.commit().unwrap();
            active.seal().unwrap();
            let sealed = SealedSegment::open(&store, segment, true).unwrap();
            assert_eq!(sealed.chunks().unwrap(), [b"chunk"]);
        }
    }
}
