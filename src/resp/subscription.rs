//! What a client listens to, and the messages on their way to it.

use std::time::Instant;

use bytes::Bytes;

use super::client::Client;
use super::connection::OUTPUT_BYTES_SOFT;
use crate::cache::{Published, Subscriber, SubscriberLimits, Topic};
use crate::wire::resp::Version;

impl Client {
    /// The mailbox, which is made at the first subscription.
    pub(super) fn subscriber(&mut self) -> &mut Subscriber {
        let shared = &self.shared;
        self.subscriber.get_or_insert_with(|| {
            let hard_bytes = shared.config.lock().pubsub_limit.hard_bytes;
            // What does not fit is lost, and then the client is cut.
            let limits =
                SubscriberLimits { queue_messages_max: usize::MAX, queue_bytes_max: hard_bytes };
            shared.cache.subscriber(limits)
        })
    }

    pub(super) fn topics(&self, topic: Topic) -> Vec<Bytes> {
        self.subscriber.as_ref().map_or_else(Vec::new, |sub| sub.names(topic).cloned().collect())
    }

    pub(super) fn leave(&mut self, topic: Topic, name: &[u8]) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.leave(topic, name);
        }
    }

    /// Brings up to date how many topics there are. What was sent to one that it has left since is
    /// still delivered, as Redis has it in the output by then.
    pub(super) fn count_topics(&mut self) {
        let count = |topic| self.subscriber.as_ref().map_or(0, |sub| sub.names(topic).len());
        self.info.channels = count(Topic::Channel);
        self.info.patterns = count(Topic::Pattern);
        self.info.shard_channels = count(Topic::ShardChannel);
    }

    /// Whether only the commands of a listener may be sent.
    pub(super) fn only_listens(&self) -> bool {
        self.info.version == Version::Resp2 && self.info.is_subscriber()
    }

    /// Writes the messages that have come, until enough is to be written.
    pub(super) fn take_messages(&mut self) {
        while self.out.len() <= OUTPUT_BYTES_SOFT {
            let message = self.subscriber.as_mut().and_then(Subscriber::try_recv);
            let Some(message) = message else { return };
            self.write_message(&message);
        }
    }

    pub(super) fn write_message(&mut self, message: &Published) {
        let mut writer = self.writer();
        match (message.topic, &message.pattern) {
            (_, Some(pattern)) => {
                writer.push(4);
                writer.bulk(b"pmessage");
                writer.bulk(pattern);
            }
            (Topic::ShardChannel, None) => {
                writer.push(3);
                writer.bulk(b"smessage");
            }
            (Topic::Channel | Topic::Pattern, None) => {
                writer.push(3);
                writer.bulk(b"message");
            }
        }
        writer.bulk(&message.channel);
        writer.bulk(&message.payload);
        self.pushed();
    }

    /// What is in the output so far is sent whatever CLIENT REPLY says.
    pub(super) fn pushed(&mut self) {
        self.pushed_bytes = self.out.len();
    }

    /// Whether it reads its messages too slowly: more than the hard limit is unread, or more than the
    /// soft one for too long.
    pub(super) fn is_behind(&mut self, unwritten_bytes: usize) -> bool {
        let Some(subscriber) = &self.subscriber else { return false };
        if subscriber.dropped() > 0 {
            return true;
        }
        let limit = self.shared.config.lock().pubsub_limit;
        if subscriber.queued_bytes() + unwritten_bytes <= limit.soft_bytes {
            self.behind_since = None;
            return false;
        }
        self.behind_since.get_or_insert_with(Instant::now).elapsed() > limit.soft_for
    }
}
