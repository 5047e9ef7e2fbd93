//! What all connections of a listener share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::clients::{Clients, Peer};
use super::config::Config;
use super::connection::Connection;
use super::pause::Pause;
use super::slow_log::{self, Slow, SlowLog};
use crate::cache::Cache;
use crate::model::clock::SharedClock;
use crate::model::text::Text;

/// How a listener starts; CONFIG SET may change it later.
#[derive(Clone, Default)]
pub struct Options {
    /// `requirepass`. `None`: nobody is asked.
    pub password: Option<String>,
    /// Where it listens, as CONFIG GET and INFO name it.
    pub address: String,
    pub port: u16,
}

/// The cache as RESP clients see it. Clones share it.
#[derive(Clone)]
pub struct Resp {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub cache: Cache,
    pub clock: SharedClock,
    pub config: Mutex<Config>,
    pub clients: Clients,
    pub counters: Counters,
    pub slow_log: Mutex<SlowLog>,
    pub pause: Pause,
    pub started: Instant,
    pub run_id: String,
    /// No more requests are read.
    pub draining: AtomicBool,
}

impl Shared {
    /// Notes a request that ran, if it took longer than `slow_us`, if that is anything; with its client's
    /// address and name.
    pub fn log_slow(
        &self,
        slow_us: Option<u64>,
        request: &[Text],
        took: Duration,
        (address, name): (&str, &Bytes),
    ) {
        if slow_us.is_none_or(|slow_us| took.as_micros() < u128::from(slow_us)) {
            return;
        }
        let slow = Slow {
            id: 0,
            at_ms: self.clock.now_ms(),
            took,
            args: slow_log::shorten(request),
            client_address: address.to_owned(),
            client_name: name.clone(),
        };
        let len_max = self.config.lock().slow_log_len;
        self.slow_log.lock().add(slow, len_max);
    }
}

/// Since the start, or since CONFIG RESETSTAT.
#[derive(Default)]
pub(super) struct Counters {
    pub connections: AtomicU64,
    pub connections_refused: AtomicU64,
    pub commands: AtomicU64,
    pub input_bytes: AtomicU64,
    pub output_bytes: AtomicU64,
    pub errors: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        let all = [
            &self.connections,
            &self.connections_refused,
            &self.commands,
            &self.input_bytes,
            &self.output_bytes,
            &self.errors,
        ];
        for counter in all {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// 40 hexadecimal digits, as Redis's are.
fn run_id() -> String {
    let mut digits = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    digits.truncate(40);
    digits
}

impl Resp {
    pub fn new(cache: Cache, clock: SharedClock, options: &Options) -> Self {
        let config = Config::new(&cache, options);
        Self {
            shared: Arc::new(Shared {
                cache,
                clock,
                config: Mutex::new(config),
                clients: Clients::default(),
                counters: Counters::default(),
                slow_log: Mutex::default(),
                pause: Pause::default(),
                started: Instant::now(),
                run_id: run_id(),
                draining: AtomicBool::new(false),
            }),
        }
    }

    /// Serves one client until it leaves, or is told to. Dropping the future cuts it off.
    pub fn serve<S>(&self, io: S, peer: Peer) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = Arc::clone(&self.shared);
        async move {
            let (client, killed) = Client::new(shared, peer);
            Connection::new(io, client, killed).run().await;
        }
    }
}
