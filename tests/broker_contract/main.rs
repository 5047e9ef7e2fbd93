//! What the broker promises, written over the port, so that every back end can be held to it.
//! One file a promise.

mod ack_with;
mod alarms;
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
mod fixture;
mod headers_exchange;
mod policies;
mod priorities;
mod queue_length;
mod queue_life;
mod redrive;
mod restart;
mod retry;
mod routing;
mod routing_further;
mod table;
mod ttl;
mod users;
mod vhosts;
