//! The commands on sets as Rust methods.

use bytes::Bytes;

use super::{Operation, Set};
use crate::cache::command::Access;
use crate::cache::engine::Cache;
use crate::cache::error::CacheError;
use crate::cache::typed::Write;
use crate::model::text::Text;

impl Cache {
    /// SADD: how many members are new.
    ///
    /// # Errors
    /// See [`Cache::get`]; without members, a wrong number of arguments.
    pub fn sadd<M: AsRef<[u8]>>(&self, key: impl AsRef<[u8]>, members: &[M]) -> Write<usize> {
        if members.is_empty() {
            return Err(CacheError::WrongArity { command: "sadd" });
        }
        self.write(Access::Grow, |keyspace| keyspace.set_add(key.as_ref(), members))
    }

    /// SREM: how many members were there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn srem<M: AsRef<[u8]>>(&self, key: impl AsRef<[u8]>, members: &[M]) -> Write<usize> {
        self.write(Access::Shrink, |keyspace| keyspace.set_remove(key.as_ref(), members))
    }

    /// SMEMBERS.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn smembers(&self, key: impl AsRef<[u8]>) -> Result<Vec<Bytes>, CacheError> {
        self.read(|keyspace| {
            let set = keyspace.collection::<Set>(key.as_ref())?;
            let members = set.into_iter().flat_map(Set::members);
            Ok(members.map(|member| Bytes::copy_from_slice(member)).collect())
        })
    }

    /// SISMEMBER.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn sismember(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<bool, CacheError> {
        self.read(|keyspace| keyspace.set_contains(key.as_ref(), member.as_ref()))
    }

    /// SCARD.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn scard(&self, key: impl AsRef<[u8]>) -> Result<usize, CacheError> {
        self.read(|keyspace| keyspace.set_len(key.as_ref()))
    }

    /// SPOP of one member.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn spop(&self, key: impl AsRef<[u8]>) -> Write<Option<Bytes>> {
        self.write(Access::Shrink, |keyspace| Ok(keyspace.set_pop(key.as_ref(), 1)?.pop()))
    }

    /// SINTER, SUNION and SDIFF.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn combine_sets(
        &self,
        operation: Operation,
        keys: &[Bytes],
    ) -> Result<Vec<Bytes>, CacheError> {
        let keys: Vec<Text> = keys.iter().map(Text::from).collect();
        self.read(|keyspace| {
            let members = keyspace.set_combine(operation, &keys, usize::MAX)?;
            Ok(members.iter().map(|member| Bytes::copy_from_slice(member)).collect())
        })
    }
}
