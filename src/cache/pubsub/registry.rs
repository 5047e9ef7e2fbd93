//! Who listens to what.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use bytes::Bytes;
use indexmap::IndexSet;
use parking_lot::Mutex;

use super::mailbox::{Mailbox, Published, SubscriberLimits};
use crate::model::glob;

/// Subscribers are numbered, so that each message reaches them in the order in which they came.
type SubscriberId = u64;
type Listeners = AHashMap<Bytes, BTreeMap<SubscriberId, Arc<Mailbox>>>;

#[derive(Default)]
pub(in crate::cache) struct Registry {
    inner: Mutex<Inner>,
}

/// What a subscriber listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Channel,
    /// Every channel that it matches.
    Pattern,
    /// A channel of SSUBSCRIBE, which knows nothing of the others.
    ShardChannel,
}

#[derive(Default)]
struct Inner {
    next_subscriber: SubscriberId,
    /// By [`Topic`].
    listeners: [Listeners; 3],
    closed: bool,
}

impl Registry {
    /// Delivers a message to those who listen to the channel, then to those who listen to a pattern
    /// that matches it. Returns how many deliveries that were: a subscriber that listens to both
    /// gets it twice, as in Redis.
    pub(in crate::cache) fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let inner = self.inner.lock();
        let [channels, patterns, _] = &inner.listeners;
        let deliveries = deliver(channels.get(channel), Topic::Channel, None, channel, payload);
        let by_pattern = patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel))
            .map(|(pattern, mailboxes)| {
                deliver(Some(mailboxes), Topic::Pattern, Some(pattern), channel, payload)
            });
        deliveries + by_pattern.sum::<usize>()
    }

    /// SPUBLISH, as [`Registry::publish`].
    pub(in crate::cache) fn publish_to_shard(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let inner = self.inner.lock();
        let [.., shards] = &inner.listeners;
        deliver(shards.get(channel), Topic::ShardChannel, None, channel, payload)
    }

    /// What is listened to.
    pub(in crate::cache) fn topics(&self, topic: Topic) -> Vec<Bytes> {
        let inner = self.inner.lock();
        let listeners = inner.listeners.get(topic as usize).into_iter().flatten();
        listeners.map(|(name, _)| name.clone()).collect()
    }

    /// How many are listened to.
    pub(in crate::cache) fn topic_count(&self, topic: Topic) -> usize {
        self.inner.lock().listeners.get(topic as usize).map_or(0, |listeners| listeners.len())
    }

    /// How many listen to it.
    pub(in crate::cache) fn listener_count(&self, topic: Topic, name: &[u8]) -> usize {
        let inner = self.inner.lock();
        let listeners = inner.listeners.get(topic as usize);
        listeners.and_then(|listeners| listeners.get(name)).map_or(0, BTreeMap::len)
    }

    /// A subscriber that listens to nothing yet.
    pub(in crate::cache) fn subscriber(self: &Arc<Self>, limits: SubscriberLimits) -> Subscriber {
        let mut inner = self.inner.lock();
        inner.next_subscriber += 1;
        let subscriber = Subscriber {
            id: inner.next_subscriber,
            mailbox: Arc::new(Mailbox::new(limits)),
            registry: Arc::clone(self),
            topics: Default::default(),
        };
        if inner.closed {
            subscriber.mailbox.close();
        }
        drop(inner);
        subscriber
    }

    /// The cache is gone: nothing will be published any more.
    pub(in crate::cache) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let listeners = inner.listeners.iter().flat_map(|listeners| listeners.values());
        for mailbox in listeners.flat_map(BTreeMap::values) {
            mailbox.close();
        }
    }
}

fn deliver(
    mailboxes: Option<&BTreeMap<SubscriberId, Arc<Mailbox>>>,
    topic: Topic,
    pattern: Option<&Bytes>,
    channel: &Bytes,
    payload: &Bytes,
) -> usize {
    let Some(mailboxes) = mailboxes else { return 0 };
    for mailbox in mailboxes.values() {
        let (channel, payload) = (channel.clone(), payload.clone());
        mailbox.deliver(Published { topic, channel, pattern: pattern.cloned(), payload });
    }
    mailboxes.len()
}

/// Listens to channels and patterns until it is dropped.
pub struct Subscriber {
    id: SubscriberId,
    mailbox: Arc<Mailbox>,
    registry: Arc<Registry>,
    /// By [`Topic`].
    topics: [IndexSet<Bytes, RandomState>; 3],
}

impl Subscriber {
    /// Listens to one more; whether that is new.
    pub fn listen(&mut self, topic: Topic, name: Bytes) -> bool {
        let Some(names) = self.topics.get_mut(topic as usize) else { return false };
        let is_new = names.insert(name.clone());
        if is_new
            && let Some(listeners) = self.registry.inner.lock().listeners.get_mut(topic as usize)
        {
            listeners.entry(name).or_default().insert(self.id, Arc::clone(&self.mailbox));
        }
        is_new
    }

    /// Listens to one less; whether it listened to that.
    pub fn leave(&mut self, topic: Topic, name: &[u8]) -> bool {
        let names = self.topics.get_mut(topic as usize);
        let was_there = names.is_some_and(|names| names.swap_remove(name));
        if was_there {
            self.registry.inner.lock().leave(topic, name, self.id);
        }
        was_there
    }

    /// What it listens to, in no order.
    pub fn names(&self, topic: Topic) -> impl ExactSizeIterator<Item = &Bytes> {
        self.topics[topic as usize].iter()
    }

    /// SUBSCRIBE. A channel that it listens to already is nothing new.
    pub fn subscribe(&mut self, channel: impl Into<Bytes>) {
        self.listen(Topic::Channel, channel.into());
    }

    /// PSUBSCRIBE.
    pub fn psubscribe(&mut self, pattern: impl Into<Bytes>) {
        self.listen(Topic::Pattern, pattern.into());
    }

    /// UNSUBSCRIBE from one channel. Whether it listened to it.
    pub fn unsubscribe(&mut self, channel: &[u8]) -> bool {
        self.leave(Topic::Channel, channel)
    }

    /// PUNSUBSCRIBE from one pattern. Whether it listened to it.
    pub fn punsubscribe(&mut self, pattern: &[u8]) -> bool {
        self.leave(Topic::Pattern, pattern)
    }

    /// The next message; `None` when the cache is gone and everything was taken. Cancel safe.
    pub async fn recv(&mut self) -> Option<Published> {
        self.mailbox.take().await
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Option<Published> {
        self.mailbox.try_take()
    }

    /// Messages that were lost because too many were left unread.
    pub fn dropped(&self) -> u64 {
        self.mailbox.dropped()
    }

    /// Bytes of the messages that it has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.mailbox.bytes()
    }
}

impl Inner {
    fn leave(&mut self, topic: Topic, name: &[u8], id: SubscriberId) {
        let Some(listeners) = self.listeners.get_mut(topic as usize) else { return };
        if let Some(mailboxes) = listeners.get_mut(name) {
            mailboxes.remove(&id);
            if mailboxes.is_empty() {
                listeners.remove(name);
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut inner = self.registry.inner.lock();
        for topic in [Topic::Channel, Topic::Pattern, Topic::ShardChannel] {
            for name in self.topics.get(topic as usize).into_iter().flatten() {
                inner.leave(topic, name, self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn a_message_reaches_channels_first_and_then_patterns() {
        let registry = Arc::new(Registry::default());
        let mut subscriber = registry.subscriber(SubscriberLimits::default());
        subscriber.psubscribe("ne*");
        subscriber.subscribe("news");
        subscriber.subscribe("news");
        assert_eq!(registry.publish(&bytes("news"), &bytes("hello")), 2);
        assert_eq!(registry.publish(&bytes("newt"), &bytes("hop")), 1);
        assert_eq!(registry.publish(&bytes("old"), &bytes("gone")), 0);
        let expected = [(None, "news"), (Some(bytes("ne*")), "news"), (Some(bytes("ne*")), "newt")];
        for (pattern, channel) in expected {
            let message = subscriber.recv().await.unwrap();
            assert_eq!((message.pattern, &message.channel), (pattern, &bytes(channel)));
        }
        assert!(subscriber.try_recv().is_none());
    }

    #[test]
    fn a_shard_channel_is_not_the_channel_of_the_same_name() {
        let registry = Arc::new(Registry::default());
        let mut subscriber = registry.subscriber(SubscriberLimits::default());
        assert!(subscriber.listen(Topic::ShardChannel, bytes("c")));
        assert!(!subscriber.listen(Topic::ShardChannel, bytes("c")));
        assert_eq!(registry.publish(&bytes("c"), &bytes("x")), 0);
        assert_eq!(registry.publish_to_shard(&bytes("c"), &bytes("y")), 1);
        let message = subscriber.try_recv().unwrap();
        assert_eq!((message.topic, &message.payload[..]), (Topic::ShardChannel, &b"y"[..]));
        assert_eq!(registry.topics(Topic::ShardChannel), [bytes("c")]);
        assert_eq!(registry.listener_count(Topic::Channel, b"c"), 0);
        assert!(subscriber.leave(Topic::ShardChannel, b"c"));
        assert!(registry.topics(Topic::ShardChannel).is_empty());
    }

    #[test]
    fn who_leaves_is_not_counted_and_leaves_nothing_behind() {
        let registry = Arc::new(Registry::default());
        let mut first = registry.subscriber(SubscriberLimits::default());
        let mut second = registry.subscriber(SubscriberLimits::default());
        first.subscribe("a");
        second.subscribe("a");
        second.psubscribe("*");
        assert_eq!(registry.publish(&bytes("a"), &bytes("x")), 3);
        assert!(second.unsubscribe(b"a"));
        assert!(!second.unsubscribe(b"a"));
        assert_eq!(registry.publish(&bytes("a"), &bytes("x")), 2);
        assert!(second.punsubscribe(b"*"));
        drop(first);
        assert_eq!(registry.publish(&bytes("a"), &bytes("x")), 0);
        assert!(registry.inner.lock().listeners.iter().all(|listeners| listeners.is_empty()));
    }

    #[test]
    fn a_subscriber_past_its_bound_loses_the_oldest_and_counts_them() {
        let registry = Arc::new(Registry::default());
        let by_count = SubscriberLimits { queue_messages_max: 2, ..SubscriberLimits::default() };
        let mut subscriber = registry.subscriber(by_count);
        subscriber.subscribe("c");
        for text in ["1", "2", "3"] {
            assert_eq!(registry.publish(&bytes("c"), &bytes(text)), 1);
        }
        assert_eq!(subscriber.dropped(), 1);
        assert_eq!(subscriber.try_recv().unwrap().payload, "2");
        assert_eq!(subscriber.try_recv().unwrap().payload, "3");
        assert!(subscriber.try_recv().is_none());

        let by_bytes = SubscriberLimits { queue_bytes_max: 1_000, ..SubscriberLimits::default() };
        let mut subscriber = registry.subscriber(by_bytes);
        subscriber.subscribe("b");
        registry.publish(&bytes("b"), &Bytes::from(vec![0; 600]));
        registry.publish(&bytes("b"), &Bytes::from(vec![1; 600]));
        assert_eq!(subscriber.dropped(), 1);
        registry.publish(&bytes("b"), &Bytes::from(vec![2; 2_000]));
        assert_eq!(subscriber.dropped(), 3, "one that fits no mailbox is lost, and says so");
        registry.publish(&bytes("b"), &bytes("small"));
        assert_eq!(subscriber.try_recv().unwrap().payload, "small");
    }

    #[tokio::test]
    async fn a_waiting_subscriber_wakes_and_hears_of_the_end() {
        let registry = Arc::new(Registry::default());
        let mut subscriber = registry.subscriber(SubscriberLimits::default());
        subscriber.subscribe("c");
        let waiting = tokio::spawn(async move {
            let first = subscriber.recv().await;
            (first.map(|message| message.payload), subscriber.recv().await)
        });
        tokio::task::yield_now().await;
        registry.publish(&bytes("c"), &bytes("x"));
        registry.close();
        assert_eq!(waiting.await.unwrap(), (Some(bytes("x")), None));
    }
}
