//! Sets: the type and the commands on it.
//!
//! Owns the set type. May import: the keyspace. What always holds: a member is one fact of the journal.

mod algebra;
mod commands;
mod typed;

use bytes::Bytes;

use super::error::CacheError;
use super::keyspace::{
    Collection, CollectionId, Edit, Key, Keyspace, Parts, Value, allocated, check_name,
};
use super::notifications::Events;
use crate::model::text::Text;
pub use algebra::Operation;
pub(super) use commands::SPECS;
pub use commands::SetCommand;

/// Members, each once.
#[derive(Debug)]
pub(super) struct Set(pub(super) Parts<()>);

impl Collection for Set {
    fn new(id: CollectionId) -> Self {
        Self(Parts::new(id))
    }

    fn of(value: &Value) -> Option<&Self> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Set(Box::new(self))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.0.bytes()
    }
}

impl Set {
    pub(super) fn members(&self) -> impl DoubleEndedIterator<Item = &Key> {
        self.0.iter().map(|(member, ())| member)
    }
}

impl Edit<'_, Set> {
    /// Adds a member: whether it is new.
    pub(super) fn add(&mut self, member: &[u8]) -> bool {
        !self.collection.0.contains(member)
            && self.collection.0.insert(member, (), &mut self.notes).is_none()
    }

    /// Removes a member: whether it was there.
    pub(super) fn delete(&mut self, member: &[u8]) -> bool {
        self.collection.0.remove(member, &mut self.notes).is_some()
    }
}

impl Keyspace {
    /// SADD: how many members are new.
    pub(super) fn set_add<M: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        members: &[M],
    ) -> Result<usize, CacheError> {
        members.iter().try_for_each(|member| check_name(member.as_ref().len()))?;
        self.edit_or_make(key, |set: &mut Edit<'_, Set>| {
            let added = members.iter().filter(|member| set.add(member.as_ref())).count();
            if added > 0 {
                set.notes.event(Events::SET, "sadd");
            }
            added
        })
    }

    /// SREM: how many members were there.
    pub(super) fn set_remove<M: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        members: &[M],
    ) -> Result<usize, CacheError> {
        let removed = self.edit(key, |set: &mut Edit<'_, Set>| {
            let removed = members.iter().filter(|member| set.delete(member.as_ref())).count();
            if removed > 0 {
                set.notes.event(Events::SET, "srem");
            }
            removed
        })?;
        Ok(removed.unwrap_or(0))
    }

    /// SCARD.
    pub(super) fn set_len(&self, key: &[u8]) -> Result<usize, CacheError> {
        Ok(self.collection::<Set>(key)?.map_or(0, |set| set.0.len()))
    }

    /// SISMEMBER.
    pub(super) fn set_contains(&self, key: &[u8], member: &[u8]) -> Result<bool, CacheError> {
        Ok(self.collection::<Set>(key)?.is_some_and(|set| set.0.contains(member)))
    }

    /// SMOVE: whether the member was there.
    pub(super) fn set_move(
        &mut self,
        from: &[u8],
        to: &[u8],
        member: &Text,
    ) -> Result<bool, CacheError> {
        let Some(source) = self.looked_at::<Set>(from)? else { return Ok(false) };
        let is_there = source.0.contains(member);
        self.looked_at::<Set>(to)?;
        check_name(to.len())?;
        if is_there && from != to {
            self.set_remove(from, std::slice::from_ref(member))?;
            self.set_add(to, std::slice::from_ref(member))?;
        }
        Ok(is_there)
    }

    /// SPOP: at most `count` members.
    pub(super) fn set_pop(&mut self, key: &[u8], count: usize) -> Result<Vec<Bytes>, CacheError> {
        let len = self.looked_at::<Set>(key)?.map_or(0, |set| set.0.len());
        // Each removal moves the last member to the place that it leaves.
        let indexes: Vec<usize> =
            (0..count.min(len)).map(|popped| self.random_below(len - popped)).collect();
        let popped = self.edit(key, |set: &mut Edit<'_, Set>| {
            let Edit { collection, notes } = set;
            if !indexes.is_empty() {
                notes.event(Events::SET, "spop");
            }
            let popped =
                indexes.into_iter().filter_map(|index| collection.0.remove_at(index, notes));
            popped.map(|(member, ())| Bytes::copy_from_slice(&member)).collect()
        })?;
        Ok(popped.unwrap_or_default())
    }
}
