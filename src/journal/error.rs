//! Why the journal refuses: a record, or to open at all.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Position;

/// Why the journal does not take or keep a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("the journal failed and takes no more writes: {reason}")]
    Poisoned { reason: Arc<str> },
    #[error(
        "the disk is nearly full: {free_bytes} bytes are free, {needed_bytes} are needed, with what is kept in reserve"
    )]
    DiskAlarm { free_bytes: u64, needed_bytes: u64 },
    #[error("the journal is closed")]
    Closed,
}

/// Why a fact can't be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No segment holds it: it is not committed, or was ended.
    #[error("nothing is stored at position {}", position.0)]
    Missing { position: Position },
    /// The disk failed, or a file is damaged; the reason names it, and the row.
    #[error("can't read the log: {reason}")]
    Failed { reason: Arc<str> },
    #[error("the journal is closed")]
    Closed,
}

/// Why a journal does not open. Nothing was changed in that case.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process", folder.display())]
    InUse { folder: PathBuf },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// A file that the journal did not leave like this. It is left as it is.
    #[error("{file} is damaged{}: {reason}", row.map(|row| format!(" at row {row}")).unwrap_or_default())]
    Damaged { file: String, row: Option<u64>, reason: String },
    #[error("the record at position {position} (kind {kind}) was refused: {reason}")]
    Replay { position: u64, kind: u8, reason: String },
}

impl OpenError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
