//! Intersections, unions and differences of sets.

use ahash::AHashSet;

use super::Set;
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Key, Keyspace};
use crate::cache::notifications::Events;
use crate::model::text::Text;

/// What is made of several sets, or sorted sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Intersection,
    Union,
    /// The first without the others.
    Difference,
}

impl Keyspace {
    /// The members of the result. Every key's type is looked at first.
    pub(super) fn set_combine(
        &self,
        operation: Operation,
        keys: &[Text],
        members_max: usize,
    ) -> Result<Vec<Key>, CacheError> {
        let sets: Vec<Option<&Set>> =
            keys.iter().map(|key| self.collection::<Set>(key)).collect::<Result<_, _>>()?;
        Ok(match operation {
            Operation::Intersection => inter(&sets, members_max),
            Operation::Union => {
                let mut seen: AHashSet<&Key> = AHashSet::new();
                let members = sets.into_iter().flatten().flat_map(Set::members);
                members.filter(|member| seen.insert(member)).cloned().collect()
            }
            Operation::Difference => {
                let Some((Some(first), others)) = sets.split_first() else { return Ok(Vec::new()) };
                let others: Vec<&Set> = others.iter().copied().flatten().collect();
                let is_left = |member: &&Key| !others.iter().any(|set| set.0.contains(member));
                first.members().filter(is_left).cloned().collect()
            }
        })
    }

    /// Puts a new set in the place of whatever `key` held; an empty one removes the key. Returns how
    /// many members it has.
    pub(super) fn set_store(
        &mut self,
        operation: Operation,
        key: &[u8],
        members: &[Key],
    ) -> Result<usize, CacheError> {
        let event = match operation {
            Operation::Intersection => "sinterstore",
            Operation::Union => "sunionstore",
            Operation::Difference => "sdiffstore",
        };
        self.store(Events::SET, event, key, |keyspace| {
            if members.is_empty() { Ok(0) } else { keyspace.set_add(key, members) }
        })
    }
}

/// Walks the smallest set.
fn inter(sets: &[Option<&Set>], members_max: usize) -> Vec<Key> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else {
        return Vec::new();
    };
    sets.sort_by_key(|set| set.0.len());
    let Some((smallest, others)) = sets.split_first() else { return Vec::new() };
    let is_common = |member: &&Key| others.iter().all(|set| set.0.contains(member));
    smallest.members().filter(is_common).take(members_max).cloned().collect()
}
