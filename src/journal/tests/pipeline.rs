//! What the writer does while the disk is at a commit.

use std::fmt;
use std::io;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

use super::*;

/// A folder whose syncs do not end while they are held.
#[derive(Clone)]
struct Held(Arc<(FolderStore, Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_held: bool,
    /// Syncs that began while they were held, and rows that were written since.
    syncs: usize,
    rows: usize,
}

impl Held {
    fn hold(&self, is_held: bool) {
        *self.0.1.lock() = State { is_held, ..State::default() };
        self.0.2.notify_all();
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut state = self.0.1.lock();
        while !is_so(&state) {
            if self.0.2.wait_until(&mut state, deadline).timed_out() {
                drop(state);
                // Who closes the journal would wait for it.
                self.hold(false);
                panic!("not so: {what}");
            }
        }
    }

    fn over(&self, file: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        Box::new(HeldFile { file, held: self.clone() })
    }
}

impl SegmentStore for Held {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.0.0.list()
    }
    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        self.0.0.open(segment)
    }
    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.over(self.0.0.create(segment, bytes)?))
    }
    fn publish(&self, segment: u64) -> io::Result<()> {
        self.0.0.publish(segment)
    }
    fn remove(&self, segment: u64) -> io::Result<()> {
        self.0.0.remove(segment)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.0.size_bytes()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.0.free_bytes()
    }
}

struct HeldFile {
    file: Box<dyn StorageBackend>,
    held: Held,
}

impl fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageBackend for HeldFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        let (_, state, changed) = &*self.held.0;
        let mut state = state.lock();
        state.syncs += 1;
        changed.notify_all();
        while state.is_held {
            changed.wait(&mut state);
        }
        drop(state);
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)?;
        let (_, state, changed) = &*self.held.0;
        state.lock().rows += usize::from(data.len() >= ROW_BYTES);
        changed.notify_all();
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

const ROW_BYTES: usize = 40 * 1024;

#[tokio::test]
async fn one_commit_and_no_more_is_written_while_the_disk_is_at_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    let held = Held(Arc::new((store, Mutex::default(), Condvar::new())));
    let options = JournalOptions::default();
    let journal = Journal::open(Box::new(held.clone()), options, &mut |_, _, _| Ok(())).unwrap();
    let append = || fact(&journal, &[7; ROW_BYTES], Urgency::Now).1;

    held.hold(true);
    let first = append();
    held.wait_until("the first goes to the disk", |state| state.syncs == 1);
    let second = append();
    held.wait_until("the second is written meanwhile", |state| state.rows == 2);
    let append_later = |_| {
        std::thread::yield_now();
        append()
    };
    let later: Vec<_> = (0..100).map(append_later).collect();
    held.hold(false);
    for commit in [first, second].into_iter().chain(later) {
        commit.await.unwrap();
    }
    assert_eq!(journal.stats().commits, 3, "all that came later is one commit");
    journal.close();
}

#[tokio::test]
async fn what_is_on_its_way_to_the_disk_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    let held = Held(Arc::new((store, Mutex::default(), Condvar::new())));
    let options = JournalOptions::default();
    let journal = Journal::open(Box::new(held.clone()), options, &mut |_, _, _| Ok(())).unwrap();
    let append = |number: u8| {
        // As many as make a batch worth writing, and none large.
        let payloads: Vec<Vec<u8>> = (0..400).map(|_| vec![number; 200]).collect();
        journal.append_small(Kind(1), payloads.into_iter(), Urgency::Now).unwrap()
    };
    held.hold(true);
    let first = append(1);
    held.wait_until("the first goes to the disk", |state| state.syncs == 1);
    let second = append(2);
    held.wait_until("the second is written meanwhile", |state| state.rows == 2);
    let third = append(3);
    let positions: Vec<Position> =
        [&first, &second, &third].into_iter().flat_map(Commits::positions).collect();
    let mut found = Vec::new();
    let mut visit = |entry: Entry, kind: Kind, payload: &[u8]| {
        assert_eq!((kind, payload), (Kind(1), [payload[0]; 200].as_slice()));
        assert_eq!(entry.weight, 200);
        found.push((entry.position, payload[0]));
    };
    journal.read(&positions, &mut visit).unwrap();
    assert!(found.iter().map(|(position, _)| position).eq(&positions));
    assert!(found.chunks(400).map(|of_one| of_one[0].1).eq([1, 2, 3]));
    held.hold(false);
    third.into_next().await.unwrap();
    journal.close();
    // No more is taken, and nothing is left half done.
    assert!(journal.append_small(Kind(1), [vec![1]].into_iter(), Urgency::Now).is_none());
}
