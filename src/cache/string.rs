//! Strings: the commands on them.

use bytes::{Bytes, BytesMut};

use super::command::{Access, Args, Arity, Command, Spec, is, parse_integer};
use super::deadline::Deadline;
use super::error::CacheError;
use super::keyspace::{Keyspace, Slot, Ttl, Value, check_value, owned};
use super::reply::Reply;

/// A command on a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringCommand {
    Get {
        key: Bytes,
    },
    Set {
        key: Bytes,
        value: Bytes,
        ttl: SetTtl,
        condition: SetCondition,
        /// Answer with the old value.
        get: bool,
    },
    SetEx {
        key: Bytes,
        seconds: i64,
        value: Bytes,
    },
    IncrBy {
        key: Bytes,
        by: i64,
    },
    Append {
        key: Bytes,
        value: Bytes,
    },
    StrLen {
        key: Bytes,
    },
}

/// What SET does to the key's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTtl {
    None,
    Keep,
    Until(Deadline),
}

/// When SET sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCondition {
    Always,
    /// NX
    IfMissing,
    /// XX
    IfThere,
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("get", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::Get { key: args.next()? }))
    }),
    Spec::new("set", Arity::AtLeast(2), parse_set),
    Spec::new("setex", Arity::Exactly(3), |mut args| {
        let (key, seconds, value) = (args.next()?, args.integer()?, args.next()?);
        Ok(Command::String(StringCommand::SetEx { key, seconds, value }))
    }),
    Spec::new("incr", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::IncrBy { key: args.next()?, by: 1 }))
    }),
    Spec::new("incrby", Arity::Exactly(2), |mut args| {
        let (key, by) = (args.next()?, args.integer()?);
        Ok(Command::String(StringCommand::IncrBy { key, by }))
    }),
    Spec::new("decr", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::IncrBy { key: args.next()?, by: -1 }))
    }),
    Spec::new("decrby", Arity::Exactly(2), |mut args| {
        let (key, by) = (args.next()?, args.integer()?);
        let by = by.checked_neg().ok_or(CacheError::DecrementOverflow)?;
        Ok(Command::String(StringCommand::IncrBy { key, by }))
    }),
    Spec::new("append", Arity::Exactly(2), |mut args| {
        let (key, value) = (args.next()?, args.next()?);
        Ok(Command::String(StringCommand::Append { key, value }))
    }),
    Spec::new("strlen", Arity::Exactly(1), |mut args| {
        Ok(Command::String(StringCommand::StrLen { key: args.next()? }))
    }),
];

fn parse_set(mut args: Args<'_>) -> Result<Command, CacheError> {
    type Unit = fn(i64) -> Deadline;
    const UNITS: [(&str, Unit); 4] = [
        ("ex", Deadline::InSeconds),
        ("px", Deadline::InMs),
        ("exat", Deadline::AtSeconds),
        ("pxat", Deadline::AtMs),
    ];
    let (key, value) = (args.next()?, args.next()?);
    let mut condition = SetCondition::Always;
    let mut get = false;
    let mut keep_ttl = false;
    let mut expire: Option<(&str, Unit, &Bytes)> = None;
    while let Some(option) = args.option() {
        if is(option, "nx") && condition != SetCondition::IfThere {
            condition = SetCondition::IfMissing;
        } else if is(option, "xx") && condition != SetCondition::IfMissing {
            condition = SetCondition::IfThere;
        } else if is(option, "get") {
            get = true;
        } else if is(option, "keepttl") && expire.is_none() {
            keep_ttl = true;
        } else {
            let (name, unit) =
                *UNITS.iter().find(|(name, _)| is(option, name)).ok_or(CacheError::Syntax)?;
            // The same option may come twice, and the last one counts; two different ones clash.
            if keep_ttl || expire.is_some_and(|(other, ..)| other != name) {
                return Err(CacheError::Syntax);
            }
            expire = Some((name, unit, args.option().ok_or(CacheError::Syntax)?));
        }
    }
    let ttl = match expire {
        Some((_, unit, amount)) => {
            SetTtl::Until(unit(parse_integer(amount).ok_or(CacheError::NotAnInteger)?))
        }
        None if keep_ttl => SetTtl::Keep,
        None => SetTtl::None,
    };
    Ok(Command::String(StringCommand::Set { key, value, ttl, condition, get }))
}

impl StringCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Get { .. } | Self::StrLen { .. } => Access::Read,
            Self::Set { .. } | Self::SetEx { .. } | Self::IncrBy { .. } | Self::Append { .. } => {
                Access::Grow
            }
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Get { key } => Reply::bulk_or_nil(keyspace.get(key)?),
            Self::Set { key, value, ttl, condition, get } => {
                let ttl = match ttl {
                    SetTtl::None => Ttl::None,
                    SetTtl::Keep => Ttl::Keep,
                    SetTtl::Until(deadline) => positive("set", *deadline, keyspace)?,
                };
                let old = if *get { keyspace.get(key)? } else { None };
                let set = match condition {
                    SetCondition::Always => true,
                    SetCondition::IfMissing => keyspace.slot(key).is_none(),
                    SetCondition::IfThere => keyspace.slot(key).is_some(),
                };
                if set {
                    keyspace.set(key, value.clone(), ttl)?;
                }
                match (get, set) {
                    (true, _) => Reply::bulk_or_nil(old),
                    (false, true) => Reply::OK,
                    (false, false) => Reply::Nil,
                }
            }
            Self::SetEx { key, seconds, value } => {
                let ttl = positive("setex", Deadline::InSeconds(*seconds), keyspace)?;
                keyspace.set(key, value.clone(), ttl)?;
                Reply::OK
            }
            Self::IncrBy { key, by } => Reply::Integer(keyspace.incr_by(key, *by)?),
            Self::Append { key, value } => Reply::count(keyspace.append(key, value)?),
            Self::StrLen { key } => Reply::count(keyspace.read_string(key)?.map_or(0, Bytes::len)),
        })
    }
}

/// The deadline of a command that takes only times after zero.
fn positive(
    command: &'static str,
    deadline: Deadline,
    keyspace: &Keyspace,
) -> Result<Ttl, CacheError> {
    Some(deadline)
        .filter(|deadline| deadline.amount() > 0)
        .and_then(|deadline| deadline.at_ms(keyspace.now_ms()))
        .map(Ttl::Until)
        .ok_or(CacheError::InvalidExpireTime { command })
}

impl Keyspace {
    /// GET.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, CacheError> {
        Ok(self.read_string(key)?.cloned())
    }

    /// SET.
    pub(super) fn set(&mut self, key: &[u8], value: Bytes, ttl: Ttl) -> Result<(), CacheError> {
        check_value(value.len())?;
        self.put(key, Value::String(owned(value)), ttl)
    }

    /// INCRBY; DECRBY is one with a negative number.
    pub(super) fn incr_by(&mut self, key: &[u8], by: i64) -> Result<i64, CacheError> {
        let old = match self.slot(key).map(Slot::value) {
            None => 0,
            Some(Value::String(value)) => parse_integer(value).ok_or(CacheError::NotAnInteger)?,
            Some(_) => return Err(CacheError::WrongType),
        };
        let sum = old.checked_add(by).ok_or(CacheError::IncrementOverflow)?;
        self.set(key, Bytes::from(sum.to_string()), Ttl::Keep)?;
        Ok(sum)
    }

    /// APPEND. Returns the string's length.
    pub(super) fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<usize, CacheError> {
        self.edit_string(key, |value| {
            let len = value.len() + suffix.len();
            check_value(len)?;
            // In place when nobody else holds the value, so that many appends cost what they add.
            let mut bytes = std::mem::take(value)
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&*shared));
            bytes.extend_from_slice(suffix);
            *value = bytes.freeze();
            Ok(len)
        })
    }

    pub(super) fn read_string(&self, key: &[u8]) -> Result<Option<&Bytes>, CacheError> {
        match self.read(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(CacheError::WrongType),
        }
    }
}
