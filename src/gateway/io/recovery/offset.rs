//! A place in a namespace's log, as clients know it.

use std::fmt;

/// Written `<epoch>-<position>`. Positions go on over restarts, and each process has an epoch of its own:
/// a position that a crash took back never comes again under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    pub epoch: u64,
    pub position: u64,
}

impl Offset {
    /// `None`: the text is no offset.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, position) = text.split_once('-')?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        Some(Self { epoch, position: position.parse().ok()? })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.position)
    }
}
