//! What the broker promises, one file a promise. Each is held against the embedded engine, and against a
//! real RabbitMQ too when the suite runs beside one, unless it says why it can't be.

mod ack_with;
mod alarms;
mod channel_consuming;
mod channel_peer;
mod channel_settling;
mod channels;
mod confirms;
mod consumers;
mod dead_letters;
mod declare;
mod delayed;
mod delivery;
mod delivery_limit;
mod exchange_life;
mod explain;
mod faults;
mod fixture;
mod headers_exchange;
mod killed;
mod peer;
mod planted;
mod policies;
mod priorities;
mod properties;
mod publish_all;
mod queue_length;
mod queue_life;
mod rabbitmq;
mod redrive;
mod restart;
mod retry;
mod routing;
mod routing_further;
mod table;
mod ttl;
mod users;
mod vhosts;

/// Whether messages leave memory as soon as they may: see `tests/broker_contract_paged.rs`.
const PAGED: bool = false;
