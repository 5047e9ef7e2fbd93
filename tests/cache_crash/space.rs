//! What the keys take on disk: no more than what is alive asks for, however often it is written.

use leveret::cache::{AppendFsync, Cache};
use leveret::journal::JournalOptions;
use leveret::model::clock::ManualClock;

use crate::START_MS;
use crate::disk::{Disk, Random};
use crate::op::Text;
use crate::stand::{open, read, run};

const SEGMENT_BYTES: u64 = 256 * 1024;
/// While a segment is begun the one before it is still there; the pages of each are partly empty.
const DISK_BYTES_MAX: u64 = 4 * SEGMENT_BYTES;
const VALUE_BYTES: usize = 4_000;

fn opened(disk: &Disk) -> Cache {
    let options = JournalOptions {
        segment_bytes_max: SEGMENT_BYTES,
        reserve_bytes: 0,
        ..JournalOptions::default()
    };
    let clock = ManualClock::at(START_MS);
    open(disk, options, &clock, AppendFsync::EverySec, |_| {}).unwrap().unwrap()
}

/// Runs `request` with every number below `count`, each written to the disk; the most that this took.
async fn most_bytes(cache: &Cache, disk: &Disk, count: u32, request: fn(u32) -> Vec<Text>) -> u64 {
    let mut most = 0;
    for number in 0..count {
        let _ = run(cache, 0, &[request(number)]);
        cache.journal().flush().await.unwrap();
        most = most.max(disk.used_bytes());
    }
    most
}

fn words(words: &[&[u8]]) -> Vec<Text> {
    words.iter().map(|word| word.to_vec()).collect()
}

#[tokio::test]
async fn rewriting_one_key_keeps_the_disk_within_a_bound() {
    const COUNT: u32 = 1_200;
    let disk = Disk::new(Random(1));
    let cache = opened(&disk);
    let ways: [fn(u32) -> Vec<Text>; 3] = [
        |number| words(&[b"SET", b"key", &vec![number as u8; VALUE_BYTES], b"PX", b"100000"]),
        |number| words(&[b"HSET", b"hash", b"field", &vec![number as u8; VALUE_BYTES]]),
        |number| match number % 2 {
            0 => words(&[b"LPUSH", b"list", &vec![number as u8; VALUE_BYTES]]),
            _ => words(&[b"LTRIM", b"list", b"0", b"0"]),
        },
    ];
    for way in ways {
        let appended = cache.journal().stats().bytes_appended;
        let most = most_bytes(&cache, &disk, COUNT, way).await;
        let appended = cache.journal().stats().bytes_appended - appended;
        assert!(appended > 2 * DISK_BYTES_MAX, "only {appended} bytes were written");
        assert!(most <= DISK_BYTES_MAX, "{most} bytes on disk for {appended} written");
    }
    let before = read(&cache);
    cache.journal().close();
    assert_eq!(read(&opened(&disk)), before);
}
