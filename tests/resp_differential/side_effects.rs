//! What a command does beside its answer: whether those that watch its keys are told of a change, and
//! whether it has found its keys. Both servers agree.

use crate::connect;
use crate::servers::Server;
use crate::wire::{Connection, Request};

const LINES: &[&str] = &[
    "SET s 1",
    "SET s 1 NX",
    "SET s 1 EX 100",
    "EXPIREAT s 99999999999",
    "EXPIREAT s 99999999999",
    "GETEX s EXAT 99999999999",
    "EXPIRE s 100 NX",
    "GETEX s",
    "PERSIST s",
    "PERSIST s",
    "APPEND s ''",
    "APPEND missing ''",
    "SETRANGE s 0 ''",
    "SETRANGE missing2 0 ''",
    "INCRBY i 0",
    "INCRBY i 0",
    "INCRBYFLOAT i 0",
    "SETBIT b 5 0",
    "SETBIT b 5 0",
    "SETBIT b 5 1",
    "SETBIT b 50 0",
    "BITFIELD b SET u8 0 0",
    "BITFIELD b SET u8 0 0",
    "BITFIELD b INCRBY u8 0 0",
    "BITFIELD b SET u8 0 1 SET u8 0 0",
    "BITFIELD b SET u8 99 0",
    "BITFIELD b OVERFLOW FAIL INCRBY u8 0 999",
    "BITFIELD b GET u8 0",
    "BITOP NOT q missing3",
    "RPUSH l a b c",
    "LSET l 0 a",
    "LREM l 0 nothing",
    "LTRIM l 0 -1",
    "LINSERT l BEFORE nothing z",
    "LPOP l 0",
    "RPOPLPUSH l l",
    "RPOPLPUSH nol nol",
    "LMOVE nol l LEFT LEFT",
    "HSET h f 1",
    "HSET h f 1",
    "HSETNX h f 2",
    "HINCRBY h f 0",
    "HDEL h nothing",
    "SADD t a",
    "SADD t a",
    "SREM t nothing",
    "SMOVE t t a",
    "SPOP t 0",
    "SINTERSTORE u missing4",
    "ZADD z 1 a",
    "ZADD z 1 a",
    "ZADD z NX 5 a",
    "ZADD z XX 5 b",
    "ZADD z INCR 0 a",
    "ZINCRBY z 0 a",
    "ZINCRBY z 1 a",
    "ZREM z nothing",
    "ZREMRANGEBYRANK z 5 6",
    "ZRANGESTORE y missing5 0 1",
    "SORT missing6 STORE x",
    "COPY s s2",
    "COPY s s2",
    "COPY missing7 s2",
    "RENAMENX s s2",
    "MSETNX s 1 r 2",
    "TOUCH s missing8",
    "EXISTS s missing8",
    "TYPE s",
    "TYPE missing8",
    "TTL s",
    "PTTL missing8",
    "EXPIRETIME s",
    "PEXPIRETIME missing8",
    "OBJECT ENCODING s",
    "OBJECT ENCODING missing8",
    "GET missing8",
    "MGET s missing8",
    "STRLEN missing8",
    "GETRANGE missing8 0 1",
    "BITCOUNT missing8",
    "LLEN l",
    "LPOS missing8 a",
    "LRANGE missing8 0 1",
    "HGETALL h",
    "HGET missing8 f",
    "SINTER t missing8",
    "SMISMEMBER t a",
    "ZSCORE z a",
    "ZUNION 2 z missing8",
    "ZCOUNT missing8 0 1",
    "GETDEL missing8",
    "GETSET s 2",
    "DEL s missing8",
];

fn ask(connection: &mut Connection, words: &[&[u8]]) -> Vec<u8> {
    connection.send_all(&[words.iter().map(|word| word.to_vec()).collect()]);
    connection.read()
}

fn request(line: &str) -> Request {
    line.split(' ').map(|word| word.trim_matches('\'').as_bytes().to_vec()).collect()
}

/// Hits and misses since the last reset.
fn lookups(connection: &mut Connection) -> Vec<String> {
    let stats = String::from_utf8(ask(connection, &[b"INFO", b"stats"])).expect("a text");
    ask(connection, &[b"CONFIG", b"RESETSTAT"]);
    let lines = stats.lines().filter(|line| line.starts_with("keyspace_"));
    lines.map(str::to_owned).collect()
}

/// For each line whether its words were changed as keys, and how many keys it has found.
fn effects(server: &Server) -> Vec<(&'static str, bool, Vec<String>)> {
    let (mut watcher, mut worker) =
        (Connection::open(server.address), Connection::open(server.address));
    lookups(&mut worker);
    LINES
        .iter()
        .map(|line| {
            let request = request(line);
            let mut watch: Vec<&[u8]> = vec![b"WATCH"];
            watch.extend(request[1..].iter().map(Vec::as_slice));
            ask(&mut watcher, &watch);
            worker.send_all(std::slice::from_ref(&request));
            worker.read();
            ask(&mut watcher, &[b"MULTI"]);
            let was_changed = ask(&mut watcher, &[b"EXEC"]) == b"*-1\r\n";
            (*line, was_changed, lookups(&mut worker))
        })
        .collect()
}

#[test]
fn commands_change_and_find_what_they_do_on_redis() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let (theirs, ours) = (effects(&redis), effects(&leveret));
    let wrong: Vec<String> = theirs
        .iter()
        .zip(&ours)
        .filter(|(theirs, ours)| theirs != ours)
        .map(|(theirs, ours)| format!("Redis {theirs:?}\nours  {ours:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(theirs.iter().any(|(_, was_changed, _)| *was_changed));
}

#[test]
fn letters_of_events_that_are_not_shown_are_kept() {
    let leveret = Server::leveret(&["--in-memory"]);
    let mut pair = connect(&leveret, &leveret);
    // Redis hides the `n` behind the `A`.
    ask(&mut pair.redis, &[b"CONFIG", b"SET", b"notify-keyspace-events", b"EAn"]);
    ask(&mut pair.redis, &[b"CONFIG", b"SET", b"timeout", b"0"]);
    let shown = ask(&mut pair.redis, &[b"CONFIG", b"GET", b"notify-keyspace-events"]);
    assert!(shown.ends_with(b"\r\nAE\r\n"), "{}", String::from_utf8_lossy(&shown));
    ask(&mut pair.leveret, &[b"SUBSCRIBE", b"__keyevent@0__:new"]);
    ask(&mut pair.redis, &[b"SET", b"fresh", b"1"]);
    let told = pair.leveret.read();
    assert!(told.ends_with(b"fresh\r\n"), "{}", String::from_utf8_lossy(&told));
}
