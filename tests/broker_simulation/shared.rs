//! What many worlds have in common.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// A value that is cheap to clone, copied only when one of several changes it, and that remembers a
/// digest of itself: two are compared member by member only when they are equal, or nearly never.
#[derive(Clone)]
pub struct Shared<T>(Rc<Known<T>>);

#[derive(Clone)]
struct Known<T> {
    value: T,
    /// `None`: not asked for since the last change.
    digest: Cell<Option<u64>>,
}

impl<T> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Rc::new(Known { value, digest: Cell::new(None) }))
    }
}

impl<T: Clone> Shared<T> {
    pub fn make_mut(&mut self) -> &mut T {
        let known = Rc::make_mut(&mut self.0);
        known.digest.set(None);
        &mut known.value
    }
}

impl<T: Hash> Shared<T> {
    fn digest(&self) -> u64 {
        let digest = self.0.digest.get().unwrap_or_else(|| digest_of(&self.0.value));
        self.0.digest.set(Some(digest));
        digest
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest());
    }
}

impl<T: Hash + PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
            || (self.digest() == other.digest() && self.0.value == other.0.value)
    }
}

/// The same in every run.
fn digest_of<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// One of each, in their order; `absorb` gives it those that are equal.
pub fn distinct<T: Hash + PartialEq>(
    all: impl IntoIterator<Item = T>,
    mut absorb: impl FnMut(&mut T, T),
) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for value in all {
        let alike = places.entry(digest_of(&value)).or_default();
        match alike.iter().find(|&&at| distinct[at] == value) {
            Some(&at) => absorb(&mut distinct[at], value),
            None => {
                alike.push(distinct.len());
                distinct.push(value);
            }
        }
    }
    distinct
}
