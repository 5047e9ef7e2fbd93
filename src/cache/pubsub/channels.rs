//! Pub/sub of this process without a cache: for messages that come from a server.

use std::sync::Arc;

use bytes::Bytes;

use super::{Registry, Subscriber, SubscriberLimits};

/// Hands each message to those who listen to its channel, within the same bounds as the cache's own.
#[derive(Default)]
pub struct Channels(Arc<Registry>);

impl Channels {
    /// How many deliveries that were.
    pub fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        self.0.publish(channel, payload)
    }

    /// A subscriber that listens to nothing yet.
    pub fn subscriber(&self, limits: SubscriberLimits) -> Subscriber {
        self.0.subscriber(limits)
    }
}
