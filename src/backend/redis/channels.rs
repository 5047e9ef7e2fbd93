//! Pub/sub: what is listened to, over whichever connection there is.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::RedisCache;
use crate::backend::BackendError;
use crate::cache::{Channels as Local, Subscriber, SubscriberLimits};

/// Who listens in this process. The server sends each message once, however many do.
#[derive(Default)]
pub struct Channels {
    local: Local,
    /// Subscriptions a channel, those included that are being confirmed.
    wanted: Mutex<BTreeMap<String, usize>>,
    /// Has SUBSCRIBE and UNSUBSCRIBE of one channel be sent in the order in which they were decided.
    order: tokio::sync::Mutex<()>,
}

/// Messages of one channel.
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

/// Keeps a channel listened to.
struct Want {
    cache: RedisCache,
    channel: String,
}

impl Drop for Want {
    fn drop(&mut self) {
        if !self.cache.channels.forget(&self.channel) {
            return;
        }
        let (cache, channel) = (self.cache.clone(), std::mem::take(&mut self.channel));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { cache.unsubscribe(&channel).await });
    }
}

impl Channels {
    /// A message push: the channel and the payload.
    pub fn deliver(&self, data: Vec<Value>) {
        let mut parts = data.into_iter();
        if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (parts.next(), parts.next())
        {
            self.local.publish(&channel.into(), &payload.into());
        }
    }

    /// Subscribes a new connection to all channels.
    pub async fn listen_again(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let wanted: Vec<String> = self.wanted.lock().keys().cloned().collect();
        if wanted.is_empty() { Ok(()) } else { connection.subscribe(wanted).await }
    }

    fn want(&self, channel: &str) {
        *self.wanted.lock().entry(channel.to_owned()).or_default() += 1;
    }

    /// Whether it was the last.
    fn forget(&self, channel: &str) -> bool {
        let mut wanted = self.wanted.lock();
        let Some(count) = wanted.get_mut(channel) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            wanted.remove(channel);
        }
        is_last
    }

    fn is_wanted(&self, channel: &str) -> bool {
        self.wanted.lock().contains_key(channel)
    }
}

impl RedisCache {
    /// Resolves when the server has confirmed the subscription, which outlives its connection.
    pub async fn subscribe(&self, channel: &str) -> Result<RedisSubscription, BackendError> {
        let mut subscriber = self.channels.local.subscriber(SubscriberLimits::default());
        subscriber.subscribe(channel.to_owned());
        self.channels.want(channel);
        let want = Want { cache: self.clone(), channel: channel.to_owned() };
        let _order = self.channels.order.lock().await;
        self.link.subscribe(channel).await?;
        Ok(RedisSubscription { subscriber, _want: want })
    }

    async fn unsubscribe(&self, channel: &str) {
        let _order = self.channels.order.lock().await;
        if self.channels.is_wanted(channel) {
            return;
        }
        // Without a connection there is nothing to end: a new one does not listen to it.
        if let Err(error) = self.link.unsubscribe(channel).await {
            tracing::debug!(%error, "a channel was not left");
        }
    }

    /// How many subscribers of the server it reached.
    pub async fn publish(&self, channel: &str, payload: Bytes) -> Result<usize, BackendError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(&payload[..]);
        self.link.run(&command).await
    }
}
