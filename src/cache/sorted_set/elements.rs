//! A sorted set's members: by name in a table, by score in a tree.

use std::ops::Range;

use super::lex::LexRange;
use super::range::{RangeBy, ScoreRange};
use super::score::Score;
use super::tree::{Items, Scored, Tree};
use crate::cache::keyspace::{
    Collection, CollectionId, Edit, Effects, Key, PartRecord, Parts, Recorded, Value, allocated,
};
use crate::cache::list::span;
use crate::journal::Entry;

/// Members with scores, each once.
///
/// What always holds: `members` and `order` have the same members with the same scores.
#[derive(Debug)]
pub(in crate::cache) struct SortedSet {
    members: Parts<Score>,
    order: Tree,
}

impl SortedSet {
    pub(in crate::cache) fn id(&self) -> CollectionId {
        self.members.id()
    }

    pub(in crate::cache) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<Score> {
        self.members.get(member).copied()
    }

    /// How many members come before this one.
    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        self.order.rank(self.score(member)?, member)
    }

    /// A member by its index in the table, which changes with every removal.
    pub(super) fn at(&self, index: usize) -> Option<(&Key, Score)> {
        self.members.at(index).map(|(member, score)| (member, *score))
    }

    /// The members of these ranks.
    pub(super) fn range(&self, ranks: Range<usize>) -> Items<'_> {
        self.order.range(ranks)
    }

    /// All members, the lowest score first.
    pub(in crate::cache) fn members(&self) -> impl Iterator<Item = (&Key, Score)> {
        self.range(0..self.len()).map(|item| (&item.member, item.score))
    }

    /// The ranks, the lowest score being 0, of the members that are meant.
    pub(super) fn ranks(&self, by: &RangeBy) -> Range<usize> {
        match by {
            RangeBy::Rank { start, stop } => span(*start, *stop, self.len()),
            RangeBy::Score(ScoreRange { min, max }) => self.between(
                |item| item.score < min.score || (min.is_exclusive && item.score == min.score),
                |item| item.score < max.score || (!max.is_exclusive && item.score == max.score),
            ),
            RangeBy::Lex(range) if self.is_scattered() => {
                range.scattered(self.range(0..self.len()), false, 0)
            }
            RangeBy::Lex(range) => {
                let LexRange { min, max } = &**range;
                self.between(
                    |item| min.is_above(&item.member, false),
                    |item| max.is_above(&item.member, true),
                )
            }
        }
    }

    /// Whether its scores differ, so that a range by bytes means nothing, and it is so small that what
    /// Redis finds then depends on nothing else either.
    pub(super) fn is_scattered(&self) -> bool {
        /// Redis's `zset-max-listpack-entries`.
        const LEN_MAX: usize = 128;
        let mut items = self.range(0..self.len());
        self.len() <= LEN_MAX
            && items.next().zip(items.next_back()).is_some_and(|(low, high)| low.score < high.score)
    }

    fn between(
        &self,
        is_below: impl Fn(&Scored) -> bool,
        is_not_above: impl Fn(&Scored) -> bool,
    ) -> Range<usize> {
        let start = self.order.partition_point(is_below);
        let end = self.order.partition_point(is_not_above);
        start..end.max(start)
    }

    /// What the journal has to keep of a member.
    pub(in crate::cache) fn record(&self, member: &[u8]) -> Option<PartRecord> {
        self.members.record(member)
    }

    pub(in crate::cache) fn recorded_mut(&mut self, member: &[u8]) -> Option<&mut Recorded> {
        self.members.recorded_mut(member)
    }

    /// Takes a member from the journal; `false` when it is none, or there already.
    pub(in crate::cache) fn restore(
        &mut self,
        member: Key,
        record: PartRecord,
        entry: Entry,
    ) -> bool {
        if self.members.contains(&member)
            || !self.members.restore(Key::clone(&member), record, entry)
        {
            return false;
        }
        if let Some(score) = self.score(&member) {
            self.order.insert(Scored { score, member });
        }
        true
    }

    pub(in crate::cache) fn end_all(&self, effects: &mut Effects) {
        self.members.end_all(effects);
    }
}

impl Collection for SortedSet {
    fn new(id: CollectionId) -> Self {
        Self { members: Parts::new(id), order: Tree::default() }
    }

    fn of(value: &Value) -> Option<&Self> {
        if let Value::SortedSet(set) = value { Some(set) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        if let Value::SortedSet(set) = value { Some(set) } else { None }
    }

    fn into_value(self) -> Value {
        Value::SortedSet(Box::new(self))
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.members.bytes() + self.order.bytes()
    }
}

impl Edit<'_, SortedSet> {
    /// Gives a member a score; returns the one that it had.
    pub(super) fn set(&mut self, member: &[u8], score: Score) -> Option<Score> {
        let SortedSet { members, order } = &mut *self.collection;
        // A set has no -0: Redis keeps one only in those that have outgrown its compact form.
        let score = score.without_negative_zero();
        let old = members.get(member).copied();
        if old == Some(score) {
            return old;
        }
        members.insert(member, score, &mut self.notes);
        let item = match old {
            Some(old) => order.remove(old, member).map(|item| Scored { score, ..item }),
            None => members.name(member).map(|name| Scored { score, member: Key::clone(name) }),
        };
        if let Some(item) = item {
            order.insert(item);
        }
        old
    }

    /// Removes a member: whether it was there.
    pub(super) fn delete(&mut self, member: &[u8]) -> bool {
        let SortedSet { members, order } = &mut *self.collection;
        let removed = members.remove(member, &mut self.notes);
        removed.is_some_and(|score| order.remove(score, member).is_some())
    }

    /// Removes the member of this rank.
    pub(super) fn take(&mut self, rank: usize) -> Option<Scored> {
        let item = self.collection.order.remove_at(rank)?;
        self.collection.members.remove(&item.member, &mut self.notes);
        Some(item)
    }
}
