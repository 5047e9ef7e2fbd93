//! Random picks from a collection: how many, and which.

use ahash::AHashSet;

use super::command::{Args, is, parse_integer};
use super::error::CacheError;
use super::keyspace::{Keyspace, check_value};

/// How many elements HRANDFIELD and SRANDMEMBER pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Each at most once.
    Distinct(usize),
    /// Each on its own, as a negative count says.
    Independent(usize),
}

impl Pick {
    /// Independent picks are no more than this: nothing in the collection bounds them.
    const INDEPENDENT_MAX: usize = 1 << 20;

    /// The count, when there is one, and whether `option` follows it, which doubles the answer.
    pub(super) fn parse(
        args: &mut Args<'_>,
        option: Option<&str>,
    ) -> Result<Option<(Self, bool)>, CacheError> {
        let Some(count) = args.option() else { return Ok(None) };
        let count = parse_integer(count).ok_or(CacheError::NotAnInteger)?;
        if count == i64::MIN {
            return Err(CacheError::CountOutOfRange);
        }
        let is_doubled = match (args.option(), option) {
            (None, _) => false,
            (Some(arg), Some(option)) if is(arg, option) && args.is_empty() => true,
            (Some(_), _) => return Err(CacheError::Syntax),
        };
        if is_doubled && count.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(CacheError::OutOfRange);
        }
        let picks = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if count >= 0 {
            Ok(Some((Self::Distinct(picks), is_doubled)))
        } else if picks <= Self::INDEPENDENT_MAX {
            Ok(Some((Self::Independent(picks), is_doubled)))
        } else {
            Err(CacheError::OutOfRange)
        }
    }
}

/// Picks, as long as their names together are no longer than a value may be: one large element can be
/// picked a million times.
pub(super) fn bounded<T>(
    picked: impl Iterator<Item = T>,
    name_bytes: impl Fn(&T) -> usize,
) -> Result<Vec<T>, CacheError> {
    let mut bytes = 0_usize;
    picked
        .map(|element| {
            bytes += name_bytes(&element);
            check_value(bytes).map(|()| element)
        })
        .collect()
}

impl Keyspace {
    /// Indexes below `len`. Costs what it gives: Floyd's sampling.
    pub(super) fn pick_indexes(&mut self, len: usize, pick: Pick) -> Vec<usize> {
        match pick {
            _ if len == 0 => Vec::new(),
            Pick::Independent(picks) => (0..picks).map(|_| self.random_below(len)).collect(),
            Pick::Distinct(picks) if picks >= len => (0..len).collect(),
            Pick::Distinct(picks) => {
                let mut taken = AHashSet::with_capacity(picks);
                (len - picks..len)
                    .map(|highest| {
                        let index = self.random_below(highest + 1);
                        let index = if taken.contains(&index) { highest } else { index };
                        taken.insert(index);
                        index
                    })
                    .collect()
            }
        }
    }
}
