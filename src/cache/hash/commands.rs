//! The commands on hashes.

use bytes::Bytes;

use super::Hash;
use crate::cache::command::{Access, Args, Arity, Command, Flags, Spec};
use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::pick::{Pick, bounded};
use crate::cache::reply::Reply;
use crate::cache::scan::{Scan, scanned};
use crate::model::text::Text;

/// A command on a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashCommand {
    Get {
        key: Text,
        field: Text,
    },
    GetMany {
        key: Text,
        fields: Vec<Text>,
    },
    Set {
        key: Text,
        fields: Vec<(Text, Text)>,
        /// Answer with the number of new fields, as HSET does and HMSET does not.
        counts: bool,
    },
    SetNew {
        key: Text,
        field: Text,
        value: Text,
    },
    Delete {
        key: Text,
        fields: Vec<Text>,
    },
    Exists {
        key: Text,
        field: Text,
    },
    Len {
        key: Text,
    },
    StrLen {
        key: Text,
        field: Text,
    },
    GetAll {
        key: Text,
    },
    Keys {
        key: Text,
    },
    Values {
        key: Text,
    },
    IncrBy {
        key: Text,
        field: Text,
        by: i64,
    },
    IncrByFloat {
        key: Text,
        field: Text,
        by: Text,
    },
    Random {
        key: Text,
        /// And whether the values come with the fields.
        pick: Option<(Pick, bool)>,
    },
    Scan {
        key: Text,
        scan: Scan,
    },
}

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW_FAST: Flags = WRITE_FAST.and(Flags::DENYOOM);

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("hget", Arity::Exactly(2), |mut args| {
        Ok(Command::Hash(HashCommand::Get { key: args.next()?, field: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("hmget", Arity::AtLeast(2), |mut args| {
        Ok(Command::Hash(HashCommand::GetMany { key: args.next()?, fields: args.remaining() }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("hset", Arity::AtLeast(3), |args| parse_set(args, true)).flags(GROW_FAST).key(),
    Spec::new("hmset", Arity::AtLeast(3), |args| parse_set(args, false)).flags(GROW_FAST).key(),
    Spec::new("hsetnx", Arity::Exactly(3), |mut args| {
        let (key, field, value) = (args.next()?, args.next()?, args.next()?);
        Ok(Command::Hash(HashCommand::SetNew { key, field, value }))
    })
    .flags(GROW_FAST)
    .key(),
    Spec::new("hdel", Arity::AtLeast(2), |mut args| {
        Ok(Command::Hash(HashCommand::Delete { key: args.next()?, fields: args.remaining() }))
    })
    .flags(WRITE_FAST)
    .key(),
    Spec::new("hexists", Arity::Exactly(2), |mut args| {
        Ok(Command::Hash(HashCommand::Exists { key: args.next()?, field: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("hlen", Arity::Exactly(1), |mut args| {
        Ok(Command::Hash(HashCommand::Len { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("hstrlen", Arity::Exactly(2), |mut args| {
        Ok(Command::Hash(HashCommand::StrLen { key: args.next()?, field: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("hgetall", Arity::Exactly(1), |mut args| {
        Ok(Command::Hash(HashCommand::GetAll { key: args.next()? }))
    })
    .flags(READ)
    .key(),
    Spec::new("hkeys", Arity::Exactly(1), |mut args| {
        Ok(Command::Hash(HashCommand::Keys { key: args.next()? }))
    })
    .flags(READ)
    .key(),
    Spec::new("hvals", Arity::Exactly(1), |mut args| {
        Ok(Command::Hash(HashCommand::Values { key: args.next()? }))
    })
    .flags(READ)
    .key(),
    Spec::new("hincrby", Arity::Exactly(3), |mut args| {
        let (key, field, by) = (args.next()?, args.next()?, args.integer()?);
        Ok(Command::Hash(HashCommand::IncrBy { key, field, by }))
    })
    .flags(GROW_FAST)
    .key(),
    Spec::new("hincrbyfloat", Arity::Exactly(3), |mut args| {
        let (key, field, by) = (args.next()?, args.next()?, args.next()?);
        Ok(Command::Hash(HashCommand::IncrByFloat { key, field, by }))
    })
    .flags(GROW_FAST)
    .key(),
    Spec::new("hrandfield", Arity::AtLeast(1), |mut args| {
        let (key, pick) = (args.next()?, Pick::parse(&mut args, Some("withvalues"))?);
        Ok(Command::Hash(HashCommand::Random { key, pick }))
    })
    .flags(READ)
    .key(),
    Spec::new("hscan", Arity::AtLeast(2), |mut args| {
        let (key, scan) = (args.next()?, Scan::parse(args, false)?);
        Ok(Command::Hash(HashCommand::Scan { key, scan }))
    })
    .flags(READ)
    .key(),
];

fn parse_set(mut args: Args<'_>, counts: bool) -> Result<Command, CacheError> {
    let key = args.next()?;
    let mut fields = Vec::with_capacity(args.len() / 2);
    while !args.is_empty() {
        fields.push((args.next()?, args.next()?));
    }
    Ok(Command::Hash(HashCommand::Set { key, fields, counts }))
}

fn text(text: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text))
}

impl HashCommand {
    pub(in crate::cache) fn access(&self) -> Access {
        match self {
            Self::Set { .. }
            | Self::SetNew { .. }
            | Self::IncrBy { .. }
            | Self::IncrByFloat { .. } => Access::Grow,
            Self::Delete { .. } => Access::Shrink,
            Self::Get { .. }
            | Self::GetMany { .. }
            | Self::Exists { .. }
            | Self::Len { .. }
            | Self::StrLen { .. }
            | Self::GetAll { .. }
            | Self::Keys { .. }
            | Self::Values { .. }
            | Self::Random { .. }
            | Self::Scan { .. } => Access::Read,
        }
    }

    pub(in crate::cache) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Get { key, field } => Reply::bulk_or_nil(keyspace.hash_get(key, field)?),
            Self::GetMany { key, fields } => {
                let hash = keyspace.collection::<Hash>(key)?;
                let value = |field: &Text| hash.and_then(|hash| hash.0.get(field)).cloned();
                Reply::Array(fields.iter().map(|field| Reply::bulk_or_nil(value(field))).collect())
            }
            Self::Set { key, fields, counts } => {
                let added = keyspace.hash_set(key, fields)?;
                if *counts { Reply::count(added) } else { Reply::OK }
            }
            Self::SetNew { key, field, value } => keyspace.hash_set_new(key, field, value)?.into(),
            Self::Delete { key, fields } => Reply::count(keyspace.hash_delete(key, fields)?),
            Self::Exists { key, field } => {
                let hash = keyspace.collection::<Hash>(key)?;
                hash.is_some_and(|hash| hash.0.contains(field)).into()
            }
            Self::Len { key } => Reply::count(keyspace.hash_len(key)?),
            Self::StrLen { key, field } => {
                let hash = keyspace.collection::<Hash>(key)?;
                Reply::count(hash.and_then(|hash| hash.0.get(field)).map_or(0, Bytes::len))
            }
            Self::GetAll { key } => {
                let fields = keyspace.hash_fields(key)?;
                let pair = |(field, value): (_, &Bytes)| (text(field), Reply::Bulk(value.clone()));
                Reply::Map(fields.map(pair).collect())
            }
            Self::Keys { key } => {
                Reply::Array(keyspace.hash_fields(key)?.map(|(field, _)| text(field)).collect())
            }
            Self::Values { key } => {
                Reply::bulks(keyspace.hash_fields(key)?.map(|(_, value)| value.clone()))
            }
            Self::IncrBy { key, field, by } => {
                Reply::Integer(keyspace.hash_increment(key, field, *by)?)
            }
            Self::IncrByFloat { key, field, by } => {
                Reply::Bulk(keyspace.hash_increment_by_float(key, field, by)?)
            }
            Self::Random { key, pick } => keyspace.random_fields(key, *pick)?,
            Self::Scan { key, scan } => keyspace.scan_fields(key, scan)?,
        })
    }
}

impl Keyspace {
    fn random_fields(
        &mut self,
        key: &[u8],
        pick: Option<(Pick, bool)>,
    ) -> Result<Reply, CacheError> {
        let len = self.looked_at::<Hash>(key)?.map_or(0, |hash| hash.0.len());
        let (wanted, with_values) = pick.unwrap_or((Pick::Distinct(1), false));
        let indexes = self.pick_indexes(len, wanted);
        let hash = self.collection::<Hash>(key)?;
        let picked = indexes.into_iter().filter_map(|index| hash.and_then(|hash| hash.0.at(index)));
        let picked = bounded(picked, |(field, _)| field.len())?;
        let mut picked = picked.into_iter();
        Ok(if pick.is_none() {
            picked.next().map_or(Reply::Nil, |(field, _)| text(field))
        } else if with_values {
            let pairs = picked.map(|(field, value)| (text(field), Reply::Bulk(value.clone())));
            Reply::Pairs(pairs.collect())
        } else {
            Reply::Array(picked.map(|(field, _)| text(field)).collect())
        })
    }

    fn scan_fields(&self, key: &[u8], scan: &Scan) -> Result<Reply, CacheError> {
        let Some(hash) = self.collection::<Hash>(key)? else { return Ok(scanned(0, Vec::new())) };
        let filter = scan.filter()?;
        let indexes = scan.indexes(hash.0.len(), filter.count);
        let next_cursor = indexes.start;
        let met = indexes.rev().filter_map(|index| hash.0.at(index));
        let found = met.filter(|(field, _)| filter.admits(field));
        let flat = found.flat_map(|(field, value)| [text(field), Reply::Bulk(value.clone())]);
        Ok(scanned(next_cursor, flat.collect()))
    }
}
