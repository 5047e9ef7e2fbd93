//! The cache answers as Redis 7 does, keeps what it promised through a restart, and loses no
//! subscriber's message in silence.

mod beside_redis;
mod bits;
mod case;
mod collections;
mod durability;
mod eviction;
mod expiry;
mod hashes;
mod keys;
mod lists;
mod lookups;
mod model;
mod notifications;
mod port;
mod property;
mod recipes;
mod redis;
#[cfg(feature = "redis")]
#[path = "../redis_faults/server.rs"]
#[allow(dead_code, reason = "the tests of faults ask for more")]
mod redis_server;
mod refusal;
mod script;
mod script_table;
mod sets;
mod sorted_sets;
mod stand;
mod strings;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Command, Recovery, Reply};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;
use leveret::wire::resp::format_double;

use case::{Answer, Case, args, wait_ms};

const START_MS: u64 = 1_750_000_000_000;

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Status(status) => Answer::Status(status.to_owned()),
        Reply::Error(error) => Answer::Error(error.to_string()),
        Reply::Integer(integer) => Answer::Int(integer),
        Reply::Bulk(bytes) => Answer::Bulk(bytes.to_vec()),
        Reply::Nil => Answer::Nil,
        Reply::NilArray => Answer::NilArray,
        Reply::Array(replies) | Reply::Set(replies) => {
            Answer::Array(replies.into_iter().map(answer).collect())
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Answer::Array(flat.map(answer).collect())
        }
        Reply::Boolean(yes) => Answer::Int(i64::from(yes)),
        Reply::Verbatim { text, .. } | Reply::BigNumber(text) => Answer::Bulk(text.to_vec()),
        Reply::StatusText(text) => Answer::Status(String::from_utf8_lossy(&text).into_owned()),
        Reply::ErrorText(text) => Answer::Error(String::from_utf8_lossy(&text).into_owned()),
        Reply::Double(double) => {
            let mut digits = Vec::new();
            format_double(double, &mut digits);
            Answer::Bulk(digits)
        }
    }
}

fn embedded(cache: &Cache, line: &str) -> Answer {
    let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
    match Command::parse(&args) {
        Ok(command) => {
            let replies = cache.execute(&[command], None).replies;
            answer(replies.into_iter().next().expect("an answer"))
        }
        Err(error) => Answer::Error(error.to_string()),
    }
}

fn cases() -> Vec<&'static Case> {
    [
        table::CASES,
        strings::CASES,
        bits::CASES,
        hashes::CASES,
        keys::CASES,
        lists::CASES,
        sets::CASES,
        sorted_sets::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs the cases; `ask` gets a line at a time, `FLUSHALL` before each case, and `WAIT` lines.
fn run(cases: &[&Case], mut ask: impl FnMut(&str) -> Answer) {
    let mut wrong = Vec::new();
    for case in cases {
        ask("FLUSHALL");
        for (line, expected) in case.steps {
            let answer = ask(line);
            if !expected.admits(&answer) {
                wrong.push(format!("{}: {line}: expected {expected:?}, got {answer:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_is_answered_as_redis_answers_it() {
    let clock = ManualClock::at(START_MS);
    let cache = Cache::new(
        Journal::in_memory(),
        Arc::clone(&clock) as _,
        AppendFsync::EverySec,
        Recovery::default(),
    );
    run(&cases(), |line| match wait_ms(line) {
        Some(ms) => {
            clock.advance_ms(ms);
            Answer::Status("OK".to_owned())
        }
        None => embedded(&cache, line),
    });
}

/// The table itself, checked against the real server.
#[test]
fn the_cases_are_what_redis_answers() {
    let mut server = redis::Server::start();
    run(&cases(), |line| match wait_ms(line) {
        Some(ms) => {
            std::thread::sleep(std::time::Duration::from_millis(ms));
            Answer::Status("OK".to_owned())
        }
        None => server.ask(&args(line)),
    });
}
