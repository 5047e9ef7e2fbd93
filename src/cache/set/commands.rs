//! The commands on sets.

use bytes::Bytes;

use super::{Operation, Set};
use crate::cache::command::{Access, Args, Arity, Command, Flags, Keys, Spec, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::pick::{Pick, bounded};
use crate::cache::reply::Reply;
use crate::cache::scan::{Scan, scanned};
use crate::model::text::Text;

/// A command on a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetCommand {
    Add {
        key: Text,
        members: Vec<Text>,
    },
    Remove {
        key: Text,
        members: Vec<Text>,
    },
    Card {
        key: Text,
    },
    IsMember {
        key: Text,
        member: Text,
    },
    AreMembers {
        key: Text,
        members: Vec<Text>,
    },
    Members {
        key: Text,
    },
    Move {
        from: Text,
        to: Text,
        member: Text,
    },
    Pop {
        key: Text,
        count: Option<usize>,
    },
    Random {
        key: Text,
        pick: Option<Pick>,
    },
    Combine {
        operation: Operation,
        keys: Vec<Text>,
    },
    Store {
        operation: Operation,
        to: Text,
        keys: Vec<Text>,
    },
    /// SINTERCARD.
    InterCard {
        keys: Vec<Text>,
        /// It counts no further.
        limit: usize,
    },
    Scan {
        key: Text,
        scan: Scan,
    },
}

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const ALL_KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("sadd", Arity::AtLeast(2), |mut args| {
        Ok(Command::Set(SetCommand::Add { key: args.next()?, members: args.remaining() }))
    })
    .flags(GROW.and(Flags::FAST))
    .key(),
    Spec::new("srem", Arity::AtLeast(2), |mut args| {
        Ok(Command::Set(SetCommand::Remove { key: args.next()?, members: args.remaining() }))
    })
    .flags(WRITE_FAST)
    .key(),
    Spec::new("scard", Arity::Exactly(1), |mut args| {
        Ok(Command::Set(SetCommand::Card { key: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("sismember", Arity::Exactly(2), |mut args| {
        Ok(Command::Set(SetCommand::IsMember { key: args.next()?, member: args.next()? }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("smismember", Arity::AtLeast(2), |mut args| {
        Ok(Command::Set(SetCommand::AreMembers { key: args.next()?, members: args.remaining() }))
    })
    .flags(READ_FAST)
    .key(),
    Spec::new("smembers", Arity::Exactly(1), |mut args| {
        Ok(Command::Set(SetCommand::Members { key: args.next()? }))
    })
    .flags(READ)
    .key(),
    Spec::new("smove", Arity::Exactly(3), |mut args| {
        let (from, to, member) = (args.next()?, args.next()?, args.next()?);
        Ok(Command::Set(SetCommand::Move { from, to, member }))
    })
    .flags(WRITE_FAST)
    .keys(Keys::Range { first: 1, last: 2, step: 1 }),
    Spec::new("spop", Arity::AtLeast(1), parse_pop).flags(WRITE_FAST).key(),
    Spec::new("srandmember", Arity::AtLeast(1), |mut args| {
        let key = args.next()?;
        if args.len() > 1 {
            return Err(CacheError::Syntax);
        }
        let pick = Pick::parse(&mut args, None)?.map(|(pick, _)| pick);
        Ok(Command::Set(SetCommand::Random { key, pick }))
    })
    .flags(READ)
    .key(),
    Spec::new("sinter", Arity::AtLeast(1), |args| combine(Operation::Intersection, args))
        .flags(READ)
        .keys(ALL_KEYS),
    Spec::new("sunion", Arity::AtLeast(1), |args| combine(Operation::Union, args))
        .flags(READ)
        .keys(ALL_KEYS),
    Spec::new("sdiff", Arity::AtLeast(1), |args| combine(Operation::Difference, args))
        .flags(READ)
        .keys(ALL_KEYS),
    Spec::new("sinterstore", Arity::AtLeast(2), |args| store(Operation::Intersection, args))
        .flags(GROW)
        .keys(ALL_KEYS),
    Spec::new("sunionstore", Arity::AtLeast(2), |args| store(Operation::Union, args))
        .flags(GROW)
        .keys(ALL_KEYS),
    Spec::new("sdiffstore", Arity::AtLeast(2), |args| store(Operation::Difference, args))
        .flags(GROW)
        .keys(ALL_KEYS),
    Spec::new("sintercard", Arity::AtLeast(2), parse_inter_card)
        .flags(READ)
        .keys(Keys::Counted { count: 1, also: 0 }),
    Spec::new("sscan", Arity::AtLeast(2), |mut args| {
        let (key, scan) = (args.next()?, Scan::parse(args, false)?);
        Ok(Command::Set(SetCommand::Scan { key, scan }))
    })
    .flags(READ)
    .key(),
];

fn combine(operation: Operation, mut args: Args<'_>) -> Result<Command, CacheError> {
    Ok(Command::Set(SetCommand::Combine { operation, keys: args.remaining() }))
}

fn store(operation: Operation, mut args: Args<'_>) -> Result<Command, CacheError> {
    let (to, keys) = (args.next()?, args.remaining());
    Ok(Command::Set(SetCommand::Store { operation, to, keys }))
}

fn parse_pop(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    if args.len() > 1 {
        return Err(CacheError::Syntax);
    }
    let count = args.option().map(|count| {
        let count = parse_integer(count).and_then(|count| usize::try_from(count).ok());
        count.ok_or(CacheError::NotPositive)
    });
    Ok(Command::Set(SetCommand::Pop { key, count: count.transpose()? }))
}

fn parse_inter_card(mut args: Args<'_>) -> Result<Command, CacheError> {
    let count = parse_integer(&args.next()?).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0).ok_or(CacheError::NumKeysNotPositive)?;
    if count > args.len() {
        return Err(CacheError::TooManyNumKeys);
    }
    let keys = (0..count).map(|_| args.next()).collect::<Result<_, _>>()?;
    let mut limit = usize::MAX;
    while let Some(option) = args.option() {
        if !is(option, "limit") || args.is_empty() {
            return Err(CacheError::Syntax);
        }
        let given = parse_integer(&args.next()?).and_then(|limit| usize::try_from(limit).ok());
        limit = match given.ok_or(CacheError::NegativeLimit)? {
            0 => usize::MAX,
            given => given,
        };
    }
    Ok(Command::Set(SetCommand::InterCard { keys, limit }))
}

fn text(text: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text))
}

impl SetCommand {
    pub(in crate::cache) fn access(&self) -> Access {
        match self {
            Self::Add { .. } | Self::Store { .. } => Access::Grow,
            Self::Remove { .. } | Self::Move { .. } | Self::Pop { .. } => Access::Shrink,
            Self::Card { .. }
            | Self::IsMember { .. }
            | Self::AreMembers { .. }
            | Self::Members { .. }
            | Self::Random { .. }
            | Self::Combine { .. }
            | Self::InterCard { .. }
            | Self::Scan { .. } => Access::Read,
        }
    }

    pub(in crate::cache) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Add { key, members } => Reply::count(keyspace.set_add(key, members)?),
            Self::Remove { key, members } => Reply::count(keyspace.set_remove(key, members)?),
            Self::Card { key } => Reply::count(keyspace.set_len(key)?),
            Self::IsMember { key, member } => keyspace.set_contains(key, member)?.into(),
            Self::AreMembers { key, members } => {
                let set = keyspace.collection::<Set>(key)?;
                let contains = |member: &Text| set.is_some_and(|set| set.0.contains(member));
                Reply::Array(members.iter().map(|member| contains(member).into()).collect())
            }
            Self::Members { key } => {
                let set = keyspace.collection::<Set>(key)?;
                let members = set.into_iter().flat_map(Set::members);
                Reply::Set(members.map(|member| text(member)).collect())
            }
            Self::Move { from, to, member } => keyspace.set_move(from, to, member)?.into(),
            Self::Pop { key, count: None } => Reply::bulk_or_nil(keyspace.set_pop(key, 1)?.pop()),
            Self::Pop { key, count: Some(count) } => {
                Reply::Set(keyspace.set_pop(key, *count)?.into_iter().map(Reply::Bulk).collect())
            }
            Self::Random { key, pick } => keyspace.random_members(key, *pick)?,
            Self::Combine { operation, keys } => {
                let members = keyspace.set_combine(*operation, keys, usize::MAX)?;
                Reply::Set(members.iter().map(|member| text(member)).collect())
            }
            Self::Store { operation, to, keys } => {
                let members = keyspace.set_combine(*operation, keys, usize::MAX)?;
                Reply::count(keyspace.set_store(*operation, to, &members)?)
            }
            Self::InterCard { keys, limit } => {
                Reply::count(keyspace.set_combine(Operation::Intersection, keys, *limit)?.len())
            }
            Self::Scan { key, scan } => keyspace.scan_members(key, scan)?,
        })
    }
}

impl Keyspace {
    fn random_members(&mut self, key: &[u8], pick: Option<Pick>) -> Result<Reply, CacheError> {
        let len = self.looked_at::<Set>(key)?.map_or(0, |set| set.0.len());
        let indexes = self.pick_indexes(len, pick.unwrap_or(Pick::Distinct(1)));
        let set = self.collection::<Set>(key)?;
        let picked = indexes.into_iter().filter_map(|index| set.and_then(|set| set.0.at(index)));
        Ok(match pick {
            None => picked.map(|(member, ())| text(member)).next().unwrap_or(Reply::Nil),
            Some(_) => {
                let members = bounded(picked, |(member, ())| member.len())?;
                Reply::Array(members.into_iter().map(|(member, ())| text(member)).collect())
            }
        })
    }

    fn scan_members(&self, key: &[u8], scan: &Scan) -> Result<Reply, CacheError> {
        let Some(set) = self.collection::<Set>(key)? else { return Ok(scanned(0, Vec::new())) };
        let filter = scan.filter()?;
        let indexes = scan.indexes(set.0.len(), filter.count);
        let next_cursor = indexes.start;
        let met = indexes.rev().filter_map(|index| set.0.at(index));
        let found = met.filter(|(member, ())| filter.admits(member));
        Ok(scanned(next_cursor, found.map(|(member, ())| text(member)).collect()))
    }
}
