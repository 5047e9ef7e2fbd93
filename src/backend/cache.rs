//! The cache port.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;

use super::BackendError;
#[cfg(feature = "redis")]
use super::redis::{RedisCache, RedisPushed, RedisSubscription, RedisTopic};
use crate::cache::{self, CacheError};
use crate::journal::Commit;

pub use crate::cache::RateLimit;

/// The cache that the application runs on. Clones share it.
#[derive(Clone)]
pub enum Cache {
    Embedded(cache::Cache),
    #[cfg(feature = "redis")]
    Redis(RedisCache),
}

/// A list push whose durability can be awaited.
#[must_use = "a push is only safe once it is durable"]
pub struct Pushed {
    /// The place in the log, unique and rising over the life of the data folder, epoch included; on a
    /// server over all its nodes.
    pub offset: String,
    /// `None`: whoever gave it has promised already what it promises.
    commit: Option<Commit>,
}

impl Pushed {
    /// Waits until the push is durable. Pushes resolve in the order in which they were made.
    ///
    /// # Errors
    /// When the commit failed: whether the push survived is unknown then.
    pub async fn durable(self) -> Result<(), BackendError> {
        super::broker::committed(self.commit).await
    }
}

#[cfg(feature = "redis")]
impl From<RedisPushed> for Pushed {
    fn from(pushed: RedisPushed) -> Self {
        Self { offset: pushed.offset, commit: None }
    }
}

/// Messages of one pub/sub channel, at most once; a subscriber that falls behind its bound misses some.
pub enum Subscription {
    Embedded(cache::Subscriber),
    #[cfg(feature = "redis")]
    Redis(RedisSubscription),
}

impl Subscription {
    /// The next message; `None` when the cache is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Embedded(subscriber) => {
                subscriber.recv().await.map(|published| published.payload)
            }
            #[cfg(feature = "redis")]
            Self::Redis(subscription) => subscription.next().await,
        }
    }
}

impl Cache {
    /// GET.
    ///
    /// # Errors
    /// A key of another type; a back end that does not answer. So do all methods here.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.get(key)?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.get(key)).await,
        }
    }

    /// SET, with a time to live if one is given. Under `appendfsync always` it resolves when the
    /// value is durable.
    ///
    /// # Errors
    /// A back end that takes no writes. So do all methods here that write.
    pub async fn set(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), BackendError> {
        match self {
            Self::Embedded(cache) => {
                let value = value.into();
                cache.admit(value.len()).await?;
                let written = match ttl {
                    Some(ttl) => cache.set_ex(key, value, ttl)?,
                    None => cache.set(key, value)?,
                };
                Ok(cache.settle(written).await?)
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.set(key, value.into(), ttl)).await,
        }
    }

    /// Sets a key for `ttl` if its value is still `expected`, or if there is none where that is `None`: whether
    /// it was. So of several that read the same value one changes it.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let value = value.into();
                cache.admit(value.len()).await?;
                Ok(cache.settle(cache.compare_and_set(key, expected, value, ttl)?).await?)
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => {
                Box::pin(cache.compare_and_set(key, expected, value.into(), ttl)).await
            }
        }
    }

    /// Resolves when everything that was written before is durable, whatever `appendfsync` says. A worker
    /// whose work is in the cache calls it before it acknowledges: the message is gone with that.
    ///
    /// # Errors
    /// When the commit failed: whether the writes survived is unknown then.
    pub async fn flush(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(cache) => {
                cache.journal().flush().await?;
                Ok(())
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.flush()).await,
        }
    }

    /// DEL: whether the key was there.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.settle(cache.del(key)?).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.delete(key)).await,
        }
    }

    /// PEXPIRE: gives a key a new time to live; false when there is no such key.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.settle(cache.expire(key, ttl)?).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.expire(key, ttl)).await,
        }
    }

    /// LPUSH and LTRIM to the newest `keep` (at least one) in one step, committed at once whatever `appendfsync` says.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn push_capped(
        &self,
        key: &str,
        value: Bytes,
        keep: usize,
    ) -> Result<Pushed, BackendError> {
        match self {
            Self::Embedded(cache) => {
                cache.admit(value.len()).await?;
                let keep = NonZeroUsize::new(keep).unwrap_or(NonZeroUsize::MIN);
                let commit = cache.push_capped(key, value, keep)?.commit;
                let offset = format!("{}-{}", cache.journal().epoch(), commit.position().0);
                Ok(Pushed { offset, commit: Some(commit) })
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Ok(Box::pin(cache.push_capped(key, value, keep)).await?.into()),
        }
    }

    /// LRANGE.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub async fn list_range(
        &self,
        key: &str,
        start: i64,
        stop: i64,
    ) -> Result<Vec<Bytes>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.lrange(key, start, stop)?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.list_range(key, start, stop)).await,
        }
    }

    /// PUBLISH: how many subscribers it reached.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn publish(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<usize, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.publish(channel.to_owned(), payload)),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.publish(channel, payload.into())).await,
        }
    }

    /// SUBSCRIBE to one channel.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, BackendError> {
        match self {
            Self::Embedded(cache) => {
                Ok(Subscription::Embedded(cache.subscribe([channel.to_owned()])))
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => {
                let topics = [(RedisTopic::Channel, channel)];
                Ok(Subscription::Redis(Box::pin(cache.subscribe(&topics)).await?))
            }
        }
    }

    /// SUBSCRIBE to a channel and PSUBSCRIBE to a pattern: the messages of both in the order in which they were
    /// published.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn subscribe_both(
        &self,
        channel: &str,
        pattern: &str,
    ) -> Result<Subscription, BackendError> {
        match self {
            Self::Embedded(cache) => {
                let mut subscriber = cache.subscribe([channel.to_owned()]);
                subscriber.psubscribe(pattern.to_owned());
                Ok(Subscription::Embedded(subscriber))
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => {
                let topics = [(RedisTopic::Channel, channel), (RedisTopic::Pattern, pattern)];
                Ok(Subscription::Redis(Box::pin(cache.subscribe(&topics)).await?))
            }
        }
    }

    /// Counts a call in a fixed window that opens at the first call.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn rate_limit(
        &self,
        key: &str,
        limit: u32,
        window: Duration,
    ) -> Result<RateLimit, BackendError> {
        match self {
            Self::Embedded(cache) => {
                Ok(cache.settle(cache.rate_limit(key, limit, window)?).await?)
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.rate_limit(key, limit, window)).await,
        }
    }

    /// The value of a key; without one what `fetch` gives, which is kept for `ttl`, or until it is
    /// removed. Callers who miss the same key at the same time wait for one `fetch`; when that fails, or
    /// its caller goes away, the next of them fetches.
    ///
    /// # Errors
    /// What `fetch` says to its own caller. See [`Cache::set`].
    pub async fn get_or_set<E: From<BackendError>, F: Future<Output = Result<Bytes, E>>>(
        &self,
        key: &str,
        ttl: Option<Duration>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, E> {
        /// Tells the cache's own error from the fetcher's.
        enum Failed<E> {
            Cache(CacheError),
            Fetch(E),
        }
        impl<E> From<CacheError> for Failed<E> {
            fn from(error: CacheError) -> Self {
                Self::Cache(error)
            }
        }
        match self {
            Self::Embedded(cache) => {
                let fetch = || async { fetch().await.map_err(Failed::Fetch) };
                let value = cache.get_or_set(key.to_owned(), ttl, fetch).await;
                value.map_err(|failed| match failed {
                    Failed::Cache(error) => BackendError::from(error).into(),
                    Failed::Fetch(error) => error,
                })
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.get_or_set(key, ttl, fetch)).await,
        }
    }

    /// Removes the keys that match a pattern of KEYS: how many.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn invalidate_pattern(&self, pattern: &str) -> Result<usize, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.invalidate_pattern(pattern).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.invalidate_pattern(pattern)).await,
        }
    }

    /// Takes a lock for `ttl`; `None` while another holds it. The fencing token that it gives is higher
    /// than all before it, over restarts too.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn lock(&self, key: &str, ttl: Duration) -> Result<Option<u64>, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.settle(cache.lock(key, ttl)?).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.lock(key, ttl)).await,
        }
    }

    /// Holds a lock for `ttl` from now on; `false` when it is not, or no longer, the token's.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn renew(&self, key: &str, token: u64, ttl: Duration) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.settle(cache.renew(key, token, ttl)?).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.renew(key, token, ttl)).await,
        }
    }

    /// Gives a lock back; `false` when it is not, or no longer, the token's.
    ///
    /// # Errors
    /// See [`Cache::set`].
    pub async fn release(&self, key: &str, token: u64) -> Result<bool, BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.settle(cache.release(key, token)?).await?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.release(key, token)).await,
        }
    }

    /// Whether it answers and takes writes.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn ready(&self) -> Result<(), BackendError> {
        match self {
            Self::Embedded(cache) => Ok(cache.journal().writable()?),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Box::pin(cache.ready()).await,
        }
    }
}
