//! While the journal takes no writes, nothing changes and reads go on.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret::cache::{AppendFsync, Cache, CacheError, Recovery};
use leveret::journal::{FolderStore, Journal, JournalError, JournalOptions, SegmentStore};
use leveret::model::clock::SystemClock;

use crate::case::Answer;
use crate::embedded;
use crate::stand::Stand;

#[test]
fn a_closed_journal_refuses_writes_and_serves_reads() {
    let stand = Stand::new();
    let cache = stand.cache();
    let _ = cache.set("a", "1").unwrap();
    cache.journal().close();
    let refusal =
        Answer::Error("MISCONF Errors writing to the AOF file: the journal is closed".to_owned());
    for line in ["SET a 2", "DEL a", "EXPIRE a 10", "LPUSH l x", "INCR n", "FLUSHALL", "APPEND a x"]
    {
        assert_eq!(embedded(cache, line), refusal, "{line}");
    }
    assert_eq!(embedded(cache, "GET a"), Answer::Bulk(b"1".to_vec()));
    assert_eq!(embedded(cache, "PUBLISH c x"), Answer::Int(0));
    assert!(cache.push_capped("l", "x", NonZeroUsize::MIN).is_err());
    assert!(cache.set("a", "2").is_err());
    assert_eq!(cache.key_count(), 1);
}

/// A disk that has as much room as it is told.
struct SmallDisk {
    folder: FolderStore,
    free_bytes: Arc<AtomicU64>,
}

const DISK_BYTES: u64 = 1 << 30;

impl SegmentStore for SmallDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.folder.list()
    }
    fn open(&self, segment: u64) -> io::Result<Box<dyn redb::StorageBackend>> {
        self.folder.open(segment)
    }
    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn redb::StorageBackend>> {
        self.folder.create(segment, bytes)
    }
    fn publish(&self, segment: u64) -> io::Result<()> {
        self.folder.publish(segment)
    }
    fn remove(&self, segment: u64) -> io::Result<()> {
        self.folder.remove(segment)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(DISK_BYTES)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn under_the_disk_alarm_only_what_adds_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let free_bytes = Arc::new(AtomicU64::new(DISK_BYTES));
    let disk = SmallDisk {
        folder: FolderStore::open(folder.path()).unwrap(),
        free_bytes: Arc::clone(&free_bytes),
    };
    let journal =
        Journal::open(Box::new(disk), JournalOptions::default(), &mut |_, _, _| Ok(())).unwrap();
    let cache =
        Cache::new(journal, SystemClock::shared(), AppendFsync::Always, Recovery::default());
    cache.settle(cache.set("a", "1").unwrap()).await.unwrap();
    cache.settle(cache.rpush("l", "x").unwrap()).await.unwrap();

    free_bytes.store(1_000, Ordering::SeqCst);
    // The journal looks at the disk with its commits, now and then.
    while cache.journal().writable().is_ok() {
        cache
            .settle(cache.expire("a", std::time::Duration::from_secs(100)).unwrap())
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    for line in ["SET a 2", "INCR n", "LPUSH l y", "APPEND a x", "SETEX b 10 1"] {
        let Answer::Error(error) = embedded(&cache, line) else { panic!("{line} was taken") };
        assert!(error.starts_with("MISCONF "), "{error}");
    }
    let alarm = cache.push_capped("l", "y", NonZeroUsize::MIN).map(|pushed| pushed.length);
    assert!(matches!(alarm, Err(CacheError::Journal(JournalError::DiskAlarm { .. }))));
    assert!(cache.admit(1).await.is_err(), "the alarm is said at once, not waited for");

    // What makes room goes on, and is durable.
    assert_eq!(embedded(&cache, "PEXPIRE a 100000"), Answer::Int(1));
    assert!(cache.settle(cache.del("a").unwrap()).await.unwrap());
    assert_eq!(cache.settle(cache.lpop("l").unwrap()).await.unwrap().unwrap(), "x");
    assert_eq!(cache.key_count(), 0);

    free_bytes.store(DISK_BYTES, Ordering::SeqCst);
    while cache.journal().writable().is_err() {
        cache.journal().flush().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    cache.admit(1).await.unwrap();
    cache.settle(cache.set("a", "2").unwrap()).await.unwrap();
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let stand = Stand::new();
    let cache = stand.cache();
    let too_long = vec![0; 512 * 1024 * 1024 + 1];
    let refused = |outcome: Result<(), CacheError>| {
        assert_eq!(outcome, Err(CacheError::StringTooLong));
    };
    refused(cache.set(&too_long, "x").map(drop));
    refused(cache.push_capped(&too_long, "x", NonZeroUsize::MIN).map(drop));
    let too_long = bytes::Bytes::from(too_long);
    refused(cache.set("a", too_long.clone()).map(drop));
    refused(cache.rpush("l", too_long.clone()).map(drop));
    refused(cache.push_capped("l", too_long, NonZeroUsize::MIN).map(drop));
    assert_eq!((cache.key_count(), cache.memory_bytes()), (0, 0));
}
