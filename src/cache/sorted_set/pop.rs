//! ZPOPMIN, ZPOPMAX and ZMPOP. Those that block call the same operations.

use bytes::Bytes;

use super::elements::SortedSet;
use super::tree::Scored;
use super::{SortedSetCommand, members, text};
use crate::cache::command::{Args, Command, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Edit, Keyspace};
use crate::cache::notifications::Events;
use crate::cache::pop_of_many::PopOfMany;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// An end of a sorted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    /// The lowest score.
    Min,
    /// The highest.
    Max,
}

impl Extreme {
    /// MIN or MAX.
    pub(in crate::cache) fn parse(text: &[u8]) -> Result<Self, CacheError> {
        match text {
            text if is(text, "min") => Ok(Self::Min),
            text if is(text, "max") => Ok(Self::Max),
            _ => Err(CacheError::Syntax),
        }
    }
}

pub(super) fn parse_pop(extreme: Extreme, mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let count = args.option().map(|count| {
        let count = parse_integer(count).and_then(|count| usize::try_from(count).ok());
        count.ok_or(CacheError::NotPositive)
    });
    if !args.is_empty() {
        return Err(CacheError::Syntax);
    }
    let count = count.transpose()?;
    Ok(Command::SortedSet(SortedSetCommand::Pop { extreme, key, count }))
}

pub(super) fn parse_pop_of_many(args: Args<'_>) -> Result<Command, CacheError> {
    let PopOfMany { keys, end: extreme, count } = PopOfMany::parse(args, Extreme::parse)?;
    Ok(Command::SortedSet(SortedSetCommand::PopOfMany { keys, extreme, count }))
}

/// One that was asked for without a count is no list of pairs, in RESP3 neither.
pub(super) fn pop_reply(popped: Vec<Scored>, count: Option<usize>) -> Reply {
    match (count, popped.first()) {
        (None, Some(item)) => Reply::Array(vec![text(&item.member), score(item)]),
        _ => members(popped.iter().map(|item| (&item.member, item.score)), true),
    }
}

/// ZMPOP's answer, and BZMPOP's: pairs are arrays of their own in RESP2 too.
pub(in crate::cache) fn pop_of_many_reply(popped: Option<(Bytes, Vec<Scored>)>) -> Reply {
    let Some((key, popped)) = popped else { return Reply::NilArray };
    let pairs = popped.iter().map(|item| Reply::Array(vec![text(&item.member), score(item)]));
    Reply::Array(vec![Reply::Bulk(key), Reply::Array(pairs.collect())])
}

fn score(item: &Scored) -> Reply {
    Reply::Double(item.score.get())
}

impl Keyspace {
    /// ZPOPMIN and ZPOPMAX: at most `count` members, the outermost first; none when there is no such
    /// key.
    pub(in crate::cache) fn zpop(
        &mut self,
        extreme: Extreme,
        key: &[u8],
        count: usize,
    ) -> Result<Vec<Scored>, CacheError> {
        let popped = self.edit(key, |set: &mut Edit<'_, SortedSet>| {
            let count = count.min(set.collection.len());
            let next = |_| match extreme {
                Extreme::Min => set.take(0),
                Extreme::Max => set.take(set.collection.len() - 1),
            };
            let popped: Vec<_> = (0..count).map_while(next).collect();
            if !popped.is_empty() {
                let event = match extreme {
                    Extreme::Min => "zpopmin",
                    Extreme::Max => "zpopmax",
                };
                set.notes.event(Events::SORTED_SET, event);
            }
            popped
        })?;
        Ok(popped.unwrap_or_default())
    }

    /// ZMPOP: from the first of the keys that is there; `None` when none is.
    pub(in crate::cache) fn zmpop(
        &mut self,
        keys: &[Text],
        extreme: Extreme,
        count: usize,
    ) -> Result<Option<(Bytes, Vec<Scored>)>, CacheError> {
        for key in keys {
            let popped = self.zpop(extreme, key, count)?;
            if !popped.is_empty() {
                return Ok(Some((key.to_bytes(), popped)));
            }
        }
        Ok(None)
    }
}
