//! COPY.

use bytes::Bytes;

use crate::cache::error::CacheError;
use crate::cache::keyspace::{Key, Keyspace, Ttl, Value};
use crate::cache::list::End;
use crate::cache::notifications::Events;
use crate::cache::sorted_set::Score;
use crate::model::clock::UnixMs;
use crate::model::text::Text;

/// What a key holds, on its own.
enum Copied {
    String(Bytes),
    List(Vec<Text>),
    Hash(Vec<(Text, Text)>),
    Set(Vec<Key>),
    SortedSet(Vec<(Key, Score)>),
}

impl Copied {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(value) => Self::String(value.clone()),
            Value::Long(long) => Self::String(long.text().clone()),
            Value::List(list) => Self::List(list.values().cloned().collect()),
            Value::Hash(hash) => {
                let field = |(name, value): (&Key, &Bytes)| {
                    (Text::copy_from_slice(name), Text::from(value))
                };
                Self::Hash(hash.0.iter().map(field).collect())
            }
            Value::Set(set) => Self::Set(set.members().cloned().collect()),
            Value::SortedSet(set) => Self::SortedSet(
                set.members().map(|(member, score)| (Key::clone(member), score)).collect(),
            ),
        }
    }
}

impl Keyspace {
    /// COPY, to the database at a place: whether it was made. With its deadline.
    pub(super) fn copy_key(
        &mut self,
        from: &[u8],
        to: &[u8],
        db: u8,
        replaces: bool,
    ) -> Result<bool, CacheError> {
        let Some(slot) = self.ask(from) else { return Ok(false) };
        let (copied, expires_at_ms) = (Copied::of(slot.value()), slot.expires_at_ms());
        self.in_database(db, |keyspace| {
            if keyspace.slot(to).is_some() && !replaces {
                return Ok(false);
            }
            keyspace.quietly(|keyspace| keyspace.put_copy(to, copied, expires_at_ms))?;
            keyspace.notify(Events::GENERIC, "copy_to", to);
            Ok(true)
        })
    }

    fn put_copy(
        &mut self,
        to: &[u8],
        copied: Copied,
        expires_at_ms: Option<UnixMs>,
    ) -> Result<(), CacheError> {
        self.remove(to);
        match copied {
            Copied::String(value) => self.put(to, Value::String(value), Ttl::None)?,
            Copied::List(values) => {
                self.push(End::Right, to, values.into_iter())?;
            }
            Copied::Hash(fields) => {
                self.hash_set(to, &fields)?;
            }
            Copied::Set(members) => {
                self.set_add(to, &members)?;
            }
            Copied::SortedSet(members) => {
                let members = members.iter().map(|(member, score)| (&**member, *score));
                self.put_sorted("zadd", to, members)?;
            }
        }
        if expires_at_ms.is_some() {
            self.expire_at(to, expires_at_ms);
        }
        Ok(())
    }
}
