//! Changes that are committed at once, whatever `appendfsync` says.

use std::num::NonZeroUsize;

use bytes::Bytes;

use super::command::Access;
use super::engine::Cache;
use super::error::CacheError;
use crate::journal::{Commit, Urgency};
use crate::model::text::Text;

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

    /// LTRIM to the newest of a list that is pushed at its left. `None` when there was nothing to take off.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn trim_promptly(&self, key: &[u8], keep: usize) -> Result<Option<Commit>, CacheError> {
        self.admitted(Access::Shrink)?;
        // Nothing is kept where the first is behind the last.
        let (first, last) = match keep {
            0 => (1, 0),
            _ => (0, i64::try_from(keep).unwrap_or(i64::MAX) - 1),
        };
        let (trimmed, commit) =
            self.pipeline(Some(Urgency::Now), |keyspace| keyspace.trim(key, first, last));
        trimmed.map(|()| commit)
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
        let fields: Vec<(Text, Text)> = fields
            .into_iter()
            .map(|(field, value)| (Text::from(field.into()), Text::from(value.into())))
            .collect();
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
