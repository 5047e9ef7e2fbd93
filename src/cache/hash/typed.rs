//! The commands on hashes as Rust methods.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::command::Access;
use crate::cache::engine::Cache;
use crate::cache::error::CacheError;
use crate::cache::typed::Write;
use crate::model::text::Text;

impl Cache {
    /// HSET of one field: whether it is new.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hset(
        &self,
        key: impl AsRef<[u8]>,
        field: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Write<bool> {
        let fields = [(field.into().into(), value.into().into())];
        self.write(Access::Grow, |keyspace| Ok(keyspace.hash_set(key.as_ref(), &fields)? == 1))
    }

    /// HSET: how many fields are new.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hset_many(&self, key: impl AsRef<[u8]>, fields: &[(Bytes, Bytes)]) -> Write<usize> {
        if fields.is_empty() {
            return Err(CacheError::WrongArity { command: "hset" });
        }
        let fields: Vec<(Text, Text)> =
            fields.iter().map(|(field, value)| (field.into(), value.into())).collect();
        self.write(Access::Grow, |keyspace| keyspace.hash_set(key.as_ref(), &fields))
    }

    /// HSET of a value as JSON: whether the field is new.
    ///
    /// # Errors
    /// Also [`CacheError::Json`] when the value has no JSON form.
    pub fn hset_json<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        field: impl Into<Bytes>,
        value: &T,
    ) -> Write<bool> {
        self.hset(key, field, serde_json::to_vec(value)?)
    }

    /// HSETNX: whether the field is new.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hset_new(
        &self,
        key: impl AsRef<[u8]>,
        field: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Write<bool> {
        let (field, value) = (Text::from(field.into()), Text::from(value.into()));
        self.write(Access::Grow, |keyspace| keyspace.hash_set_new(key.as_ref(), &field, &value))
    }

    /// HGET.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hget(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<Option<Bytes>, CacheError> {
        self.read(|keyspace| keyspace.hash_get(key.as_ref(), field.as_ref()))
    }

    /// HGET, read as JSON.
    ///
    /// # Errors
    /// Also [`CacheError::Json`] when the value is not what was expected.
    pub fn hget_json<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<Option<T>, CacheError> {
        let value = self.hget(key, field)?;
        Ok(value.map(|json| serde_json::from_slice(&json)).transpose()?)
    }

    /// HGETALL: fields and values, none when there is no such key.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hgetall(&self, key: impl AsRef<[u8]>) -> Result<Vec<(Bytes, Bytes)>, CacheError> {
        self.read(|keyspace| {
            let fields = keyspace.hash_fields(key.as_ref())?;
            Ok(fields
                .map(|(field, value)| (Bytes::copy_from_slice(field), value.clone()))
                .collect())
        })
    }

    /// HDEL: how many fields were there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hdel<F: AsRef<[u8]>>(&self, key: impl AsRef<[u8]>, fields: &[F]) -> Write<usize> {
        self.write(Access::Shrink, |keyspace| keyspace.hash_delete(key.as_ref(), fields))
    }

    /// HEXISTS.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hexists(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
    ) -> Result<bool, CacheError> {
        Ok(self.hget(key, field)?.is_some())
    }

    /// HLEN.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hlen(&self, key: impl AsRef<[u8]>) -> Result<usize, CacheError> {
        self.read(|keyspace| keyspace.hash_len(key.as_ref()))
    }

    /// HINCRBY: the sum.
    ///
    /// # Errors
    /// See [`Cache::get`]; and when the value is no integer, or the sum is out of range.
    pub fn hincr_by(&self, key: impl AsRef<[u8]>, field: impl Into<Bytes>, by: i64) -> Write<i64> {
        let field = Text::from(field.into());
        self.write(Access::Grow, |keyspace| keyspace.hash_increment(key.as_ref(), &field, by))
    }
}
