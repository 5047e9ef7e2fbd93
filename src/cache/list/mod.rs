//! Lists: what they hold and the commands on them.
//!
//! Owns the list type. May import: the keyspace's effects and slots. What always holds: an element's
//! index is its place in the journal for as long as it lives, and the indexes of a list have no gap.

mod elements;
mod middle;
mod transfer;

use std::num::NonZeroUsize;
use std::ops::Range;

use bytes::Bytes;

use super::command::{Access, Args, Arity, Command, Flags, Keys, Spec, parse_integer};
use super::error::CacheError;
use super::keyspace::{Edit, Keyspace, check_value};
use super::notifications::Events;
use super::reply::Reply;
use crate::model::text::Text;
pub(super) use elements::{Element, List};
pub use middle::Search;

use middle::Inserted;

/// An end of a list: the left one is its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

impl End {
    fn name(self, left: &'static str, right: &'static str) -> &'static str {
        match self {
            Self::Left => left,
            Self::Right => right,
        }
    }
}

/// A command on a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListCommand {
    Push {
        end: End,
        key: Text,
        values: Vec<Text>,
    },
    Pop {
        end: End,
        key: Text,
    },
    PopCount {
        end: End,
        key: Text,
        count: usize,
    },
    Range {
        key: Text,
        start: i64,
        stop: i64,
    },
    Trim {
        key: Text,
        start: i64,
        stop: i64,
    },
    Len {
        key: Text,
    },
    /// `index` is `None` when it is no integer: Redis says so only if the key is there.
    Index {
        key: Text,
        index: Option<i64>,
    },
    /// LPUSHX and RPUSHX
    PushIfThere {
        end: End,
        key: Text,
        values: Vec<Text>,
    },
    Insert {
        key: Text,
        is_after: bool,
        pivot: Text,
        value: Text,
    },
    /// `index` as in [`ListCommand::Index`].
    Set {
        key: Text,
        index: Option<i64>,
        value: Text,
    },
    Remove {
        key: Text,
        /// From the right when it is negative; 0: all.
        count: i64,
        value: Text,
    },
    Position {
        key: Text,
        value: Text,
        search: Search,
    },
    /// LMOVE and RPOPLPUSH
    Move {
        source: Text,
        destination: Text,
        from: End,
        to: End,
    },
    PopOfMany {
        keys: Vec<Text>,
        end: End,
        count: usize,
    },
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("lpush", Arity::AtLeast(2), |args| push(End::Left, args))
        .flags(GROW.and(Flags::FAST))
        .key(),
    Spec::new("rpush", Arity::AtLeast(2), |args| push(End::Right, args))
        .flags(GROW.and(Flags::FAST))
        .key(),
    Spec::new("lpop", Arity::Between(1, 2), |args| pop(End::Left, args))
        .flags(Flags::WRITE.and(Flags::FAST))
        .key(),
    Spec::new("rpop", Arity::Between(1, 2), |args| pop(End::Right, args))
        .flags(Flags::WRITE.and(Flags::FAST))
        .key(),
    Spec::new("lrange", Arity::Exactly(3), |mut args| {
        let (key, start, stop) = (args.next()?, args.integer()?, args.integer()?);
        Ok(Command::List(ListCommand::Range { key, start, stop }))
    })
    .flags(Flags::READONLY)
    .key(),
    Spec::new("ltrim", Arity::Exactly(3), |mut args| {
        let (key, start, stop) = (args.next()?, args.integer()?, args.integer()?);
        Ok(Command::List(ListCommand::Trim { key, start, stop }))
    })
    .flags(Flags::WRITE)
    .key(),
    Spec::new("llen", Arity::Exactly(1), |mut args| {
        Ok(Command::List(ListCommand::Len { key: args.next()? }))
    })
    .flags(Flags::READONLY.and(Flags::FAST))
    .key(),
    Spec::new("lindex", Arity::Exactly(2), |mut args| {
        let (key, index) = (args.next()?, parse_integer(&args.next()?));
        Ok(Command::List(ListCommand::Index { key, index }))
    })
    .flags(Flags::READONLY)
    .key(),
    Spec::new("lpushx", Arity::AtLeast(2), |args| push_if_there(End::Left, args))
        .flags(GROW.and(Flags::FAST))
        .key(),
    Spec::new("rpushx", Arity::AtLeast(2), |args| push_if_there(End::Right, args))
        .flags(GROW.and(Flags::FAST))
        .key(),
    Spec::new("linsert", Arity::Exactly(4), middle::parse_insert).flags(GROW).key(),
    Spec::new("lset", Arity::Exactly(3), |mut args| {
        let (key, index, value) = (args.next()?, parse_integer(&args.next()?), args.next()?);
        Ok(Command::List(ListCommand::Set { key, index, value }))
    })
    .flags(GROW)
    .key(),
    Spec::new("lrem", Arity::Exactly(3), |mut args| {
        let (key, count, value) = (args.next()?, args.integer()?, args.next()?);
        Ok(Command::List(ListCommand::Remove { key, count, value }))
    })
    .flags(Flags::WRITE)
    .key(),
    Spec::new("lpos", Arity::AtLeast(2), middle::parse_position).flags(Flags::READONLY).key(),
    Spec::new("lmove", Arity::Exactly(4), transfer::parse_move).flags(GROW).keys(BOTH),
    Spec::new("rpoplpush", Arity::Exactly(2), |mut args| {
        let (source, destination) = (args.next()?, args.next()?);
        let (from, to) = (End::Right, End::Left);
        Ok(Command::List(ListCommand::Move { source, destination, from, to }))
    })
    .flags(GROW)
    .keys(BOTH),
    Spec::new("lmpop", Arity::AtLeast(3), transfer::parse_pop_of_many)
        .flags(Flags::WRITE)
        .keys(Keys::Counted { count: 1, also: 0 }),
];

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const BOTH: Keys = Keys::Range { first: 1, last: 2, step: 1 };

fn push_if_there(end: End, mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, values) = (args.next()?, args.remaining());
    Ok(Command::List(ListCommand::PushIfThere { end, key, values }))
}

fn push(end: End, mut args: Args<'_>) -> Result<Command, CacheError> {
    Ok(Command::List(ListCommand::Push { end, key: args.next()?, values: args.remaining() }))
}

fn pop(end: End, mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    Ok(Command::List(match args.option() {
        None => ListCommand::Pop { end, key },
        Some(count) => {
            let count = parse_integer(count)
                .and_then(|count| usize::try_from(count).ok())
                .ok_or(CacheError::NotPositive)?;
            ListCommand::PopCount { end, key, count }
        }
    }))
}

impl ListCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Push { .. }
            | Self::PushIfThere { .. }
            | Self::Insert { .. }
            | Self::Set { .. }
            | Self::Move { .. } => Access::Grow,
            Self::Pop { .. }
            | Self::PopCount { .. }
            | Self::Trim { .. }
            | Self::Remove { .. }
            | Self::PopOfMany { .. } => Access::Shrink,
            Self::Range { .. } | Self::Len { .. } | Self::Index { .. } | Self::Position { .. } => {
                Access::Read
            }
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Push { end, key, values } => {
                Reply::count(keyspace.push(*end, key, values.iter())?)
            }
            Self::Pop { end, key } => {
                let popped = keyspace.pop(*end, key, 1)?;
                Reply::bulk_or_nil(popped.into_iter().flatten().next())
            }
            Self::PopCount { end, key, count } => {
                keyspace.pop(*end, key, *count)?.map_or(Reply::NilArray, Reply::bulks)
            }
            Self::Range { key, start, stop } => {
                let values = keyspace.list_range(key, *start, *stop)?;
                Reply::bulks(values.into_iter().flatten().map(Text::to_bytes))
            }
            Self::Trim { key, start, stop } => {
                keyspace.trim(key, *start, *stop)?;
                Reply::OK
            }
            Self::Len { key } => Reply::count(keyspace.list_len(key)?),
            Self::Index { key, index } => {
                let Some(list) = keyspace.read_list(key)? else { return Ok(Reply::Nil) };
                let index = index.ok_or(CacheError::NotAnInteger)?;
                Reply::bulk_or_nil(
                    from_either_end(index, list.len())
                        .and_then(|at| list.nth(at))
                        .map(Text::to_bytes),
                )
            }
            Self::PushIfThere { end, key, values } => {
                Reply::count(keyspace.push_if_there(*end, key, values)?)
            }
            Self::Insert { key, is_after, pivot, value } => {
                match keyspace.list_insert(key, *is_after, pivot, value)? {
                    Inserted::NoKey => Reply::Integer(0),
                    Inserted::NoPivot => Reply::Integer(-1),
                    Inserted::Length(length) => Reply::count(length),
                }
            }
            Self::Set { key, index, value } => {
                keyspace.list_set(key, *index, value)?;
                Reply::OK
            }
            Self::Remove { key, count, value } => {
                Reply::count(keyspace.list_remove(key, *count, value)?)
            }
            Self::Position { key, value, search } => {
                let mut found = keyspace.list_positions(key, value, *search)?.into_iter();
                match search.count {
                    None => found.next().map_or(Reply::Nil, Reply::count),
                    Some(_) => Reply::Array(found.map(Reply::count).collect()),
                }
            }
            Self::Move { source, destination, from, to } => {
                Reply::bulk_or_nil(keyspace.list_move(source, destination, *from, *to)?)
            }
            Self::PopOfMany { keys, end, count } => {
                match keyspace.list_pop_of_many(keys, *end, *count)? {
                    None => Reply::NilArray,
                    Some((key, popped)) => {
                        Reply::Array(vec![Reply::Bulk(key), Reply::bulks(popped)])
                    }
                }
            }
        })
    }
}

impl Keyspace {
    /// LPUSH and RPUSH: one value after the other. Returns the list's length.
    pub(super) fn push(
        &mut self,
        end: End,
        key: &[u8],
        values: impl Iterator<Item: AsRef<[u8]> + Into<Text>> + Clone,
    ) -> Result<usize, CacheError> {
        values.clone().try_for_each(|value| check_value(value.as_ref().len()))?;
        self.edit_or_make(key, |list: &mut Edit<'_, List>| {
            for value in values {
                list.push(end, value.into());
            }
            list.notes.event(Events::LIST, end.name("lpush", "rpush"));
            list.len()
        })
    }

    /// LPUSHX and RPUSHX: the list's length, 0 when there is none.
    pub(super) fn push_if_there(
        &mut self,
        end: End,
        key: &[u8],
        values: &[Text],
    ) -> Result<usize, CacheError> {
        values.iter().try_for_each(|value| check_value(value.len()))?;
        let length = self.edit(key, |list: &mut Edit<'_, List>| {
            for value in values {
                list.push(end, value.clone());
            }
            list.notes.event(Events::LIST, end.name("lpush", "rpush"));
            list.len()
        })?;
        Ok(length.unwrap_or(0))
    }

    /// LPUSH and LTRIM to the leftmost `keep`. Returns the list's length.
    pub(super) fn push_capped(
        &mut self,
        key: &[u8],
        value: Bytes,
        keep: NonZeroUsize,
    ) -> Result<usize, CacheError> {
        check_value(value.len())?;
        self.edit_or_make(key, |list: &mut Edit<'_, List>| {
            list.push(End::Left, value.into());
            list.notes.event(Events::LIST, "lpush");
            list.keep(0..keep.get().min(list.len()));
            list.len()
        })
    }

    /// LPOP and RPOP: at most `count` values; `None` when there is no such key.
    pub(super) fn pop(
        &mut self,
        end: End,
        key: &[u8],
        count: usize,
    ) -> Result<Option<Vec<Bytes>>, CacheError> {
        self.edit(key, |list: &mut Edit<'_, List>| {
            if count > 0 {
                list.notes.event(Events::LIST, end.name("lpop", "rpop"));
            }
            (0..count).map_while(|_| list.pop(end)).map(Text::into_bytes).collect()
        })
    }

    /// LRANGE; `None` when there is no such key.
    pub(super) fn list_range(
        &self,
        key: &[u8],
        start: i64,
        stop: i64,
    ) -> Result<Option<impl ExactSizeIterator<Item = &Text>>, CacheError> {
        let list = self.read_list(key)?;
        Ok(list.map(|list| list.range(span(start, stop, list.len()))))
    }

    /// LTRIM.
    pub(super) fn trim(&mut self, key: &[u8], start: i64, stop: i64) -> Result<(), CacheError> {
        self.edit(key, |list: &mut Edit<'_, List>| {
            list.notes.event(Events::LIST, "ltrim");
            list.keep(span(start, stop, list.len()));
        })?;
        Ok(())
    }

    /// LLEN.
    pub(super) fn list_len(&self, key: &[u8]) -> Result<usize, CacheError> {
        Ok(self.read_list(key)?.map_or(0, List::len))
    }

    fn read_list(&self, key: &[u8]) -> Result<Option<&List>, CacheError> {
        self.collection(key)
    }
}

/// The offset that `index` means; negative ones count from the right, -1 being the last.
fn from_either_end(index: i64, len: usize) -> Option<usize> {
    if index >= 0 {
        usize::try_from(index).ok()
    } else {
        len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    }
}

/// The offsets from `start` to `stop`, both included, cut to what is there.
pub(super) fn span(start: i64, stop: i64, len: usize) -> Range<usize> {
    let start = from_either_end(start, len).unwrap_or(0).min(len);
    let end = from_either_end(stop, len).map_or(0, |stop| stop.saturating_add(1).min(len));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_cut_to_the_list() {
        assert_eq!(span(0, -1, 3), 0..3);
        assert_eq!(span(1, 1, 3), 1..2);
        assert_eq!(span(-2, -1, 3), 1..3);
        assert_eq!(span(-9, 0, 3), 0..1);
        assert_eq!(span(2, 9, 3), 2..3);
        assert!(span(2, 1, 3).is_empty());
        assert!(span(3, 9, 3).is_empty());
        assert!(span(0, -4, 3).is_empty());
        assert!(span(i64::MAX, i64::MAX, 3).is_empty());
        assert_eq!(span(i64::MIN, i64::MAX, 3), 0..3);
        assert!(span(0, i64::MIN, 3).is_empty());
    }
}
