//! The backend of the active segment: the same file, with fewer syncs.
//!
//! redb doubles a file as it grows, and syncs each time before it uses the space; it also syncs a new
//! file several times before its first commit. Here a file is as long as the segment will be from
//! its first growth on, and is not synced before it is published, in one go. After a crash it is
//! longer than redb believes, by zeroes at its end, which redb takes as free space; a clean close cuts
//! them off.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;

/// redb owns one handle, and the segment another.
#[derive(Clone)]
pub(super) struct Extent(Arc<State>);

struct State {
    base: Box<dyn StorageBackend>,
    /// What redb believes.
    len: AtomicU64,
    /// The file's real length; never less.
    base_len: AtomicU64,
    /// The real length after the first growth.
    extent_bytes: u64,
    /// Something was changed after the last sync.
    dirty: AtomicBool,
    published: AtomicBool,
}

impl Extent {
    /// Over a file that is empty and not published.
    pub(super) fn over(base: Box<dyn StorageBackend>, extent_bytes: u64) -> Self {
        Self(Arc::new(State {
            base,
            len: AtomicU64::new(0),
            base_len: AtomicU64::new(0),
            extent_bytes,
            dirty: AtomicBool::new(false),
            published: AtomicBool::new(false),
        }))
    }

    /// Syncs what was written so far, and all that follows when redb asks for it.
    pub(super) fn begin_syncing(&self) -> io::Result<()> {
        self.0.published.store(true, Ordering::Relaxed);
        self.sync_data()
    }

    fn set_base_len(&self, len: u64) -> io::Result<()> {
        self.0.dirty.store(true, Ordering::Relaxed);
        self.0.base.set_len(len)?;
        self.0.base_len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn check(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let end = offset.checked_add(bytes as u64);
        match end.is_some_and(|end| end <= self.0.len.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent").field("base", &self.0.base).finish_non_exhaustive()
    }
}

// redb calls from one thread; the atomics only make the handles shareable.
impl StorageBackend for Extent {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len.load(Ordering::Relaxed))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(offset, out.len())?;
        self.0.base.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len < self.0.len.load(Ordering::Relaxed) {
            // Cut for real: what is beyond must read as zero when it grows again.
            self.set_base_len(len)?;
        } else if len > self.0.base_len.load(Ordering::Relaxed) {
            let first = self.0.base_len.load(Ordering::Relaxed) == 0;
            self.set_base_len(if first { len } else { len.max(self.0.extent_bytes) })?;
        }
        self.0.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.0.published.load(Ordering::Relaxed) || !self.0.dirty.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.base.sync_data()?;
        self.0.dirty.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        self.0.dirty.store(true, Ordering::Relaxed);
        self.0.base.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        let len = self.0.len.load(Ordering::Relaxed);
        if len < self.0.base_len.load(Ordering::Relaxed) {
            self.0.base.set_len(len)?;
        }
        self.0.base.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;
    use std::sync::atomic::AtomicUsize;

    /// Counts the syncs.
    #[derive(Debug, Default)]
    struct Counting(InMemoryBackend, Arc<AtomicUsize>);

    impl StorageBackend for Counting {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    #[test]
    fn only_what_changed_a_published_file_is_synced() {
        let base = Counting::default();
        let syncs = base.1.clone();
        let extent = Extent::over(Box::new(base), 10_000);
        extent.set_len(100).unwrap();
        extent.write(0, &[1; 100]).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 0);
        extent.begin_syncing().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 1);
        extent.set_len(200).unwrap();
        extent.sync_data().unwrap();
        extent.set_len(400).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 2, "the second growth is within the first");
        extent.write(300, &[1; 100]).unwrap();
        extent.sync_data().unwrap();
        assert_eq!(syncs.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn it_is_as_long_as_redb_believes() {
        let extent = Extent::over(Box::new(InMemoryBackend::new()), 10_000);
        extent.set_len(100).unwrap();
        extent.set_len(200).unwrap();
        assert_eq!(extent.len().unwrap(), 200);
        assert_eq!(extent.0.base.len().unwrap(), 10_000);
        assert!(extent.write(150, &[1; 51]).is_err());
        assert!(extent.read(150, &mut [0; 51]).is_err());
        extent.write(150, &[1; 50]).unwrap();
        extent.set_len(160).unwrap();
        extent.set_len(200).unwrap();
        let mut read = [9; 50];
        extent.read(150, &mut read).unwrap();
        assert_eq!(read, [[1; 10], [0; 10], [0; 10], [0; 10], [0; 10]].concat()[..]);
        extent.close().unwrap();
        assert_eq!(extent.0.base.len().unwrap(), 200);
    }
}
