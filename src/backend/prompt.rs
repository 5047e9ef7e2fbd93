//! What is sent to the cache without waiting, and may be waited for afterwards: so that a caller can put
//! several changes into one order under a lock of its own.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{BackendError, Cache};
use crate::cache::CappedPush;
use crate::journal::Commit;

/// An element for a list that keeps its newest `keep`, at least one.
pub struct Push {
    pub key: Bytes,
    pub value: Bytes,
    pub keep: usize,
}

/// A change that is on its way to the disk.
#[must_use = "a change is only safe once it is durable"]
pub struct Sent {
    /// The place in the log, unique and rising over the life of the data folder, epoch included.
    pub offset: String,
    commit: Option<Commit>,
}

impl Sent {
    /// What came of the change, if that is known already; [`Self::durable`] tells it as well.
    pub fn outcome(&mut self) -> Option<Result<(), BackendError>> {
        let Some(commit) = &mut self.commit else { return Some(Ok(())) };
        match Pin::new(commit).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.map(|_| ()).map_err(BackendError::from)),
            Poll::Pending => None,
        }
    }

    /// Waits until the change is durable. Changes resolve in the order in which they were made.
    ///
    /// # Errors
    /// When the commit failed: whether the change survived is unknown then.
    pub async fn durable(self) -> Result<(), BackendError> {
        match self.commit {
            Some(commit) => commit.await.map(|_| ()).map_err(BackendError::from),
            None => Ok(()),
        }
    }
}

impl Cache {
    /// Pushes to several lists in one step, committed at once and as a whole. It does not wait for the
    /// journal to take more: whoever pushes for strangers bounds that.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub fn send_pushes(
        &self,
        pushes: impl IntoIterator<Item = Push>,
    ) -> Result<Sent, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let capped = pushes.into_iter().map(|Push { key, value, keep }| {
                    let keep = NonZeroUsize::new(keep).unwrap_or(NonZeroUsize::MIN);
                    CappedPush { key, value, keep }
                });
                let commit = cache.push_capped_all(capped)?;
                Ok(sent(cache.journal().epoch(), commit))
            }
        }
    }

    /// HSET, committed at once and as a whole.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub fn send_fields(
        &self,
        key: &str,
        fields: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Sent, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let commit = cache.hset_promptly(key, fields)?;
                Ok(sent(cache.journal().epoch(), commit))
            }
        }
    }

    /// HDEL, committed at once and as a whole. Of fields that were not there it is durable at once, though
    /// an earlier removal of theirs may not be yet.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub fn send_field_removal(&self, key: &str, fields: &[String]) -> Result<Sent, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let commit = cache.hdel_promptly(key, fields)?;
                Ok(sent(cache.journal().epoch(), commit))
            }
        }
    }

    /// DEL, committed at once and as a whole. Of keys that were not there it is durable at once, though
    /// an earlier removal of theirs may not be yet.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub fn send_removal(&self, keys: &[&str]) -> Result<Sent, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let commit = cache.del_promptly(keys)?;
                Ok(sent(cache.journal().epoch(), commit))
            }
        }
    }

    /// The whole list, the newest first; for the start, before anybody is waiting.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn load_list(&self, key: &str) -> Result<Vec<Bytes>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.lrange(key, 0, -1)?),
        }
    }

    /// HGETALL; for the start, as [`Cache::load_list`].
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn load_hash(&self, key: &str) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.hgetall(key)?),
        }
    }
}

fn sent(epoch: impl std::fmt::Display, commit: Option<Commit>) -> Sent {
    let position = commit.as_ref().map_or(0, |commit| commit.position().0);
    Sent { offset: format!("{epoch}-{position}"), commit }
}
