//! Gives back what a crowd made a collection grow to, once the crowd has left.
//!
//! A collection that is a quarter full is halved at least, so that who comes and goes at its edge does not
//! have it grow and shrink each time: what is moved costs a constant for each entry that was taken off.

use std::collections::VecDeque;
use std::hash::Hash;

use ahash::{AHashMap, AHashSet};

/// Below so many places nothing is worth giving back.
const CAPACITY_KEPT: usize = 64;

pub fn table<K: Eq + Hash, V>(table: &mut AHashMap<K, V>) {
    if is_sparse(table.len(), table.capacity()) {
        let len = table.len();
        table.shrink_to(2 * len);
    }
}

pub fn set<T: Eq + Hash>(set: &mut AHashSet<T>) {
    if is_sparse(set.len(), set.capacity()) {
        let len = set.len();
        set.shrink_to(2 * len);
    }
}

pub fn deque<T>(deque: &mut VecDeque<T>) {
    if is_sparse(deque.len(), deque.capacity()) {
        let len = deque.len();
        deque.shrink_to(2 * len);
    }
}

fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > CAPACITY_KEPT && len < capacity / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_left_leaves_no_room_behind() {
        let mut map: AHashMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let mut keys: AHashSet<u32> = (0..10_000).collect();
        let mut row: VecDeque<u32> = (0..10_000).collect();
        for n in 0..10_000 {
            map.remove(&n);
            keys.remove(&n);
            row.pop_front();
            table(&mut map);
            set(&mut keys);
            deque(&mut row);
            assert!(keys.capacity() <= (8 * keys.len()).max(2 * CAPACITY_KEPT));
            assert!(map.capacity() <= (8 * map.len()).max(2 * CAPACITY_KEPT));
            assert!(row.capacity() <= (8 * row.len()).max(2 * CAPACITY_KEPT));
        }
    }

    #[test]
    fn who_comes_and_goes_at_the_edge_moves_nothing() {
        let mut row: VecDeque<u32> = (0..1_000).collect();
        while row.capacity() >= 1_000 {
            row.pop_front();
            deque(&mut row);
        }
        let capacity = row.capacity();
        for n in 0..100 {
            row.push_back(n);
            row.pop_front();
            deque(&mut row);
            assert_eq!(row.capacity(), capacity);
        }
    }
}
