//! A cache on a disk that loses power, and how its keys are read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Command, Executed, Recovery, Reply};
use leveret::journal::{Entry, Journal, JournalOptions, Kind, OpenError};
use leveret::model::clock::ManualClock;

use crate::disk::Disk;
use crate::model::{DATABASES, Database, Item, State, Value};
use crate::op::Text;

/// A fact as the journal gave it back.
pub type Fact = (Entry, Kind, Vec<u8>);

pub fn options() -> JournalOptions {
    JournalOptions { segment_bytes_max: 64 * 1024, reserve_bytes: 0, ..JournalOptions::default() }
}

/// Opens what is on the disk; `spoil` may change what the journal gave back. A fact that the cache
/// refuses is an error of its own.
pub fn open(
    disk: &Disk,
    options: JournalOptions,
    clock: &Arc<ManualClock>,
    fsync: AppendFsync,
    spoil: impl FnOnce(&mut Vec<Fact>),
) -> Result<Result<Cache, String>, OpenError> {
    let mut facts: Vec<Fact> = Vec::new();
    let journal = Journal::open(disk.store(), options, &mut |entry, kind, payload| {
        facts.push((entry, kind, payload.to_vec()));
        Ok(())
    })?;
    spoil(&mut facts);
    let mut recovery = Recovery::default();
    for (entry, kind, payload) in facts {
        if let Err(error) = recovery.accept(entry, kind, &payload) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(Cache::new(journal, Arc::clone(clock) as _, fsync, recovery)))
}

pub fn run(cache: &Cache, db: usize, requests: &[Vec<Text>]) -> Executed {
    let commands: Vec<Command> = requests
        .iter()
        .map(|request| {
            let args: Vec<Bytes> = request.iter().cloned().map(Bytes::from).collect();
            Command::parse(&args).expect("a good request")
        })
        .collect();
    cache.execute_in(u8::try_from(db).unwrap(), &commands, None)
}

fn ask(cache: &Cache, db: usize, line: &[&[u8]]) -> Reply {
    let request = line.iter().map(|word| word.to_vec()).collect();
    run(cache, db, &[request]).replies.remove(0)
}

/// The texts of a reply, in order.
fn texts(reply: Reply) -> Vec<Text> {
    match reply {
        Reply::Bulk(text) => vec![text.to_vec()],
        Reply::Double(double) => vec![(double as i64).to_string().into_bytes()],
        Reply::Array(replies) | Reply::Set(replies) => {
            replies.into_iter().flat_map(texts).collect()
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [texts(name), texts(value)].concat())
            .collect(),
        other => panic!("no texts: {other:?}"),
    }
}

fn pairs(reply: Reply) -> BTreeMap<Text, Text> {
    texts(reply).chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// All keys, as the commands that read show them.
pub fn read(cache: &Cache) -> State {
    State((0..DATABASES).map(|db| read_database(cache, db)).collect())
}

fn read_database(cache: &Cache, db: usize) -> Database {
    let keys = texts(ask(cache, db, &[b"KEYS", b"*"]));
    keys.into_iter()
        .map(|key| {
            let value = match ask(cache, db, &[b"TYPE", &key]) {
                Reply::Status("string") => {
                    Value::String(texts(ask(cache, db, &[b"GET", &key])).remove(0))
                }
                Reply::Status("list") => {
                    Value::List(texts(ask(cache, db, &[b"LRANGE", &key, b"0", b"-1"])).into())
                }
                Reply::Status("hash") => Value::Hash(pairs(ask(cache, db, &[b"HGETALL", &key]))),
                Reply::Status("set") => {
                    Value::Set(texts(ask(cache, db, &[b"SMEMBERS", &key])).into_iter().collect())
                }
                Reply::Status("zset") => {
                    let line: [&[u8]; 5] = [b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"];
                    let scored = pairs(ask(cache, db, &line)).into_iter();
                    let integer = |text: Text| String::from_utf8(text).unwrap().parse().unwrap();
                    Value::SortedSet(scored.map(|(name, score)| (name, integer(score))).collect())
                }
                other => panic!("a key of type {other:?}"),
            };
            let expires_at_ms = match ask(cache, db, &[b"PEXPIRETIME", &key]) {
                Reply::Integer(-1) => None,
                Reply::Integer(at_ms) => Some(u64::try_from(at_ms).unwrap()),
                other => panic!("no deadline: {other:?}"),
            };
            (key, Item { value, expires_at_ms })
        })
        .collect()
}
