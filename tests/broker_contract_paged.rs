//! The broker's contract, where every message that waits behind another one is on the disk alone.

#[path = "broker_contract/ack_with.rs"]
mod ack_with;
#[path = "broker_contract/alarms.rs"]
mod alarms;
#[path = "broker_contract/channel_consuming.rs"]
mod channel_consuming;
#[path = "broker_contract/channel_peer.rs"]
mod channel_peer;
#[path = "broker_contract/channel_settling.rs"]
mod channel_settling;
#[path = "broker_contract/channels.rs"]
mod channels;
#[path = "broker_contract/confirms.rs"]
mod confirms;
#[path = "broker_contract/consumers.rs"]
mod consumers;
#[path = "broker_contract/dead_letters.rs"]
mod dead_letters;
#[path = "broker_contract/declare.rs"]
mod declare;
#[path = "broker_contract/delayed.rs"]
mod delayed;
#[path = "broker_contract/delivery.rs"]
mod delivery;
#[path = "broker_contract/delivery_limit.rs"]
mod delivery_limit;
#[path = "broker_contract/exchange_life.rs"]
mod exchange_life;
#[path = "broker_contract/explain.rs"]
mod explain;
#[path = "broker_contract/fixture.rs"]
mod fixture;
#[path = "broker_contract/headers_exchange.rs"]
mod headers_exchange;
#[path = "broker_contract/peer.rs"]
mod peer;
#[path = "broker_contract/planted.rs"]
mod planted;
#[path = "broker_contract/policies.rs"]
mod policies;
#[path = "broker_contract/priorities.rs"]
mod priorities;
#[path = "broker_contract/properties.rs"]
mod properties;
#[path = "broker_contract/publish_all.rs"]
mod publish_all;
#[path = "broker_contract/queue_length.rs"]
mod queue_length;
#[path = "broker_contract/queue_life.rs"]
mod queue_life;
#[path = "broker_contract/redrive.rs"]
mod redrive;
#[path = "broker_contract/restart.rs"]
mod restart;
#[path = "broker_contract/retry.rs"]
mod retry;
#[path = "broker_contract/routing.rs"]
mod routing;
#[path = "broker_contract/routing_further.rs"]
mod routing_further;
#[path = "broker_contract/ttl.rs"]
mod ttl;
#[path = "broker_contract/users.rs"]
mod users;
#[path = "broker_contract/vhosts.rs"]
mod vhosts;

#[path = "broker_contract/rabbitmq/mod.rs"]
mod rabbitmq;

const PAGED: bool = true;
