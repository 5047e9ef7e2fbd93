//! The commands on keys of any type.

use bytes::Bytes;

use super::command::{Access, Args, Arity, Command, Spec, is};
use super::deadline::Deadline;
use super::error::CacheError;
use super::keyspace::{Keyspace, Slot};
use super::reply::Reply;
use crate::model::clock::UnixMs;
use crate::model::glob;

/// A command on keys of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCommand {
    Del {
        keys: Vec<Bytes>,
    },
    Exists {
        keys: Vec<Bytes>,
    },
    Expire {
        key: Bytes,
        deadline: Deadline,
        condition: ExpireIf,
    },
    /// Seconds, rounded to the nearest.
    Ttl {
        key: Bytes,
    },
    /// Milliseconds.
    PTtl {
        key: Bytes,
    },
    Persist {
        key: Bytes,
    },
    Type {
        key: Bytes,
    },
    Keys {
        pattern: Bytes,
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

pub(super) const SPECS: &[Spec] = &[
    Spec::new("del", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Del { keys: args.remaining() }))
    }),
    Spec::new("exists", Arity::AtLeast(1), |mut args| {
        Ok(Command::Key(KeyCommand::Exists { keys: args.remaining() }))
    }),
    Spec::new("expire", Arity::AtLeast(2), |args| parse_expire(args, Deadline::InSeconds)),
    Spec::new("pexpire", Arity::AtLeast(2), |args| parse_expire(args, Deadline::InMs)),
    Spec::new("expireat", Arity::AtLeast(2), |args| parse_expire(args, Deadline::AtSeconds)),
    Spec::new("pexpireat", Arity::AtLeast(2), |args| parse_expire(args, Deadline::AtMs)),
    Spec::new("ttl", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Ttl { key: args.next()? }))
    }),
    Spec::new("pttl", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::PTtl { key: args.next()? }))
    }),
    Spec::new("persist", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Persist { key: args.next()? }))
    }),
    Spec::new("type", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Type { key: args.next()? }))
    }),
    Spec::new("keys", Arity::Exactly(1), |mut args| {
        Ok(Command::Key(KeyCommand::Keys { pattern: args.next()? }))
    }),
];

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
    let amount = super::command::parse_integer(&amount).ok_or(CacheError::NotAnInteger)?;
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
            Self::Del { .. } | Self::Expire { .. } | Self::Persist { .. } => Access::Shrink,
            Self::Exists { .. }
            | Self::Ttl { .. }
            | Self::PTtl { .. }
            | Self::Type { .. }
            | Self::Keys { .. } => Access::Read,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Del { keys } => {
                Reply::count(keys.iter().filter(|key| keyspace.remove(key)).count())
            }
            Self::Exists { keys } => {
                Reply::count(keys.iter().filter(|key| keyspace.slot(key).is_some()).count())
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
                Reply::Status(keyspace.slot(key).map_or("none", |slot| slot.value().type_name()))
            }
            Self::Keys { pattern } => Reply::bulks(
                keyspace
                    .live_slots()
                    .map(Slot::key)
                    .filter(|key| glob::matches(pattern, key))
                    .map(Bytes::copy_from_slice),
            ),
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

    /// PTTL.
    pub(super) fn ttl_ms(&self, key: &[u8]) -> Result<i64, NoTtl> {
        let slot = self.slot(key).ok_or(NoTtl::NoKey)?;
        let at_ms = slot.expires_at_ms().ok_or(NoTtl::NoDeadline)?;
        Ok(i64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(i64::MAX))
    }
}
