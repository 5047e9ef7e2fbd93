//! Pub/sub: what is listened to, over whichever connection there is.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::RedisCache;
use crate::backend::BackendError;
use crate::cache::{Channels as Local, Subscriber, SubscriberLimits};

/// What is listened to by its own name, or by a pattern of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Channel,
    Pattern,
}

type Topics = Vec<(Topic, String)>;

/// Who listens in this process. The server sends each message once a topic, however many do.
#[derive(Default)]
pub struct Channels {
    local: Local,
    /// Subscriptions a topic, those included that are being confirmed.
    wanted: Mutex<BTreeMap<(Topic, String), usize>>,
    /// Has SUBSCRIBE and UNSUBSCRIBE of one topic be sent in the order in which they were decided.
    order: tokio::sync::Mutex<()>,
}

/// Messages of topics, in the order in which the server sent them.
pub struct RedisSubscription {
    subscriber: Subscriber,
    _want: Want,
}

impl RedisSubscription {
    /// The next message. Those that were sent while there was no connection are lost. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.subscriber.recv().await.map(|published| published.payload)
    }
}

/// Keeps topics listened to.
struct Want {
    cache: RedisCache,
    topics: Topics,
}

impl Drop for Want {
    fn drop(&mut self) {
        let mut topics = std::mem::take(&mut self.topics);
        topics.retain(|topic| self.cache.channels.forget(topic));
        if topics.is_empty() {
            return;
        }
        let cache = self.cache.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { cache.unsubscribe(topics).await });
    }
}

impl Channels {
    /// A message push: the channel and the payload, behind the pattern if it came by one.
    pub fn deliver(&self, topic: Topic, data: Vec<Value>) {
        let mut parts = data.into_iter();
        if let (Some(Value::BulkString(name)), Some(Value::BulkString(payload))) =
            (parts.next(), parts.next_back())
        {
            self.local.publish(&key(topic, name), &payload.into());
        }
    }

    /// Subscribes a new connection to all topics.
    pub async fn listen_again(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let wanted: Topics = self.wanted.lock().keys().cloned().collect();
        let (channels, patterns): (Topics, Topics) =
            wanted.into_iter().partition(|(topic, _)| *topic == Topic::Channel);
        let names = |topics: Topics| topics.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        if !channels.is_empty() {
            connection.subscribe(names(channels)).await?;
        }
        if !patterns.is_empty() {
            connection.psubscribe(names(patterns)).await?;
        }
        Ok(())
    }

    fn want(&self, topic: &(Topic, String)) {
        *self.wanted.lock().entry(topic.clone()).or_default() += 1;
    }

    /// Whether it was the last.
    fn forget(&self, topic: &(Topic, String)) -> bool {
        let mut wanted = self.wanted.lock();
        let Some(count) = wanted.get_mut(topic) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            wanted.remove(topic);
        }
        is_last
    }

    fn is_wanted(&self, topic: &(Topic, String)) -> bool {
        self.wanted.lock().contains_key(topic)
    }
}

/// Under which name a topic is known in this process: a pattern may read as a channel does.
fn key(topic: Topic, name: impl Into<Vec<u8>>) -> Bytes {
    let mut key = name.into();
    key.push(match topic {
        Topic::Channel => b'c',
        Topic::Pattern => b'p',
    });
    key.into()
}

impl RedisCache {
    /// Resolves when the server has confirmed the subscriptions, which outlive their connection.
    pub async fn subscribe(
        &self,
        topics: &[(Topic, &str)],
    ) -> Result<RedisSubscription, BackendError> {
        let mut subscriber = self.channels.local.subscriber(SubscriberLimits::default());
        let topics: Topics = topics.iter().map(|(topic, name)| (*topic, (*name).into())).collect();
        for topic in &topics {
            subscriber.subscribe(key(topic.0, topic.1.as_str()));
            self.channels.want(topic);
        }
        let want = Want { cache: self.clone(), topics };
        let _order = self.channels.order.lock().await;
        for (topic, name) in &want.topics {
            self.link.subscribe(*topic, name).await?;
        }
        Ok(RedisSubscription { subscriber, _want: want })
    }

    async fn unsubscribe(&self, topics: Topics) {
        let _order = self.channels.order.lock().await;
        for topic in topics {
            if self.channels.is_wanted(&topic) {
                continue;
            }
            // Without a connection there is nothing to end: a new one does not listen to it.
            if let Err(error) = self.link.unsubscribe(topic.0, &topic.1).await {
                tracing::debug!(%error, "a channel was not left");
            }
        }
    }

    /// How many subscribers of the server it reached.
    pub async fn publish(&self, channel: &str, payload: Bytes) -> Result<usize, BackendError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(&payload[..]);
        self.link.run(&command).await
    }
}
