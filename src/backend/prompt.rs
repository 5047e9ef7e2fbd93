//! What is sent to the cache without waiting, and may be waited for afterwards: so that a caller can put
//! several changes into one order under a lock of its own.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

#[cfg(feature = "redis")]
use super::redis::RedisSent;
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
    offset: Option<String>,
    way: Way,
}

enum Way {
    Journal(Option<Commit>),
    #[cfg(feature = "redis")]
    Redis(RedisSent),
}

impl Sent {
    /// What came of the change, if that is known already; [`Self::durable`] tells it as well.
    pub fn outcome(&mut self) -> Option<Result<(), BackendError>> {
        let commit = match &mut self.way {
            Way::Journal(Some(commit)) => commit,
            Way::Journal(None) => return Some(Ok(())),
            #[cfg(feature = "redis")]
            Way::Redis(sent) => return sent.outcome(),
        };
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
        match self.way {
            Way::Journal(commit) => super::broker::committed(commit).await,
            #[cfg(feature = "redis")]
            Way::Redis(sent) => sent.durable().await,
        }
    }

    /// The place in the log, unique and rising over the life of the data folder, epoch included. `None`:
    /// it is not known before the change was made.
    pub fn offset(&self) -> Option<&str> {
        self.offset.as_deref()
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
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(cache.send_pushes(pushes)?.into()),
        }
    }

    /// Leaves the newest `keep` of a list, committed at once and as a whole.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub fn send_trim(&self, key: &str, keep: usize) -> Result<Sent, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let commit = cache.trim_promptly(key.as_bytes(), keep)?;
                Ok(sent(cache.journal().epoch(), commit))
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(cache.send_trim(key, keep)?.into()),
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
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(cache.send_fields(key, fields)?.into()),
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
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(cache.send_field_removal(key, fields)?.into()),
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
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(cache.send_removal(keys)?.into()),
        }
    }

    /// The whole list, the newest first; for the start, before anybody is waiting.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn load_list(&self, key: &str) -> Result<Vec<Bytes>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.lrange(key, 0, -1)?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => cache.load_list(key),
        }
    }

    /// HGETALL; for the start, as [`Cache::load_list`].
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn load_hash(&self, key: &str) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.hgetall(key)?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => cache.load_hash(key),
        }
    }
}

fn sent(epoch: impl std::fmt::Display, commit: Option<Commit>) -> Sent {
    let position = commit.as_ref().map_or(0, |commit| commit.position().0);
    Sent { offset: Some(format!("{epoch}-{position}")), way: Way::Journal(commit) }
}

#[cfg(feature = "redis")]
impl From<RedisSent> for Sent {
    fn from(sent: RedisSent) -> Self {
        Self { offset: None, way: Way::Redis(sent) }
    }
}
