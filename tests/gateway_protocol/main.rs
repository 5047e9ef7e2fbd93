//! What the gateway promises, spoken byte by byte over a real port. One file a promise.
//!
//! The stock clients have tests of their own; here is what they never send, and what needs a disk that
//! waits or fails.

mod bad_input;
mod bridge;
mod channels;
mod compression;
mod connection;
mod durability;
mod event_bridge;
mod fanout;
mod handshake;
mod heartbeat;
mod http;
mod library;
mod limits;
mod msgpack;
mod parting;
mod polling;
mod presence;
mod rates;
mod recovery;
mod repeats;
mod resume;
mod rooms;
mod shutdown;
mod socket;
mod stand;
mod stores;
mod tokens;
mod upgrade;
mod websocket;
