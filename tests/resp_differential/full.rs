//! What is refused when memory is full, and what goes on: the same on both servers.

use crate::connect;
use crate::servers::Server;
use crate::wire::{Connection, shown};

/// On two connections: a line that begins with `@` is the second one's, a `\n` in it a line break.
const LINES: &[&str] = &[
    "SET s 1",
    "RPUSH l 1",
    "HSET h f 1",
    "SADD t a",
    "ZADD z 1 a",
    "@CONFIG SET maxmemory 1",
    "GET s",
    "SET a 1",
    "APPEND s 1",
    "INCR s",
    "GETEX s EX 100",
    "SETBIT s 0 1",
    "LPUSH l 1",
    "LMOVE l l LEFT RIGHT",
    "LSET l 0 1",
    "LREM l 0 2",
    "BLMOVE l l LEFT RIGHT 0",
    "HSET h f 1",
    "HINCRBY h f 1",
    "SADD t a",
    "SMOVE t u a",
    "SUNIONSTORE d t",
    "ZADD z 1 a",
    "ZINCRBY z 1 a",
    "ZRANGESTORE d z 0 1",
    "SORT l STORE d",
    "COPY s d",
    "EXPIRE s 100",
    "PERSIST s",
    "RENAME s r",
    "PUBLISH a b",
    "DEL r",
    // A script goes to its end once it has written.
    "EVAL 'return 1' 0",
    "EVAL 'return redis.call(\"get\",\"l2\")' 0",
    "EVAL 'return redis.call(\"set\",\"l2\",1)' 0",
    "EVAL 'return redis.pcall(\"set\",\"l2\",1)' 0",
    "EVAL 'redis.call(\"del\",\"u\") return redis.call(\"set\",\"l2\",1)' 0",
    "EVAL 'redis.pcall(\"set\",\"l3\",1) return redis.call(\"set\",\"l3\",1)' 0",
    "EVAL '#!lua flags=allow-oom\nreturn redis.call(\"set\",\"l4\",1)' 0",
    "EVAL '#!lua\nreturn 1' 0",
    "EVAL '#!lua flags=no-writes\nreturn 1' 0",
    "EVAL '#!lua flags=no-writes,allow-oom\nreturn 1' 0",
    "EVAL_RO 'return 1' 0",
    "MGET l2 l3 l4",
    // A transaction is refused as a whole.
    "MULTI",
    "GET l2",
    "EXEC",
    "MULTI",
    "EXEC",
    "@CONFIG SET maxmemory 0",
    "MULTI",
    "SET a 1",
    "SET b 1",
    "@CONFIG SET maxmemory 1",
    "EXEC",
    "@CONFIG SET maxmemory 0",
    "MULTI",
    "GET a",
    "DEL b",
    "@CONFIG SET maxmemory 1",
    "EXEC",
    "@CONFIG SET maxmemory 0",
    "MULTI",
    "SET a 1",
    "EVAL 'return 1' 0",
    "@CONFIG SET maxmemory 1",
    "EXEC",
    "@CONFIG SET maxmemory 0",
    "MULTI",
    "DEL l3",
    "EVAL 'return redis.call(\"get\",\"l4\")' 0",
    "@CONFIG SET maxmemory 1",
    "EXEC",
    "MGET a b l4",
];

fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            1 => words.push(part.as_bytes().to_vec()),
            _ => words.extend(part.split_ascii_whitespace().map(|word| word.as_bytes().to_vec())),
        }
    }
    words
}

fn ask(connection: &mut Connection, line: &str) -> String {
    connection.send_all(&[words(line)]);
    shown(&connection.read())
}

#[test]
fn what_grows_is_refused_and_nothing_is_half_done() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let mut first = connect(&redis, &leveret);
    let mut second = connect(&redis, &leveret);
    let mut wrong = Vec::new();
    for line in LINES {
        let (pair, line) = match line.strip_prefix('@') {
            Some(line) => (&mut second, line),
            None => (&mut first, *line),
        };
        let (theirs, ours) = (ask(&mut pair.redis, line), ask(&mut pair.leveret, line));
        if theirs != ours {
            wrong.push(format!("{line}\n  Redis {theirs}\n  ours  {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
