//! Hashes: the type and the commands on it.
//!
//! Owns the hash type. May import: the keyspace. What always holds: a field is one fact of the journal,
//! so a change of one field never rewrites another.

mod commands;
mod typed;

use bytes::Bytes;

use super::error::CacheError;
use super::keyspace::{
    Collection, CollectionId, Edit, Keyspace, Parts, Value, allocated, check_name, check_value,
    owned,
};
use super::long_double::LongDouble;
use super::notifications::Events;
use crate::model::text::Text;
pub use commands::HashCommand;
pub(super) use commands::SPECS;

/// Fields with values.
#[derive(Debug)]
pub(super) struct Hash(pub(super) Parts<Bytes>);

impl Collection for Hash {
    fn new(id: CollectionId) -> Self {
        Self(Parts::new(id))
    }

    fn of(value: &Value) -> Option<&Self> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Hash(Box::new(self))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.0.bytes()
    }
}

impl Edit<'_, Hash> {
    /// Sets a field: whether it is new.
    fn set(&mut self, field: &[u8], value: Bytes) -> bool {
        self.collection.0.insert(field, owned(value), &mut self.notes).is_none()
    }
}

impl Keyspace {
    /// HSET: how many fields are new.
    pub(super) fn hash_set(
        &mut self,
        key: &[u8],
        fields: &[(Text, Text)],
    ) -> Result<usize, CacheError> {
        self.hash_set_as("hset", key, fields)
    }

    /// HSET, told as another event.
    fn hash_set_as(
        &mut self,
        event: &'static str,
        key: &[u8],
        fields: &[(Text, Text)],
    ) -> Result<usize, CacheError> {
        for (field, value) in fields {
            check_name(field.len())?;
            check_value(value.len())?;
        }
        self.edit_or_make(key, |hash: &mut Edit<'_, Hash>| {
            hash.notes.event(Events::HASH, event);
            fields.iter().filter(|(field, value)| hash.set(field, value.to_bytes())).count()
        })
    }

    /// HSETNX: whether the field is new.
    pub(super) fn hash_set_new(
        &mut self,
        key: &[u8],
        field: &Text,
        value: &Text,
    ) -> Result<bool, CacheError> {
        let is_there = self.looked_at::<Hash>(key)?.is_some_and(|hash| hash.0.contains(field));
        Ok(!is_there && self.hash_set(key, &[(field.clone(), value.clone())])? == 1)
    }

    /// HGET.
    pub(super) fn hash_get(&self, key: &[u8], field: &[u8]) -> Result<Option<Bytes>, CacheError> {
        Ok(self.collection::<Hash>(key)?.and_then(|hash| hash.0.get(field)).cloned())
    }

    /// HDEL: how many fields were there.
    pub(super) fn hash_delete<F: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        fields: &[F],
    ) -> Result<usize, CacheError> {
        let removed = self.edit(key, |hash: &mut Edit<'_, Hash>| {
            let Edit { collection, notes } = hash;
            let removed = fields
                .iter()
                .filter(|field| collection.0.remove(field.as_ref(), notes).is_some())
                .count();
            if removed > 0 {
                notes.event(Events::HASH, "hdel");
            }
            removed
        })?;
        Ok(removed.unwrap_or(0))
    }

    /// HLEN.
    pub(super) fn hash_len(&self, key: &[u8]) -> Result<usize, CacheError> {
        Ok(self.collection::<Hash>(key)?.map_or(0, |hash| hash.0.len()))
    }

    /// The fields and their values.
    pub(super) fn hash_fields(
        &self,
        key: &[u8],
    ) -> Result<impl Iterator<Item = (&[u8], &Bytes)>, CacheError> {
        let fields = self.collection::<Hash>(key)?.into_iter().flat_map(|hash| hash.0.iter());
        Ok(fields.map(|(field, value)| (&**field, value)))
    }

    /// HINCRBY: the sum.
    pub(super) fn hash_increment(
        &mut self,
        key: &[u8],
        field: &Text,
        by: i64,
    ) -> Result<i64, CacheError> {
        let old = self.looked_at::<Hash>(key)?.and_then(|hash| hash.0.get(field));
        let old = old.map_or(Some(0), |old| super::command::parse_integer(old));
        let old = old.ok_or(CacheError::HashValueNotAnInteger)?;
        let sum = old.checked_add(by).ok_or(CacheError::IncrementOverflow)?;
        self.hash_set_as("hincrby", key, &[(field.clone(), sum.to_string().into())])?;
        Ok(sum)
    }

    /// HINCRBYFLOAT: the sum as it is stored.
    pub(super) fn hash_increment_by_float(
        &mut self,
        key: &[u8],
        field: &Text,
        by: &[u8],
    ) -> Result<Bytes, CacheError> {
        let by = LongDouble::parse(by).ok_or(CacheError::NotAFloat)?;
        if by.is_infinite() {
            return Err(CacheError::NanOrInfinite);
        }
        let old = self.looked_at::<Hash>(key)?.and_then(|hash| hash.0.get(field));
        let old = old.map_or(Some(LongDouble::ZERO), |old| LongDouble::parse(old));
        let old = old.ok_or(CacheError::HashValueNotAFloat)?;
        let sum = Bytes::from(old.plus(by).ok_or(CacheError::NotFinite)?.to_string());
        self.hash_set_as("hincrbyfloat", key, &[(field.clone(), (&sum).into())])?;
        Ok(sum)
    }
}
