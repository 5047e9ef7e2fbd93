//! The commands on keys of any type: what Redis 7.0 answers, and what a restart leaves.

use std::collections::BTreeSet;

use bytes::Bytes;
use leveret::cache::{Command, Operation, Reply};

use crate::case::Is::{Array, Bulk, Error, Int, IntIn, Nil, Ok, Set, Shown, Status};
use crate::case::{Answer, Case, Is, args};
use crate::stand::Stand;
use crate::{answer, embedded};

const NOT_AN_INTEGER: Is = Error("ERR value is not an integer or out of range");
const NOT_AN_INT: Is =
    Error("ERR value is out of range, value must between -2147483648 and 2147483647");
const SYNTAX: Is = Error("ERR syntax error");
const WRONG_TYPE: Is = Error("WRONGTYPE Operation against a key holding the wrong kind of value");
const NO_SUCH_KEY: Is = Error("ERR no such key");
const SAME: Is = Error("ERR source and destination objects are the same");
const NO_SUCH_DB: Is = Error("ERR DB index is out of range");
const NOT_SORTABLE: Is = Error("ERR One or more scores can't be converted into double");

pub const CASES: &[Case] = &[
    Case {
        name: "unlink, touch, randomkey, dbsize",
        steps: &[
            ("RANDOMKEY", Nil),
            ("SET a 1", Ok),
            ("RANDOMKEY", Bulk("a")),
            ("TOUCH a a none", Int(2)),
            ("UNLINK a none", Int(1)),
            ("DBSIZE", Int(0)),
            ("RANDOMKEY x", Error("ERR wrong number of arguments for 'randomkey' command")),
            ("HSET h f v", Int(1)),
            ("SADD s m", Int(1)),
            ("ZADD z 1 m", Int(1)),
            ("TYPE h", Status("hash")),
            ("TYPE s", Status("set")),
            ("TYPE z", Status("zset")),
            ("KEYS ?", Set(&["h", "s", "z"])),
            ("DEL h s z", Int(3)),
        ],
    },
    Case {
        name: "expiretime",
        steps: &[
            ("SET last x PXAT 9223372036854775807", Ok),
            ("EXPIRETIME last", Int(9_223_372_036_854_776)),
            ("EXPIRETIME none", Int(-2)),
            ("PEXPIRETIME none", Int(-2)),
            ("SET a 1", Ok),
            ("EXPIRETIME a", Int(-1)),
            ("PEXPIRETIME a", Int(-1)),
            ("PEXPIREAT a 33177117420500", Int(1)),
            ("PEXPIRETIME a", Int(33_177_117_420_500)),
            ("EXPIRETIME a", Int(33_177_117_421)),
            ("PEXPIREAT a 33177117420499", Int(1)),
            ("EXPIRETIME a", Int(33_177_117_420)),
        ],
    },
    Case {
        name: "rename",
        steps: &[
            ("RENAME none a", NO_SUCH_KEY),
            ("RENAME none none", NO_SUCH_KEY),
            ("RENAMENX none a", NO_SUCH_KEY),
            ("SET a 1", Ok),
            ("PEXPIREAT a 33177117420500", Int(1)),
            ("RENAME a a", Ok),
            ("RENAMENX a a", Int(0)),
            ("RENAME a b", Ok),
            ("EXISTS a", Int(0)),
            ("GET b", Bulk("1")),
            ("PEXPIRETIME b", Int(33_177_117_420_500)),
            ("RPUSH l x y", Int(2)),
            ("RENAMENX l b", Int(0)),
            ("RENAME l b", Ok),
            ("LRANGE b 0 -1", Array(&["x", "y"])),
            ("TTL b", Int(-1)),
            ("HSET h f v", Int(1)),
            ("RENAMENX h g", Int(1)),
            ("HSET g f2 v2", Int(1)),
            ("HGETALL g", Set(&["f", "v", "f2", "v2"])),
            ("EXISTS h", Int(0)),
            ("RENAME g ''", Ok),
            ("HGET '' f", Bulk("v")),
        ],
    },
    Case {
        name: "copy",
        steps: &[
            ("COPY a a", SAME),
            ("COPY none b", Int(0)),
            ("SET a 1", Ok),
            ("PEXPIREAT a 33177117420500", Int(1)),
            ("COPY a b", Int(1)),
            ("GET b", Bulk("1")),
            ("PEXPIRETIME b", Int(33_177_117_420_500)),
            ("HSET h f v", Int(1)),
            ("COPY h b", Int(0)),
            ("COPY h b REPLACE", Int(1)),
            ("TTL b", Int(-1)),
            ("HSET b f w", Int(0)),
            ("HGET h f", Bulk("v")),
            ("RPUSH l x y", Int(2)),
            ("COPY l l2", Int(1)),
            ("RPUSH l2 z", Int(3)),
            ("LRANGE l 0 -1", Array(&["x", "y"])),
            ("SADD s m", Int(1)),
            ("COPY s s2", Int(1)),
            ("SADD s2 n", Int(1)),
            ("SMEMBERS s", Array(&["m"])),
            ("ZADD z 1.5 m", Int(1)),
            ("COPY z z2", Int(1)),
            ("ZSCORE z2 m", Bulk("1.5")),
            ("COPY a a DB 0", SAME),
            ("COPY a b DB", SYNTAX),
            ("COPY a b DB x", NOT_AN_INTEGER),
            ("COPY a b DB x FOO", NOT_AN_INTEGER),
            ("COPY a b FOO DB x", SYNTAX),
            ("COPY a b DB 16", NO_SUCH_DB),
            ("COPY a b DB -1", NO_SUCH_DB),
            ("COPY a b DB 99999999999", NOT_AN_INT),
            ("COPY a a DB 1", Int(1)),
            ("COPY a a DB 1", Int(0)),
            ("COPY a a DB 1 replace replace", Int(1)),
        ],
    },
    Case {
        name: "move and swapdb",
        steps: &[
            ("MOVE a 0", SAME),
            ("MOVE a 1", Int(0)),
            ("MOVE a x", NOT_AN_INTEGER),
            ("MOVE a 16", NO_SUCH_DB),
            ("MOVE a -1", NO_SUCH_DB),
            ("MOVE a 9999999999", NOT_AN_INT),
            ("HSET h f v", Int(1)),
            ("MOVE h 1", Int(1)),
            ("EXISTS h", Int(0)),
            ("HSET h g w", Int(1)),
            ("MOVE h 1", Int(0)),
            ("SWAPDB 0 1", Ok),
            ("HGETALL h", Array(&["f", "v"])),
            ("DBSIZE", Int(1)),
            ("SWAPDB 1 0", Ok),
            ("HGETALL h", Array(&["g", "w"])),
            ("SWAPDB 0 0", Ok),
            ("FLUSHDB", Ok),
            ("DBSIZE", Int(0)),
            ("SWAPDB 0 1", Ok),
            ("DBSIZE", Int(1)),
            ("SWAPDB 1 0", Ok),
            ("SWAPDB 0 x", Error("ERR invalid second DB index")),
            ("SWAPDB x 0", Error("ERR invalid first DB index")),
            ("SWAPDB 16 x", Error("ERR invalid second DB index")),
            ("SWAPDB 16 0", NO_SUCH_DB),
            ("SWAPDB 0 -1", NO_SUCH_DB),
            ("SWAPDB 99999999999 0", Error("ERR invalid first DB index")),
            ("FLUSHDB x", SYNTAX),
            ("FLUSHDB ASYNC SYNC", SYNTAX),
            ("FLUSHDB async", Ok),
        ],
    },
    Case {
        name: "wait",
        steps: &[
            ("wait 0 0", Int(0)),
            ("wait -1 0", Int(0)),
            ("wait x 0", NOT_AN_INTEGER),
            ("wait x x", NOT_AN_INTEGER),
            ("wait 0 x", Error("ERR timeout is not an integer or out of range")),
            ("wait 0 -1", Error("ERR timeout is negative")),
        ],
    },
    Case {
        name: "scan",
        steps: &[
            ("SCAN 0", Shown("[0 []]")),
            ("SET a 1", Ok),
            ("SCAN 0", Shown("[0 [a]]")),
            ("SCAN 0 MATCH b*", Shown("[0 []]")),
            ("SCAN 0 MATCH a TYPE string COUNT 100", Shown("[0 [a]]")),
            ("SCAN 0 TYPE STRING", Shown("[0 [a]]")),
            ("SCAN 0 TYPE list", Shown("[0 []]")),
            ("SCAN 0 TYPE nonsense", Shown("[0 []]")),
            ("SCAN x", Error("ERR invalid cursor")),
            ("SCAN 0 COUNT 0", SYNTAX),
            ("SCAN 0 COUNT x", NOT_AN_INTEGER),
            ("SCAN 0 MATCH", SYNTAX),
            ("SCAN 0 FOO x", SYNTAX),
        ],
    },
    Case {
        name: "sort",
        steps: &[
            ("SORT none", Array(&[])),
            ("RPUSH l 3 1 2 10", Int(4)),
            ("SORT l", Array(&["1", "2", "3", "10"])),
            ("SORT l DESC", Array(&["10", "3", "2", "1"])),
            ("SORT l ALPHA", Array(&["1", "10", "2", "3"])),
            ("SORT l DESC ASC", Array(&["1", "2", "3", "10"])),
            ("SORT l LIMIT 1 2", Array(&["2", "3"])),
            ("SORT l LIMIT 1 -1", Array(&["2", "3", "10"])),
            ("SORT l LIMIT -5 1", Array(&["1"])),
            ("SORT l LIMIT 7 2", Array(&[])),
            ("SORT l LIMIT 0 0", Array(&[])),
            ("SORT l LIMIT 0", SYNTAX),
            ("SORT l LIMIT x 0", NOT_AN_INTEGER),
            ("SORT l FOO", SYNTAX),
            ("SORT l BY", SYNTAX),
            ("SORT l GET", SYNTAX),
            ("SORT l STORE", SYNTAX),
            ("SORT_RO l DESC LIMIT 0 1", Array(&["10"])),
            ("SORT_RO l STORE x", SYNTAX),
            ("SORT l STORE out", Int(4)),
            ("LRANGE out 0 -1", Array(&["1", "2", "3", "10"])),
            ("SET out x EX 100", Ok),
            ("SORT l LIMIT 0 1 STORE out", Int(1)),
            ("TTL out", Int(-1)),
            ("SORT none STORE out", Int(0)),
            ("EXISTS out", Int(0)),
            ("SADD s b a c", Int(3)),
            ("SORT s", NOT_SORTABLE),
            ("SORT s ALPHA DESC", Array(&["c", "b", "a"])),
            ("RPUSH unsorted 3 1 2", Int(3)),
            ("SORT unsorted BY nosort", Array(&["3", "1", "2"])),
            ("SORT unsorted BY nosort DESC", Array(&["2", "1", "3"])),
            ("SORT unsorted BY nosort DESC LIMIT 0 2", Array(&["2", "1"])),
            ("SORT s BY nosort STORE out", Int(3)),
            ("LRANGE out 0 -1", Array(&["a", "b", "c"])),
            ("ZADD z 3 1 2 2 1 3", Int(3)),
            ("SORT z", Array(&["1", "2", "3"])),
            ("SORT z BY nosort", Array(&["3", "2", "1"])),
            ("SORT z BY nosort DESC LIMIT 0 2", Array(&["1", "2"])),
            ("SET k x", Ok),
            ("SORT k", WRONG_TYPE),
            ("SORT k FOO", SYNTAX),
            ("HSET h f v", Int(1)),
            ("SORT h", WRONG_TYPE),
        ],
    },
    Case {
        name: "sort by and get",
        steps: &[
            ("RPUSH l 3 1 2", Int(3)),
            ("SET w_1 5", Ok),
            ("SET w_2 3", Ok),
            ("SORT l BY nosort", Array(&["3", "1", "2"])),
            ("SORT l BY w_*", Array(&["3", "2", "1"])),
            ("SORT l BY w_* DESC", Array(&["1", "2", "3"])),
            ("SORT l BY w_* ALPHA", Array(&["3", "2", "1"])),
            ("SORT l BY none_*", Array(&["1", "2", "3"])),
            ("SORT l GET w_* GET #", Shown("[5 1 3 2 nil 3]")),
            ("SORT l GET nothing", Shown("[nil nil nil]")),
            ("HSET h1 f x", Int(1)),
            ("HSET h2 f y", Int(1)),
            ("SORT l GET h*->f", Shown("[x y nil]")),
            ("SORT l GET h*->g", Shown("[nil nil nil]")),
            ("SORT l GET h*->", Shown("[nil nil nil]")),
            ("SORT l GET h*", Shown("[nil nil nil]")),
            ("SORT l BY h*->f", NOT_SORTABLE),
            ("SORT l BY h*->f ALPHA DESC", Array(&["2", "1", "3"])),
            ("SORT l GET w_* STORE out", Int(3)),
            ("LRANGE out 0 -1", Array(&["5", "3", ""])),
            ("SORT l GET w_* STORE l", Int(3)),
            ("LRANGE l 0 -1", Array(&["5", "3", ""])),
        ],
    },
    Case {
        name: "sort of numbers as strtod reads them",
        steps: &[
            ("RPUSH n 10 9 2 1.5 1e1 inf -inf ''", Int(8)),
            ("SORT n", Array(&["-inf", "", "1.5", "2", "9", "10", "1e1", "inf"])),
            ("RPUSH m ' 5' 0x10 3", Int(3)),
            ("SORT m", Array(&["3", " 5", "0x10"])),
            ("RPUSH bad nan", Int(1)),
            ("SORT bad", NOT_SORTABLE),
            ("RPUSH worse '5 '", Int(1)),
            ("SORT worse", NOT_SORTABLE),
        ],
    },
    Case {
        name: "object",
        steps: &[
            ("OBJECT ENCODING none", Nil),
            ("OBJECT REFCOUNT none", Nil),
            ("OBJECT FREQ none", Nil),
            ("SET n 12345", Ok),
            ("SET small 7", Ok),
            ("SET e x*44", Ok),
            ("SET r x*45", Ok),
            ("OBJECT ENCODING n", Bulk("int")),
            ("object encoding e", Bulk("embstr")),
            ("OBJECT ENCODING r", Bulk("raw")),
            ("OBJECT REFCOUNT n", Int(1)),
            ("OBJECT REFCOUNT small", Int(2_147_483_647)),
            ("OBJECT IDLETIME none", Nil),
            ("OBJECT IDLETIME n", IntIn(0, 1)),
            (
                "OBJECT FREQ n",
                Error(
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                     Please note that when switching between policies at runtime LRU and LFU data \
                     will take some time to adjust.",
                ),
            ),
            ("RPUSH l a", Int(1)),
            ("OBJECT ENCODING l", Bulk("quicklist")),
            ("HSET h f v", Int(1)),
            ("OBJECT ENCODING h", Bulk("listpack")),
            ("HSET h f x*65", Int(0)),
            ("OBJECT ENCODING h", Bulk("hashtable")),
            ("SADD s 1 2", Int(2)),
            ("OBJECT ENCODING s", Bulk("intset")),
            ("SADD s x", Int(1)),
            ("OBJECT ENCODING s", Bulk("hashtable")),
            ("ZADD z 1 m", Int(1)),
            ("OBJECT ENCODING z", Bulk("listpack")),
            ("ZADD z 1 x*65", Int(1)),
            ("OBJECT ENCODING z", Bulk("skiplist")),
            ("OBJECT FOO l", Error("ERR unknown subcommand 'FOO'. Try OBJECT HELP.")),
            (
                "OBJECT ENCODING",
                Error("ERR wrong number of arguments for 'object|encoding' command"),
            ),
            ("OBJECT HELP x", Error("ERR wrong number of arguments for 'object|help' command")),
            ("OBJECT", Error("ERR wrong number of arguments for 'object' command")),
        ],
    },
];

fn run(stand: &Stand, db: u8, lines: &[&str]) -> Vec<Answer> {
    let commands: Vec<Command> = lines
        .iter()
        .map(|line| {
            let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
            Command::parse(&args).expect("a good line")
        })
        .collect();
    stand.cache().execute_in(db, &commands, None).replies.into_iter().map(answer).collect()
}

fn bulks(answers: &Answer) -> BTreeSet<Vec<u8>> {
    let Answer::Array(answers) = answers else { panic!("{answers:?}") };
    answers
        .iter()
        .map(|answer| match answer {
            Answer::Bulk(text) => text.clone(),
            _ => panic!("{answer:?}"),
        })
        .collect()
}

/// Walks a whole scan; `between` runs after each step.
fn scan(stand: &Stand, command: &str, mut between: impl FnMut(usize)) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    for step in 0..10_000 {
        let line = command.replace("CURSOR", std::str::from_utf8(&cursor).unwrap());
        let Answer::Array(answer) = embedded(stand.cache(), &line) else { panic!("{line}") };
        let [Answer::Bulk(next), met] = &answer[..] else { panic!("{answer:?}") };
        found.extend(bulks(met));
        if next == b"0" {
            return found;
        }
        cursor.clone_from(next);
        between(step);
    }
    panic!("the scan has no end");
}

#[test]
fn a_scan_meets_everything_that_stays() {
    let stand = Stand::new();
    for n in 0..200 {
        run(
            &stand,
            0,
            &[
                &format!("SET stays:{n} 1"),
                &format!("SET goes:{n} 1"),
                &format!("HSET h stays:{n} 1 goes:{n} 1"),
                &format!("SADD s stays:{n} goes:{n}"),
            ],
        );
    }
    let staying: BTreeSet<Vec<u8>> = (0..200).map(|n| format!("stays:{n}").into_bytes()).collect();
    let goes = |n: usize, line: &str| {
        for n in n * 7..n * 7 + 7 {
            run(&stand, 0, &[&line.replace('N', &(n * 13 % 200).to_string())]);
        }
    };
    let keys = scan(&stand, "SCAN CURSOR COUNT 7 MATCH *:*", |step| goes(step, "DEL goes:N"));
    assert!(keys.is_superset(&staying), "{} keys", keys.len());
    let fields = scan(&stand, "HSCAN h CURSOR COUNT 7", |step| goes(step, "HDEL h goes:N"));
    assert!(fields.is_superset(&staying), "{} fields", fields.len());
    let members = scan(&stand, "SSCAN s CURSOR COUNT 7", |step| goes(step, "SREM s goes:N"));
    assert!(members.is_superset(&staying), "{} members", members.len());
}

#[tokio::test]
async fn a_large_hash_is_renamed_and_moved_by_one_fact() {
    let mut stand = Stand::new();
    for n in 0..1_000 {
        run(&stand, 0, &[&format!("HSET h field:{n} x*100")]);
    }
    stand.cache().journal().flush().await.unwrap();
    let before = stand.cache().journal().stats();
    run(&stand, 0, &["RENAME h other", "MOVE other 3", "SWAPDB 0 3", "PEXPIRE other 100000"]);
    stand.cache().journal().flush().await.unwrap();
    let bytes = stand.cache().journal().stats().bytes_appended - before.bytes_appended;
    assert!(bytes < 600, "{bytes} bytes");
    // Fields, the key, its deadline, the order of the databases.
    assert_eq!(stand.restart(), 1_003);
    assert_eq!(run(&stand, 0, &["HLEN other"]), [Answer::Int(1_000)]);
    run(&stand, 0, &["SWAPDB 0 3"]);
    assert_eq!(stand.restart(), 1_002);
    assert_eq!(run(&stand, 3, &["HLEN other"]), [Answer::Int(1_000)]);
}

#[test]
fn parts_of_a_key_that_moves_in_its_own_pipeline_are_recorded() {
    let mut stand = Stand::new();
    run(
        &stand,
        0,
        &[
            "HSET h a 1",
            "RENAME h i",
            "HSET i b 2",
            "MOVE i 2",
            "SET h in-the-place-of-the-hash",
            "SADD s m",
            "MOVE s 2",
            "RPUSH l 1 2",
            "RENAME l m",
            "MOVE m 5",
            "ZADD z 1 a",
            "COPY z y DB 5",
        ],
    );
    // Six keys, two fields, a member, two elements, two scores.
    assert_eq!(stand.restart(), 13);
    assert_eq!(
        run(&stand, 0, &["GET h", "ZSCORE z a"]),
        [Answer::Bulk(b"in-the-place-of-the-hash".to_vec()), Answer::Bulk(b"1".to_vec())]
    );
    assert_eq!(bulks(&run(&stand, 2, &["HKEYS i"])[0]).len(), 2);
    assert_eq!(run(&stand, 2, &["SCARD s"]), [Answer::Int(1)]);
    assert_eq!(
        run(&stand, 5, &["LLEN m", "ZSCORE y a"]),
        [Answer::Int(2), Answer::Bulk(b"1".to_vec())]
    );
}

#[test]
fn replies_tell_maps_sets_and_pairs_from_arrays() {
    let stand = Stand::new();
    let ask = |line: &str| {
        let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
        let command = Command::parse(&args).unwrap();
        stand.cache().execute(&[command], None).replies.remove(0)
    };
    ask("HSET h f v");
    ask("SADD s m");
    assert!(matches!(ask("HGETALL h"), Reply::Map(pairs) if pairs.len() == 1));
    assert!(matches!(ask("HGETALL none"), Reply::Map(pairs) if pairs.is_empty()));
    assert!(matches!(ask("HRANDFIELD h 1 WITHVALUES"), Reply::Pairs(pairs) if pairs.len() == 1));
    assert!(matches!(ask("HKEYS h"), Reply::Array(_)));
    for line in ["SMEMBERS s", "SINTER s s", "SUNION s none", "SDIFF s none", "SPOP none 1"] {
        assert!(matches!(ask(line), Reply::Set(_)), "{line}");
    }
    assert!(matches!(ask("SRANDMEMBER s 1"), Reply::Array(_)));
}

#[test]
fn the_typed_methods_are_the_commands() {
    let stand = Stand::new();
    let cache = stand.cache();
    assert!(cache.hset("h", "f", "1").unwrap().value);
    assert_eq!(cache.hincr_by("h", "f", 4).unwrap().value, 5);
    assert!(!cache.hset_new("h", "f", "9").unwrap().value);
    assert_eq!(cache.hget("h", "f").unwrap().unwrap(), "5");
    let _ = cache.hset_json("h", "json", &["a", "b"]).unwrap();
    assert_eq!(cache.hget_json("h", "json").unwrap(), Some(["a".to_owned(), "b".to_owned()]));
    assert_eq!(cache.hset_many("h", &[("g".into(), "v".into())]).unwrap().value, 1);
    assert!(cache.hset_many("h", &[]).is_err());
    assert_eq!((cache.hlen("h").unwrap(), cache.hgetall("h").unwrap().len()), (3, 3));
    assert_eq!(cache.hdel("h", &["f", "g", "json"]).unwrap().value, 3);
    assert!(!cache.exists("h"));
    assert!(!cache.hexists("h", "f").unwrap());

    assert_eq!(cache.sadd("s", &["a", "b"]).unwrap().value, 2);
    assert!(cache.sadd::<&str>("s", &[]).is_err());
    assert!(cache.sismember("s", "a").unwrap());
    assert_eq!(cache.srem("s", &["a", "x"]).unwrap().value, 1);
    assert_eq!((cache.scard("s").unwrap(), cache.smembers("s").unwrap()), (1, vec!["b".into()]));
    let union = cache.combine_sets(Operation::Union, &["s".into(), "t".into()]).unwrap();
    assert_eq!(union, ["b"]);
    assert!(cache.rename("s", "renamed").unwrap().value);
    assert_eq!(cache.keys("re*"), ["renamed"]);
    assert_eq!(cache.spop("renamed").unwrap().value.unwrap(), "b");
    let _ = cache.set("a", "1").unwrap();
    assert_eq!(cache.del_many(&["a", "b"]).unwrap().value, 1);
}

#[test]
fn idle_time_goes_on_until_a_key_is_used() {
    let stand = Stand::new();
    run(&stand, 0, &["SET a 1", "HSET h f v"]);
    stand.wait_ms(7_000);
    assert_eq!(
        run(&stand, 0, &["OBJECT IDLETIME a", "TTL a", "OBJECT ENCODING a"])[0],
        Answer::Int(7)
    );
    assert_eq!(
        run(&stand, 0, &["OBJECT IDLETIME a", "OBJECT IDLETIME h"]),
        [Answer::Int(7), Answer::Int(7)]
    );
    run(&stand, 0, &["TOUCH a", "HGET h f"]);
    assert_eq!(
        run(&stand, 0, &["OBJECT IDLETIME a", "OBJECT IDLETIME h"]),
        [Answer::Int(0), Answer::Int(0)]
    );
}
