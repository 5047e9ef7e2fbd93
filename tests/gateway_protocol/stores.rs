//! A disk that waits, fails or is full when it is told to.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use leveret::backend::Embedded;
use leveret::journal::{FolderStore, Journal, JournalOptions, SegmentStore, StorageBackend};
use leveret::model::clock::SystemClock;

/// What the disk does when it is asked to make writes durable.
#[derive(Debug, Default)]
pub struct Disk {
    is_waiting: Mutex<bool>,
    released: Condvar,
    fails: AtomicBool,
    is_full: AtomicBool,
}

impl Disk {
    /// Every sync waits from now on.
    pub fn hold(&self) {
        *self.is_waiting.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.is_waiting.lock().unwrap() = false;
        self.released.notify_all();
    }

    /// Every sync fails from now on.
    pub fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// Nothing is left of it, or everything.
    pub fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn sync(&self) -> io::Result<()> {
        let is_waiting = self.is_waiting.lock().unwrap();
        drop(self.released.wait_while(is_waiting, |is_waiting| *is_waiting).unwrap());
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is broken")),
            false => Ok(()),
        }
    }
}

/// A durable journal in `folder`, on a disk that is told what to do.
pub fn journal(folder: &Path) -> (Journal, Arc<Disk>) {
    let (store, disk) = store(folder);
    let options = JournalOptions::default();
    let journal = Journal::open(store, options, &mut |_, _, _| Ok(())).unwrap();
    (journal, disk)
}

/// A broker and a cache on such a disk.
pub fn engines(folder: &Path) -> (Embedded, Arc<Disk>) {
    let (store, disk) = store(folder);
    let options = JournalOptions::default();
    (Embedded::open_on(store, options, SystemClock::shared()).unwrap(), disk)
}

pub fn store(folder: &Path) -> (Box<dyn SegmentStore>, Arc<Disk>) {
    let disk = Arc::new(Disk::default());
    let folder = FolderStore::open(folder).unwrap();
    (Box::new(Store { folder, disk: Arc::clone(&disk) }), disk)
}

struct Store {
    folder: FolderStore,
    disk: Arc<Disk>,
}

impl Store {
    fn backend(&self, inner: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        Box::new(Backend { inner, disk: Arc::clone(&self.disk) })
    }
}

impl SegmentStore for Store {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.folder.list()
    }

    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.backend(self.folder.open(segment)?))
    }

    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.backend(self.folder.create(segment, bytes)?))
    }

    fn publish(&self, segment: u64) -> io::Result<()> {
        self.folder.publish(segment)
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        self.folder.remove(segment)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.disk.is_full.load(Ordering::SeqCst) { 0 } else { 1 << 40 })
    }
}

#[derive(Debug)]
struct Backend {
    inner: Box<dyn StorageBackend>,
    disk: Arc<Disk>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
