//! Strings: the commands on them.
//!
//! May import: the keyspace. Reading arguments is in `parse`, what more than a look at the value takes in
//! `edit` and `lcs`.

mod edit;
mod lcs;
mod long;
mod parse;

use bytes::Bytes;

use super::command::Access;
use super::deadline::Deadline;
use super::error::CacheError;
use super::keyspace::{Keyspace, Ttl, Value, check_name, check_value, owned};
use super::notifications::Events;
use super::reply::Reply;
use crate::model::clock::UnixMs;
use crate::model::text::Text;
pub(super) use edit::{in_place, range};
pub use lcs::{LcsForm, LcsMatches};
pub(super) use long::Long;
pub(super) use parse::SPECS;

/// A command on a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringCommand {
    Get {
        key: Text,
    },
    Set {
        key: Text,
        value: Text,
        ttl: SetTtl,
        condition: SetCondition,
        /// Answer with the old value.
        get: bool,
    },
    /// SETEX and PSETEX.
    SetEx {
        key: Text,
        deadline: Deadline,
        value: Text,
    },
    SetNx {
        key: Text,
        value: Text,
    },
    GetSet {
        key: Text,
        value: Text,
    },
    GetDel {
        key: Text,
    },
    GetEx {
        key: Text,
        ttl: GetExTtl,
    },
    MGet {
        keys: Vec<Text>,
    },
    MSet {
        pairs: Vec<(Text, Text)>,
        /// MSETNX: all of them or, when one of the keys is there, none.
        if_missing: bool,
    },
    SetRange {
        key: Text,
        offset: usize,
        value: Text,
    },
    /// GETRANGE and SUBSTR; both ends are included, negative ones count from the end.
    GetRange {
        key: Text,
        start: i64,
        stop: i64,
    },
    /// The number is read when the key's type is known, as Redis does it.
    IncrByFloat {
        key: Text,
        by: Text,
    },
    /// The longest common subsequence.
    Lcs {
        keys: [Text; 2],
        /// Redis looks at the keys before it says what is wrong with it.
        form: Result<LcsForm, CacheError>,
    },
    IncrBy {
        key: Text,
        by: i64,
    },
    Append {
        key: Text,
        value: Text,
    },
    StrLen {
        key: Text,
    },
}

/// What SET does to the key's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTtl {
    None,
    Keep,
    Until(Deadline),
}

/// What GETEX does to the key's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetExTtl {
    Keep,
    Persist,
    Until(Deadline),
    /// The amount is no integer: Redis says so only if the key is there.
    NotAnInteger,
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

impl StringCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Get { .. }
            | Self::MGet { .. }
            | Self::StrLen { .. }
            | Self::GetRange { .. }
            | Self::Lcs { .. } => Access::Read,
            Self::GetDel { .. } | Self::GetEx { .. } => Access::Shrink,
            Self::Set { .. }
            | Self::SetEx { .. }
            | Self::SetNx { .. }
            | Self::GetSet { .. }
            | Self::MSet { .. }
            | Self::SetRange { .. }
            | Self::IncrBy { .. }
            | Self::IncrByFloat { .. }
            | Self::Append { .. } => Access::Grow,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Get { key } => Reply::bulk_or_nil(keyspace.get(key)?),
            Self::MGet { keys } => {
                // A key of another type is as one that is not there.
                Reply::Array(
                    keys.iter()
                        .map(|key| Reply::bulk_or_nil(keyspace.get(key).ok().flatten()))
                        .collect(),
                )
            }
            Self::Set { key, value, ttl, condition, get } => {
                let ttl = match ttl {
                    SetTtl::None => Ttl::None,
                    SetTtl::Keep => Ttl::Keep,
                    SetTtl::Until(deadline) => Ttl::Until(positive("set", *deadline, keyspace)?),
                };
                let old = if *get { keyspace.get(key)? } else { None };
                let set = match condition {
                    SetCondition::Always => true,
                    SetCondition::IfMissing => keyspace.slot(key).is_none(),
                    SetCondition::IfThere => keyspace.slot(key).is_some(),
                };
                if set {
                    keyspace.set(key, value.to_bytes(), ttl)?;
                }
                match (get, set) {
                    (true, _) => Reply::bulk_or_nil(old),
                    (false, true) => Reply::OK,
                    (false, false) => Reply::Nil,
                }
            }
            Self::SetEx { key, deadline, value } => {
                let command = match deadline {
                    Deadline::InMs(_) => "psetex",
                    _ => "setex",
                };
                let at_ms = positive(command, *deadline, keyspace)?;
                keyspace.set(key, value.to_bytes(), Ttl::Until(at_ms))?;
                Reply::OK
            }
            Self::SetNx { key, value } => {
                let sets = keyspace.slot(key).is_none();
                if sets {
                    keyspace.set(key, value.to_bytes(), Ttl::None)?;
                }
                sets.into()
            }
            Self::GetSet { key, value } => {
                let old = keyspace.get(key)?;
                keyspace.set(key, value.to_bytes(), Ttl::None)?;
                Reply::bulk_or_nil(old)
            }
            Self::GetDel { key } => {
                let old = keyspace.get(key)?;
                keyspace.remove(key);
                Reply::bulk_or_nil(old)
            }
            Self::GetEx { key, ttl } => {
                let Some(value) = keyspace.get(key)? else { return Ok(Reply::Nil) };
                match ttl {
                    GetExTtl::Keep => {}
                    GetExTtl::Persist => {
                        keyspace.persist(key);
                    }
                    GetExTtl::Until(deadline) => {
                        let at_ms = positive("getex", *deadline, keyspace)?;
                        keyspace.expire_at(key, Some(at_ms));
                    }
                    GetExTtl::NotAnInteger => return Err(CacheError::NotAnInteger),
                }
                Reply::Bulk(value)
            }
            Self::MSet { pairs, if_missing } => {
                pairs.iter().try_for_each(|(key, value)| {
                    check_name(key.len())?;
                    check_value(value.len())
                })?;
                let is_held =
                    *if_missing && pairs.iter().any(|(key, _)| keyspace.slot(key).is_some());
                if !is_held {
                    for (key, value) in pairs {
                        keyspace.set(key, value.to_bytes(), Ttl::None)?;
                    }
                }
                if *if_missing { (!is_held).into() } else { Reply::OK }
            }
            Self::SetRange { key, offset, value } => {
                Reply::count(keyspace.set_range(key, *offset, value)?)
            }
            Self::GetRange { key, start, stop } => {
                let value = keyspace.get(key)?.unwrap_or_default();
                Reply::Bulk(value.slice(range(*start, *stop, value.len())))
            }
            Self::IncrBy { key, by } => Reply::Integer(keyspace.incr_by(key, *by)?),
            Self::IncrByFloat { key, by } => Reply::Bulk(keyspace.incr_by_float(key, by)?),
            Self::Append { key, value } => Reply::count(keyspace.append(key, value)?),
            Self::StrLen { key } => Reply::count(keyspace.read_string(key)?.map_or(0, Bytes::len)),
            Self::Lcs { keys, form } => lcs::reply(keyspace, keys, form.clone())?,
        })
    }
}

/// The deadline of a command that takes only times after zero.
fn positive(
    command: &'static str,
    deadline: Deadline,
    keyspace: &Keyspace,
) -> Result<UnixMs, CacheError> {
    Some(deadline)
        .filter(|deadline| deadline.amount() > 0)
        .and_then(|deadline| deadline.at_ms(keyspace.now_ms()))
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
        self.put(key, Value::String(owned(value)), ttl)?;
        self.notify(Events::STRING, "set", key);
        if let Ttl::Until(_) = ttl {
            self.notify(Events::GENERIC, "expire", key);
        }
        Ok(())
    }

    pub(super) fn read_string(&self, key: &[u8]) -> Result<Option<&Bytes>, CacheError> {
        self.read(key).map(|value| value.text().ok_or(CacheError::WrongType)).transpose()
    }
}
