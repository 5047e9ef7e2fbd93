//! Sorted sets: what they hold and the commands on them.
//!
//! Owns the sorted-set type. May import: the keyspace, and how Redis writes doubles. What always holds:
//! a score is never NaN; members are ordered by score, those of one score by their bytes; a change, a
//! rank and the begin of a range cost the logarithm of the set's size.
//!
//! A member takes about 145 bytes beside its own: 56 in the table, 16 of its name's head, its places in
//! the table's index and in the tree, and what those keep free.

mod add;
mod combine;
mod elements;
mod lex;
mod pop;
mod range;
mod sample;
mod score;
mod tree;
mod typed;

use bytes::Bytes;

use super::command::{Access, Args, Arity, Command, Flags, Keys, Spec};
use super::error::CacheError;
use super::keyspace::{Edit, Key, Keyspace};
use super::notifications::Events;
use super::pick::Pick;
use super::reply::Reply;
use super::scan::Scan;
use super::set::Operation;
use crate::model::text::Text;
pub use add::{AddIf, Added};
pub use combine::{Aggregate, Combination, Options};
pub(super) use elements::SortedSet;
pub use lex::{LexBound, LexRange};
pub use pop::Extreme;
pub(super) use pop::pop_of_many_reply;
pub use range::{Limit, RangeBy, RangeQuery, ScoreBound, ScoreRange};
pub use score::Score;

use range::{By, Form};

/// A command on a sorted set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortedSetCommand {
    Add {
        key: Text,
        condition: AddIf,
        /// Answer with the number of members that were added or updated, not only added.
        counts_updates: bool,
        members: Vec<(Score, Text)>,
    },
    Increment {
        key: Text,
        condition: AddIf,
        by: Score,
        member: Text,
    },
    Remove {
        key: Text,
        members: Vec<Text>,
    },
    Card {
        key: Text,
    },
    Score {
        key: Text,
        member: Text,
    },
    Scores {
        key: Text,
        members: Vec<Text>,
    },
    Rank {
        key: Text,
        member: Text,
        /// Counted from the highest score.
        is_reverse: bool,
    },
    Count {
        key: Text,
        by: RangeBy,
    },
    Range {
        key: Text,
        query: RangeQuery,
        with_scores: bool,
    },
    RangeStore {
        destination: Text,
        source: Text,
        query: RangeQuery,
    },
    RemoveRange {
        key: Text,
        by: RangeBy,
    },
    Pop {
        extreme: Extreme,
        key: Text,
        count: Option<usize>,
    },
    PopOfMany {
        keys: Vec<Text>,
        extreme: Extreme,
        count: usize,
    },
    Combine(Combination),
    CombineStore {
        destination: Text,
        combination: Combination,
    },
    /// ZINTERCARD
    CombineCount(Combination),
    Random {
        key: Text,
        /// And whether the scores come with the members.
        pick: Option<(Pick, bool)>,
    },
    Scan {
        key: Text,
        scan: Scan,
    },
}

const READ: Flags = Flags::READONLY;
const FAST_READ: Flags = Flags::READONLY.and(Flags::FAST);
const FAST_WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const COUNTED: Keys = Keys::Counted { count: 1, also: 0 };
const COUNTED_STORE: Keys = Keys::Counted { count: 2, also: 1 };

pub(super) const SPECS: &[Spec] = &[
    Spec::new("zadd", Arity::AtLeast(3), add::parse_add).flags(GROW.and(Flags::FAST)).key(),
    Spec::new("zincrby", Arity::Exactly(3), |mut args| {
        let (key, by, member) = (args.next()?, args.next()?, args.next()?);
        let by = Score::parse(&by).ok_or(CacheError::NotAFloat)?;
        let condition = AddIf::default();
        Ok(Command::SortedSet(SortedSetCommand::Increment { key, condition, by, member }))
    })
    .flags(GROW.and(Flags::FAST))
    .key(),
    Spec::new("zrem", Arity::AtLeast(2), |mut args| {
        let (key, members) = (args.next()?, args.remaining());
        Ok(Command::SortedSet(SortedSetCommand::Remove { key, members }))
    })
    .flags(FAST_WRITE)
    .key(),
    Spec::new("zcard", Arity::Exactly(1), |mut args| {
        Ok(Command::SortedSet(SortedSetCommand::Card { key: args.next()? }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("zscore", Arity::Exactly(2), |mut args| {
        let (key, member) = (args.next()?, args.next()?);
        Ok(Command::SortedSet(SortedSetCommand::Score { key, member }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("zmscore", Arity::AtLeast(2), |mut args| {
        let (key, members) = (args.next()?, args.remaining());
        Ok(Command::SortedSet(SortedSetCommand::Scores { key, members }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("zrank", Arity::Exactly(2), |args| rank(args, false)).flags(FAST_READ).key(),
    Spec::new("zrevrank", Arity::Exactly(2), |args| rank(args, true)).flags(FAST_READ).key(),
    Spec::new("zcount", Arity::Exactly(3), |args| count(By::Score, args)).flags(FAST_READ).key(),
    Spec::new("zlexcount", Arity::Exactly(3), |args| count(By::Lex, args)).flags(FAST_READ).key(),
    Spec::new("zrange", Arity::AtLeast(3), |args| {
        range::parse_range(Form { by: None, is_reverse: None, takes_scores: true }, args)
    })
    .flags(READ)
    .key(),
    Spec::new("zrangestore", Arity::AtLeast(4), range::parse_range_store)
        .flags(GROW)
        .keys(Keys::Range { first: 1, last: 2, step: 1 }),
    Spec::new("zrevrange", Arity::AtLeast(3), |args| fixed_range(By::Rank, true, args))
        .flags(READ)
        .key(),
    Spec::new("zrangebyscore", Arity::AtLeast(3), |args| fixed_range(By::Score, false, args))
        .flags(READ)
        .key(),
    Spec::new("zrevrangebyscore", Arity::AtLeast(3), |args| fixed_range(By::Score, true, args))
        .flags(READ)
        .key(),
    Spec::new("zrangebylex", Arity::AtLeast(3), |args| fixed_range(By::Lex, false, args))
        .flags(READ)
        .key(),
    Spec::new("zrevrangebylex", Arity::AtLeast(3), |args| fixed_range(By::Lex, true, args))
        .flags(READ)
        .key(),
    Spec::new("zremrangebyrank", Arity::Exactly(3), |args| remove_range(By::Rank, args))
        .flags(Flags::WRITE)
        .key(),
    Spec::new("zremrangebyscore", Arity::Exactly(3), |args| remove_range(By::Score, args))
        .flags(Flags::WRITE)
        .key(),
    Spec::new("zremrangebylex", Arity::Exactly(3), |args| remove_range(By::Lex, args))
        .flags(Flags::WRITE)
        .key(),
    Spec::new("zpopmin", Arity::AtLeast(1), |args| pop::parse_pop(Extreme::Min, args))
        .flags(FAST_WRITE)
        .key(),
    Spec::new("zpopmax", Arity::AtLeast(1), |args| pop::parse_pop(Extreme::Max, args))
        .flags(FAST_WRITE)
        .key(),
    Spec::new("zmpop", Arity::AtLeast(3), pop::parse_pop_of_many).flags(Flags::WRITE).keys(COUNTED),
    Spec::new("zunion", Arity::AtLeast(2), |args| combine::parse_combine(Operation::Union, args))
        .flags(READ)
        .keys(COUNTED),
    Spec::new("zinter", Arity::AtLeast(2), |args| {
        combine::parse_combine(Operation::Intersection, args)
    })
    .flags(READ)
    .keys(COUNTED),
    Spec::new("zdiff", Arity::AtLeast(2), |args| {
        combine::parse_combine(Operation::Difference, args)
    })
    .flags(READ)
    .keys(COUNTED),
    Spec::new("zunionstore", Arity::AtLeast(3), |args| {
        combine::parse_store(Operation::Union, args)
    })
    .flags(GROW)
    .keys(COUNTED_STORE),
    Spec::new("zinterstore", Arity::AtLeast(3), |args| {
        combine::parse_store(Operation::Intersection, args)
    })
    .flags(GROW)
    .keys(COUNTED_STORE),
    Spec::new("zdiffstore", Arity::AtLeast(3), |args| {
        combine::parse_store(Operation::Difference, args)
    })
    .flags(GROW)
    .keys(COUNTED_STORE),
    Spec::new("zintercard", Arity::AtLeast(2), combine::parse_count).flags(READ).keys(COUNTED),
    Spec::new("zrandmember", Arity::AtLeast(1), |mut args| {
        let (key, pick) = (args.next()?, Pick::parse(&mut args, Some("withscores"))?);
        Ok(Command::SortedSet(SortedSetCommand::Random { key, pick }))
    })
    .flags(READ)
    .key(),
    Spec::new("zscan", Arity::AtLeast(2), |mut args| {
        let (key, scan) = (args.next()?, Scan::parse(args, false)?);
        Ok(Command::SortedSet(SortedSetCommand::Scan { key, scan }))
    })
    .flags(READ)
    .key(),
];

fn rank(mut args: Args<'_>, is_reverse: bool) -> Result<Command, CacheError> {
    let (key, member) = (args.next()?, args.next()?);
    Ok(Command::SortedSet(SortedSetCommand::Rank { key, member, is_reverse }))
}

fn count(by: By, mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, by) = (args.next()?, range::parse_by(by, &args.next()?, &args.next()?)?);
    Ok(Command::SortedSet(SortedSetCommand::Count { key, by }))
}

fn fixed_range(by: By, is_reverse: bool, args: Args<'_>) -> Result<Command, CacheError> {
    let form = Form { by: Some(by), is_reverse: Some(is_reverse), takes_scores: true };
    range::parse_range(form, args)
}

fn remove_range(by: By, mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, by) = (args.next()?, range::parse_by(by, &args.next()?, &args.next()?)?);
    Ok(Command::SortedSet(SortedSetCommand::RemoveRange { key, by }))
}

impl SortedSetCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Add { .. }
            | Self::Increment { .. }
            | Self::RangeStore { .. }
            | Self::CombineStore { .. } => Access::Grow,
            Self::Remove { .. }
            | Self::RemoveRange { .. }
            | Self::Pop { .. }
            | Self::PopOfMany { .. } => Access::Shrink,
            Self::Card { .. }
            | Self::Score { .. }
            | Self::Scores { .. }
            | Self::Rank { .. }
            | Self::Count { .. }
            | Self::Range { .. }
            | Self::Combine(_)
            | Self::CombineCount(_)
            | Self::Random { .. }
            | Self::Scan { .. } => Access::Read,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Add { key, condition, counts_updates, members } => {
                let members = members.iter().map(|(score, member)| (*score, &**member));
                let Added { added, updated } = keyspace.sorted_add(key, *condition, members)?;
                Reply::count(if *counts_updates { added + updated } else { added })
            }
            Self::Increment { key, condition, by, member } => {
                score_or_nil(keyspace.sorted_increment(key, *condition, *by, member)?)
            }
            Self::Remove { key, members } => {
                Reply::count(keyspace.sorted_remove(key, members.iter().map(|member| &**member))?)
            }
            Self::Card { key } => Reply::count(keyspace.sorted_len(key)?),
            Self::Score { key, member } => score_or_nil(keyspace.sorted_score(key, member)?),
            Self::Scores { key, members } => {
                let set = keyspace.collection::<SortedSet>(key)?;
                let score = |member: &Text| score_or_nil(set.and_then(|set| set.score(member)));
                Reply::Array(members.iter().map(score).collect())
            }
            Self::Rank { key, member, is_reverse } => {
                keyspace.sorted_rank(key, member, *is_reverse)?.map_or(Reply::Nil, Reply::count)
            }
            Self::Count { key, by } => Reply::count(keyspace.sorted_count(key, by)?),
            Self::Range { key, query, with_scores } => {
                keyspace.sorted_range_reply(key, query, *with_scores)?
            }
            Self::RangeStore { destination, source, query } => {
                Reply::count(keyspace.sorted_range_store(destination, source, query)?)
            }
            Self::RemoveRange { key, by } => Reply::count(keyspace.sorted_remove_range(key, by)?),
            Self::Pop { extreme, key, count } => {
                pop::pop_reply(keyspace.zpop(*extreme, key, count.unwrap_or(1))?, *count)
            }
            Self::PopOfMany { keys, extreme, count } => {
                pop::pop_of_many_reply(keyspace.zmpop(keys, *extreme, *count)?)
            }
            Self::Combine(combination) => {
                let (found, with_scores) = keyspace.combine(combination)?;
                members(found.iter().map(|(member, score)| (member, *score)), with_scores)
            }
            Self::CombineStore { destination, combination } => {
                let (found, _) = keyspace.combine(combination)?;
                let found = found.iter().map(|(member, score)| (&**member, *score));
                let event = match combination.operation {
                    Operation::Intersection => "zinterstore",
                    Operation::Union => "zunionstore",
                    Operation::Difference => "zdiffstore",
                };
                Reply::count(keyspace.put_sorted(event, destination, found)?)
            }
            Self::CombineCount(combination) => Reply::count(keyspace.combine_count(combination)?),
            Self::Random { key, pick } => keyspace.random_scored(key, *pick)?,
            Self::Scan { key, scan } => keyspace.scan_sorted(key, scan)?,
        })
    }
}

fn score_or_nil(score: Option<Score>) -> Reply {
    score.map_or(Reply::Nil, |score| Reply::Double(score.get()))
}

fn text(member: &Key) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(member))
}

fn members<'a>(items: impl Iterator<Item = (&'a Key, Score)>, with_scores: bool) -> Reply {
    if with_scores {
        let pair = |(member, score): (&'a Key, Score)| (text(member), Reply::Double(score.get()));
        Reply::Pairs(items.map(pair).collect())
    } else {
        Reply::Array(items.map(|(member, _)| text(member)).collect())
    }
}

impl Keyspace {
    /// ZREM: how many members were there.
    pub(super) fn sorted_remove<'a>(
        &mut self,
        key: &[u8],
        members: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<usize, CacheError> {
        let removed = self.edit(key, |set: &mut Edit<'_, SortedSet>| {
            let removed = members.into_iter().filter(|member| set.delete(member)).count();
            if removed > 0 {
                set.notes.event(Events::SORTED_SET, "zrem");
            }
            removed
        })?;
        Ok(removed.unwrap_or(0))
    }

    /// ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZREMRANGEBYLEX: how many members that were.
    pub(super) fn sorted_remove_range(
        &mut self,
        key: &[u8],
        by: &RangeBy,
    ) -> Result<usize, CacheError> {
        let event = match by {
            RangeBy::Rank { .. } => "zremrangebyrank",
            RangeBy::Score(..) => "zremrangebyscore",
            RangeBy::Lex(..) => "zremrangebylex",
        };
        let removed = self.edit(key, |set: &mut Edit<'_, SortedSet>| {
            let ranks = set.collection.ranks(by);
            let removed = ranks.clone().map_while(|_| set.take(ranks.start)).count();
            if removed > 0 {
                set.notes.event(Events::SORTED_SET, event);
            }
            removed
        })?;
        Ok(removed.unwrap_or(0))
    }

    /// ZCARD.
    pub(super) fn sorted_len(&self, key: &[u8]) -> Result<usize, CacheError> {
        Ok(self.collection::<SortedSet>(key)?.map_or(0, SortedSet::len))
    }

    /// ZSCORE.
    pub(super) fn sorted_score(
        &self,
        key: &[u8],
        member: &[u8],
    ) -> Result<Option<Score>, CacheError> {
        Ok(self.collection::<SortedSet>(key)?.and_then(|set| set.score(member)))
    }

    /// ZRANK, and ZREVRANK when it is counted from the highest score.
    pub(super) fn sorted_rank(
        &self,
        key: &[u8],
        member: &[u8],
        is_reverse: bool,
    ) -> Result<Option<usize>, CacheError> {
        let Some(set) = self.collection::<SortedSet>(key)? else { return Ok(None) };
        let rank = set.rank(member);
        Ok(if is_reverse { rank.map(|rank| set.len() - 1 - rank) } else { rank })
    }
}
