//! Changes that are committed at once, whatever `appendfsync` says.

use std::num::NonZeroUsize;

use bytes::Bytes;

use super::command::Access;
use super::engine::Cache;
use super::error::CacheError;
use crate::journal::{Commit, Urgency};

/// An element for a list that keeps its newest.
pub struct CappedPush {
    pub key: Bytes,
    pub value: Bytes,
    pub keep: NonZeroUsize,
}

impl Cache {
    /// [`Cache::push_capped`] on several lists in one step, which is durable as a whole or not at all.
    /// `None` when there is nothing to push.
    ///
    /// # Errors
    /// See [`Cache::get`]; the lists before the one that refuses have been pushed to.
    pub fn push_capped_all(
        &self,
        pushes: impl IntoIterator<Item = CappedPush>,
    ) -> Result<Option<Commit>, CacheError> {
        self.admitted(Access::Grow)?;
        let (pushed, commit) = self.pipeline(Some(Urgency::Now), |keyspace| {
            keyspace.make_room(Access::Grow)?;
            for CappedPush { key, value, keep } in pushes {
                keyspace.push_capped(&key, value, keep)?;
            }
            Ok(())
        });
        pushed.map(|()| commit)
    }

    /// HSET. `None` when nothing was changed.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hset_promptly(
        &self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = (impl Into<Bytes>, impl Into<Bytes>)>,
    ) -> Result<Option<Commit>, CacheError> {
        self.admitted(Access::Grow)?;
        let fields = fields.into_iter().map(|(field, value)| (field.into(), value.into()));
        let fields: Vec<(Bytes, Bytes)> = fields.collect();
        let (set, commit) = self.pipeline(Some(Urgency::Now), |keyspace| {
            keyspace.make_room(Access::Grow)?;
            keyspace.hash_set(key.as_ref(), &fields)
        });
        set.map(|_| commit)
    }

    /// HDEL. `None` when none of the fields was there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn hdel_promptly<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Option<Commit>, CacheError> {
        self.admitted(Access::Shrink)?;
        let (removed, commit) = self
            .pipeline(Some(Urgency::Now), |keyspace| keyspace.hash_delete(key.as_ref(), fields));
        removed.map(|_| commit)
    }

    /// DEL of several keys. `None` when none of them was there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn del_promptly(&self, keys: &[&str]) -> Result<Option<Commit>, CacheError> {
        self.admitted(Access::Shrink)?;
        let ((), commit) = self.pipeline(Some(Urgency::Now), |keyspace| {
            for key in keys {
                keyspace.remove(key.as_bytes());
            }
        });
        Ok(commit)
    }
}
