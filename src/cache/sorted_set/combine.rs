//! ZUNION, ZINTER, ZDIFF, what stores them, and ZINTERCARD.

use ahash::AHashMap;

use super::SortedSetCommand;
use super::elements::SortedSet;
use super::score::Score;
use crate::cache::command::{Args, Command, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Collection, Edit, Key, Keyspace};
use crate::cache::notifications::Events;
use crate::cache::set::{Operation, Set};
use crate::model::text::Text;

/// Sets and sorted sets that are to be made one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    pub operation: Operation,
    pub keys: Vec<Text>,
    /// Redis looks at the keys before it reads the options: so an error of theirs comes later.
    pub options: Result<Options, CacheError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Factors of the scores, one a key; none at all stands for ones.
    pub weights: Vec<Score>,
    pub aggregate: Aggregate,
    pub with_scores: bool,
    /// ZINTERCARD counts no further.
    pub limit: usize,
}

/// What becomes of the scores that one member has in several sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aggregate {
    #[default]
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// NaN, which a product can be, is never the lower or the higher; as a sum it is 0.
    fn of(self, score: f64, other: f64) -> f64 {
        match self {
            Self::Sum => zero_if_nan(score + other),
            Self::Min if other < score => other,
            Self::Max if other > score => other,
            Self::Min | Self::Max => score,
        }
    }
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What a command of the family lets its options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Store,
    Count,
}

pub(super) fn parse_combine(operation: Operation, args: Args<'_>) -> Result<Command, CacheError> {
    let combination = parse(operation, Kind::Read, args)?;
    Ok(Command::SortedSet(SortedSetCommand::Combine(combination)))
}

pub(super) fn parse_store(operation: Operation, mut args: Args<'_>) -> Result<Command, CacheError> {
    let destination = args.next()?;
    let combination = parse(operation, Kind::Store, args)?;
    Ok(Command::SortedSet(SortedSetCommand::CombineStore { destination, combination }))
}

pub(super) fn parse_count(args: Args<'_>) -> Result<Command, CacheError> {
    let combination = parse(Operation::Intersection, Kind::Count, args)?;
    Ok(Command::SortedSet(SortedSetCommand::CombineCount(combination)))
}

fn parse(operation: Operation, kind: Kind, mut args: Args<'_>) -> Result<Combination, CacheError> {
    let key_count = args.integer()?;
    if key_count < 1 {
        return Err(CacheError::NoInputKey { command: args.command });
    }
    let key_count = usize::try_from(key_count).map_err(|_| CacheError::Syntax)?;
    if key_count > args.len() {
        return Err(CacheError::Syntax);
    }
    let keys = (0..key_count).map(|_| args.next()).collect::<Result<Vec<_>, _>>()?;
    let options = parse_options(operation, kind, key_count, args);
    Ok(Combination { operation, keys, options })
}

fn parse_options(
    operation: Operation,
    kind: Kind,
    key_count: usize,
    mut args: Args<'_>,
) -> Result<Options, CacheError> {
    let mut options = Options {
        weights: Vec::new(),
        aggregate: Aggregate::default(),
        with_scores: false,
        limit: usize::MAX,
    };
    let is_weighted = operation != Operation::Difference && kind != Kind::Count;
    while let Some(option) = args.option() {
        if is_weighted && is(option, "weights") && args.len() >= key_count {
            let weight = |text: Text| Score::parse(&text).ok_or(CacheError::NotAWeight);
            options.weights =
                (0..key_count).map(|_| weight(args.next()?)).collect::<Result<_, _>>()?;
        } else if is_weighted && is(option, "aggregate") && !args.is_empty() {
            options.aggregate = match &args.next()? {
                how if is(how, "sum") => Aggregate::Sum,
                how if is(how, "min") => Aggregate::Min,
                how if is(how, "max") => Aggregate::Max,
                _ => return Err(CacheError::Syntax),
            };
        } else if kind == Kind::Read && is(option, "withscores") {
            options.with_scores = true;
        } else if kind == Kind::Count && is(option, "limit") && !args.is_empty() {
            let limit = parse_integer(&args.next()?).and_then(|limit| usize::try_from(limit).ok());
            options.limit = match limit.ok_or(CacheError::NegativeLimit)? {
                0 => usize::MAX,
                limit => limit,
            };
        } else {
            return Err(CacheError::Syntax);
        }
    }
    Ok(options)
}

/// A set or a sorted set that is read; a set's members have the score 1.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(&'a Set),
    Sorted(&'a SortedSet),
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Set(set) => set.0.len(),
            Self::Sorted(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Set(set) => set.0.contains(member).then_some(1.0),
            Self::Sorted(set) => set.score(member).map(Score::get),
        }
    }

    fn members(self) -> impl Iterator<Item = (&'a Key, f64)> {
        (0..self.len()).map_while(move |index| match self {
            Self::Missing => None,
            Self::Set(set) => set.0.at(index).map(|(member, ())| (member, 1.0)),
            Self::Sorted(set) => set.at(index).map(|(member, score)| (member, score.get())),
        })
    }
}

/// A source and the factor of its scores.
#[derive(Clone, Copy)]
struct Weighted<'a> {
    source: Source<'a>,
    weight: f64,
}

impl<'a> Weighted<'a> {
    fn members(self) -> impl Iterator<Item = (&'a Key, f64)> {
        let members = self.source.members();
        members.map(move |(member, score)| (member, zero_if_nan(score * self.weight)))
    }
}

fn union(sources: &[Weighted<'_>], aggregate: Aggregate) -> Vec<(Key, f64)> {
    let mut scores: AHashMap<&Key, f64> = AHashMap::new();
    for source in sources {
        for (member, score) in source.members() {
            scores
                .entry(member)
                .and_modify(|sum| *sum = aggregate.of(*sum, score))
                .or_insert(score);
        }
    }
    scores.into_iter().map(|(member, score)| (Key::clone(member), score)).collect()
}

/// Members that are in all of the sources, which begin with the smallest.
fn intersection<'a>(
    sources: &[Weighted<'a>],
    aggregate: Aggregate,
) -> impl Iterator<Item = (&'a Key, f64)> {
    let (first, others) = match sources {
        [first, others @ ..] => (Some(*first), others),
        [] => (None, sources),
    };
    let candidates = first.into_iter().flat_map(Weighted::members);
    candidates.filter_map(move |(member, score)| {
        let score = others.iter().try_fold(score, |score, other| {
            let other_score = other.source.score(member)? * other.weight;
            Some(aggregate.of(score, other_score))
        })?;
        Some((member, score))
    })
}

fn difference(sources: &[Weighted<'_>]) -> Vec<(Key, f64)> {
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    let is_elsewhere =
        |member: &Key| others.iter().any(|other| other.source.score(member).is_some());
    let members = first.source.members().filter(|(member, _)| !is_elsewhere(member));
    members.map(|(member, score)| (Key::clone(member), score)).collect()
}

impl Keyspace {
    /// What ZUNION, ZINTER and ZDIFF answer, in its order; and whether with scores.
    pub(super) fn combine(
        &self,
        combination: &Combination,
    ) -> Result<(Vec<(Key, Score)>, bool), CacheError> {
        let (sources, options) = self.sources(combination)?;
        let found = match combination.operation {
            Operation::Union => union(&sources, options.aggregate),
            Operation::Intersection => intersection(&sources, options.aggregate)
                .map(|(member, score)| (Key::clone(member), score))
                .collect(),
            Operation::Difference => difference(&sources),
        };
        let score = |(member, score)| Score::new(score).map(|score| (member, score));
        let mut found: Vec<(Key, Score)> = found.into_iter().filter_map(score).collect();
        found.sort_unstable_by(|(member, score), (other, other_score)| {
            score.cmp(other_score).then_with(|| member.cmp(other))
        });
        Ok((found, options.with_scores))
    }

    /// ZINTERCARD.
    pub(super) fn combine_count(&self, combination: &Combination) -> Result<usize, CacheError> {
        let (sources, options) = self.sources(combination)?;
        Ok(intersection(&sources, options.aggregate).take(options.limit).count())
    }

    /// As Redis has them: the smallest one first, which decides how a sum of doubles is rounded.
    fn sources<'a>(
        &'a self,
        combination: &'a Combination,
    ) -> Result<(Vec<Weighted<'a>>, &'a Options), CacheError> {
        let sources = combination.keys.iter().map(|key| self.source(key));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let options = combination.options.as_ref().map_err(CacheError::clone)?;
        let weights = options.weights.iter().copied().chain(std::iter::repeat(Score::ONE));
        let weighted =
            |(source, weight): (Source<'a>, Score)| Weighted { source, weight: weight.get() };
        let mut sources: Vec<Weighted<'a>> =
            sources.into_iter().zip(weights).map(weighted).collect();
        if combination.operation != Operation::Difference {
            sources.sort_by_key(|weighted| weighted.source.len());
        }
        Ok((sources, options))
    }

    fn source(&self, key: &[u8]) -> Result<Source<'_>, CacheError> {
        let Some(value) = self.read(key) else { return Ok(Source::Missing) };
        let sorted = SortedSet::of(value).map(Source::Sorted);
        sorted.or_else(|| Set::of(value).map(Source::Set)).ok_or(CacheError::WrongType)
    }

    /// Puts members in place of whatever is at `key`; without any, the key is gone. Returns how many
    /// there are.
    pub(in crate::cache) fn put_sorted<'a>(
        &mut self,
        event: &'static str,
        key: &[u8],
        members: impl ExactSizeIterator<Item = (&'a [u8], Score)>,
    ) -> Result<usize, CacheError> {
        self.store(Events::SORTED_SET, event, key, |keyspace| {
            let count = members.len();
            if count > 0 {
                keyspace.edit_or_make(key, |set: &mut Edit<'_, SortedSet>| {
                    for (member, score) in members {
                        set.set(member, score);
                    }
                })?;
            }
            Ok(count)
        })
    }
}
