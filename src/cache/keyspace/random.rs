//! What is picked at random: no secret depends on it.

use std::cell::Cell;

use ahash::RandomState;

use super::Keyspace;

/// The generator SplitMix64.
pub(super) struct Random(Cell<u64>);

/// Begins elsewhere in every process.
impl Default for Random {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }
}

impl Random {
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Keyspace {
    /// A number from 0 to `end`, without it; 0 when there is none.
    pub(in crate::cache) fn random_below(&self, end: usize) -> usize {
        // The high half of the product: even but for a share of end / 2^64.
        ((u128::from(self.random.next()) * end as u128) >> 64) as usize
    }
}
