//! ZRANDMEMBER and ZSCAN: members by their place in the table, which is no order.

use ahash::AHashSet;
use bytes::Bytes;

use super::elements::SortedSet;
use super::{SortedSetCommand, members, text};
use crate::cache::command::{Args, Command, is, parse_integer};
use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::reply::Reply;
use crate::model::glob;
use crate::wire::resp::format_double;

/// How many members ZRANDMEMBER picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picks {
    /// Each at most once, or, if it is negative, each pick on its own.
    pub count: i64,
    pub with_scores: bool,
}

/// Picks on their own are no more than this: there is no end to them in the set itself.
const PICKS_MAX: u64 = 1 << 20;

/// What ZSCAN's options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    pub pattern: Option<Bytes>,
    /// Members to look at, at least 1.
    pub count: usize,
}

pub(super) fn parse_random(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    let Some(count) = args.option() else {
        return Ok(Command::SortedSet(SortedSetCommand::Random { key, picks: None }));
    };
    let count = parse_integer(count).ok_or(CacheError::NotAnInteger)?;
    if count == i64::MIN {
        return Err(CacheError::CountOutOfRange);
    }
    let with_scores = match args.option() {
        None => false,
        Some(option) if is(option, "withscores") && args.is_empty() => true,
        Some(_) => return Err(CacheError::Syntax),
    };
    let is_doubled_in_range = (-(i64::MAX / 2)..=i64::MAX / 2).contains(&count);
    if (with_scores && !is_doubled_in_range) || (count < 0 && count.unsigned_abs() > PICKS_MAX) {
        return Err(CacheError::OutOfRange);
    }
    let picks = Some(Picks { count, with_scores });
    Ok(Command::SortedSet(SortedSetCommand::Random { key, picks }))
}

pub(super) fn parse_scan(mut args: Args<'_>) -> Result<Command, CacheError> {
    let (key, cursor) = (args.next()?, args.next()?);
    let cursor = parse_cursor(&cursor).ok_or(CacheError::InvalidCursor)?;
    let options = parse_options(args);
    Ok(Command::SortedSet(SortedSetCommand::Scan { key, cursor, options }))
}

/// As C's `strtoul` reads it: nothing at all is zero, and a minus turns it around.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (digits, is_negative) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { cursor.wrapping_neg() } else { cursor })
}

fn parse_options(mut args: Args<'_>) -> Result<ScanOptions, CacheError> {
    const COUNT_DEFAULT: usize = 10;
    let mut options = ScanOptions { pattern: None, count: COUNT_DEFAULT };
    while let Some(option) = args.option() {
        if is(option, "count") && !args.is_empty() {
            let count = usize::try_from(args.integer()?).ok().filter(|count| *count > 0);
            options.count = count.ok_or(CacheError::Syntax)?;
        } else if is(option, "match") && !args.is_empty() {
            options.pattern = Some(args.next()?);
        } else {
            return Err(CacheError::Syntax);
        }
    }
    Ok(options)
}

impl Keyspace {
    /// ZRANDMEMBER without a count.
    pub(super) fn random_member(&mut self, key: &[u8]) -> Result<Reply, CacheError> {
        let Some(len) = self.collection::<SortedSet>(key)?.map(SortedSet::len) else {
            return Ok(Reply::Nil);
        };
        let index = self.random_below(len);
        let set = self.collection::<SortedSet>(key)?;
        Ok(set.and_then(|set| set.at(index)).map_or(Reply::Nil, |(member, _)| text(member)))
    }

    pub(super) fn random_members(
        &mut self,
        key: &[u8],
        Picks { count, with_scores }: Picks,
    ) -> Result<Reply, CacheError> {
        let len = self.collection::<SortedSet>(key)?.map_or(0, SortedSet::len);
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let indexes: Vec<usize> = if len == 0 {
            Vec::new()
        } else if count < 0 {
            (0..wanted).map(|_| self.random_below(len)).collect()
        } else {
            self.random_indexes(len, wanted)
        };
        let set = self.collection::<SortedSet>(key)?;
        let picked = indexes.into_iter().filter_map(|index| set.and_then(|set| set.at(index)));
        Ok(members(picked, with_scores))
    }

    /// So many different indexes below `len`, all when there are no more. By Floyd's sampling: costs
    /// what it gives.
    fn random_indexes(&mut self, len: usize, wanted: usize) -> Vec<usize> {
        if wanted >= len {
            return (0..len).collect();
        }
        let mut seen = AHashSet::with_capacity(wanted);
        (len - wanted..len)
            .map(|highest| {
                let index = self.random_below(highest + 1);
                let index = if seen.insert(index) { index } else { highest };
                seen.insert(index);
                index
            })
            .collect()
    }

    /// ZSCAN. The cursor is how many members are still to be looked at: from the last place of the
    /// table down, so that a removal moves only those that were met already.
    pub(super) fn scan_sorted(
        &self,
        key: &[u8],
        cursor: u64,
        options: &Result<ScanOptions, CacheError>,
    ) -> Result<Reply, CacheError> {
        let set = self.collection::<SortedSet>(key)?;
        let mut found = Vec::new();
        let mut left = 0;
        if let Some(set) = set {
            let ScanOptions { pattern, count } = options.as_ref().map_err(CacheError::clone)?;
            let start = match usize::try_from(cursor) {
                Ok(cursor @ 1..) => cursor.min(set.len()),
                _ => set.len(),
            };
            left = start.saturating_sub(*count);
            let looked_at = (left..start).rev().filter_map(|index| set.at(index));
            let is_match =
                |member: &[u8]| pattern.as_ref().is_none_or(|it| glob::matches(it, member));
            for (member, score) in looked_at.filter(|(member, _)| is_match(member)) {
                let mut digits = Vec::new();
                format_double(score.get(), &mut digits);
                found.extend([text(member), Reply::Bulk(digits.into())]);
            }
        }
        let cursor = Reply::Bulk(left.to_string().into());
        Ok(Reply::Array(vec![cursor, Reply::Array(found)]))
    }
}
