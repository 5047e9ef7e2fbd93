//! The commands on channels.

use super::{Registry, Topic};
use crate::cache::command::{Args, Arity, Command, Flags, Spec};
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::cache::server::ServerCommand;
use crate::model::glob;
use crate::model::text::Text;

/// A command on channels. To subscribe is a matter of the connection, not of the keyspace: see
/// [`Subscriber`](super::Subscriber).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PubSubCommand {
    Publish {
        channel: Text,
        payload: Text,
    },
    /// To those of the shard channel alone.
    ShardPublish {
        channel: Text,
        payload: Text,
    },
    /// PUBSUB CHANNELS, PUBSUB SHARDCHANNELS: those that somebody listens to.
    Channels {
        topic: Topic,
        pattern: Option<Text>,
    },
    /// PUBSUB NUMSUB, PUBSUB SHARDNUMSUB: how many listen to each.
    ListenerCounts {
        topic: Topic,
        names: Vec<Text>,
    },
    /// PUBSUB NUMPAT
    PatternCount,
}

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("publish", Arity::Exactly(2), |mut args| {
        let (channel, payload) = (args.next()?, args.next()?);
        Ok(Command::PubSub(PubSubCommand::Publish { channel, payload }))
    })
    .flags(FLAGS.and(Flags::FAST)),
    Spec::new("spublish", Arity::Exactly(2), |mut args| {
        let (channel, payload) = (args.next()?, args.next()?);
        Ok(Command::PubSub(PubSubCommand::ShardPublish { channel, payload }))
    })
    .flags(FLAGS.and(Flags::FAST))
    .key(),
    Spec::container("pubsub", SUBCOMMANDS),
];

const FLAGS: Flags = Flags::PUBSUB.and(Flags::WHENEVER);

const SUBCOMMANDS: &[Spec] = &[
    Spec::new("pubsub|channels", Arity::AtLeast(0), |args| channels(args, Topic::Channel))
        .flags(FLAGS),
    Spec::new("pubsub|numpat", Arity::Exactly(0), |_| {
        Ok(Command::PubSub(PubSubCommand::PatternCount))
    })
    .flags(FLAGS),
    Spec::new("pubsub|numsub", Arity::AtLeast(0), |args| counts(args, Topic::Channel)).flags(FLAGS),
    Spec::new("pubsub|shardchannels", Arity::AtLeast(0), |args| {
        channels(args, Topic::ShardChannel)
    })
    .flags(FLAGS),
    Spec::new("pubsub|shardnumsub", Arity::AtLeast(0), |args| counts(args, Topic::ShardChannel))
        .flags(FLAGS),
    Spec::new("pubsub|help", Arity::Exactly(0), |_| {
        Ok(Command::Server(ServerCommand::Help { lines: HELP }))
    })
    .flags(Flags::WHENEVER),
];

fn channels(mut args: Args<'_>, topic: Topic) -> Result<Command, CacheError> {
    let pattern = args.option().cloned();
    if !args.is_empty() {
        return Err(args.too_many("PUBSUB"));
    }
    Ok(Command::PubSub(PubSubCommand::Channels { topic, pattern }))
}

fn counts(mut args: Args<'_>, topic: Topic) -> Result<Command, CacheError> {
    Ok(Command::PubSub(PubSubCommand::ListenerCounts { topic, names: args.remaining() }))
}

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Prints this help.",
];

impl PubSubCommand {
    pub(in crate::cache) fn apply(&self, registry: &Registry) -> Reply {
        match self {
            Self::Publish { channel, payload } => {
                Reply::count(registry.publish(&channel.to_bytes(), &payload.to_bytes()))
            }
            Self::ShardPublish { channel, payload } => {
                Reply::count(registry.publish_to_shard(&channel.to_bytes(), &payload.to_bytes()))
            }
            Self::Channels { topic, pattern } => {
                let names = registry.topics(*topic).into_iter();
                let is_wanted = |name: &bytes::Bytes| {
                    pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
                };
                Reply::bulks(names.filter(is_wanted))
            }
            Self::ListenerCounts { topic, names } => {
                let count = |name: &Text| {
                    let count = registry.listener_count(*topic, &name.to_bytes());
                    [Reply::Bulk(name.to_bytes()), Reply::count(count)]
                };
                Reply::Array(names.iter().flat_map(count).collect())
            }
            Self::PatternCount => Reply::count(registry.topic_count(Topic::Pattern)),
        }
    }
}
