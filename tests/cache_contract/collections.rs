//! Any commands on hashes, sets and keys, in any databases, with restarts between them: every answer is
//! Redis's own, and a restart changes nothing.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use leveret::cache::Command;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::case::{Answer, args};
use crate::stand::Stand;
use crate::{answer, redis};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const DATABASES: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Ask(String),
    Select(u8),
    Restart,
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

fn member() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]{0,1}".prop_map(|text| format!("'{text}'")), "[0-9]{1,2}"]
}

fn line() -> impl Strategy<Value = String> {
    let keys = || prop::collection::vec(key(), 1..4).prop_map(|keys| keys.join(" "));
    let operation = || prop::sample::select(vec!["INTER", "UNION", "DIFF"]);
    let hash = prop_oneof![
        4 => (key(), member(), member(), member(), member())
            .prop_map(|(key, f, v, g, w)| format!("HSET {key} {f} {v} {g} {w}")),
        1 => (key(), member(), member()).prop_map(|(key, f, v)| format!("HSETNX {key} {f} {v}")),
        2 => (key(), member(), member()).prop_map(|(key, f, g)| format!("HDEL {key} {f} {g}")),
        1 => (key(), member(), -3i64..4).prop_map(|(key, f, by)| format!("HINCRBY {key} {f} {by}")),
        1 => (key(), member(), member()).prop_map(|(key, f, g)| format!("HMGET {key} {f} {g}")),
        1 => key().prop_map(|key| format!("HGETALL {key}")),
        1 => key().prop_map(|key| format!("HLEN {key}")),
        1 => key().prop_map(|key| format!("HRANDFIELD {key} 99 WITHVALUES")),
        1 => key().prop_map(|key| format!("HSCAN {key} 0 COUNT 1000")),
    ];
    let set = prop_oneof![
        4 => (key(), member(), member(), member())
            .prop_map(|(key, one, two, three)| format!("SADD {key} {one} {two} {three}")),
        2 => (key(), member(), member()).prop_map(|(key, one, two)| format!("SREM {key} {one} {two}")),
        1 => (key(), key(), member()).prop_map(|(from, to, it)| format!("SMOVE {from} {to} {it}")),
        1 => (key(), member()).prop_map(|(key, one)| format!("SMISMEMBER {key} {one} {one}")),
        1 => key().prop_map(|key| format!("SPOP {key} 99")),
        1 => key().prop_map(|key| format!("SCARD {key}")),
        1 => key().prop_map(|key| format!("SSCAN {key} 0 COUNT 1000")),
        2 => (operation(), keys()).prop_map(|(operation, keys)| format!("S{operation} {keys}")),
        2 => (operation(), key(), keys())
            .prop_map(|(operation, to, keys)| format!("S{operation}STORE {to} {keys}")),
        1 => (key(), key(), 0u32..3)
            .prop_map(|(one, two, limit)| format!("SINTERCARD 2 {one} {two} LIMIT {limit}")),
    ];
    let on_keys = prop_oneof![
        1 => (key(), member()).prop_map(|(key, value)| format!("SET {key} {value}")),
        1 => (key(), member(), member())
            .prop_map(|(key, one, two)| format!("RPUSH {key} {one} {two}")),
        1 => (key(), -2i32..3, member())
            .prop_map(|(key, score, member)| format!("ZADD {key} {score} {member}")),
        1 => (key(), 0u64..3)
            .prop_map(|(key, ms)| format!("PEXPIREAT {key} {}", 33_177_117_420_000 + ms)),
        1 => key().prop_map(|key| format!("PEXPIRETIME {key}")),
        1 => key().prop_map(|key| format!("DEL {key}")),
        1 => key().prop_map(|key| format!("TYPE {key}")),
        3 => (key(), key()).prop_map(|(from, to)| format!("RENAME {from} {to}")),
        1 => (key(), key()).prop_map(|(from, to)| format!("RENAMENX {from} {to}")),
        2 => (key(), key(), 0..DATABASES)
            .prop_map(|(from, to, db)| format!("COPY {from} {to} DB {db} REPLACE")),
        1 => (key(), key()).prop_map(|(from, to)| format!("COPY {from} {to}")),
        3 => (key(), 0..DATABASES).prop_map(|(key, db)| format!("MOVE {key} {db}")),
        1 => (0..DATABASES, 0..DATABASES).prop_map(|(one, two)| format!("SWAPDB {one} {two}")),
        1 => (key(), key()).prop_map(|(from, to)| format!("SORT {from} ALPHA STORE {to}")),
        1 => key().prop_map(|key| format!("SORT {key} DESC LIMIT 1 2")),
        1 => Just("KEYS *".to_owned()),
        1 => Just("SCAN 0 COUNT 1000".to_owned()),
        1 => Just("DBSIZE".to_owned()),
    ];
    prop_oneof![9 => hash, 9 => set, 9 => on_keys, 1 => Just("FLUSHDB".to_owned())]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => line().prop_map(Step::Ask),
        4 => (0..DATABASES).prop_map(Step::Select),
        2 => Just(Step::Restart),
    ]
}

/// What has no order in it is sorted, so that pairs stay together.
fn sorted(line: &str, answer: Answer) -> Answer {
    let name = line.split(' ').next().expect("a name");
    let Answer::Array(mut answers) = answer else { return answer };
    match name {
        "HGETALL" | "HRANDFIELD" => {
            let mut pairs: Vec<String> =
                answers.chunks(2).map(|pair| format!("{pair:?}")).collect();
            pairs.sort();
            Answer::Status(pairs.join(" "))
        }
        "HSCAN" => sorted("HGETALL", answers.remove(1)),
        "SSCAN" | "SCAN" => sorted("KEYS", answers.remove(1)),
        "SPOP" | "SINTER" | "SUNION" | "SDIFF" | "KEYS" => {
            answers.sort_by_key(|answer| format!("{answer:?}"));
            Answer::Array(answers)
        }
        _ => Answer::Array(answers),
    }
}

/// Everything that the databases hold.
const LOOKS: [&str; 6] = ["HGETALL", "SUNION", "GET", "LRANGE_ALL", "ZRANGE_ALL", "PEXPIRETIME"];

#[test]
fn any_commands_are_answered_as_redis_answers_them_also_after_a_restart() {
    let server = RefCell::new(redis::Server::start());
    let selected = Cell::new(0);
    let ask_redis = |line: &str| server.borrow_mut().ask(&args(line));
    let ask_ours = |stand: &Stand, line: &str| {
        let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
        match Command::parse(&args) {
            Ok(command) => {
                answer(stand.cache().execute_in(selected.get(), &[command], None).replies.remove(0))
            }
            Err(error) => Answer::Error(error.to_string()),
        }
    };
    let compare = |stand: &Stand, line: &str| {
        let (ours, expected) = (ask_ours(stand, line), ask_redis(line));
        assert_eq!(sorted(line, ours), sorted(line, expected), "{line}");
    };
    let compare_all = |stand: &Stand| {
        let db = selected.get();
        for other in 0..DATABASES {
            selected.set(other);
            ask_redis(&format!("SELECT {other}"));
            for key in KEYS {
                for look in LOOKS {
                    let line = match look.strip_suffix("_ALL") {
                        Some(look) => format!("{look} {key} 0 -1"),
                        None => format!("{look} {key}"),
                    };
                    compare(stand, &line);
                }
            }
        }
        selected.set(db);
        ask_redis(&format!("SELECT {db}"));
    };
    let config =
        ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let steps = prop::collection::vec(step(), 1..160);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let mut stand = Stand::new();
        ask_redis("FLUSHALL");
        selected.set(0);
        ask_redis("SELECT 0");
        for step in &steps {
            match step {
                Step::Ask(line) => compare(&stand, line),
                Step::Select(db) => {
                    selected.set(*db);
                    ask_redis(&format!("SELECT {db}"));
                }
                Step::Restart => {
                    let bytes = stand.cache().memory_bytes();
                    stand.restart();
                    assert_eq!(stand.cache().memory_bytes(), bytes);
                    compare_all(&stand);
                }
            }
        }
        stand.restart();
        compare_all(&stand);
        Ok(())
    });
    result.unwrap();
}
