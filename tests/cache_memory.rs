//! The cache's account of its memory, by which `maxmemory` works, beside what is really allocated.

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;

/// A little less than the places of a table of 65,536 that are taken before it grows: so each table
/// is nearly full, and what is allocated is used.
const COUNT: usize = 57_000;

/// Values have lengths that the program's allocator rounds to nothing else, since the one that counts
/// does not round.
type Fill = fn(&Cache, usize);

fn text(len: usize) -> Bytes {
    vec![b'x'; len].into()
}

const FILLS: &[(&str, Fill)] = &[
    ("strings of 8 B", |cache, n| drop(cache.set(format!("key:{n}"), text(8)))),
    ("strings of 96 B", |cache, n| drop(cache.set(format!("key:{n}"), text(96)))),
    ("strings of 1,024 B", |cache, n| drop(cache.set(format!("key:{n}"), text(1_024)))),
    ("strings that are numbers", |cache, n| drop(cache.incr(format!("key:{n}")))),
    ("strings with long names", |cache, n| drop(cache.set(format!("key:{n:040}"), text(8)))),
    ("strings with a deadline", |cache, n| {
        drop(cache.set_ex(format!("key:{n}"), text(16), std::time::Duration::from_secs(1_000)));
    }),
    ("lists of 1", |cache, n| drop(cache.rpush(format!("key:{n}"), text(8)))),
    ("lists of 10", |cache, n| drop(cache.rpush(format!("key:{}", n / 10), text(8)))),
    ("lists of 100", |cache, n| drop(cache.lpush(format!("key:{}", n / 100), text(48)))),
    ("one list", |cache, n| drop(cache.rpush("key", format!("element:{n}")))),
    ("hashes of 1", |cache, n| drop(cache.hset(format!("key:{n}"), "field", text(8)))),
    ("hashes of 10", |cache, n| {
        drop(cache.hset(format!("key:{}", n / 10), format!("field:{n}"), text(8)));
    }),
    ("hashes of 100", |cache, n| {
        drop(cache.hset(format!("key:{}", n / 100), format!("field:{n}"), text(48)));
    }),
    ("one hash of short values", |cache, n| drop(cache.hset("key", format!("field:{n}"), text(8)))),
    ("one hash of 96 B", |cache, n| drop(cache.hset("key", format!("field:{n}"), text(96)))),
    ("one hash of long names", |cache, n| {
        drop(cache.hset("key", format!("field:{n:040}"), text(8)));
    }),
    ("sets of 1", |cache, n| drop(cache.sadd(format!("key:{n}"), &["member"]))),
    ("sets of 1 integer", |cache, n| drop(cache.sadd(format!("key:{n}"), &[n.to_string()]))),
    ("sets of 10 integers", |cache, n| {
        drop(cache.sadd(format!("key:{}", n / 10), &[n.to_string()]));
    }),
    ("one set", |cache, n| drop(cache.sadd("key", &[format!("member:{n}")]))),
    ("one set of long names", |cache, n| drop(cache.sadd("key", &[format!("member:{n:040}")]))),
    ("sorted sets of 1", |cache, n| drop(cache.zadd(format!("key:{n}"), 1.0, "member"))),
    ("sorted sets of 10", |cache, n| {
        drop(cache.zadd(format!("key:{}", n / 10), n as f64, format!("member:{n}")));
    }),
    ("sorted sets of 100", |cache, n| {
        drop(cache.zadd(format!("key:{}", n / 100), n as f64, format!("member:{n}")));
    }),
    ("one sorted set", |cache, n| drop(cache.zadd("key", n as f64, format!("member:{n}")))),
    ("one sorted set, not in order", |cache, n| {
        drop(cache.zadd("key", (n * 7_919 % 65_537) as f64, format!("member:{n}")));
    }),
    ("one sorted set of long names", |cache, n| {
        drop(cache.zadd("key", n as f64, format!("member:{n:040}")));
    }),
];

#[test]
fn the_account_is_within_a_fifth_of_what_is_allocated() {
    let mut wrong = Vec::new();
    for (name, fill) in FILLS {
        let cache = Cache::new(
            Journal::in_memory(),
            SystemClock::shared(),
            AppendFsync::EverySec,
            Recovery::default(),
        );
        let allocated = allocation_counter::measure(|| (0..COUNT).for_each(|n| fill(&cache, n)));
        let counted = cache.memory_bytes() as f64 / allocated.bytes_current as f64;
        println!(
            "{counted:.2} {name}: {} counted, {} allocated in {:.2} pieces",
            cache.memory_bytes() / COUNT,
            allocated.bytes_current / COUNT as i64,
            allocated.count_current as f64 / COUNT as f64,
        );
        if !(0.8..=1.2).contains(&counted) {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
