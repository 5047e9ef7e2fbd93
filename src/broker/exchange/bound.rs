//! What is bound in one place, each value once, with how many bindings hold it there.

use std::hash::Hash;

use ahash::RandomState;
use indexmap::IndexMap;
use smallvec::SmallVec;

/// Two bindings of one queue that differ only in arguments must not deliver twice, and removing one
/// of them must not remove the other: so the bindings of each value are counted.
#[derive(Debug)]
pub(super) struct Bound<T> {
    few: SmallVec<[(T, u32); 1]>,
    /// All of them, once they are too many to be looked through.
    many: Option<Box<IndexMap<T, u32, RandomState>>>,
}

const FEW_MAX: usize = 16;

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self { few: SmallVec::new(), many: None }
    }
}

impl<T: Eq + Hash> Bound<T> {
    pub(super) fn add(&mut self, value: T) {
        if let Some(many) = &mut self.many {
            *many.entry(value).or_insert(0) += 1;
            return;
        }
        match self.few.iter_mut().find(|(bound, _)| *bound == value) {
            Some((_, bindings)) => *bindings += 1,
            None => self.few.push((value, 1)),
        }
        if self.few.len() > FEW_MAX {
            self.many = Some(Box::new(std::mem::take(&mut self.few).into_iter().collect()));
        }
    }

    pub(super) fn remove(&mut self, value: &T) {
        if let Some(many) = &mut self.many {
            let Some((at, _, bindings)) = many.get_full_mut(value) else { return };
            *bindings -= 1;
            if *bindings == 0 {
                many.swap_remove_index(at);
            }
            return;
        }
        if let Some(at) = self.few.iter().position(|(bound, _)| bound == value) {
            self.few[at].1 -= 1;
            if self.few[at].1 == 0 {
                self.few.swap_remove(at);
            }
        }
    }
}

impl<T> Bound<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let many = self.many.iter().flat_map(|many| many.keys());
        self.few.iter().map(|(value, _)| value).chain(many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_they_are_each_is_there_until_its_last_binding_goes() {
        const COUNT: usize = 3 * FEW_MAX;
        let mut bound = Bound::default();
        let sorted = |bound: &Bound<usize>| {
            let mut values: Vec<usize> = bound.iter().copied().collect();
            values.sort_unstable();
            values
        };
        for number in 0..COUNT {
            (0..1 + number % 2).for_each(|_| bound.add(number));
            assert!(sorted(&bound).into_iter().eq(0..=number));
        }
        for number in 0..COUNT {
            bound.remove(&number);
            bound.remove(&COUNT);
        }
        assert!(sorted(&bound).into_iter().eq((0..COUNT).filter(|number| number % 2 == 1)));
        for number in (0..COUNT).filter(|number| number % 2 == 1) {
            assert!(!bound.is_empty());
            bound.remove(&number);
        }
        assert!(bound.is_empty());
    }
}
