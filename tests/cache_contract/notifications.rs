//! Keyspace events: the same commands on both servers are told as the same messages, in order.

use std::sync::Arc;

use leveret::cache::{AppendFsync, Cache, Events, Recovery, SubscriberLimits};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;

use crate::case::{Answer, args};
use crate::{START_MS, embedded, redis};

/// Every type of key, and everything that makes one of another.
const LINES: &[&str] = &[
    "SET s 1",
    "SET s 1 EX 100",
    "SETEX s 100 1",
    "GETEX s PERSIST",
    "GETEX s EX 100",
    "GETEX s EXAT 1",
    "GET missing",
    "EXISTS s missing",
    "TYPE missing",
    "TTL missing",
    "PEXPIRETIME missing",
    "OBJECT ENCODING missing",
    "APPEND s ''",
    "MSET a 1 b 2",
    "MSETNX a 1 c 2",
    "INCR a",
    "DECRBY a 5",
    "INCR missing-1",
    "INCRBYFLOAT a 1.5",
    "APPEND a x",
    "INCR a",
    "SETRANGE a 1 y",
    "SETRANGE a 1 ''",
    "GETSET a z",
    "SETNX a 1",
    "GETDEL a",
    "SETBIT b 1 1",
    "BITFIELD b SET u8 0 1 GET u8 0",
    "BITFIELD b OVERFLOW FAIL SET u8 0 999",
    "BITFIELD b GET u8 0",
    "BITFIELD b SET u8 0 1",
    "SETBIT b 0 0",
    "SETBIT b 0 1",
    "BITOP NOT d b",
    "BITOP NOT d missing",
    "BITOP NOT d missing",
    "EXPIRE b 100",
    "PERSIST b",
    "PERSIST b",
    "EXPIRE b -1",
    "EXPIRE b 100",
    "RPUSH l a b c d a",
    "LPUSH l x",
    "LPUSHX l y",
    "LPUSHX missing y",
    "LPOP l",
    "RPOP l 0",
    "LINSERT l BEFORE b z",
    "LINSERT l BEFORE nothing z",
    "LSET l 0 q",
    "LREM l 0 a",
    "LREM l 0 nothing",
    "LTRIM l 0 3",
    "LMOVE l m LEFT RIGHT",
    "RPOPLPUSH l l",
    "RPOPLPUSH missing missing",
    "LTRIM l 0 -1",
    "LMPOP 1 m LEFT",
    "RPUSH n 3 1 2",
    "SORT n STORE o",
    "SORT missing STORE o",
    "SORT missing STORE o",
    "LTRIM n 5 6",
    "HSET h f 1 g 2",
    "HSET h f 1",
    "HSETNX h f 2",
    "HSETNX h i 2",
    "HINCRBY h f 1",
    "HINCRBYFLOAT h f 1.5",
    "HINCRBY missing-h f 1",
    "HSETNX missing-i f 1",
    "LMOVE missing-l l LEFT LEFT",
    "HDEL h nothing",
    "HDEL h f g i",
    "SADD t a b c",
    "SADD t a",
    "SREM t nothing",
    "SREM t a",
    "SMOVE t u b",
    "SMOVE t u c",
    "SADD t b c",
    "SINTERSTORE v t u",
    "SUNIONSTORE v t u",
    "SDIFFSTORE v t u",
    "SDIFFSTORE v missing",
    "SPOP u 2",
    "SPOP t 1",
    "SPOP missing 1",
    "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f",
    "ZADD z 1 a",
    "ZADD z XX 2 nothing",
    "ZADD z INCR 1 a",
    "ZINCRBY z 1 a",
    "ZINCRBY z 0 a",
    "ZREM z nothing",
    "ZREM z a",
    "ZREMRANGEBYSCORE z 2 2",
    "ZREMRANGEBYRANK z 0 0",
    "ZREMRANGEBYRANK z 9 9",
    "ZPOPMIN z",
    "ZPOPMAX z",
    "ZPOPMAX missing",
    "ZADD y 0 a 0 b 0 c",
    "ZREMRANGEBYLEX y [a [a",
    "ZUNIONSTORE x 2 y z",
    "ZINTERSTORE x 2 y y",
    "ZDIFFSTORE x 2 y z",
    "ZDIFFSTORE x 2 y y",
    "ZRANGESTORE x y 0 0",
    "ZRANGESTORE x missing 0 0",
    "ZMPOP 1 y MIN COUNT 9",
    "SET r 1 EX 100",
    "RENAME r q",
    "SET r 1",
    "RENAME r q",
    "RENAME q q",
    "RENAMENX q w",
    "COPY w p",
    "SET p 1 EX 100",
    "COPY p w REPLACE",
    "COPY p w",
    "MOVE w 3",
    "DEL p missing",
    "UNLINK z",
    "FLUSHALL",
];

/// What a subscriber of everything hears, and a `!` behind each command.
type Told = Vec<(String, String)>;

fn told_by_us() -> Told {
    let clock = ManualClock::at(START_MS);
    let (journal, recovery) = (Journal::in_memory(), Recovery::default());
    let cache = Cache::new(journal, Arc::clone(&clock) as _, AppendFsync::EverySec, recovery);
    let mut subscriber = cache.subscriber(SubscriberLimits::default());
    subscriber.psubscribe("__key*__:*");
    let events = Events::parse("KEAnm").expect("letters");
    cache.change_settings(|settings| settings.notify_keyspace_events = events);
    let mut told = Vec::new();
    for line in LINES {
        embedded(&cache, line);
        while let Some(message) = subscriber.try_recv() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            told.push((text(&message.channel), text(&message.payload)));
        }
        told.push(((*line).to_owned(), "!".to_owned()));
    }
    told
}

fn told_by_redis() -> Told {
    let mut server = redis::Server::start();
    let mut subscriber = server.another();
    server.ask(&args("CONFIG SET notify-keyspace-events KEAnm"));
    subscriber.ask(&args("PSUBSCRIBE __key*__:*"));
    let mut told = Vec::new();
    for line in LINES {
        server.ask(&args(line));
        server.ask(&args("PUBLISH __keyspace@0__:end !"));
        loop {
            let Answer::Array(message) = subscriber.read() else { panic!("no message") };
            let [channel, payload] = [&message[2], &message[3]].map(Answer::shown);
            if payload == "!" {
                break;
            }
            told.push((channel, payload));
        }
        told.push(((*line).to_owned(), "!".to_owned()));
    }
    told
}

#[test]
fn commands_are_told_as_redis_tells_them() {
    let (ours, theirs) = (told_by_us(), told_by_redis());
    let by_command = |told: &Told| -> Vec<Told> {
        told.split_inclusive(|(_, text)| text == "!").map(<[_]>::to_vec).collect()
    };
    let mut wrong = Vec::new();
    for (ours, theirs) in by_command(&ours).into_iter().zip(by_command(&theirs)) {
        if ours != theirs {
            wrong.push(format!("ours {ours:?}\nRedis's {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn nothing_is_told_unless_it_was_asked_for() {
    let (journal, recovery) = (Journal::in_memory(), Recovery::default());
    let clock = ManualClock::at(START_MS);
    let cache = Cache::new(journal, Arc::clone(&clock) as _, AppendFsync::EverySec, recovery);
    let mut subscriber = cache.subscriber(SubscriberLimits::default());
    subscriber.psubscribe("*");
    embedded(&cache, "SET a 1");
    assert!(subscriber.try_recv().is_none());
    let events = Events::parse("Ex").expect("letters");
    cache.change_settings(|settings| settings.notify_keyspace_events = events);
    embedded(&cache, "SET a 1 PX 10");
    assert!(subscriber.try_recv().is_none());
    clock.advance_ms(10);
    embedded(&cache, "SET a 2");
    let message = subscriber.try_recv().expect("the key has expired");
    assert_eq!((&*message.channel, &*message.payload), (&b"__keyevent@0__:expired"[..], &b"a"[..]));
    assert!(subscriber.try_recv().is_none());
}
