//! Lists: what looks into the middle of them, and what moves between them.

use proptest::prelude::*;

use crate::beside_redis;
use crate::case::Is::{Array, Bulk, Error, Int, Nil, NilArray, Shown};
use crate::case::{Case, Is};
use crate::stand::Stand;

const OK: Is = Is::Ok;
const NOT_AN_INTEGER: Is = Error("ERR value is not an integer or out of range");
const SYNTAX: Is = Error("ERR syntax error");
const WRONG_TYPE: Is = Error("WRONGTYPE Operation against a key holding the wrong kind of value");
const NO_KEYS: Is = Error("ERR numkeys should be greater than 0");
const NO_COUNT: Is = Error("ERR count should be greater than 0");
const EMPTY: Is = Array(&[]);

pub const CASES: &[Case] = &[
    Case {
        name: "pushes to lists that are there",
        steps: &[
            ("LPUSHX k a", Int(0)),
            ("RPUSHX k a", Int(0)),
            ("EXISTS k", Int(0)),
            ("RPUSH k c", Int(1)),
            ("LPUSHX k b a", Int(3)),
            ("RPUSHX k d", Int(4)),
            ("LRANGE k 0 -1", Array(&["a", "b", "c", "d"])),
            ("LPUSHX k", Error("ERR wrong number of arguments for 'lpushx' command")),
            ("SET s x", OK),
            ("LPUSHX s a", WRONG_TYPE),
        ],
    },
    Case {
        name: "linsert and lset",
        steps: &[
            ("RPUSH k a b c b", Int(4)),
            ("LINSERT k BEFORE b x", Int(5)),
            ("LINSERT k after b y", Int(6)),
            ("LINSERT k AFTER nope x", Int(-1)),
            ("LINSERT k MIDDLE b x", SYNTAX),
            ("LINSERT missing BEFORE b x", Int(0)),
            ("LINSERT missing MIDDLE b x", SYNTAX),
            ("LINSERT k BEFORE a first", Int(7)),
            ("LRANGE k 0 -1", Array(&["first", "a", "x", "b", "y", "c", "b"])),
            ("LINSERT k AFTER", Error("ERR wrong number of arguments for 'linsert' command")),
            ("LSET k 0 A", OK),
            ("LSET k -1 Z", OK),
            ("LRANGE k 0 -1", Array(&["A", "a", "x", "b", "y", "c", "Z"])),
            ("LSET k 7 x", Error("ERR index out of range")),
            ("LSET k -8 x", Error("ERR index out of range")),
            ("LSET k x x", NOT_AN_INTEGER),
            ("LSET missing 0 x", Error("ERR no such key")),
            ("LSET missing x x", Error("ERR no such key")),
            ("SET s x", OK),
            ("LINSERT s BEFORE a b", WRONG_TYPE),
            ("LSET s x x", WRONG_TYPE),
        ],
    },
    Case {
        name: "lrem",
        steps: &[
            ("RPUSH k b a b c b d b", Int(7)),
            ("LREM k 0 nope", Int(0)),
            ("LREM k 2 b", Int(2)),
            ("LRANGE k 0 -1", Array(&["a", "c", "b", "d", "b"])),
            ("LREM k -1 b", Int(1)),
            ("LRANGE k 0 -1", Array(&["a", "c", "b", "d"])),
            ("LREM k -9223372036854775808 b", Int(1)),
            ("LREM k x b", NOT_AN_INTEGER),
            ("LREM missing x b", NOT_AN_INTEGER),
            ("LREM missing 0 b", Int(0)),
            ("LREM k 0 a", Int(1)),
            ("LREM k 0 c", Int(1)),
            ("LREM k 0 d", Int(1)),
            ("EXISTS k", Int(0)),
            ("SET s x", OK),
            ("LREM s 0 x", WRONG_TYPE),
        ],
    },
    Case {
        name: "lpos",
        steps: &[
            ("RPUSH k a b c b d b", Int(6)),
            ("LPOS k b", Int(1)),
            ("LPOS k nope", Nil),
            ("LPOS k b RANK 2", Int(3)),
            ("LPOS k b RANK -1", Int(5)),
            ("LPOS k b RANK 4", Nil),
            ("LPOS k b RANK -9223372036854775808", Int(5)),
            ("LPOS k b COUNT 0", Shown("[1 3 5]")),
            ("LPOS k b COUNT 2", Shown("[1 3]")),
            ("LPOS k b RANK -2 COUNT 0", Shown("[3 1]")),
            ("LPOS k nope COUNT 2", EMPTY),
            ("LPOS k b MAXLEN 1", Nil),
            ("LPOS k b MAXLEN 2 COUNT 0", Shown("[1]")),
            ("LPOS k a MAXLEN 5 RANK -1", Nil),
            ("LPOS k b COUNT 0 COUNT 1", Shown("[1]")),
            ("LPOS missing b", Nil),
            ("LPOS missing b COUNT 0", EMPTY),
            (
                "LPOS k b RANK 0",
                Error(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                     second ... or use negative to start from the end of the list",
                ),
            ),
            ("LPOS k b RANK x", NOT_AN_INTEGER),
            ("LPOS k b COUNT -1", Error("ERR COUNT can't be negative")),
            ("LPOS k b COUNT x", Error("ERR COUNT can't be negative")),
            ("LPOS k b MAXLEN -1", Error("ERR MAXLEN can't be negative")),
            ("LPOS k b FOO 1", SYNTAX),
            ("LPOS k b RANK", SYNTAX),
            ("SET s x", OK),
            ("LPOS s x", WRONG_TYPE),
        ],
    },
    Case {
        name: "moves between lists",
        steps: &[
            ("RPUSH k a b c", Int(3)),
            ("LMOVE k d LEFT RIGHT", Bulk("a")),
            ("RPOPLPUSH k d", Bulk("c")),
            ("LRANGE d 0 -1", Array(&["c", "a"])),
            ("LMOVE d d left right", Bulk("c")),
            ("LRANGE d 0 -1", Array(&["a", "c"])),
            ("LMOVE k d RIGHT LEFT", Bulk("b")),
            ("EXISTS k", Int(0)),
            ("LMOVE k d LEFT LEFT", Nil),
            ("RPOPLPUSH k d", Nil),
            ("LMOVE d k LEFT MIDDLE", SYNTAX),
            ("LMOVE k d x LEFT", SYNTAX),
            ("SET s x", OK),
            ("LMOVE d s LEFT LEFT", WRONG_TYPE),
            ("LMOVE s d LEFT LEFT", WRONG_TYPE),
            ("LMOVE missing s LEFT LEFT", Nil),
            ("LRANGE d 0 -1", Array(&["b", "a", "c"])),
            ("RPUSH one x", Int(1)),
            ("EXPIRE one 100", Int(1)),
            ("RPOPLPUSH one one", Bulk("x")),
            ("TTL one", Int(100)),
        ],
    },
    Case {
        name: "pops from the first of many lists",
        steps: &[
            ("RPUSH k a b c", Int(3)),
            ("LMPOP 1 k LEFT", Shown("[k [a]]")),
            ("LMPOP 2 missing k right COUNT 9", Shown("[k [c b]]")),
            ("EXISTS k", Int(0)),
            ("LMPOP 2 missing k LEFT", NilArray),
            ("LMPOP 0 k LEFT", NO_KEYS),
            ("LMPOP x k LEFT", NO_KEYS),
            ("LMPOP 2 k LEFT", SYNTAX),
            ("LMPOP 9223372036854775807 k LEFT", SYNTAX),
            ("LMPOP 1 k MID", SYNTAX),
            ("LMPOP 1 k LEFT COUNT 0", NO_COUNT),
            ("LMPOP 1 k LEFT COUNT x", NO_COUNT),
            ("LMPOP 1 k LEFT COUNT 1 COUNT 1", SYNTAX),
            ("LMPOP 1 k LEFT FOO", SYNTAX),
            ("SET s x", OK),
            ("LMPOP 2 missing s LEFT", WRONG_TYPE),
        ],
    },
];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x", "y", "z", "''", "value"])
}

/// Lines that both servers have to answer alike.
fn line() -> impl Strategy<Value = String> {
    let end = || prop::sample::select(vec!["L", "R"]);
    let side = || prop::sample::select(vec!["LEFT", "RIGHT"]);
    let where_to = prop::sample::select(vec!["BEFORE", "AFTER"]);
    let values = || prop::collection::vec(value(), 1..6).prop_map(|values| values.join(" "));
    let option = prop::sample::select(vec![
        "",
        " COUNT 0",
        " COUNT 2",
        " MAXLEN 3",
        " RANK 2",
        " RANK -1 COUNT 0",
    ]);
    prop_oneof![
        5 => (end(), key(), values()).prop_map(|(end, key, values)| format!("{end}PUSH {key} {values}")),
        1 => (end(), key(), values()).prop_map(|(end, key, values)| format!("{end}PUSHX {key} {values}")),
        4 => (key(), where_to, value(), value())
            .prop_map(|(key, at, pivot, value)| format!("LINSERT {key} {at} {pivot} {value}")),
        3 => (key(), -9i32..9, value()).prop_map(|(key, index, value)| format!("LSET {key} {index} {value}")),
        4 => (key(), -3i32..4, value()).prop_map(|(key, count, value)| format!("LREM {key} {count} {value}")),
        1 => (key(), value(), option).prop_map(|(key, value, option)| format!("LPOS {key} {value}{option}")),
        2 => (key(), key(), side(), side())
            .prop_map(|(from, to, one, other)| format!("LMOVE {from} {to} {one} {other}")),
        1 => (key(), key()).prop_map(|(from, to)| format!("RPOPLPUSH {from} {to}")),
        1 => (key(), key(), side(), 1u32..4)
            .prop_map(|(one, other, side, count)| format!("LMPOP 2 {one} {other} {side} COUNT {count}")),
        1 => (end(), key()).prop_map(|(end, key)| format!("{end}POP {key}")),
        1 => (key(), -6i32..6, -6i32..6).prop_map(|(key, start, stop)| format!("LTRIM {key} {start} {stop}")),
        1 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
    ]
}

#[test]
fn any_commands_are_answered_as_redis_answers_them_also_after_a_restart() {
    let inspection = ["a", "b", "c"].map(|key| format!("LRANGE {key} 0 -1"));
    beside_redis::play(line(), &inspection, |elements| elements);
}

/// The side that has fewer elements makes room, and closes up.
#[tokio::test]
async fn a_change_near_an_end_records_little_however_long_the_list_is() {
    let stand = Stand::new();
    for n in 0..2_000 {
        let _ = stand.cache().rpush("k", n.to_string()).unwrap();
    }
    stand.cache().journal().flush().await.unwrap();
    for line in [
        "LINSERT k AFTER 2 x",
        "LINSERT k BEFORE 1997 y",
        "LREM k 1 3",
        "LREM k -1 1996",
        "LSET k 1000 z",
    ] {
        let before = stand.cache().journal().stats().bytes_appended;
        crate::embedded(stand.cache(), line);
        stand.cache().journal().flush().await.unwrap();
        let bytes = stand.cache().journal().stats().bytes_appended - before;
        assert!((1..600).contains(&bytes), "{bytes} bytes for {line}");
    }
}
