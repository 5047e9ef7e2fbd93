//! A value from the cache, or from where it comes from: once, however many ask for it, on whichever node.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::Script;
use tokio::time::{interval, sleep};

use super::values::ttl_ms;
use super::{OWN_KEYS, RedisCache};
use crate::backend::BackendError;

/// How long a node that died holds up the others; one that fetches renews it.
const LEASE: Duration = Duration::from_secs(10);
const RENEWAL: Duration = Duration::from_secs(3);

/// How often a node looks whether another has fetched.
const LOOK: Duration = Duration::from_millis(25);

/// Keeps the value only while the fetch is still the caller's, and ends it.
static LAND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[2]) == ARGV[1] then \
           redis.call('DEL', KEYS[2]) \
         elseif redis.call('EXISTS', KEYS[1]) == 1 then return 0 end \
         if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2]) \
         else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end \
         return 1",
    )
});

/// One fetch of this node. Whoever holds its lock fetches; the others wait for that, and find it.
type Flight = Arc<tokio::sync::Mutex<Option<Bytes>>>;

/// The fetches of this node that are under way, by key.
#[derive(Default)]
pub struct Flights(Mutex<AHashMap<Box<str>, Flight>>);

impl RedisCache {
    pub async fn get_or_set<E: From<BackendError>, F: Future<Output = Result<Bytes, E>>>(
        &self,
        key: &str,
        ttl: Option<Duration>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, E> {
        if let Some(value) = self.get(key).await? {
            return Ok(value);
        }
        let passenger = Passenger::board(&self.flights, key);
        let mut fetched = passenger.flight.lock().await;
        if let Some(value) = &*fetched {
            return Ok(value.clone());
        }
        let lease = format!("{OWN_KEYS}fetch:{key}");
        let token = loop {
            if let Some(value) = self.get(key).await? {
                return Ok(value);
            }
            match self.lock(&lease, LEASE).await? {
                Some(token) => break token,
                None => sleep(LOOK).await,
            }
        };
        // Another node may have landed between the look and the lock.
        if let Some(value) = self.get(key).await? {
            self.release(&lease, token).await?;
            return Ok(value);
        }
        let value = match self.hold(&lease, token, fetch()).await {
            Ok(value) => value,
            Err(error) => {
                // Its end comes by itself too.
                let _ = self.release(&lease, token).await;
                return Err(error);
            }
        };
        let mut land = LAND.key(key);
        land.key(&lease).arg(token).arg(&value[..]);
        land.arg(ttl.map_or_else(String::new, |ttl| ttl_ms(ttl).to_string()));
        self.link.script::<bool>(&land).await?;
        *fetched = Some(value.clone());
        passenger.land();
        Ok(value)
    }

    /// Renews the lease while something is done.
    async fn hold<T>(&self, lease: &str, token: u64, work: impl Future<Output = T>) -> T {
        let mut renewals = interval(RENEWAL);
        renewals.tick().await;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = renewals.tick() => {
                    if let Err(error) = self.renew(lease, token, LEASE).await {
                        tracing::debug!(%error, "a fetch's lease was not renewed");
                    }
                }
            }
        }
    }
}

/// Takes part in a flight until it is dropped; the last one leaves none behind.
struct Passenger<'a> {
    flights: &'a Flights,
    key: &'a str,
    flight: Flight,
}

impl<'a> Passenger<'a> {
    fn board(flights: &'a Flights, key: &'a str) -> Self {
        let flight = Arc::clone(flights.0.lock().entry(key.into()).or_default());
        Self { flights, key, flight }
    }

    /// Whoever comes from now on finds the value, or that it was removed meanwhile.
    fn land(&self) {
        self.leave(|_| true);
    }

    fn leave(&self, may_remove: impl Fn(&Flight) -> bool) {
        let mut flights = self.flights.0.lock();
        let own = |flight: &Flight| Arc::ptr_eq(flight, &self.flight) && may_remove(flight);
        if flights.get(self.key).is_some_and(own) {
            flights.remove(self.key);
        }
    }
}

impl Drop for Passenger<'_> {
    fn drop(&mut self) {
        /// The map's and this one's.
        const HOLDERS_OF_THE_LAST: usize = 2;
        self.leave(|flight| Arc::strong_count(flight) == HOLDERS_OF_THE_LAST);
    }
}
