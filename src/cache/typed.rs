//! The cache's commands as Rust methods: the same operations, without replies to take apart.
//!
//! They never wait. A change is visible at once; whether it is durable says its commit.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::command::Access;
use super::deadline::{Deadline, lifetime};
use super::engine::{AppendFsync, Cache};
use super::error::CacheError;
use super::key::{ExpireIf, NoTtl};
use super::keyspace::{Keyspace, Ttl};
use super::list::End;
use super::pubsub::{Subscriber, SubscriberLimits};
use super::rate_limit::RateLimit;
use crate::journal::{Commit, JournalError, Urgency};
use crate::model::text::Text;

/// What a change gave, and the future of its commit.
pub struct Written<T> {
    pub value: T,
    /// `None` when nothing was changed.
    pub commit: Option<Commit>,
}

impl<T> Written<T> {
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Written<U> {
        Written { value: map(self.value), commit: self.commit }
    }

    /// Waits until the change is durable.
    ///
    /// # Errors
    /// When the commit failed: whether the change survived is unknown then.
    pub async fn durable(self) -> Result<T, JournalError> {
        if let Some(commit) = self.commit {
            commit.await?;
        }
        Ok(self.value)
    }
}

/// What [`Cache::push_capped`] gave.
pub struct Pushed {
    /// Elements in the list.
    pub length: usize,
    /// Its position is unique, and rises in the order of the pushes.
    pub commit: Commit,
}

/// How long a key still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeToLive {
    NoKey,
    /// The key does not expire.
    Unlimited,
    Left(Duration),
}

pub(super) type Write<T> = Result<Written<T>, CacheError>;

impl Cache {
    pub(super) fn read<T>(&self, work: impl FnOnce(&Keyspace) -> T) -> T {
        self.pipeline(None, |keyspace| work(keyspace)).0
    }

    pub(super) fn write<T>(
        &self,
        access: Access,
        work: impl FnOnce(&mut Keyspace) -> Result<T, CacheError>,
    ) -> Write<T> {
        self.admitted(access)?;
        let (result, commit) = self.pipeline(None, |keyspace| {
            keyspace.make_room(access)?;
            work(keyspace)
        });
        Ok(Written { value: result?, commit })
    }

    /// Waits as Redis does before it answers a write: under `appendfsync always` until the change
    /// is durable, else not at all.
    ///
    /// # Errors
    /// When the commit failed: whether the change survived is unknown then.
    pub async fn settle<T>(&self, written: Written<T>) -> Result<T, JournalError> {
        match self.fsync() {
            AppendFsync::Always => {
                // Also where confirms are relaxed.
                if written.commit.is_some() {
                    self.journal().flush().await?;
                }
                Ok(written.value)
            }
            AppendFsync::EverySec | AppendFsync::No => Ok(written.value),
        }
    }

    /// GET.
    ///
    /// # Errors
    /// As all methods here: [`CacheError::WrongType`] for a key of another type; those that write
    /// also [`CacheError::Journal`] while the journal takes no writes, and
    /// [`CacheError::StringTooLong`] for a value of more than 512 MiB or a key of more than 256.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, CacheError> {
        self.read(|keyspace| keyspace.get(key.as_ref()))
    }

    /// GET, read as JSON.
    ///
    /// # Errors
    /// Also [`CacheError::Json`] when the value is not what was expected.
    pub fn get_json<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, CacheError> {
        let value = self.get(key)?;
        Ok(value.map(|json| serde_json::from_slice(&json)).transpose()?)
    }

    /// SET: the key loses its time to live.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write<()> {
        self.write(Access::Grow, |keyspace| keyspace.set(key.as_ref(), value.into(), Ttl::None))
    }

    /// SET with PX: the key lives for `ttl`, at least a millisecond.
    ///
    /// # Errors
    /// See [`Cache::get`]; and a time to live beyond all bounds.
    pub fn set_ex(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Write<()> {
        self.write(Access::Grow, |keyspace| {
            let at_ms = lifetime("set", ttl, keyspace.now_ms())?;
            keyspace.set(key.as_ref(), value.into(), Ttl::Until(at_ms))
        })
    }

    /// SET of a value as JSON, with PX if there is a time to live.
    ///
    /// # Errors
    /// Also [`CacheError::Json`] when the value has no JSON form.
    pub fn set_json<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        ttl: Option<Duration>,
    ) -> Write<()> {
        let json = serde_json::to_vec(value)?;
        match ttl {
            Some(ttl) => self.set_ex(key, json, ttl),
            None => self.set(key, json),
        }
    }

    /// DEL of one key: whether it was there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn del(&self, key: impl AsRef<[u8]>) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| Ok(keyspace.remove(key.as_ref())))
    }

    /// EXISTS of one key.
    pub fn exists(&self, key: impl AsRef<[u8]>) -> bool {
        self.read(|keyspace| keyspace.slot(key.as_ref()).is_some())
    }

    /// PEXPIRE: whether the key was there. It lives for at least another millisecond.
    ///
    /// # Errors
    /// See [`Cache::set_ex`].
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| {
            let at_ms = lifetime("pexpire", ttl, keyspace.now_ms())?;
            Ok(keyspace.expire_at(key.as_ref(), Some(at_ms)))
        })
    }

    /// PEXPIRE and its kin, with conditions: whether the deadline was set. One that has passed
    /// removes the key.
    ///
    /// # Errors
    /// See [`Cache::set_ex`].
    pub fn expire_if(
        &self,
        key: impl AsRef<[u8]>,
        deadline: Deadline,
        condition: ExpireIf,
    ) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| keyspace.expire(key.as_ref(), deadline, condition))
    }

    /// PERSIST: whether there was a time to live.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| Ok(keyspace.persist(key.as_ref())))
    }

    /// PTTL.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> TimeToLive {
        self.read(|keyspace| match keyspace.ttl_ms(key.as_ref()) {
            Ok(ms) => TimeToLive::Left(Duration::from_millis(ms.unsigned_abs())),
            Err(NoTtl::NoKey) => TimeToLive::NoKey,
            Err(NoTtl::NoDeadline) => TimeToLive::Unlimited,
        })
    }

    /// INCR.
    ///
    /// # Errors
    /// See [`Cache::incr_by`].
    pub fn incr(&self, key: impl AsRef<[u8]>) -> Write<i64> {
        self.incr_by(key, 1)
    }

    /// INCRBY; negative numbers count down.
    ///
    /// # Errors
    /// See [`Cache::get`]; and when the value is no integer, or the sum is out of range.
    pub fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Write<i64> {
        self.write(Access::Grow, |keyspace| keyspace.incr_by(key.as_ref(), by))
    }

    /// LPUSH of one value: the list's length.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn lpush(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write<usize> {
        let value: Bytes = value.into();
        self.write(Access::Grow, |keyspace| {
            keyspace.push(End::Left, key.as_ref(), std::iter::once(value))
        })
    }

    /// RPUSH of one value: the list's length.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn rpush(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write<usize> {
        let value: Bytes = value.into();
        self.write(Access::Grow, |keyspace| {
            keyspace.push(End::Right, key.as_ref(), std::iter::once(value))
        })
    }

    /// LPOP.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn lpop(&self, key: impl AsRef<[u8]>) -> Write<Option<Bytes>> {
        self.pop(End::Left, key.as_ref())
    }

    /// RPOP.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn rpop(&self, key: impl AsRef<[u8]>) -> Write<Option<Bytes>> {
        self.pop(End::Right, key.as_ref())
    }

    fn pop(&self, end: End, key: &[u8]) -> Write<Option<Bytes>> {
        self.write(Access::Shrink, |keyspace| {
            Ok(keyspace.pop(end, key, 1)?.and_then(|mut values| values.pop()))
        })
    }

    /// LRANGE.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn lrange(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        stop: i64,
    ) -> Result<Vec<Bytes>, CacheError> {
        self.read(|keyspace| {
            let values = keyspace.list_range(key.as_ref(), start, stop)?;
            Ok(values.into_iter().flatten().map(Text::to_bytes).collect())
        })
    }

    /// LTRIM.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn ltrim(&self, key: impl AsRef<[u8]>, start: i64, stop: i64) -> Write<()> {
        self.write(Access::Shrink, |keyspace| keyspace.trim(key.as_ref(), start, stop))
    }

    /// LLEN.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn llen(&self, key: impl AsRef<[u8]>) -> Result<usize, CacheError> {
        self.read(|keyspace| keyspace.list_len(key.as_ref()))
    }

    /// LPUSH and LTRIM to the newest `keep` in one step, to be committed at once. Two records, or
    /// three for the first push, however long the list is.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn push_capped(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        keep: NonZeroUsize,
    ) -> Result<Pushed, CacheError> {
        self.admitted(Access::Grow)?;
        let (length, commit) = self.pipeline(Some(Urgency::Now), |keyspace| {
            keyspace.make_room(Access::Grow)?;
            keyspace.push_capped(key.as_ref(), value.into(), keep)
        });
        let length = length?;
        let Some(commit) = commit else { unreachable!("at least the pushed element is kept") };
        Ok(Pushed { length, commit })
    }

    /// Counts a call in a fixed window that opens at the first call: INCR, and PEXPIRE if it is the
    /// first, in one step. A call that is refused is not counted and writes nothing.
    ///
    /// # Errors
    /// See [`Cache::incr_by`].
    pub fn rate_limit(
        &self,
        key: impl AsRef<[u8]>,
        limit: u32,
        window: Duration,
    ) -> Write<RateLimit> {
        self.write(Access::Grow, |keyspace| keyspace.rate_limit(key.as_ref(), limit, window))
    }

    /// PUBLISH: how many deliveries that were.
    pub fn publish(&self, channel: impl Into<Bytes>, payload: impl Into<Bytes>) -> usize {
        self.registry().publish(&channel.into(), &payload.into())
    }

    /// A subscriber of these channels, with the default limits.
    pub fn subscribe<C: Into<Bytes>>(&self, channels: impl IntoIterator<Item = C>) -> Subscriber {
        let mut subscriber = self.subscriber(SubscriberLimits::default());
        for channel in channels {
            subscriber.subscribe(channel);
        }
        subscriber
    }

    /// A subscriber of these patterns, with the default limits.
    pub fn psubscribe<P: Into<Bytes>>(&self, patterns: impl IntoIterator<Item = P>) -> Subscriber {
        let mut subscriber = self.subscriber(SubscriberLimits::default());
        for pattern in patterns {
            subscriber.psubscribe(pattern);
        }
        subscriber
    }
}
