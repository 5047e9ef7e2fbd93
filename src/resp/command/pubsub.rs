//! SUBSCRIBE and its kin.

use bytes::Bytes;

use super::{ANY, Row};
use crate::cache::{Flags, Keys, Topic};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};

pub(super) const ROWS: &[Row] = &[
    Row::new("subscribe", 1, ANY, |client, _, args| listen(client, args, Topic::Channel))
        .flags(Flags::PUBSUB),
    Row::new("psubscribe", 1, ANY, |client, _, args| listen(client, args, Topic::Pattern))
        .flags(Flags::PUBSUB),
    Row::new("ssubscribe", 1, ANY, |client, _, args| listen(client, args, Topic::ShardChannel))
        .flags(Flags::PUBSUB)
        .keys(CHANNELS),
    Row::new("unsubscribe", 0, ANY, |client, _, args| leave(client, args, Topic::Channel))
        .flags(Flags::PUBSUB),
    Row::new("punsubscribe", 0, ANY, |client, _, args| leave(client, args, Topic::Pattern))
        .flags(Flags::PUBSUB),
    Row::new("sunsubscribe", 0, ANY, |client, _, args| leave(client, args, Topic::ShardChannel))
        .flags(Flags::PUBSUB)
        .keys(CHANNELS),
];

/// To a cluster they are keys.
const CHANNELS: Keys = Keys::Range { first: 1, last: -1, step: 1 };

/// What a client of RESP2 may say while it listens.
pub(in crate::resp) const WHILE_LISTENING: &[&str] = &[
    "ping",
    "subscribe",
    "ssubscribe",
    "psubscribe",
    "unsubscribe",
    "sunsubscribe",
    "punsubscribe",
    "quit",
    "reset",
];

fn listen(client: &mut Client, args: &[Text], topic: Topic) -> Outcome {
    let word = match topic {
        Topic::Channel => "subscribe",
        Topic::Pattern => "psubscribe",
        Topic::ShardChannel => "ssubscribe",
    };
    for name in args.iter().skip(1) {
        // Its own copy: the request's buffer is larger.
        client.subscriber().listen(topic, Bytes::copy_from_slice(name));
        confirm(client, word, Some(name), topic);
    }
    Outcome::Answered
}

fn leave(client: &mut Client, args: &[Text], topic: Topic) -> Outcome {
    let word = match topic {
        Topic::Channel => "unsubscribe",
        Topic::Pattern => "punsubscribe",
        Topic::ShardChannel => "sunsubscribe",
    };
    let names = match args.get(1..).unwrap_or_default() {
        [] => client.topics(topic).iter().map(Text::from).collect(),
        names => names.to_vec(),
    };
    if names.is_empty() {
        confirm(client, word, None, topic);
    }
    for name in &names {
        client.leave(topic, name);
        confirm(client, word, Some(name), topic);
    }
    Outcome::Answered
}

/// Says what is listened to now, as a push.
fn confirm(client: &mut Client, word: &str, name: Option<&[u8]>, topic: Topic) {
    client.count_topics();
    let count = match topic {
        Topic::Channel | Topic::Pattern => client.info.channels + client.info.patterns,
        Topic::ShardChannel => client.info.shard_channels,
    };
    let mut writer = client.writer();
    writer.push(3);
    writer.bulk(word.as_bytes());
    match name {
        Some(name) => writer.bulk(name),
        None => writer.nil(),
    }
    writer.integer(i64::try_from(count).unwrap_or(i64::MAX));
    client.pushed();
}
