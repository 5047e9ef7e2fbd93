//! Ranges of members: by rank, by score, by the members' bytes; and the commands that read them.

use std::iter::Rev;
use std::ops::Range;

use super::elements::SortedSet;
use super::lex::LexRange;
use super::score::Score;
use super::tree::{Items, Scored};
use super::{SortedSetCommand, members};
use crate::cache::command::{Args, Command, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// Which members are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeBy {
    /// Both included; negative ranks count from the end, -1 being the last.
    Rank {
        start: i64,
        stop: i64,
    },
    Score(ScoreRange),
    /// By the members' bytes; without a meaning when the scores differ.
    Lex(Box<LexRange>),
}

/// Scores from one bound to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreRange {
    pub min: ScoreBound,
    pub max: ScoreBound,
}

/// Where a range of scores ends: `1.5`, or `(1.5` for one that does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreBound {
    pub score: Score,
    pub is_exclusive: bool,
}

/// What ZRANGE and its kin are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeQuery {
    pub by: RangeBy,
    /// From the highest to the lowest; ranks count from there too.
    pub is_reverse: bool,
    pub limit: Limit,
}

/// LIMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// None follow a negative one.
    pub offset: i64,
    /// Negative: all.
    pub count: i64,
}

impl Limit {
    pub const NONE: Self = Self { offset: 0, count: -1 };

    /// Of so many, those that it leaves.
    fn of(self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset).map_or(len, |offset| offset.min(len));
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(len)
    }
}

impl ScoreRange {
    pub(super) fn parse(min: &[u8], max: &[u8]) -> Result<Self, CacheError> {
        let bound = |text| ScoreBound::parse(text).ok_or(CacheError::NotAScoreRange);
        Ok(Self { min: bound(min)?, max: bound(max)? })
    }
}

impl ScoreBound {
    fn parse(text: &[u8]) -> Option<Self> {
        let (text, is_exclusive) = match text {
            [b'(', text @ ..] => (text, true),
            text => (text, false),
        };
        Some(Self { score: Score::parse_bound(text)?, is_exclusive })
    }
}

/// Members in the order in which they are answered.
enum Found<'a> {
    Rising(Items<'a>),
    Falling(Rev<Items<'a>>),
}

impl<'a> Iterator for Found<'a> {
    type Item = &'a Scored;

    fn next(&mut self) -> Option<&'a Scored> {
        match self {
            Self::Rising(items) => items.next(),
            Self::Falling(items) => items.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Rising(items) => items.size_hint(),
            Self::Falling(items) => items.size_hint(),
        }
    }
}

impl RangeQuery {
    /// From the lowest score up.
    pub fn of_ranks(start: i64, stop: i64) -> Self {
        Self { by: RangeBy::Rank { start, stop }, is_reverse: false, limit: Limit::NONE }
    }

    fn find<'a>(&self, set: &'a SortedSet) -> Found<'a> {
        let (ranks, limit) = match &self.by {
            // Ranks are counted from the side where the answer begins.
            by @ RangeBy::Rank { .. } if self.is_reverse => {
                let ranks = set.ranks(by);
                (set.len() - ranks.end..set.len() - ranks.start, self.limit)
            }
            RangeBy::Lex(range) if set.is_scattered() => {
                let offset = usize::try_from(self.limit.offset).unwrap_or(usize::MAX);
                let ranks = range.scattered(set.range(0..set.len()), self.is_reverse, offset);
                (ranks, Limit { offset: 0, ..self.limit })
            }
            by => (set.ranks(by), self.limit),
        };
        let limited = limit.of(ranks.len());
        if self.is_reverse {
            let ranks = ranks.end - limited.end..ranks.end - limited.start;
            Found::Falling(set.range(ranks).rev())
        } else {
            Found::Rising(set.range(ranks.start + limited.start..ranks.start + limited.end))
        }
    }
}

/// What a command of the family lets its arguments say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// `None`: BYSCORE and BYLEX say it.
    pub by: Option<By>,
    /// `None`: REV says it.
    pub is_reverse: Option<bool>,
    pub takes_scores: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

pub(super) fn parse_range(form: Form, mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let (query, with_scores) = parse_query(form, args)?;
    Ok(Command::SortedSet(SortedSetCommand::Range { key, query, with_scores }))
}

pub(super) fn parse_range_store(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (destination, source) = (args.next()?, args.next()?);
    let form = Form { by: None, is_reverse: None, takes_scores: false };
    let (query, _) = parse_query(form, args)?;
    Ok(Command::SortedSet(SortedSetCommand::RangeStore { destination, source, query }))
}

/// Two bounds and options. Whether the scores are asked for comes beside the query.
fn parse_query(form: Form, mut args: Args<'_>) -> Result<(RangeQuery, bool), CacheError> {
    let (start, stop) = (args.next()?, args.next()?);
    let (mut by, mut is_reverse) = (form.by, form.is_reverse);
    let (mut limit, mut with_scores) = (Limit::NONE, false);
    while let Some(option) = args.option() {
        if form.takes_scores && is(option, "withscores") {
            with_scores = true;
        } else if is(option, "limit") && args.len() >= 2 {
            limit = Limit { offset: args.integer()?, count: args.integer()? };
        } else if form.is_reverse.is_none() && is(option, "rev") && is_reverse.is_none() {
            is_reverse = Some(true);
        } else if by.is_none() && is(option, "bylex") {
            by = Some(By::Lex);
        } else if by.is_none() && is(option, "byscore") {
            by = Some(By::Score);
        } else {
            return Err(CacheError::Syntax);
        }
    }
    let (by, is_reverse) = (by.unwrap_or(By::Rank), is_reverse.unwrap_or(false));
    if by == By::Rank && limit.count != Limit::NONE.count {
        return Err(CacheError::LimitOfRanks);
    }
    if by == By::Lex && with_scores {
        return Err(CacheError::ScoresOfLexRange);
    }
    // The offset of a range of ranks is nobody's.
    let limit = if by == By::Rank { Limit::NONE } else { limit };
    // Who asks in reverse gives the upper bound first.
    let (start, stop) = if is_reverse && by != By::Rank { (stop, start) } else { (start, stop) };
    let by = parse_by(by, &start, &stop)?;
    Ok((RangeQuery { by, is_reverse, limit }, with_scores))
}

/// The bounds, the lower one first.
pub(super) fn parse_by(by: By, start: &Text, stop: &Text) -> Result<RangeBy, CacheError> {
    Ok(match by {
        By::Rank => {
            let rank = |text| parse_integer(text).ok_or(CacheError::NotAnInteger);
            RangeBy::Rank { start: rank(start)?, stop: rank(stop)? }
        }
        By::Score => RangeBy::Score(ScoreRange::parse(start, stop)?),
        By::Lex => RangeBy::Lex(Box::new(LexRange::parse(start, stop)?)),
    })
}

impl Keyspace {
    /// ZRANGE: members with their scores, in the order that was asked for.
    pub(in crate::cache) fn sorted_range(
        &self,
        key: &[u8],
        query: &RangeQuery,
    ) -> Result<Vec<Scored>, CacheError> {
        let set = self.collection::<SortedSet>(key)?;
        Ok(set.map(|set| query.find(set).cloned().collect()).unwrap_or_default())
    }

    pub(super) fn sorted_range_reply(
        &self,
        key: &[u8],
        query: &RangeQuery,
        with_scores: bool,
    ) -> Result<Reply, CacheError> {
        let set = self.collection::<SortedSet>(key)?;
        let found = set.map(|set| query.find(set)).into_iter().flatten();
        Ok(members(found.map(|item| (&item.member, item.score)), with_scores))
    }

    /// ZRANGESTORE: how many members the destination has then.
    pub(super) fn sorted_range_store(
        &mut self,
        destination: &[u8],
        source: &[u8],
        query: &RangeQuery,
    ) -> Result<usize, CacheError> {
        let found = self.sorted_range(source, query)?;
        self.put_sorted(
            "zrangestore",
            destination,
            found.iter().map(|item| (&*item.member, item.score)),
        )
    }

    /// ZCOUNT and ZLEXCOUNT.
    pub(in crate::cache) fn sorted_count(
        &self,
        key: &[u8],
        by: &RangeBy,
    ) -> Result<usize, CacheError> {
        Ok(self.collection::<SortedSet>(key)?.map_or(0, |set| set.ranks(by).len()))
    }
}
