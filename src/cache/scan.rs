//! SCAN and its kin: their arguments, and the walk over a collection's parts.

use std::ops::Range;

use crate::model::text::Text;

use super::command::{Args, is};
use super::error::CacheError;
use super::reply::Reply;
use crate::model::glob;

/// Where a scan goes on, and what it looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// 0 begins; the answer's cursor goes on, and is 0 at the end.
    pub cursor: u64,
    /// HSCAN and its kin say what is wrong with them only if the key is there.
    pub filter: Result<ScanFilter, CacheError>,
}

/// What a scan looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanFilter {
    /// MATCH.
    pub pattern: Option<Text>,
    /// COUNT: how many are looked at, at least 1.
    pub count: usize,
    /// TYPE, for keys only.
    pub type_name: Option<Text>,
}

impl Scan {
    /// Cursor and options. `of_keys`: TYPE is one.
    pub(super) fn parse(mut args: Args<'_>, of_keys: bool) -> Result<Self, CacheError> {
        let cursor = parse_cursor(&args.next()?).ok_or(CacheError::InvalidCursor)?;
        Ok(Self { cursor, filter: ScanFilter::parse(args, of_keys) })
    }

    pub(super) fn filter(&self) -> Result<&ScanFilter, CacheError> {
        self.filter.as_ref().map_err(CacheError::clone)
    }

    /// The indexes to look at, from the highest down, and the next cursor: how many elements are left
    /// below them. A removal moves an element to a lower index only from the end, so whatever stays
    /// during the whole scan is met.
    pub(super) fn indexes(&self, len: usize, count: usize) -> Range<usize> {
        let end = match usize::try_from(self.cursor) {
            Ok(cursor @ 1..) => cursor.min(len),
            _ => len,
        };
        end.saturating_sub(count)..end
    }
}

impl ScanFilter {
    fn parse(mut args: Args<'_>, of_keys: bool) -> Result<Self, CacheError> {
        const COUNT_DEFAULT: usize = 10;
        let mut filter = Self { pattern: None, count: COUNT_DEFAULT, type_name: None };
        while let Some(option) = args.option() {
            if args.is_empty() {
                return Err(CacheError::Syntax);
            }
            if is(option, "count") {
                let count = usize::try_from(args.integer()?).ok().filter(|count| *count > 0);
                filter.count = count.ok_or(CacheError::Syntax)?;
            } else if is(option, "match") {
                filter.pattern = Some(args.next()?);
            } else if of_keys && is(option, "type") {
                filter.type_name = Some(args.next()?);
            } else {
                return Err(CacheError::Syntax);
            }
        }
        Ok(filter)
    }

    pub(super) fn admits(&self, name: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// The answer of all scans.
pub(super) fn scanned(next_cursor: usize, found: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::Bulk(next_cursor.to_string().into()), Reply::Array(found)])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_those_of_strtoul() {
        for (text, cursor) in
            [("", 0), ("0", 0), ("+7", 7), ("-1", u64::MAX), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(parse_cursor(text.as_bytes()), Some(cursor), "{text:?}");
        }
        for text in ["-", "+", "x", " 0", "0 ", "--1", "18446744073709551616"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_walk_goes_down_and_ends_at_the_first_index() {
        let at = |cursor| Scan { cursor, filter: Err(CacheError::Syntax) };
        assert_eq!(at(0).indexes(25, 10), 15..25);
        assert_eq!(at(15).indexes(25, 10), 5..15);
        assert_eq!(at(5).indexes(25, 10), 0..5);
        assert_eq!(at(15).indexes(3, 10), 0..3);
        assert!(at(0).indexes(0, 10).is_empty());
        assert_eq!(at(u64::MAX).indexes(3, usize::MAX), 0..3);
    }
}
