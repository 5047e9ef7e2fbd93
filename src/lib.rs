//! Leveret: the semantics of RabbitMQ, Redis and Socket.IO in one process, on one durable journal.
//!
//! The modules are floors. A module imports only from lower floors, and siblings on one floor never
//! import each other; `tests/architecture.rs` keeps it so.

// What comes from outside is answered with an error, never with a panic.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// 0: pure values: no IO, no async
pub mod model;

// 1: bytes: codecs that do no IO, and the one log that everything durable is written to
pub mod journal;
pub mod wire;

// 2: engines
pub mod broker;
pub mod cache;

// 3: what the floors above call, whichever engine or server answers
pub mod backend;

// 4: Socket.IO, and the port of the cache's own clients
pub mod gateway;
pub mod resp;

// 5: HTTP: health, metrics, listening
pub mod http;

// 6: the application that Leveret came from, written as a user of the library would
pub mod demo;

// 7: configuration, launch order, graceful shutdown
pub mod server;

/// The quick start of the README runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
