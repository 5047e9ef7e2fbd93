//! Any commands on the keys: none panics, what is counted is what is there, and nothing is left of it
//! when all of it is removed.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Command, Recovery, Reply};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;
use leveret::model::text::Text;
use leveret::wire::resp::{Decoder, Limits};
use libfuzzer_sys::fuzz_target;

const START_MS: u64 = 1_750_000_000_000;
/// Lets as many milliseconds pass as it says.
const TICK: &[u8] = b"@";
/// A number that makes a string or an answer of that length: what a request may cost is bounded
/// elsewhere, and here each would take a second.
const LENGTH_MAX: i64 = 100_000;
const REQUESTS_MAX: usize = 200;

fn number(arg: &[u8]) -> Option<i64> {
    std::str::from_utf8(arg).ok()?.trim_start_matches('#').parse().ok()
}

fn is_costly(request: &[Text]) -> bool {
    let Some((name, args)) = request.split_first() else { return false };
    let name = name.to_ascii_uppercase();
    let by_length =
        [&b"SETRANGE"[..], b"SETBIT", b"BITFIELD", b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER"];
    by_length.contains(&&name[..])
        && args
            .iter()
            .filter_map(|arg| number(arg))
            .any(|number| number.saturating_abs() > LENGTH_MAX)
}

fn ask(cache: &Cache, db: u8, line: &[&'static [u8]]) -> Reply {
    let args: Vec<Bytes> = line.iter().map(|word| Bytes::from_static(word)).collect();
    let command = Command::parse(&args).expect("a good request");
    cache.execute_in(db, &[command], None).replies.remove(0)
}

fn keys(reply: Reply) -> BTreeSet<Bytes> {
    let Reply::Array(keys) = reply else { panic!("{reply:?}") };
    let text = |key| match key {
        Reply::Bulk(text) => text,
        other => panic!("{other:?}"),
    };
    keys.into_iter().map(text).collect()
}

/// KEYS, SCAN and DBSIZE see the same.
fn inspect(cache: &Cache, db: u8) {
    let listed = keys(ask(cache, db, &[b"KEYS", b"*"]));
    let Reply::Array(mut scanned) = ask(cache, db, &[b"SCAN", b"0", b"COUNT", b"1000000"]) else {
        panic!("no answer to SCAN")
    };
    assert_eq!(keys(scanned.pop().expect("the keys")), listed);
    let Reply::Integer(count) = ask(cache, db, &[b"DBSIZE"]) else { panic!("no answer to DBSIZE") };
    // What has expired and was not yet taken back counts.
    assert!(count >= listed.len() as i64, "{count} of {}", listed.len());
}

fuzz_target!(|data: &[u8]| {
    let clock = ManualClock::at(START_MS);
    let cache = Cache::new(
        Journal::in_memory(),
        Arc::clone(&clock) as _,
        AppendFsync::No,
        Recovery::default(),
    );
    let mut decoder = Decoder::default();
    decoder.feed(data);
    // A byte of the input says how many of its requests are one pipeline.
    let pipeline = 1 + usize::from(data.first().copied().unwrap_or(0) % 4);
    let mut commands = Vec::new();
    for at in 0..REQUESTS_MAX {
        let Ok(Some(request)) = decoder.next(&Limits::DEFAULT) else { break };
        match request.first() {
            Some(name) if name == TICK => {
                let ms = request.get(1).and_then(|arg| number(arg)).unwrap_or(1);
                clock.advance_ms(ms.unsigned_abs() % 1_000_000_000);
            }
            _ if is_costly(&request) => {}
            _ => commands.extend(Command::parse_texts(&request)),
        }
        if at % pipeline == 0 && !commands.is_empty() {
            let executed = cache.execute_in(0, &commands, None);
            assert_eq!(executed.replies.len(), commands.len());
            commands.clear();
        }
    }
    for db in 0..3 {
        inspect(&cache, db);
    }
    ask(&cache, 0, &[b"FLUSHALL"]);
    assert_eq!((cache.key_count(), cache.memory_bytes()), (0, 0));
});
