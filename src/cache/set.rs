//! Sets: the type and the commands on it.

use bytes::Bytes;

use super::command::{Access, Arity, Command, Flags, Spec};
use super::error::CacheError;
use super::keyspace::{Collection, CollectionId, Edit, Keyspace, Parts, Value};
use super::notifications::Events;
use super::reply::Reply;

/// A command on a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetCommand {
    Add { key: Bytes, members: Vec<Bytes> },
    Remove { key: Bytes, members: Vec<Bytes> },
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("sadd", Arity::AtLeast(2), |mut args| {
        Ok(Command::Set(SetCommand::Add { key: args.next()?, members: args.remaining() }))
    })
    .flags(Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST))
    .key(),
    Spec::new("srem", Arity::AtLeast(2), |mut args| {
        Ok(Command::Set(SetCommand::Remove { key: args.next()?, members: args.remaining() }))
    })
    .flags(Flags::WRITE.and(Flags::FAST))
    .key(),
];

impl SetCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Add { .. } => Access::Grow,
            Self::Remove { .. } => Access::Shrink,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Add { key, members } => {
                Reply::count(keyspace.edit_or_make(key, |set: &mut Edit<'_, Set>| {
                    let added = members.iter().filter(|member| set.add(member)).count();
                    if added > 0 {
                        set.notes.event(Events::SET, "sadd");
                    }
                    added
                })?)
            }
            Self::Remove { key, members } => {
                let removed = keyspace.edit(key, |set: &mut Edit<'_, Set>| {
                    let removed = members.iter().filter(|member| set.delete(member)).count();
                    if removed > 0 {
                        set.notes.event(Events::SET, "srem");
                    }
                    removed
                })?;
                Reply::count(removed.unwrap_or(0))
            }
        })
    }
}

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
        self.0.bytes()
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
