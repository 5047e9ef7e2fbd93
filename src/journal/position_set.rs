//! A set of positions: dense runs take a bit a position, lonely ones a map entry.

use std::collections::HashMap;

const WORD_BITS: u64 = 64;

/// Positions in words of 64, kept only where a bit is set.
#[derive(Debug, Default)]
pub(super) struct PositionSet {
    /// Without the one below.
    words: HashMap<u64, u64, ahash::RandomState>,
    /// The word that was inserted to last, by its key: most insertions are of the next position.
    last: (u64, u64),
    count: usize,
}

impl PositionSet {
    /// Whether it was not there before.
    pub(super) fn insert(&mut self, position: u64) -> bool {
        let (key, bit) = place(position);
        if self.last.0 != key {
            let word = self.words.remove(&key).unwrap_or_default();
            let (key, word) = std::mem::replace(&mut self.last, (key, word));
            if word != 0 {
                self.words.insert(key, word);
            }
        }
        let word = &mut self.last.1;
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, position: u64) -> bool {
        let (key, bit) = place(position);
        let word = match self.last.0 == key {
            true => &mut self.last.1,
            false => match self.words.get_mut(&key) {
                Some(word) => word,
                None => return false,
            },
        };
        let found = *word & bit != 0;
        *word &= !bit;
        if *word == 0 && self.last.0 != key {
            self.words.remove(&key);
        }
        self.count -= usize::from(found);
        found
    }

    pub(super) fn contains(&self, position: u64) -> bool {
        let (key, bit) = place(position);
        let word = match self.last.0 == key {
            true => self.last.1,
            false => self.words.get(&key).copied().unwrap_or_default(),
        };
        word & bit != 0
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The key of its word, and its bit there.
fn place(position: u64) -> (u64, u64) {
    (position / WORD_BITS, 1 << (position % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PositionSet;

    proptest::proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0..3u8, 0..300u64), 0..400)) {
            let (mut set, mut model) = (PositionSet::default(), BTreeSet::new());
            for (step, position) in steps {
                match step {
                    0 => assert_eq!(set.remove(position), model.remove(&position)),
                    1 => assert_eq!(set.contains(position), model.contains(&position)),
                    _ => assert_eq!(set.insert(position), model.insert(position)),
                }
                assert_eq!(set.len(), model.len());
                assert!(set.words.values().all(|word| *word != 0));
            }
        }
    }

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
