//! Where segments lie: the seam at which tests put a disk that fails.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::FallocateFlags;

use super::OpenError;
use super::spares::Spares;

/// A place for segments, numbered from 1 on.
pub trait SegmentStore: Send + Sync {
    /// The published segments, in any order.
    ///
    /// # Errors
    /// When the place can't be read.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// Opens a published segment.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>>;

    /// A segment that is not listed before it is published. It has `bytes` bytes, and they may be anything;
    /// whatever a crash left of an earlier attempt is dropped.
    ///
    /// # Errors
    /// When the place does not take it.
    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>>;

    /// Makes a created segment a listed one, durably and atomically. Its backend stays in use.
    ///
    /// # Errors
    /// When that did not happen, or may not last.
    fn publish(&self, segment: u64) -> io::Result<()>;

    /// Removes a published segment, durably. A backend that is open stays readable as it was.
    ///
    /// # Errors
    /// When that did not happen, or may not last.
    fn remove(&self, segment: u64) -> io::Result<()>;

    /// Bytes that the whole disk holds.
    ///
    /// # Errors
    /// When the disk does not say.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Bytes that are left for this process.
    ///
    /// # Errors
    /// When the disk does not say.
    fn free_bytes(&self) -> io::Result<u64>;

    /// What a message calls the segment.
    fn name(&self, segment: u64) -> String {
        file_name(segment)
    }
}

fn file_name(segment: u64) -> String {
    format!("log-{segment:010}.redb")
}

/// The segment of a file name, if it is one.
fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".redb")?;
    let segment = digits.parse().ok()?;
    (file_name(segment) == name).then_some(segment)
}

/// A folder of files, held by one process at a time.
///
/// A segment is created under another name and renamed once its first commit is on disk, so a crash
/// never leaves a listed file that holds nothing. Some removed ones are kept under other names, and written
/// over by those that are created.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    /// Locked as long as the store is open.
    lock: File,
    /// By segment: its backends hold the other handles.
    open: Mutex<HashMap<u64, Arc<()>>>,
    spares: Mutex<Spares>,
}

impl FolderStore {
    /// Opens the folder, and creates it if it is missing.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process holds it; [`OpenError::Io`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let folder = folder.into();
        create_folder(&folder)
            .map_err(OpenError::io(format!("can't create {}", folder.display())))?;
        Self::open_existing(folder)
    }

    /// Opens a folder that must be there.
    ///
    /// # Errors
    /// As [`FolderStore::open`].
    pub fn open_existing(folder: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let folder = folder.into();
        if !folder.is_dir() {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(OpenError::Io { what: format!("no folder {}", folder.display()), source });
        }
        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(OpenError::io(format!("can't open {}", path.display())))?;
        match lock.try_lock() {
            Ok(()) => {
                // A file that lost its name as a segment must not get it back once it is written over.
                let spares = sync_folder(&folder)
                    .and_then(|()| Spares::found_in(&folder))
                    .map_err(OpenError::io(format!("can't read {}", folder.display())))?;
                Ok(Self { folder, lock, open: Mutex::default(), spares: Mutex::new(spares) })
            }
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder }),
            Err(TryLockError::Error(source)) => {
                Err(OpenError::Io { what: format!("can't lock {}", path.display()), source })
            }
        }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(file_name(segment))
    }

    fn unpublished_path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{}.new", file_name(segment)))
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }
}

/// Makes the names in a folder last.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder that lasts, and those that it is to be in.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        outcome => outcome?,
    }
    sync_folder(parent)
}

/// The file of a segment. What it grows by is allocated at once, where that is a small share of what is
/// free: so the disk's blocks need not be found for each write, and are next to each other.
#[derive(Debug)]
struct SegmentFile {
    file: File,
    backend: FileBackend,
    _open: Arc<()>,
}

impl SegmentFile {
    const FREE_SHARE: u64 = 16;

    fn over(file: File, open: Arc<()>) -> io::Result<Self> {
        let backend = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        Ok(Self { file, backend, _open: open })
    }

    fn allocate(&self, from: u64, bytes: u64) -> io::Result<()> {
        let disk = rustix::fs::fstatvfs(&self.file)?;
        if bytes < disk.f_bavail.saturating_mul(disk.f_frsize) / Self::FREE_SHARE {
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, bytes)?;
        }
        Ok(())
    }
}

impl StorageBackend for SegmentFile {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.backend.len()?;
        if before < len {
            // A file system that can't, or has no room after all, finds its blocks as they are written.
            let _ = self.allocate(before, len - before);
        }
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

impl Drop for FolderStore {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked meanwhile and runs nothing else yet holds the
        // file open too, and the lock is the open file's (flock(2)).
        let _ = self.lock.unlock();
    }
}

impl SegmentStore for FolderStore {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            segments.extend(entry?.file_name().to_str().and_then(parse_file_name));
        }
        Ok(segments)
    }

    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        let mut open = self.open.lock();
        // Published segments are only read; see `Overlay`.
        let file = File::open(self.path(segment))?;
        Ok(Box::new(SegmentFile::over(file, open.entry(segment).or_default().clone())?))
    }

    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.unpublished_path(segment);
        let spare = self.spares.lock().take(bytes, &path);
        let file = match spare {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.create(true).truncate(true).read(true).write(true).open(path)?
            }
        };
        let file = SegmentFile::over(file, self.open.lock().entry(segment).or_default().clone())?;
        file.set_len(bytes)?;
        Ok(Box::new(file))
    }

    fn publish(&self, segment: u64) -> io::Result<()> {
        fs::rename(self.unpublished_path(segment), self.path(segment))?;
        self.sync_folder()
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        let free_bytes = self.free_bytes()?;
        let spare = {
            let mut open = self.open.lock();
            let is_open = open.remove(&segment).is_some_and(|open| Arc::strong_count(&open) > 1);
            match is_open {
                // Who reads it would read what is written over it.
                true => fs::remove_file(self.path(segment)).map(|()| None)?,
                false => self.spares.lock().keep(&self.path(segment), free_bytes)?,
            }
        };
        self.sync_folder()?;
        if let Some(spare) = spare {
            self.spares.lock().add(spare);
        }
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(free_bytes + self.spares.lock().trim(free_bytes))
    }

    fn name(&self, segment: u64) -> String {
        self.path(segment).display().to_string()
    }
}

/// Whether a folder holds a journal.
pub(super) fn holds_segments(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                entry.file_name().to_str().is_some_and(|name| parse_file_name(name).is_some())
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_segments_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path().join("deep/er")).unwrap();
        store.create(7, 8_192).unwrap();
        assert!(store.list().unwrap().is_empty());
        store.publish(7).unwrap();
        assert_eq!(store.list().unwrap(), [7]);
        store.remove(7).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert!(store.remove(7).is_err());
        assert!(store.free_bytes().unwrap() <= store.size_bytes().unwrap());
    }

    #[test]
    fn a_created_segment_has_its_blocks_before_they_are_written() {
        use std::os::unix::fs::MetadataExt;
        const BYTES: u64 = 4 * 1024 * 1024;
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        let segment = store.create(1, BYTES).unwrap();
        let blocks = || fs::metadata(store.unpublished_path(1)).unwrap().blocks() * 512;
        assert!(blocks() >= BYTES, "{}", blocks());
        let mut read = [1; 16];
        segment.read(BYTES - 16, &mut read).unwrap();
        assert_eq!(read, [0; 16]);
        segment.set_len(8_192).unwrap();
        assert!(blocks() < BYTES, "{}", blocks());
    }

    #[test]
    fn a_removed_segment_is_written_over_unless_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        let first = store.create(1, 8_192).unwrap();
        first.write(0, &[1; 8_192]).unwrap();
        store.publish(1).unwrap();
        drop(first);
        let mut read = [0; 8_192];
        let reading = store.open(1).unwrap();
        store.remove(1).unwrap();
        let second = store.create(2, 8_192).unwrap();
        second.read(0, &mut read).unwrap();
        assert_eq!(read, [0; 8_192]);
        second.write(0, &[2; 8_192]).unwrap();
        reading.read(0, &mut read).unwrap();
        assert_eq!(read, [1; 8_192]);
        store.publish(2).unwrap();
        drop(second);
        drop(store.open(2).unwrap());
        store.remove(2).unwrap();
        let third = store.create(3, 12_288).unwrap();
        assert_eq!(third.len().unwrap(), 12_288);
        third.read(0, &mut read).unwrap();
        assert_eq!(read, [2; 8_192]);
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderStore::open(folder.path()).unwrap();
        let second = FolderStore::open(folder.path());
        assert!(matches!(&second, Err(OpenError::InUse { .. })), "{second:?}");
        let line = second.unwrap_err().to_string();
        assert!(line.ends_with("is in use by another process"), "{line}");
        // As a child has it that was forked and runs nothing else yet.
        let inherited = first.lock.try_clone().unwrap();
        drop(first);
        assert!(FolderStore::open(folder.path()).is_ok());
        drop(inherited);
    }

    #[test]
    fn names_are_parsed_strictly() {
        assert_eq!(parse_file_name("log-0000000012.redb"), Some(12));
        assert_eq!(parse_file_name("log-12.redb"), None);
        assert_eq!(parse_file_name("log-0000000012.redb.new"), None);
        assert_eq!(parse_file_name("log-+000000012.redb"), None);
    }
}
