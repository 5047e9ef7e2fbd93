//! The cache port on a real Redis, from version 7.0 on.
//!
//! Owns: the connection to the server and how it comes back (`link`), the port's methods on it, and the
//! scripts that make several steps one. May import: what `backend` may; only this module names the redis
//! crate.
//!
//! What always holds: a command that may have reached the server is never sent a second time, so an error
//! in between means that nobody knows whether it was done; a subscription that was confirmed is there
//! again before any command is sent over a new connection.
//!
//! How durable a write is that was answered, says the server's `appendfsync`: under `always` it is on
//! disk, under `everysec` a crash of the machine takes up to a second of writes back, without an
//! append-only file all since the last snapshot.

mod channels;
mod compare;
mod failure;
mod fetch;
mod lease;
mod link;
mod lock;
mod outbox;
mod owned;
mod saying;
mod stream;
mod values;

use std::sync::Arc;
use std::time::Duration;

pub use channels::{RedisSubscription, Topic as RedisTopic};
pub use failure::ConnectError;
pub use outbox::{RedisAnswer, RedisSent};
pub use owned::RedisOwned;
pub use stream::{RedisStream, RedisStreamReader};
pub use values::RedisPushed;

use self::channels::Channels;
use self::fetch::Flights;
use self::link::Link;
use self::outbox::Outbox;
use super::BackendError;

/// Keys of the adapter itself begin with this.
const OWN_KEYS: &str = "leveret:";

/// A cache on a Redis server. Clones share its connection.
#[derive(Clone)]
pub struct RedisCache {
    link: Link,
    outbox: Outbox,
    flights: Arc<Flights>,
    channels: Arc<Channels>,
}

impl RedisCache {
    /// Connects to `redis://[user:password@]host[:port][/db]`, or with TLS to `rediss://...`. Needs a
    /// Tokio runtime; a server that is not there yet is waited for until `patience` has passed.
    ///
    /// # Errors
    /// A URL that is none; a server that refuses the user or is too old, or cannot be reached.
    pub async fn connect(url: &str, patience: Duration) -> Result<Self, ConnectError> {
        let channels = Arc::new(Channels::default());
        let link = Link::connect(url, patience, Arc::clone(&channels)).await?;
        let outbox = Outbox::start(link.clone());
        Ok(Self { link, outbox, flights: Arc::default(), channels })
    }

    /// Whether it answers and takes writes: it is asked for one.
    pub async fn ready(&self) -> Result<(), BackendError> {
        let mut probe = ::redis::cmd("SET");
        probe.arg(format!("{OWN_KEYS}ready")).arg("1").arg("PX").arg(60_000);
        self.link.run::<()>(&probe).await
    }

    /// Resolves when the server has answered all that was sent before.
    pub async fn flush(&self) -> Result<(), BackendError> {
        self.outbox.drained().await?;
        self.link.run::<()>(&::redis::cmd("PING")).await
    }
}
