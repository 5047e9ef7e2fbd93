//! The RESP listener: what redis-cli, ioredis, node-redis and redis-py connect to.
//!
//! Owns connections and what belongs to them: authentication, names, the protocol's version, subscriptions,
//! output buffers, limits, CONFIG, INFO, SLOWLOG. May import: `cache`, `wire`, `journal`, `model`. What a
//! command on keys means is the cache's; here is only who may send it and how its answer is written.
//!
//! What always holds:
//! - Requests of one connection are answered in their order, whatever came between them.
//! - What one read brought runs under one visit to the keyspace, but for its scripts, and is answered by
//!   one write.
//! - A client that does not read its answers is not read from: what it has unread is bounded by
//!   256 KiB and one answer. A subscriber that falls behind is cut.
//! - Under `appendfsync always` an answer is sent when what it answers is on disk.
//! - A visit is made in a client's turn, which no script shares. Scripts, and transactions with scripts
//!   in them, leave the visit and have a turn of their own.
//! - Locks are taken after the keyspace's, each for a few fields, and none across an await.

mod client;
mod clients;
mod command;
mod config;
mod connection;
mod listener;
mod pause;
mod reply;
mod script_host;
mod scripted;
mod shared;
mod slow_log;
mod subscription;

pub use clients::Peer;
pub use listener::{ListenError, Listener};
pub use shared::{Options, Resp};
