//! Pub/sub: channels, patterns, and the bounded mailboxes of subscribers in this process.
//!
//! Owns subscriptions and what waits in mailboxes; nothing of it is in the journal. May import:
//! `model`. What always holds: delivery is at most once; a mailbox keeps its bounds by losing its
//! oldest messages, and counts them; no name without a listener is kept.

mod channels;
mod command;
mod mailbox;
mod registry;

pub use channels::Channels;
pub use command::PubSubCommand;
pub(super) use command::SPECS;
pub use mailbox::{Published, SubscriberLimits};
pub(super) use registry::Registry;
pub use registry::{Subscriber, Topic};
