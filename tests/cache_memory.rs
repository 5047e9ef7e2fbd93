//! The cache's own account of its memory, beside what the process grows by. By hand, one at a time:
//! `cargo test --release --test cache_memory -- --ignored --nocapture --test-threads 1`

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COUNT: usize = 1_000_000;

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split(' ').nth(1).expect("the resident pages");
    pages.parse::<usize>().expect("a number") * 4_096
}

/// The account is within a fifth of what the process grows by.
fn measure(name: &str, fill: impl Fn(&Cache, usize)) {
    let cache = Cache::new(
        Journal::in_memory(),
        SystemClock::shared(),
        AppendFsync::EverySec,
        Recovery::default(),
    );
    let before = resident_bytes();
    for n in 0..COUNT {
        fill(&cache, n);
    }
    let grown = resident_bytes() - before;
    let counted = cache.memory_bytes();
    let share = counted as f64 / grown as f64;
    println!(
        "{name}: {} B each in the process, {} B counted: {share:.2}",
        grown / COUNT,
        counted / COUNT
    );
    assert!((0.8..=1.2).contains(&share), "{name}: {share:.2}");
}

#[test]
#[ignore = "takes a gigabyte and a process of its own"]
fn a_million_strings_of_100_bytes() {
    let value = Bytes::from(vec![b'x'; 100]);
    measure("keys of 100 B", |cache, n| drop(cache.set(format!("key:{n:07}"), value.clone())));
}

#[test]
#[ignore = "takes a gigabyte and a process of its own"]
fn a_million_fields_of_one_hash() {
    let value = Bytes::from(vec![b'x'; 100]);
    measure("hash fields of 100 B", |cache, n| {
        drop(cache.hset("hash", format!("field:{n:07}"), value.clone()));
    });
}

#[test]
#[ignore = "takes a gigabyte and a process of its own"]
fn a_million_members_of_one_set() {
    measure("set members", |cache, n| drop(cache.sadd("set", &[format!("member:{n:07}")])));
}

#[test]
#[ignore = "takes a gigabyte and a process of its own"]
fn a_million_small_sets() {
    measure("sets of one member", |cache, n| drop(cache.sadd(format!("set:{n:07}"), &["member"])));
}

#[test]
#[ignore = "takes a gigabyte and a process of its own"]
fn a_million_small_hashes() {
    measure("hashes of one field", |cache, n| {
        drop(cache.hset(format!("hash:{n:07}"), "field", "value"));
    });
}
