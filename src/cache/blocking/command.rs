//! The commands, and what one does to a key that is ready.

use std::time::Duration;

use bytes::Bytes;

use crate::cache::command::{Access, Args, Arity, Command, Flags, Keys, Spec};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Keyspace, Slot, Value};
use crate::cache::list::End;
use crate::cache::pop_of_many::PopOfMany;
use crate::cache::reply::Reply;
use crate::cache::sorted_set::{Extreme, pop_of_many_reply};
use crate::model::text::Text;

/// A command that waits until one of its keys has something. Where nobody can wait, as in a transaction
/// or a script, it answers at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingCommand {
    pub(super) pop: Pop,
    /// `None`: for ever.
    pub(super) timeout: Option<Duration>,
}

/// What is done to the first key that has something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cache) enum Pop {
    List {
        end: End,
        keys: Vec<Text>,
    },
    ListMany {
        end: End,
        keys: Vec<Text>,
        count: usize,
    },
    /// One key: the source.
    Move {
        source: [Text; 1],
        destination: Text,
        from: End,
        to: End,
    },
    Scored {
        extreme: Extreme,
        keys: Vec<Text>,
    },
    ScoredMany {
        extreme: Extreme,
        keys: Vec<Text>,
        count: usize,
    },
}

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("blpop", Arity::AtLeast(2), |args| parse_list(args, End::Left))
        .flags(Flags::WRITE.and(Flags::BLOCKING).and(Flags::NOSCRIPT))
        .keys(Keys::Range { first: 1, last: -2, step: 1 }),
    Spec::new("brpop", Arity::AtLeast(2), |args| parse_list(args, End::Right))
        .flags(Flags::WRITE.and(Flags::BLOCKING).and(Flags::NOSCRIPT))
        .keys(Keys::Range { first: 1, last: -2, step: 1 }),
    Spec::new("blmpop", Arity::AtLeast(4), |mut args| {
        let timeout = parse_timeout(&args.next()?)?;
        let PopOfMany { keys, end, count } = PopOfMany::parse(args, End::parse)?;
        Ok(blocking(Pop::ListMany { end, keys, count }, timeout))
    })
    .flags(Flags::WRITE.and(Flags::BLOCKING))
    .keys(Keys::Counted { count: 2, also: 0 }),
    Spec::new("blmove", Arity::Exactly(5), |mut args| {
        let (source, destination) = ([args.next()?], args.next()?);
        let (from, to) = (End::parse(&args.next()?)?, End::parse(&args.next()?)?);
        let timeout = parse_timeout(&args.next()?)?;
        Ok(blocking(Pop::Move { source, destination, from, to }, timeout))
    })
    .flags(Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING).and(Flags::NOSCRIPT))
    .keys(Keys::Range { first: 1, last: 2, step: 1 }),
    Spec::new("brpoplpush", Arity::Exactly(3), |mut args| {
        let (source, destination) = ([args.next()?], args.next()?);
        let timeout = parse_timeout(&args.next()?)?;
        let (from, to) = (End::Right, End::Left);
        Ok(blocking(Pop::Move { source, destination, from, to }, timeout))
    })
    .flags(Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING).and(Flags::NOSCRIPT))
    .keys(Keys::Range { first: 1, last: 2, step: 1 }),
    Spec::new("bzpopmin", Arity::AtLeast(2), |args| parse_scored(args, Extreme::Min))
        .flags(Flags::WRITE.and(Flags::BLOCKING).and(Flags::NOSCRIPT).and(Flags::FAST))
        .keys(Keys::Range { first: 1, last: -2, step: 1 }),
    Spec::new("bzpopmax", Arity::AtLeast(2), |args| parse_scored(args, Extreme::Max))
        .flags(Flags::WRITE.and(Flags::BLOCKING).and(Flags::NOSCRIPT).and(Flags::FAST))
        .keys(Keys::Range { first: 1, last: -2, step: 1 }),
    Spec::new("bzmpop", Arity::AtLeast(4), |mut args| {
        let timeout = parse_timeout(&args.next()?)?;
        let PopOfMany { keys, end: extreme, count } = PopOfMany::parse(args, Extreme::parse)?;
        Ok(blocking(Pop::ScoredMany { extreme, keys, count }, timeout))
    })
    .flags(Flags::WRITE.and(Flags::BLOCKING))
    .keys(Keys::Counted { count: 2, also: 0 }),
];

fn blocking(pop: Pop, timeout: Option<Duration>) -> Command {
    Command::Blocking(BlockingCommand { pop, timeout })
}

fn parse_list(args: Args<'_>, end: End) -> Result<Command, CacheError> {
    let (keys, timeout) = parse_keys(args)?;
    Ok(blocking(Pop::List { end, keys }, timeout))
}

fn parse_scored(args: Args<'_>, extreme: Extreme) -> Result<Command, CacheError> {
    let (keys, timeout) = parse_keys(args)?;
    Ok(blocking(Pop::Scored { extreme, keys }, timeout))
}

/// Keys, and the timeout behind them.
fn parse_keys(mut args: Args<'_>) -> Result<(Vec<Text>, Option<Duration>), CacheError> {
    let mut keys = args.remaining();
    let timeout = keys.pop().ok_or(CacheError::WrongArity { command: args.command })?;
    Ok((keys, parse_timeout(&timeout)?))
}

/// Seconds, with a fraction; 0 is for ever.
fn parse_timeout(text: &[u8]) -> Result<Option<Duration>, CacheError> {
    let seconds = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds =
        seconds.filter(|seconds| !seconds.is_nan()).ok_or(CacheError::TimeoutNotAFloat)?;
    // Redis counts milliseconds in 64 bits; what does not fit becomes a negative number there.
    const SECONDS_MAX: f64 = 9.2e15;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(CacheError::NegativeTimeout);
    }
    Ok(Some(Duration::from_secs_f64(seconds)).filter(|timeout| !timeout.is_zero()))
}

impl BlockingCommand {
    pub(in crate::cache) fn access(&self) -> Access {
        if self.pop.grows() { Access::Grow } else { Access::Shrink }
    }

    /// What it answers when nobody waits.
    pub(in crate::cache) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(self.pop.attempt(keyspace)?.unwrap_or(self.pop.nothing()))
    }
}

impl Pop {
    pub(super) fn keys(&self) -> &[Text] {
        match self {
            Self::List { keys, .. }
            | Self::ListMany { keys, .. }
            | Self::Scored { keys, .. }
            | Self::ScoredMany { keys, .. } => keys,
            Self::Move { source, .. } => source,
        }
    }

    /// The answer when there was nothing, and nobody waits.
    fn nothing(&self) -> Reply {
        match self {
            Self::Move { .. } => Reply::Nil,
            _ => Reply::NilArray,
        }
    }

    /// Whether it may add data.
    fn grows(&self) -> bool {
        matches!(self, Self::Move { .. })
    }

    /// Takes from the first of its keys that has something.
    pub(super) fn attempt(&self, keyspace: &mut Keyspace) -> Result<Option<Reply>, CacheError> {
        for key in self.keys() {
            if let Some(reply) = self.attempt_on(keyspace, key)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Whether this key is of the type that it waits for.
    pub(super) fn waits_for_type_of(&self, keyspace: &Keyspace, key: &[u8]) -> bool {
        let value = keyspace.slot(key).map(Slot::value);
        match self {
            Self::List { .. } | Self::ListMany { .. } | Self::Move { .. } => {
                matches!(value, Some(Value::List(_)))
            }
            Self::Scored { .. } | Self::ScoredMany { .. } => {
                matches!(value, Some(Value::SortedSet(_)))
            }
        }
    }

    /// Takes from this key, which is one of its own.
    pub(super) fn attempt_on(
        &self,
        keyspace: &mut Keyspace,
        key: &[u8],
    ) -> Result<Option<Reply>, CacheError> {
        match self {
            Self::List { end, .. } => {
                let popped = keyspace.pop(*end, key, 1)?.into_iter().flatten().next();
                Ok(popped.map(|value| Reply::bulks([Bytes::copy_from_slice(key), value])))
            }
            Self::ListMany { end, count, .. } => {
                let popped = keyspace.pop(*end, key, *count)?;
                Ok(popped.map(|values| {
                    Reply::Array(vec![
                        Reply::Bulk(Bytes::copy_from_slice(key)),
                        Reply::bulks(values),
                    ])
                }))
            }
            Self::Move { destination, from, to, .. } => {
                let moved = keyspace.list_move(key, destination, *from, *to)?;
                Ok(moved.map(Reply::Bulk))
            }
            Self::Scored { extreme, .. } => {
                let popped = keyspace.zpop(*extreme, key, 1)?.into_iter().next();
                Ok(popped.map(|item| {
                    Reply::Array(vec![
                        Reply::Bulk(Bytes::copy_from_slice(key)),
                        Reply::Bulk(Bytes::copy_from_slice(&item.member)),
                        Reply::Double(item.score.get()),
                    ])
                }))
            }
            Self::ScoredMany { extreme, count, .. } => {
                let popped = keyspace.zpop(*extreme, key, *count)?;
                Ok((!popped.is_empty())
                    .then(|| pop_of_many_reply(Some((Bytes::copy_from_slice(key), popped)))))
            }
        }
    }
}
