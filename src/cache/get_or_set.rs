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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::cache::{AppendFsync, Recovery};
    use crate::journal::Journal;
    use crate::model::clock::SystemClock;

    fn cache() -> Cache {
        let clock = SystemClock::shared();
        Cache::new(Journal::in_memory(), clock, AppendFsync::EverySec, Recovery::default())
    }

    async fn fetched(cache: &Cache) -> Bytes {
        let fetch = || async { Ok::<_, CacheError>(Bytes::from_static(b"value")) };
        cache.get_or_set("key", None, fetch).await.unwrap()
    }

    #[tokio::test]
    async fn a_fetch_that_panics_leaves_no_flight_behind() {
        let cache = cache();
        let theirs = cache.clone();
        let caller = tokio::spawn(async move {
            let fetch = || async { panic!("planted") };
            theirs.get_or_set::<CacheError, _>("key", None, fetch).await
        });
        assert!(caller.await.unwrap_err().is_panic());
        assert!(cache.shared.flights.lock().is_empty());
        assert_eq!(fetched(&cache).await, "value");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_its_fetch_to_the_next_and_no_flight_behind() {
        let cache = cache();
        let (theirs, waits) = (cache.clone(), cache.clone());
        let caller =
            tokio::spawn(
                async move { theirs.get_or_set::<CacheError, _>("key", None, pending).await },
            );
        while cache.shared.flights.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let next = tokio::spawn(async move { fetched(&waits).await });
        tokio::task::yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(next.await.unwrap(), "value");
        assert!(cache.shared.flights.lock().is_empty());
    }
}
