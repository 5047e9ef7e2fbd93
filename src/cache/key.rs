//! The commands on keys of any type.

mod copy;
mod memory;
mod object;
mod scan;
mod sort;
mod typed;

use bytes::Bytes;

use super::command::{Access, Args, Arity, Command, Flags, Keys, Spec, is, parse_integer};
use super::deadline::Deadline;
use super::error::CacheError;
use super::keyspace::{DATABASES, Keyspace, Slot};
use super::reply::Reply;
use super::scan::Scan;
use crate::model::clock::UnixMs;
use crate::model::glob;
use crate::model::text::Text;
pub use object::ObjectQuestion;
pub use sort::Sort;

/// A command on keys of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCommand {
    Del {
        keys: Vec<Text>,
    },
    Exists {
        keys: Vec<Text>,
    },
    Expire {
        key: Text,
        deadline: Deadline,
        condition: ExpireIf,
    },
    /// Seconds, rounded to the nearest.
    Ttl {
        key: Text,
    },
    /// Milliseconds.
    PTtl {
        key: Text,
    },
    Persist {
        key: Text,
    },
    Type {
        key: Text,
    },
    Keys {
        pattern: Text,
    },
    /// How many of them are there. It says that they were used, too.
    Touch {
        keys: Vec<Text>,
    },
    /// Seconds since the Unix epoch, rounded to the nearest.
    ExpireTime {
        key: Text,
    },
    /// Milliseconds since the Unix epoch.
    PExpireTime {
        key: Text,
    },
    Scan {
        scan: Scan,
    },
    RandomKey,
    Rename {
        from: Text,
        to: Text,
        /// RENAMENX: not over a key that is there.
        only_if_free: bool,
    },
    Copy {
        from: Text,
        to: Text,
        /// Without one, the selected database.
        db: Option<u8>,
        replaces: bool,
    },
    Move {
        key: Text,
        db: u8,
    },
    Sort(Sort),
    Object {
        key: Text,
        question: ObjectQuestion,
    },
    /// Bytes of memory, estimated.
    MemoryUsage {
        key: Text,
    },
}

/// When EXPIRE and its kin set the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpireIf {
    /// Only without a deadline.
    pub nx: bool,
    /// Only with a deadline.
    pub xx: bool,
    /// Only to a later deadline; none is the latest of all.
    pub gt: bool,
    /// Only to an earlier deadline.
    pub lt: bool,
}

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);
const ALL_KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const TWO_KEYS: Keys = Keys::Range { first: 1, last: 2, step: 1 };

pub(super) const SPECS: &[Spec] = &[
    Spec::new("del", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Del { keys: args.remaining() }))
    })
    .flags(WRITE)
    .keys(ALL_KEYS),
    Spec::new("unlink", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Del { keys: args.remaining() }))
    })
    .flags(WRITE_FAST)
    .keys(ALL_KEYS),
    Spec::new("exists", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Exists { keys: args.remaining() }))
    })
    .flags(READ_FAST)
    .keys(ALL_KEYS),
    Spec::new("touch", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Touch { keys: args.remaining() }))
    })
    .flags(READ_FAST)
    .keys(ALL_KEYS),
    Spec::new("expire", Arity::AtLeast(2), |args| parse_expire(args, Deadline::InSeconds))
        .flags(WRITE_FAST)
        .key(),
    Spec::new("pexpire", Arity::AtLeast(2), |args| parse_expire(args, Deadline::InMs))
        .flags(WRITE_FAST)
        .key(),
    Spec::new("expireat", Arity::AtLeast(2), |args| parse_expire(args, Deadline::AtSeconds))
        .flags(WRITE_FAST)
        .key(),
    Spec::new("pexpireat", Arity::AtLeast(2), |args| parse_expire(args, Deadline::AtMs))
        .flags(WRITE_FAST)
        .key(),
    Spec::new("ttl", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Ttl { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("pttl", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::PTtl { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("expiretime", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::ExpireTime { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("pexpiretime", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::PExpireTime { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("persist", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Persist { key: args.next()? }))
    })
    .flags(WRITE_FAST)
    .key(),
    Spec::new("type", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Type { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("keys", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Keys { pattern: args.next()? }))
    })
    .flags(READ),
    Spec::new("scan", Arity::AtLeast(1), |args| {
        Ok(Command::Key(KeyCommand::Scan { scan: Scan::parse(args, true)? }))
    })
    .flags(READ),
    Spec::new("randomkey", Arity::Exactly(0), |_| Ok(Command::Key(KeyCommand::RandomKey)))
        .flags(READ),
    Spec::new("rename", Arity::Exactly(2), |mut args| {
        let (from, to) = (args.next()?, args.next()?);
        Ok(Command::Key(KeyCommand::Rename { from, to, only_if_free: false }))
    })
    .flags(WRITE)
    .keys(TWO_KEYS),
    Spec::new("renamenx", Arity::Exactly(2), |mut args| {
        let (from, to) = (args.next()?, args.next()?);
        Ok(Command::Key(KeyCommand::Rename { from, to, only_if_free: true }))
    })
    .flags(WRITE_FAST)
    .keys(TWO_KEYS),
    Spec::new("copy", Arity::AtLeast(2), parse_copy)
        .flags(WRITE.and(Flags::DENYOOM))
        .keys(TWO_KEYS),
    Spec::new("move", Arity::Exactly(2), |mut args| {
        let (key, db) = (args.next()?, parse_database(&mut args)?);
        Ok(Command::Key(KeyCommand::Move { key, db }))
    })
    .flags(WRITE_FAST)
    .key(),
    Spec::new("sort", Arity::AtLeast(1), |args| sort::parse(args, true))
        .flags(WRITE.and(Flags::DENYOOM).and(Flags::MOVABLE_KEYS))
        .key(),
    Spec::new("sort_ro", Arity::AtLeast(1), |args| sort::parse(args, false))
        .flags(READ.and(Flags::MOVABLE_KEYS))
        .key(),
    Spec::container("object", object::SUBCOMMANDS),
    Spec::container("memory", memory::SUBCOMMANDS),
];

/// The number of a database that there is.
fn parse_database(args: &mut Args<'_>) -> Result<u8, CacheError> {
    let db = i32::try_from(args.integer()?).map_err(|_| CacheError::NotAnInt32)?;
    let db = u8::try_from(db).ok().filter(|db| usize::from(*db) < DATABASES);
    db.ok_or(CacheError::NoSuchDatabase)
}

fn parse_copy(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (from, to) = (args.next()?, args.next()?);
    let (mut db, mut replaces) = (None, false);
    while let Some(option) = args.option() {
        if is(option, "replace") {
            replaces = true;
        } else if is(option, "db") && !args.is_empty() {
            db = Some(parse_database(&mut args)?);
        } else {
            return Err(CacheError::Syntax);
        }
    }
    Ok(Command::Key(KeyCommand::Copy { from, to, db, replaces }))
}

fn parse_expire(mut args: Args<'_>, unit: fn(i64) -> Deadline) -> Result<Command, CacheError> {
    let (key, amount) = (args.next()?, args.next()?);
    let mut condition = ExpireIf::default();
    while let Some(option) = args.option() {
        let flag = [
            ("nx", &mut condition.nx),
            ("xx", &mut condition.xx),
            ("gt", &mut condition.gt),
            ("lt", &mut condition.lt),
        ]
        .into_iter()
        .find(|(name, _)| is(option, name));
        match flag {
            Some((_, flag)) => *flag = true,
            None => {
                // As far as a C string goes.
                let text = option.split(|&byte| byte == 0).next().unwrap_or_default();
                let option = String::from_utf8_lossy(text).replace(['\r', '\n'], " ");
                return Err(CacheError::UnsupportedOption { option });
            }
        }
    }
    let ExpireIf { nx, xx, gt, lt } = condition;
    if nx && (xx || gt || lt) {
        return Err(CacheError::NxWithOthers);
    }
    if gt && lt {
        return Err(CacheError::GtWithLt);
    }
    // Redis reads the options before the number.
    let amount = parse_integer(&amount).ok_or(CacheError::NotAnInteger)?;
    Ok(Command::Key(KeyCommand::Expire { key, deadline: unit(amount), condition }))
}

impl ExpireIf {
    fn admits(self, current_ms: Option<UnixMs>, at_ms: UnixMs) -> bool {
        match current_ms {
            None => !self.xx && !self.gt,
            Some(current_ms) => {
                !self.nx && (!self.gt || at_ms > current_ms) && (!self.lt || at_ms < current_ms)
            }
        }
    }
}

impl KeyCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Del { .. }
            | Self::Expire { .. }
            | Self::Persist { .. }
            | Self::Rename { .. }
            | Self::Move { .. } => Access::Shrink,
            Self::Copy { .. } | Self::Sort(Sort { store: Some(_), .. }) => Access::Grow,
            Self::Exists { .. }
            | Self::Touch { .. }
            | Self::Ttl { .. }
            | Self::PTtl { .. }
            | Self::ExpireTime { .. }
            | Self::PExpireTime { .. }
            | Self::Type { .. }
            | Self::Keys { .. }
            | Self::Scan { .. }
            | Self::RandomKey
            | Self::Sort(_)
            | Self::Object { .. }
            | Self::MemoryUsage { .. } => Access::Read,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Del { keys } => {
                Reply::count(keys.iter().filter(|key| keyspace.remove(key)).count())
            }
            Self::Touch { keys } => {
                Reply::count(keys.iter().filter(|key| keyspace.read(key).is_some()).count())
            }
            Self::Exists { keys } => {
                Reply::count(keys.iter().filter(|key| keyspace.ask(key).is_some()).count())
            }
            Self::Expire { key, deadline, condition } => {
                keyspace.expire(key, *deadline, *condition)?.into()
            }
            Self::Ttl { key } => {
                Reply::Integer(keyspace.ttl_ms(key).map_or_else(i64::from, |ms| (ms + 500) / 1_000))
            }
            Self::PTtl { key } => Reply::Integer(keyspace.ttl_ms(key).unwrap_or_else(i64::from)),
            Self::Persist { key } => keyspace.persist(key).into(),
            Self::Type { key } => {
                Reply::Status(keyspace.ask(key).map_or("none", |slot| slot.value().type_name()))
            }
            Self::Keys { pattern } => Reply::bulks(
                keyspace
                    .live_slots()
                    .map(Slot::key)
                    .filter(|key| glob::matches(pattern, key))
                    .map(Bytes::copy_from_slice),
            ),
            Self::ExpireTime { key } => {
                let at_ms = keyspace.expire_time_ms(key);
                Reply::Integer(
                    at_ms.map_or_else(i64::from, |at_ms| {
                        at_ms / 1_000 + (at_ms % 1_000 + 500) / 1_000
                    }),
                )
            }
            Self::PExpireTime { key } => {
                Reply::Integer(keyspace.expire_time_ms(key).unwrap_or_else(i64::from))
            }
            Self::Scan { scan } => keyspace.scan_keys(scan)?,
            Self::RandomKey => Reply::bulk_or_nil(keyspace.random_key()),
            Self::Rename { from, to, only_if_free } => {
                let is_free = keyspace.slot(to).is_none();
                if keyspace.slot(from).is_none() {
                    return Err(CacheError::NoSuchKey);
                }
                if *only_if_free {
                    (is_free && keyspace.rename(from, to)?).into()
                } else {
                    keyspace.rename(from, to)?;
                    Reply::OK
                }
            }
            Self::Copy { from, to, db, replaces } => {
                let db = keyspace.numbered(*db);
                if keyspace.is_selected(db) && from == to {
                    return Err(CacheError::SameObject);
                }
                keyspace.copy_key(from, to, db, *replaces)?.into()
            }
            Self::Move { key, db } => {
                let db = keyspace.numbered(Some(*db));
                if keyspace.is_selected(db) {
                    return Err(CacheError::SameObject);
                }
                keyspace.move_key(key, db)?.into()
            }
            Self::Sort(sort) => sort.apply(keyspace)?,
            Self::Object { key, question } => keyspace.object(key, *question),
            Self::MemoryUsage { key } => {
                keyspace.slot(key).map_or(Reply::Nil, |slot| Reply::count(slot.bytes()))
            }
        })
    }
}

/// Why a key has no time to live, as TTL says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTtl {
    NoKey,
    NoDeadline,
}

impl From<NoTtl> for i64 {
    fn from(reason: NoTtl) -> Self {
        match reason {
            NoTtl::NoKey => -2,
            NoTtl::NoDeadline => -1,
        }
    }
}

impl Keyspace {
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT. Whether the deadline was set; one that has passed
    /// removes the key.
    pub(super) fn expire(
        &mut self,
        key: &[u8],
        deadline: Deadline,
        condition: ExpireIf,
    ) -> Result<bool, CacheError> {
        let at_ms = deadline.at_ms(self.now_ms()).ok_or(CacheError::InvalidExpireTime {
            command: match deadline {
                Deadline::InSeconds(_) => "expire",
                Deadline::InMs(_) => "pexpire",
                Deadline::AtSeconds(_) => "expireat",
                Deadline::AtMs(_) => "pexpireat",
            },
        })?;
        let Some(slot) = self.slot(key) else { return Ok(false) };
        let admitted = condition.admits(slot.expires_at_ms(), at_ms);
        Ok(admitted && self.expire_at(key, Some(at_ms)))
    }

    /// PERSIST. Whether there was a deadline.
    pub(super) fn persist(&mut self, key: &[u8]) -> bool {
        let had_deadline = self.slot(key).is_some_and(|slot| slot.expires_at_ms().is_some());
        had_deadline && self.expire_at(key, None)
    }

    /// PEXPIRETIME.
    pub(super) fn expire_time_ms(&self, key: &[u8]) -> Result<i64, NoTtl> {
        let slot = self.ask(key).ok_or(NoTtl::NoKey)?;
        let at_ms = slot.expires_at_ms().ok_or(NoTtl::NoDeadline)?;
        Ok(i64::try_from(at_ms).unwrap_or(i64::MAX))
    }

    /// PTTL.
    pub(super) fn ttl_ms(&self, key: &[u8]) -> Result<i64, NoTtl> {
        let slot = self.ask(key).ok_or(NoTtl::NoKey)?;
        let at_ms = slot.expires_at_ms().ok_or(NoTtl::NoDeadline)?;
        Ok(i64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(i64::MAX))
    }
}
