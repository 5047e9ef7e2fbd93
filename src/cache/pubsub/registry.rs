//! Who listens to what.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
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

#[derive(Default)]
struct Inner {
    next_subscriber: SubscriberId,
    channels: Listeners,
    patterns: Listeners,
    closed: bool,
}

impl Registry {
    /// Delivers a message to those who listen to the channel, then to those who listen to a pattern
    /// that matches it. Returns how many deliveries that were: a subscriber that listens to both
    /// gets it twice, as in Redis.
    pub(in crate::cache) fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let inner = self.inner.lock();
        let by_channel =
            inner.channels.get(channel).into_iter().flatten().map(|(_, mailbox)| (None, mailbox));
        let by_pattern =
            inner.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel)).flat_map(
                |(pattern, mailboxes)| {
                    mailboxes.values().map(move |mailbox| (Some(pattern.clone()), mailbox))
                },
            );
        let mut deliveries = 0;
        for (pattern, mailbox) in by_channel.chain(by_pattern) {
            let (channel, payload) = (channel.clone(), payload.clone());
            mailbox.deliver(Published { channel, pattern, payload });
            deliveries += 1;
        }
        deliveries
    }

    /// A subscriber that listens to nothing yet.
    pub(in crate::cache) fn subscriber(self: &Arc<Self>, limits: SubscriberLimits) -> Subscriber {
        let mut inner = self.inner.lock();
        inner.next_subscriber += 1;
        let subscriber = Subscriber {
            id: inner.next_subscriber,
            mailbox: Arc::new(Mailbox::new(limits)),
            registry: Arc::clone(self),
            channels: Vec::new(),
            patterns: Vec::new(),
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
        for mailbox in
            inner.channels.values().chain(inner.patterns.values()).flat_map(BTreeMap::values)
        {
            mailbox.close();
        }
    }
}

fn listen(listeners: &mut Listeners, name: &Bytes, id: SubscriberId, mailbox: &Arc<Mailbox>) {
    listeners.entry(name.clone()).or_default().insert(id, Arc::clone(mailbox));
}

fn leave(listeners: &mut Listeners, name: &Bytes, id: SubscriberId) {
    if let Some(mailboxes) = listeners.get_mut(name) {
        mailboxes.remove(&id);
        if mailboxes.is_empty() {
            listeners.remove(name);
        }
    }
}

/// Listens to channels and patterns until it is dropped.
pub struct Subscriber {
    id: SubscriberId,
    mailbox: Arc<Mailbox>,
    registry: Arc<Registry>,
    channels: Vec<Bytes>,
    patterns: Vec<Bytes>,
}

impl Subscriber {
    /// SUBSCRIBE. A channel that it listens to already is nothing new.
    pub fn subscribe(&mut self, channel: impl Into<Bytes>) {
        let channel = channel.into();
        if !self.channels.contains(&channel) {
            listen(&mut self.registry.inner.lock().channels, &channel, self.id, &self.mailbox);
            self.channels.push(channel);
        }
    }

    /// PSUBSCRIBE.
    pub fn psubscribe(&mut self, pattern: impl Into<Bytes>) {
        let pattern = pattern.into();
        if !self.patterns.contains(&pattern) {
            listen(&mut self.registry.inner.lock().patterns, &pattern, self.id, &self.mailbox);
            self.patterns.push(pattern);
        }
    }

    /// UNSUBSCRIBE from one channel. Whether it listened to it.
    pub fn unsubscribe(&mut self, channel: &[u8]) -> bool {
        let Some(at) = self.channels.iter().position(|name| name == channel) else { return false };
        let channel = self.channels.remove(at);
        leave(&mut self.registry.inner.lock().channels, &channel, self.id);
        true
    }

    /// PUNSUBSCRIBE from one pattern. Whether it listened to it.
    pub fn punsubscribe(&mut self, pattern: &[u8]) -> bool {
        let Some(at) = self.patterns.iter().position(|name| name == pattern) else { return false };
        let pattern = self.patterns.remove(at);
        leave(&mut self.registry.inner.lock().patterns, &pattern, self.id);
        true
    }

    /// The channels that it listens to, in the order in which it came to them.
    pub fn channels(&self) -> &[Bytes] {
        &self.channels
    }

    pub fn patterns(&self) -> &[Bytes] {
        &self.patterns
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
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut inner = self.registry.inner.lock();
        for channel in &self.channels {
            leave(&mut inner.channels, channel, self.id);
        }
        for pattern in &self.patterns {
            leave(&mut inner.patterns, pattern, self.id);
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
        let inner = registry.inner.lock();
        assert!(inner.channels.is_empty() && inner.patterns.is_empty());
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
