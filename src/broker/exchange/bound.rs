//! What is bound in one place, each value once, with how many bindings hold it there.

use smallvec::SmallVec;

/// Two bindings of one queue that differ only in arguments must not deliver twice, and removing one
/// of them must not remove the other: so the bindings of each value are counted.
#[derive(Debug)]
pub(super) struct Bound<T>(SmallVec<[(T, u32); 1]>);

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: PartialEq> Bound<T> {
    pub(super) fn add(&mut self, value: T) {
        match self.0.iter_mut().find(|(bound, _)| *bound == value) {
            Some((_, bindings)) => *bindings += 1,
            None => self.0.push((value, 1)),
        }
    }

    pub(super) fn remove(&mut self, value: &T) {
        if let Some(at) = self.0.iter().position(|(bound, _)| bound == value) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }
}

impl<T> Bound<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(value, _)| value)
    }
}
