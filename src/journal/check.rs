//! Offline verification of a folder.

use std::io;
use std::path::Path;

use super::OpenError;
use super::recovery::{Depth, recover};
use super::store::{FolderStore, holds_segments};

/// What an undamaged folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckReport {
    pub segments: u64,
    pub rows: u64,
    /// Facts and ends in the rows.
    pub records: u64,
    pub live_facts: u64,
    /// Bytes of the rows.
    pub bytes: u64,
}

/// Verifies every page, row, record and index of the segments in `folder`, of which an open reads only
/// what it needs, and changes none of them. What the payloads say is their owners' business and is not looked at.
///
/// # Errors
/// An [`OpenError`] that names the damaged file, the row where one is readable, and what is wrong;
/// or that the folder is in use, or holds no segment.
pub fn check(folder: &Path) -> Result<CheckReport, OpenError> {
    let store = FolderStore::open_existing(folder)?;
    if !holds_segments(folder) {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(OpenError::Io { what: format!("no segment in {}", folder.display()), source });
    }
    let recovered = recover(&store, Depth::Everything, &mut |_, _, _| Ok(true))?;
    Ok(CheckReport {
        segments: recovered.liveness.segments(),
        rows: recovered.rows,
        records: recovered.records,
        live_facts: recovered.liveness.live_facts(),
        bytes: recovered.row_bytes.values().sum(),
    })
}
