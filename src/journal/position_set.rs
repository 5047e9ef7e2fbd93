//! A set of positions: dense runs take a bit a position, lonely ones a map entry.

use std::collections::HashMap;

const WORD_BITS: u64 = 64;

/// Positions in words of 64, kept only where a bit is set.
#[derive(Debug, Default)]
pub(super) struct PositionSet {
    words: HashMap<u64, u64, ahash::RandomState>,
    count: usize,
}

impl PositionSet {
    /// Whether it was not there before.
    pub(super) fn insert(&mut self, position: u64) -> bool {
        let word = self.words.entry(position / WORD_BITS).or_default();
        let bit = 1 << (position % WORD_BITS);
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, position: u64) -> bool {
        let Some(word) = self.words.get_mut(&(position / WORD_BITS)) else { return false };
        let bit = 1 << (position % WORD_BITS);
        let found = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&(position / WORD_BITS));
        }
        self.count -= usize::from(found);
        found
    }

    pub(super) fn contains(&self, position: u64) -> bool {
        self.words
            .get(&(position / WORD_BITS))
            .is_some_and(|word| word & (1 << (position % WORD_BITS)) != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::PositionSet;

    #[test]
    fn it_counts_and_gives_empty_words_back() {
        let mut set = PositionSet::default();
        for position in [0, 63, 64, 1_000_000, u64::MAX] {
            assert!(set.insert(position));
            assert!(!set.insert(position));
        }
        assert_eq!(set.len(), 5);
        assert!(set.contains(63) && !set.contains(62));
        assert!(!set.remove(62));
        for position in [0, 63, 64, 1_000_000, u64::MAX] {
            assert!(set.remove(position));
            assert!(!set.remove(position));
        }
        assert!(set.is_empty() && set.words.is_empty());
    }
}
