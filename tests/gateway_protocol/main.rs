//! What the gateway promises, spoken byte by byte over a real port. One file a promise.
//!
//! The stock clients have tests of their own; here is what they never send, and what needs a disk that
//! waits or fails.

#[cfg(feature = "redis")]
mod asked;
#[cfg(feature = "redis")]
mod attendance;
mod bad_input;
mod bridge;
mod bystanders;
mod channels;
mod compression;
mod connection;
#[path = "../journal_crash/disk.rs"]
#[allow(dead_code, reason = "the tests of crashes ask for more")]
mod disk;
mod durability;
mod emit;
mod event_bridge;
#[cfg(feature = "redis")]
mod everywhere;
mod fanout;
mod handshake;
mod heartbeat;
mod http;
mod library;
mod limits;
mod limits_off;
#[cfg(feature = "redis")]
mod moves;
mod msgpack;
#[cfg(feature = "redis")]
mod nodes;
mod parting;
mod polling;
mod presence;
mod rates;
mod recovery;
#[cfg(feature = "redis")]
#[path = "../redis_faults/proxy.rs"]
#[allow(dead_code, reason = "the tests of faults ask for more")]
mod redis_proxy;
#[cfg(feature = "redis")]
#[path = "../redis_faults/server.rs"]
#[allow(dead_code, reason = "the tests of faults ask for more")]
mod redis_server;
mod repeats;
mod resume;
mod returning;
mod rooms;
mod shutdown;
mod socket;
mod stand;
mod stores;
mod tokens;
mod upgrade;
mod websocket;
