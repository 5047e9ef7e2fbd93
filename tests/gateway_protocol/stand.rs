//! A gateway on a port of the loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leveret::backend::Cache;
use leveret::cache::{AppendFsync, Cache as Engine, Recovery};
use leveret::gateway::{Authenticator, Claims, Gateway, GatewayOptions};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::names::UserId;

/// No wait in these tests is longer; what comes at all comes at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough for what must not come to come.
pub const SILENCE: Duration = Duration::from_millis(100);

const SECRET: &str = "the secret of the gateway's tests";

pub struct Stand {
    pub gateway: Gateway,
    pub cache: Cache,
    pub address: SocketAddr,
}

impl Stand {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut GatewayOptions)) -> Self {
        Self::on(Journal::in_memory(), set).await
    }

    pub async fn on(journal: Journal, set: impl FnOnce(&mut GatewayOptions)) -> Self {
        let clock = SystemClock::shared();
        let engine = Engine::new(journal, Arc::clone(&clock), AppendFsync::No, Recovery::default());
        Self::on_cache(Cache::Embedded(engine), set).await
    }

    /// Another gateway on the same cache.
    pub async fn again(self) -> Self {
        Self::on_cache(self.cache, |_| {}).await
    }

    pub async fn on_cache(cache: Cache, set: impl FnOnce(&mut GatewayOptions)) -> Self {
        let clock = SystemClock::shared();
        let mut options = GatewayOptions::new(authenticator());
        // These clients speak as fast as they can.
        options.limits.event_rate = None;
        set(&mut options);
        let gateway = Gateway::new(options, cache.clone(), clock);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { gateway, cache, address }
    }

    /// Waits until so many sockets are connected.
    pub async fn connections(&self, count: usize) {
        until(|| self.gateway.connections() == count).await;
    }
}

/// Looks every few milliseconds, for what nobody announces.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it came to hold in time");
}

pub async fn in_time<T>(comes: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, comes).await.expect("it came in time")
}

fn authenticator() -> Authenticator {
    Authenticator::new(SECRET)
}

/// A token for every room.
pub fn token(user: &str) -> String {
    token_for(user, &["*"])
}

pub fn token_for(user: &str, rooms: &[&str]) -> String {
    token_until(user, rooms, now_s() + 3600)
}

#[expect(clippy::disallowed_methods, reason = "a token ends at a time of the wall clock")]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub fn token_until(user: &str, rooms: &[&str], expires_at_s: u64) -> String {
    let claims = Claims {
        user: UserId::new(user).unwrap(),
        username: user.to_uppercase(),
        rooms: rooms.iter().map(|&room| room.to_owned()).collect(),
        expires_at_s,
    };
    authenticator().mint(&claims).unwrap()
}
