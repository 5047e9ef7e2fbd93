//! An acknowledgement with its effects: after a crash all of it is there, or none.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::emit::{Audience, event};
use super::{BackendError, Broker, Cache};
use crate::broker::{self, BrokerError};
use crate::cache::{self, CacheError, Change, End};
use crate::model::message::Message;
use crate::model::names::VhostName;

/// Effects of one acknowledgement at most.
const EFFECTS_MAX: usize = 1_024;

/// What an acknowledgement brings about: see [`super::Delivery::ack_with`].
///
/// Messages and changes of the cache are committed with the acknowledgement. Events and pub/sub
/// messages follow that commit, at most once.
#[derive(Default)]
pub struct Tx {
    messages: Vec<Message>,
    changes: Vec<Change>,
    events: Vec<Message>,
    notifications: Vec<(String, Bytes)>,
    effects: usize,
    /// The first effect that can't be had.
    refusal: Option<BackendError>,
}

impl Tx {
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes a message in the vhost of the acknowledged one, with the header `x-cause`. One that
    /// reaches no queue is dropped, as with [`super::Broker::publish`].
    pub fn publish(&mut self, message: Message) -> &mut Self {
        self.add(|tx| tx.messages.push(message))
    }

    /// SET: the key loses its time to live.
    pub fn set(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.change(Change::Set { key: key.into(), value: value.into(), ttl: None })
    }

    /// SET with PX: the key lives for `ttl`, at least a millisecond.
    pub fn set_ex(
        &mut self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> &mut Self {
        self.change(Change::Set { key: key.into(), value: value.into(), ttl: Some(ttl) })
    }

    /// DEL.
    pub fn delete(&mut self, key: impl Into<Bytes>) -> &mut Self {
        self.change(Change::Delete { key: key.into() })
    }

    /// INCR.
    pub fn incr(&mut self, key: impl Into<Bytes>) -> &mut Self {
        self.incr_by(key, 1)
    }

    /// INCRBY; negative numbers count down.
    pub fn incr_by(&mut self, key: impl Into<Bytes>, by: i64) -> &mut Self {
        self.change(Change::Increment { key: key.into(), by })
    }

    /// LPUSH of one value.
    pub fn lpush(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.change(Change::Push { end: End::Left, key: key.into(), value: value.into() })
    }

    /// RPUSH of one value.
    pub fn rpush(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.change(Change::Push { end: End::Right, key: key.into(), value: value.into() })
    }

    /// LPUSH and LTRIM to the newest `keep` (at least one).
    pub fn push_capped(
        &mut self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        keep: usize,
    ) -> &mut Self {
        let keep = NonZeroUsize::new(keep).unwrap_or(NonZeroUsize::MIN);
        self.change(Change::PushCapped { key: key.into(), value: value.into(), keep })
    }

    /// PEXPIRE.
    pub fn expire(&mut self, key: impl Into<Bytes>, ttl: Duration) -> &mut Self {
        self.change(Change::Expire { key: key.into(), ttl })
    }

    /// Sends the sockets of `audience` the event `name`, once all is committed.
    pub fn emit(
        &mut self,
        audience: &Audience,
        name: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> &mut Self {
        match event(audience, name, payload) {
            Ok(message) => self.add(|tx| tx.events.push(message)),
            Err(error) => {
                self.refusal.get_or_insert(error);
                self
            }
        }
    }

    /// PUBLISH on a channel of the cache, once all is committed.
    pub fn notify(&mut self, channel: impl Into<String>, payload: impl Into<Bytes>) -> &mut Self {
        let notification = (channel.into(), payload.into());
        self.add(|tx| tx.notifications.push(notification))
    }

    fn change(&mut self, change: Change) -> &mut Self {
        self.add(|tx| tx.changes.push(change))
    }

    fn add(&mut self, add: impl FnOnce(&mut Self)) -> &mut Self {
        self.effects += 1;
        if self.effects <= EFFECTS_MAX {
            add(self);
        } else {
            let text = format!("an acknowledgement has at most {EFFECTS_MAX} effects");
            self.refusal.get_or_insert(BrokerError::Precondition(text).into());
        }
        self
    }

    /// What it may add to the journal; 0: nothing that has to wait for space.
    fn bytes(&self) -> usize {
        let persistent = self.messages.iter().filter(|message| message.properties.persistent);
        let growing = self.changes.iter().filter(|change| change.grows());
        persistent.map(Message::weight).sum::<usize>() + growing.map(Change::weight).sum::<usize>()
    }

    /// Waits for admission, checks and applies everything, and waits for the commit.
    pub(super) async fn commit(
        mut self,
        delivery: &mut broker::Delivery,
    ) -> Result<(), BackendError> {
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        let cache = delivery.companion::<cache::Cache>().cloned();
        if cache.is_none() && !(self.changes.is_empty() && self.notifications.is_empty()) {
            let text = "the broker has no cache on its journal";
            return Err(BrokerError::NotImplemented(text.to_owned()).into());
        }
        match self.bytes() {
            0 => {}
            bytes => delivery.admit(bytes).await?,
        }
        let messages = std::mem::take(&mut self.messages);
        let claim = || delivery.claim(messages);
        let appended = match &cache {
            Some(cache) if !self.changes.is_empty() => cache.transact(
                &self.changes,
                || claim().map_err(Refusal::from),
                |claimed, group| claimed.append(group),
            )?,
            _ => claim()?.append(Default::default()).1,
        };
        if let Some(commit) = appended.enqueue() {
            commit.await?;
        }
        self.follow(delivery, cache.as_ref());
        Ok(())
    }

    /// Does it all without an acknowledgement, one effect after another: where the back ends have no commit
    /// in common ([`Broker::commits_with`]). Whoever calls it acknowledges afterwards, so a crash in between
    /// does it again: what it changes is to be the same the second time.
    ///
    /// # Errors
    /// The first effect that can't be had, those before it are done. Counting and pushing to a list without
    /// a bound are refused, as they would be done twice.
    pub async fn apply(self, broker: &Broker, cache: &Cache) -> Result<(), BackendError> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        for change in self.changes {
            apply(change, cache).await?;
        }
        for message in self.messages {
            broker.publish(message).await?.confirmed().await?;
        }
        for event in self.events {
            broker.publish(event).await?.confirmed().await?;
        }
        for (channel, payload) in self.notifications {
            cache.publish(&channel, payload).await?;
        }
        Ok(())
    }

    /// What comes after the commit.
    fn follow(self, delivery: &broker::Delivery, cache: Option<&cache::Cache>) {
        if let (false, Ok(broker)) =
            (self.events.is_empty(), delivery.broker_of(&VhostName::default_vhost()))
        {
            for event in self.events {
                if let Err(error) = broker.try_publish(event) {
                    tracing::warn!(%error, "an event of an acknowledgement was not sent");
                }
            }
        }
        if let Some(cache) = cache {
            for (channel, payload) in self.notifications {
                cache.publish(channel, payload);
            }
        }
    }
}

async fn apply(change: Change, cache: &Cache) -> Result<(), BackendError> {
    let name = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    match change {
        Change::Set { key, value, ttl } => cache.set(&name(&key), value, ttl).await,
        Change::Delete { key } => cache.delete(&name(&key)).await.map(drop),
        Change::Expire { key, ttl } => cache.expire(&name(&key), ttl).await.map(drop),
        Change::Increment { .. } | Change::Push { .. } | Change::PushCapped { .. } => {
            let text =
                "a count or a push that is made apart from its acknowledgement may be made twice";
            Err(BrokerError::NotImplemented(text.to_owned()).into())
        }
    }
}

/// Either engine's.
struct Refusal(BackendError);

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self(error.into())
    }
}

impl From<CacheError> for Refusal {
    fn from(error: CacheError) -> Self {
        Self(error.into())
    }
}

impl From<Refusal> for BackendError {
    fn from(Refusal(error): Refusal) -> Self {
        error
    }
}
