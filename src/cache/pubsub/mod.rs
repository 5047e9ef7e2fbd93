//! Pub/sub: channels, patterns, and the bounded mailboxes of subscribers in this process.
//!
//! Owns subscriptions and what waits in mailboxes; nothing of it is in the journal. May import:
//! `model`. What always holds: delivery is at most once; a mailbox keeps its bounds by losing its
//! oldest messages, and counts them; no name without a listener is kept.

mod mailbox;
mod registry;

use bytes::Bytes;

use super::command::{Arity, Command, Flags, Spec};
pub use mailbox::{Published, SubscriberLimits};
pub(super) use registry::Registry;
pub use registry::{Subscriber, Topic};

/// A command on channels. To subscribe is a matter of the connection, not of the keyspace: see
/// [`Subscriber`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PubSubCommand {
    Publish {
        channel: Bytes,
        payload: Bytes,
    },
    /// To those of the shard channel alone.
    ShardPublish {
        channel: Bytes,
        payload: Bytes,
    },
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("publish", Arity::Exactly(2), |mut args| {
        let (channel, payload) = (args.next()?, args.next()?);
        Ok(Command::PubSub(PubSubCommand::Publish { channel, payload }))
    })
    .flags(Flags::PUBSUB.and(Flags::FAST)),
    Spec::new("spublish", Arity::Exactly(2), |mut args| {
        let (channel, payload) = (args.next()?, args.next()?);
        Ok(Command::PubSub(PubSubCommand::ShardPublish { channel, payload }))
    })
    .flags(Flags::PUBSUB.and(Flags::FAST))
    .key(),
];
