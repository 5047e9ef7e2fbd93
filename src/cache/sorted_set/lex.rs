//! Ranges by the members' bytes.

use std::cmp::Ordering;
use std::ops::Range;

use super::tree::Items;
use crate::cache::error::CacheError;
use crate::model::text::Text;

/// Members from one bound to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexRange {
    pub min: LexBound,
    pub max: LexBound,
}

/// Where a range of members ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LexBound {
    /// `-`: before all members.
    Lowest,
    /// `+`: after all members.
    Highest,
    /// `[member`
    Inclusive(Text),
    /// `(member`
    Exclusive(Text),
}

impl LexRange {
    pub(super) fn parse(min: &Text, max: &Text) -> Result<Self, CacheError> {
        let bound = |text| LexBound::parse(text).ok_or(CacheError::NotALexRange);
        Ok(Self { min: bound(min)?, max: bound(max)? })
    }

    /// The ranks of the members that Redis finds when scores differ: from the first one that is not
    /// beyond the near bound, past `offset` of whatever follows, up to the next one that is beyond the
    /// far bound; none at all when the outermost members lie outside.
    pub(super) fn scattered(
        &self,
        items: Items<'_>,
        is_reverse: bool,
        offset: usize,
    ) -> Range<usize> {
        let mut seen: Vec<(bool, bool)> = items
            .map(|item| {
                let member = &*item.member;
                (!self.min.is_above(member, false), self.max.is_above(member, true))
            })
            .collect();
        let is_outside = !seen.last().is_some_and(|(is_past_min, _)| *is_past_min)
            || !seen.first().is_some_and(|(_, is_within_max)| *is_within_max);
        if is_reverse {
            seen = seen.into_iter().rev().map(|(min, max)| (max, min)).collect();
        }
        let entered = seen.iter().enumerate().find(|(_, (enters, _))| *enters);
        let Some((entered, (_, true))) = entered.filter(|_| !is_outside) else { return 0..0 };
        let start = entered.saturating_add(offset).min(seen.len());
        let end = start + seen.iter().skip(start).take_while(|(_, stays)| *stays).count();
        if is_reverse { seen.len() - end..seen.len() - start } else { start..end }
    }
}

impl LexBound {
    fn parse(text: &Text) -> Option<Self> {
        match &**text {
            b"-" => Some(Self::Lowest),
            b"+" => Some(Self::Highest),
            [b'[', ..] => {
                Some(Self::Inclusive(Text::copy_from_slice(text.get(1..).unwrap_or_default())))
            }
            [b'(', ..] => {
                Some(Self::Exclusive(Text::copy_from_slice(text.get(1..).unwrap_or_default())))
            }
            _ => None,
        }
    }

    /// Whether a member lies below it, or on it when it is the upper one and has it, or the lower one
    /// and has not.
    pub(super) fn is_above(&self, member: &[u8], is_upper: bool) -> bool {
        let (bound, has_it) = match self {
            Self::Lowest => return false,
            Self::Highest => return true,
            Self::Inclusive(bound) => (bound, true),
            Self::Exclusive(bound) => (bound, false),
        };
        match member.cmp(bound) {
            Ordering::Less => true,
            Ordering::Equal => has_it == is_upper,
            Ordering::Greater => false,
        }
    }
}
