//! OBJECT: what Redis would say of how a value is kept.

use bytes::Bytes;

use super::KeyCommand;
use crate::cache::command::{Args, Arity, Command, Flags, Keys, Spec, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Key, Keyspace, Value};
use crate::cache::reply::Reply;
use crate::cache::server::ServerCommand;

/// What OBJECT asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectQuestion {
    Encoding,
    RefCount,
    /// How often it is used, which only the LFU policies count.
    Freq,
    /// Seconds since it was used last, which the LFU policies do not know.
    IdleTime,
}

const OF_A_KEY: Keys = Keys::Range { first: 2, last: 2, step: 1 };

pub(super) const SUBCOMMANDS: &[Spec] = &[
    Spec::new("object|encoding", Arity::Exactly(1), |args| ask(ObjectQuestion::Encoding, args))
        .flags(Flags::READONLY)
        .keys(OF_A_KEY),
    Spec::new("object|refcount", Arity::Exactly(1), |args| ask(ObjectQuestion::RefCount, args))
        .flags(Flags::READONLY)
        .keys(OF_A_KEY),
    Spec::new("object|freq", Arity::Exactly(1), |args| ask(ObjectQuestion::Freq, args))
        .flags(Flags::READONLY)
        .keys(OF_A_KEY),
    Spec::new("object|idletime", Arity::Exactly(1), |args| ask(ObjectQuestion::IdleTime, args))
        .flags(Flags::READONLY)
        .keys(OF_A_KEY),
    Spec::new("object|help", Arity::Exactly(0), |_| {
        Ok(Command::Server(ServerCommand::Help { lines: HELP }))
    })
    .flags(Flags::WHENEVER),
];

fn ask(question: ObjectQuestion, mut args: Args<'_>) -> Result<Command, CacheError> {
    Ok(Command::Key(KeyCommand::Object { key: args.next()?, question }))
}

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

impl Keyspace {
    pub(super) fn object(&self, key: &[u8], question: ObjectQuestion) -> Reply {
        let Some(slot) = self.inspect(key) else { return Reply::Nil };
        match question {
            ObjectQuestion::Encoding => {
                Reply::Bulk(Bytes::from_static(encoding(slot.value()).as_bytes()))
            }
            ObjectQuestion::RefCount => Reply::Integer(ref_count(slot.value())),
            ObjectQuestion::Freq => self
                .frequency(slot)
                .map_or(Reply::Error(CacheError::NoLfuPolicy), |uses| Reply::Integer(uses.into())),
            ObjectQuestion::IdleTime => {
                let seconds = self.idle_ms(slot).map(|ms| i64::try_from(ms / 1_000));
                match seconds {
                    Some(seconds) => Reply::Integer(seconds.unwrap_or(i64::MAX)),
                    None => Reply::Error(CacheError::LfuPolicy),
                }
            }
        }
    }
}

/// The encoding that Redis 7.0 has for such a value with its default settings.
fn encoding(value: &Value) -> &'static str {
    const EMBEDDED_BYTES_MAX: usize = 44;
    const LISTPACK_LEN_MAX: usize = 128;
    const LISTPACK_BYTES_MAX: usize = 64;
    const INTSET_LEN_MAX: usize = 512;
    let is_short = |name: &Key| name.len() <= LISTPACK_BYTES_MAX;
    match value {
        Value::Long(_) => "raw",
        Value::String(value) if parse_integer(value).is_some() => "int",
        Value::String(value) if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
        Value::String(_) => "raw",
        Value::List(_) => "quicklist",
        Value::Hash(hash) => {
            let is_small = hash.0.len() <= LISTPACK_LEN_MAX
                && hash
                    .0
                    .iter()
                    .all(|(name, value)| is_short(name) && value.len() <= LISTPACK_BYTES_MAX);
            if is_small { "listpack" } else { "hashtable" }
        }
        Value::Set(set) => {
            let is_small = set.0.len() <= INTSET_LEN_MAX
                && set.members().all(|member| parse_integer(member).is_some());
            if is_small { "intset" } else { "hashtable" }
        }
        Value::SortedSet(set) => {
            let is_small =
                set.len() <= LISTPACK_LEN_MAX && set.members().all(|(name, _)| is_short(name));
            if is_small { "listpack" } else { "skiplist" }
        }
    }
}

/// Redis shares small integers, and says so.
fn ref_count(value: &Value) -> i64 {
    const SHARED: std::ops::Range<i64> = 0..10_000;
    match value {
        Value::String(value) if parse_integer(value).is_some_and(|it| SHARED.contains(&it)) => {
            i64::from(i32::MAX)
        }
        _ => 1,
    }
}
