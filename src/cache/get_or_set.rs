//! A value from the cache, or from where it comes from: once, however many ask for it.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::engine::Cache;
use super::error::CacheError;

/// The fetches that are under way, by key: as many as there are callers that wait for one.
pub(super) type Flights = Mutex<AHashMap<Bytes, Flight>>;

/// One fetch. Whoever holds its lock fetches; the others wait for that, and find what was fetched.
type Flight = Arc<tokio::sync::Mutex<Option<Bytes>>>;

impl Cache {
    /// The value of a string; without one what `fetch` gives, which is kept for `ttl`, or until it is
    /// removed.
    ///
    /// Callers who miss the same key at the same time wait for one `fetch`. When that fails, or its
    /// caller goes away, the next of them fetches. A `fetch` must not ask for the same key.
    ///
    /// # Errors
    /// What `fetch` says to its own caller; see also [`Cache::set_ex`].
    pub async fn get_or_set<E: From<CacheError>, F: Future<Output = Result<Bytes, E>>>(
        &self,
        key: impl Into<Bytes>,
        ttl: Option<Duration>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, E> {
        let key = key.into();
        if let Some(value) = self.get(&key)? {
            return Ok(value);
        }
        let passenger = Passenger::board(self, key);
        let mut fetched = passenger.flight.lock().await;
        if let Some(value) = &*fetched {
            return Ok(value.clone());
        }
        let key = &passenger.key;
        // Another flight may have landed between the look and the boarding.
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        let value = fetch().await?;
        let written = match ttl {
            Some(ttl) => self.set_ex(key, value.clone(), ttl)?,
            None => self.set(key, value.clone())?,
        };
        *fetched = Some(value.clone());
        // Whoever comes from now on finds the value, or that it was removed meanwhile.
        passenger.land();
        drop(fetched);
        self.settle(written).await.map_err(CacheError::from)?;
        Ok(value)
    }
}

/// Takes part in a flight until it is dropped; the last one leaves none behind.
struct Passenger<'a> {
    cache: &'a Cache,
    key: Bytes,
    flight: Flight,
}

impl<'a> Passenger<'a> {
    fn board(cache: &'a Cache, key: Bytes) -> Self {
        let flight = Arc::clone(cache.shared.flights.lock().entry(key.clone()).or_default());
        Self { cache, key, flight }
    }

    fn land(&self) {
        let mut flights = self.cache.shared.flights.lock();
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

impl Drop for Passenger<'_> {
    fn drop(&mut self) {
        /// The map's and this one's.
        const HOLDERS_OF_THE_LAST: usize = 2;
        let mut flights = self.cache.shared.flights.lock();
        let is_last = Arc::strong_count(&self.flight) == HOLDERS_OF_THE_LAST;
        if is_last && flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            flights.remove(&self.key);
        }
    }
}
