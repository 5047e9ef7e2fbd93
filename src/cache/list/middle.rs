//! LINSERT, LSET, LREM and LPOS: what looks into the middle of a list.

use super::{List, ListCommand, from_either_end};
use crate::cache::command::{Args, Command, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Edit, Keyspace, check_value};
use crate::cache::notifications::Events;
use crate::model::text::Text;

/// Which elements LPOS looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// The number of the match to begin with, from 1; negative ones count from the right.
    pub rank: i64,
    /// `None`: one position, not a list of them. 0: all.
    pub count: Option<usize>,
    /// Elements to look at; 0: all.
    pub look_max: usize,
}

/// What LINSERT found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Inserted {
    NoKey,
    NoPivot,
    /// The list's length.
    Length(usize),
}

pub(super) fn parse_insert(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let is_after = match &args.next()? {
        side if is(side, "after") => true,
        side if is(side, "before") => false,
        _ => return Err(CacheError::Syntax),
    };
    let (pivot, value) = (args.next()?, args.next()?);
    Ok(Command::List(ListCommand::Insert { key, is_after, pivot, value }))
}

pub(super) fn parse_position(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, value) = (args.next()?, args.next()?);
    let mut search = Search { rank: 1, count: None, look_max: 0 };
    let natural = |text: &[u8]| parse_integer(text).and_then(|number| usize::try_from(number).ok());
    while let Some(option) = args.option() {
        let Some(text) = args.option() else { return Err(CacheError::Syntax) };
        if is(option, "rank") {
            search.rank = parse_integer(text).ok_or(CacheError::NotAnInteger)?;
            if search.rank == 0 {
                return Err(CacheError::RankOfZero);
            }
        } else if is(option, "count") {
            search.count = Some(natural(text).ok_or(CacheError::NegativeCount)?);
        } else if is(option, "maxlen") {
            search.look_max = natural(text).ok_or(CacheError::NegativeMaxLen)?;
        } else {
            return Err(CacheError::Syntax);
        }
    }
    Ok(Command::List(ListCommand::Position { key, value, search }))
}

impl Keyspace {
    /// LINSERT.
    pub(in crate::cache) fn list_insert(
        &mut self,
        key: &[u8],
        is_after: bool,
        pivot: &[u8],
        value: &Text,
    ) -> Result<Inserted, CacheError> {
        check_value(value.len())?;
        let inserted = self.edit(key, |list: &mut Edit<'_, List>| {
            let Some(at) = list.collection.values().position(|other| other == pivot) else {
                return Inserted::NoPivot;
            };
            list.insert(at + usize::from(is_after), value.clone());
            list.notes.event(Events::LIST, "linsert");
            Inserted::Length(list.len())
        })?;
        Ok(inserted.unwrap_or(Inserted::NoKey))
    }

    /// LSET. `index` is `None` when it is no integer: Redis says so only if the key is there.
    pub(in crate::cache) fn list_set(
        &mut self,
        key: &[u8],
        index: Option<i64>,
        value: &Text,
    ) -> Result<(), CacheError> {
        check_value(value.len())?;
        self.edit(key, |list: &mut Edit<'_, List>| {
            let index = index.ok_or(CacheError::NotAnInteger)?;
            let is_there = from_either_end(index, list.len())
                .is_some_and(|offset| list.replace(offset, value.clone()));
            if is_there {
                list.notes.event(Events::LIST, "lset");
            }
            is_there.then_some(()).ok_or(CacheError::IndexOutOfRange)
        })?
        .unwrap_or(Err(CacheError::NoSuchKey))
    }

    /// LREM: how many there were. `count` of them at most, from the right when it is negative; 0: all.
    pub(in crate::cache) fn list_remove(
        &mut self,
        key: &[u8],
        count: i64,
        value: &[u8],
    ) -> Result<usize, CacheError> {
        let removed = self.edit(key, |list: &mut Edit<'_, List>| {
            let count_max = match usize::try_from(count.unsigned_abs()) {
                Ok(0) | Err(_) => usize::MAX,
                Ok(count) => count,
            };
            let same = list.collection.values().enumerate().filter(|(_, other)| *other == value);
            let same = same.map(|(offset, _)| offset);
            let offsets: Vec<usize> = if count < 0 {
                let mut offsets: Vec<usize> = same.rev().take(count_max).collect();
                offsets.reverse();
                offsets
            } else {
                same.take(count_max).collect()
            };
            list.remove(&offsets);
            if !offsets.is_empty() {
                list.notes.event(Events::LIST, "lrem");
            }
            offsets.len()
        })?;
        Ok(removed.unwrap_or(0))
    }

    /// LPOS: offsets from the left, in the order in which they are found.
    pub(in crate::cache) fn list_positions(
        &self,
        key: &[u8],
        value: &[u8],
        search: Search,
    ) -> Result<Vec<usize>, CacheError> {
        let Some(list) = self.read_list(key)? else { return Ok(Vec::new()) };
        let or_all = |count: usize| if count == 0 { usize::MAX } else { count };
        let look_max = or_all(search.look_max);
        // Redis has no number for the lowest rank without its sign, and skips none.
        let skipped = search.rank.checked_abs().unwrap_or(1) - 1;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let count_max = or_all(search.count.unwrap_or(1));
        let is_same = |(_, other): &(usize, &Text)| ***other == *value;
        let offset = |(offset, _)| offset;
        let values = list.values().enumerate();
        Ok(if search.rank < 0 {
            let found = values.rev().take(look_max).filter(is_same);
            found.map(offset).skip(skipped).take(count_max).collect()
        } else {
            let found = values.take(look_max).filter(is_same);
            found.map(offset).skip(skipped).take(count_max).collect()
        })
    }
}
