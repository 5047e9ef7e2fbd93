//! ZADD and ZINCRBY.

use super::SortedSetCommand;
use super::elements::SortedSet;
use super::score::Score;
use crate::cache::command::{Args, Command, is};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Edit, Keyspace, check_name};
use crate::cache::notifications::Events;

/// Which members ZADD changes. NX goes with none of the others, GT not with LT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddIf {
    /// Only those that are not there.
    pub nx: bool,
    /// Only those that are there.
    pub xx: bool,
    /// Of those that are there, only to a higher score.
    pub gt: bool,
    /// Of those that are there, only to a lower score.
    pub lt: bool,
}

impl AddIf {
    fn admits(self, old: Option<Score>, new: Score) -> bool {
        match old {
            None => !self.xx,
            Some(old) => {
                let is_refused = self.nx || (self.gt && new <= old) || (self.lt && new >= old);
                !is_refused
            }
        }
    }
}

/// What ZADD did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Members that were not there.
    pub added: usize,
    /// Members that have another score than before.
    pub updated: usize,
}

pub(super) fn parse_add(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let (mut condition, mut counts_updates, mut increments) = (AddIf::default(), false, false);
    let first = loop {
        let Some(arg) = args.option() else { return Err(CacheError::Syntax) };
        let flag = [
            ("nx", &mut condition.nx),
            ("xx", &mut condition.xx),
            ("gt", &mut condition.gt),
            ("lt", &mut condition.lt),
            ("ch", &mut counts_updates),
            ("incr", &mut increments),
        ]
        .into_iter()
        .find(|(name, _)| is(arg, name));
        match flag {
            Some((_, flag)) => *flag = true,
            None => break arg,
        }
    };
    // The first score is taken from them already.
    if args.len().is_multiple_of(2) {
        return Err(CacheError::Syntax);
    }
    let AddIf { nx, xx, gt, lt } = condition;
    if nx && xx {
        return Err(CacheError::NxWithXx);
    }
    if (nx && (gt || lt)) || (gt && lt) {
        return Err(CacheError::GtLtNx);
    }
    if increments && args.len() > 1 {
        return Err(CacheError::IncrementOfMany);
    }
    let score = |text: &[u8]| Score::parse(text).ok_or(CacheError::NotAFloat);
    let mut members = Vec::with_capacity(args.len().div_ceil(2));
    members.push((score(first)?, args.next()?));
    while let Some(text) = args.option() {
        members.push((score(text)?, args.next()?));
    }
    Ok(Command::SortedSet(match members.pop() {
        Some((by, member)) if increments => {
            SortedSetCommand::Increment { key, condition, by, member }
        }
        last => {
            members.extend(last);
            SortedSetCommand::Add { key, condition, counts_updates, members }
        }
    }))
}

impl Keyspace {
    /// ZADD.
    pub(in crate::cache) fn sorted_add<'a>(
        &mut self,
        key: &[u8],
        condition: AddIf,
        members: impl IntoIterator<Item = (Score, &'a [u8])> + Clone,
    ) -> Result<Added, CacheError> {
        members.clone().into_iter().try_for_each(|(_, member)| check_name(member.len()))?;
        let added = self.edit_sorted(key, condition, |set| {
            let mut done = Added::default();
            for (score, member) in members {
                let old = set.collection.score(member);
                if condition.admits(old, score) && old != Some(score) {
                    set.set(member, score);
                    match old {
                        None => done.added += 1,
                        Some(_) => done.updated += 1,
                    }
                }
            }
            if done.added + done.updated > 0 {
                set.notes.event(Events::SORTED_SET, "zadd");
            }
            done
        })?;
        Ok(added.unwrap_or_default())
    }

    /// ZINCRBY, and ZADD with INCR: the member's new score; `None` when the condition does not admit it.
    pub(in crate::cache) fn sorted_increment(
        &mut self,
        key: &[u8],
        condition: AddIf,
        by: Score,
        member: &[u8],
    ) -> Result<Option<Score>, CacheError> {
        check_name(member.len())?;
        let incremented = self.edit_sorted(key, condition, |set| {
            let old = set.collection.score(member);
            // NX does not look at the sum.
            if old.is_some() && condition.nx {
                return Ok(None);
            }
            let sum = old.map_or(Some(by), |old| Score::new(old.get() + by.get()));
            let sum = sum.ok_or(CacheError::NanScore)?;
            Ok(condition.admits(old, sum).then(|| {
                if old != Some(sum) {
                    set.set(member, sum);
                    set.notes.event(Events::SORTED_SET, "zincr");
                }
                sum
            }))
        })?;
        incremented.unwrap_or(Ok(None))
    }

    /// `None`: there is no such key, and nothing that could make it.
    fn edit_sorted<T>(
        &mut self,
        key: &[u8],
        condition: AddIf,
        edit: impl FnOnce(&mut Edit<'_, SortedSet>) -> T,
    ) -> Result<Option<T>, CacheError> {
        if condition.xx { self.edit(key, edit) } else { self.edit_or_make(key, edit).map(Some) }
    }
}
