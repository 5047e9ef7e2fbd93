//! Hashes: the type and the commands on it.

use bytes::Bytes;

use super::command::{Access, Arity, Command, Flags, Spec};
use super::error::CacheError;
use super::keyspace::{Collection, CollectionId, Edit, Keyspace, Parts, Value, check_value, owned};
use super::notifications::Events;
use super::reply::Reply;

/// A command on a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashCommand {
    Get { key: Bytes, field: Bytes },
    Set { key: Bytes, fields: Vec<(Bytes, Bytes)> },
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("hget", Arity::Exactly(2), |mut args| {
        Ok(Command::Hash(HashCommand::Get { key: args.next()?, field: args.next()? }))
    })
    .flags(Flags::READONLY.and(Flags::FAST))
    .key(),
    Spec::new("hset", Arity::AtLeast(3), |mut args| {
        let key = args.next()?;
        let mut fields = Vec::with_capacity(args.len() / 2);
        while !args.is_empty() {
            fields.push((args.next()?, args.next()?));
        }
        Ok(Command::Hash(HashCommand::Set { key, fields }))
    })
    .flags(Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST))
    .key(),
];

impl HashCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Get { .. } => Access::Read,
            Self::Set { .. } => Access::Grow,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Get { key, field } => {
                let hash = keyspace.collection::<Hash>(key)?;
                Reply::bulk_or_nil(hash.and_then(|hash| hash.0.get(field)).cloned())
            }
            Self::Set { key, fields } => {
                fields.iter().try_for_each(|(_, value)| check_value(value.len()))?;
                Reply::count(keyspace.edit_or_make(key, |hash: &mut Edit<'_, Hash>| {
                    hash.notes.event(Events::HASH, "hset");
                    fields.iter().filter(|(field, value)| hash.set(field, value.clone())).count()
                })?)
            }
        })
    }
}

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
        self.0.bytes()
    }
}

impl Edit<'_, Hash> {
    /// Sets a field: whether it is new.
    pub(super) fn set(&mut self, field: &[u8], value: Bytes) -> bool {
        self.collection.0.insert(field, owned(value), &mut self.notes).is_none()
    }
}
