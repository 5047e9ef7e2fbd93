//! The cache port.

use std::time::Duration;

use bytes::Bytes;

use super::BackendError;

/// The cache that the application runs on. Clones share it.
#[derive(Clone)]
pub enum Cache {}

/// A list push whose durability can be awaited.
pub struct Pushed {
    /// The place in the log, unique and rising over the life of the data folder, epoch included.
    pub offset: String,
    commit: crate::journal::Commit,
}

impl Pushed {
    /// Waits until the push is durable. Pushes resolve in the order in which they were made.
    ///
    /// # Errors
    /// When the commit failed: whether the push survived is unknown then.
    pub async fn durable(self) -> Result<(), BackendError> {
        self.commit.await.map(|_| ()).map_err(BackendError::from)
    }
}

/// The answer of a fixed-window rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub allowed: bool,
    /// Calls left in the window.
    pub remaining: u32,
    /// Until the window ends, in milliseconds.
    pub reset_ms: u64,
}

/// Messages of one pub/sub channel, at most once; a subscriber that falls behind its bound loses the oldest.
pub struct Subscription {}

impl Subscription {
    /// The next message; `None` when the cache is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        unimplemented!()
    }
}

#[allow(unused_variables, clippy::unused_async)]
impl Cache {
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BackendError> {
        unimplemented!()
    }

    pub async fn set(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), BackendError> {
        unimplemented!()
    }

    /// Whether the key was there.
    pub async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        unimplemented!()
    }

    /// Gives a key a new time to live; false when there is no such key.
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, BackendError> {
        unimplemented!()
    }

    /// LPUSH and LTRIM 0 `keep - 1` in one step, committed at once (`Urgency::Now`).
    /// Refused with the alarm's error while the disk alarm is on.
    pub async fn push_capped(
        &self,
        key: &str,
        value: Bytes,
        keep: usize,
    ) -> Result<Pushed, BackendError> {
        unimplemented!()
    }

    /// LRANGE.
    pub async fn list_range(
        &self,
        key: &str,
        start: i64,
        stop: i64,
    ) -> Result<Vec<Bytes>, BackendError> {
        unimplemented!()
    }

    /// PUBLISH; how many subscribers it reached.
    pub async fn publish(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<usize, BackendError> {
        unimplemented!()
    }

    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, BackendError> {
        unimplemented!()
    }

    /// Counts a call in a fixed window that opens at the first call.
    pub async fn rate_limit(
        &self,
        key: &str,
        limit: u32,
        window: Duration,
    ) -> Result<RateLimit, BackendError> {
        unimplemented!()
    }

    /// Whether it answers and takes writes.
    pub async fn ready(&self) -> Result<(), BackendError> {
        unimplemented!()
    }
}
