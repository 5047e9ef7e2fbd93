//! Pub/sub: channels, patterns, and the bounded mailboxes of subscribers in this process.
//!
//! At most once: a subscriber that falls behind its bound loses its oldest messages, and they are
//! counted. Nothing of it is in the journal.

mod mailbox;
mod registry;

use bytes::Bytes;

use super::command::{Arity, Command, Spec};
pub use mailbox::{Published, SubscriberLimits};
pub(super) use registry::Registry;
pub use registry::Subscriber;

/// A command on channels. To subscribe is a matter of the connection, not of the keyspace: see
/// [`Subscriber`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PubSubCommand {
    Publish { channel: Bytes, payload: Bytes },
}

pub(super) const SPECS: &[Spec] = &[Spec::new("publish", Arity::Exactly(2), |mut args| {
    let (channel, payload) = (args.next()?, args.next()?);
    Ok(Command::PubSub(PubSubCommand::Publish { channel, payload }))
})];
