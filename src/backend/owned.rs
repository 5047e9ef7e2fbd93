//! Hashes that one node owns at a time: only its owner changes one, and another node may take it. Where the
//! cache is in this process there is one node, and there are none.

use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "redis")]
use super::redis::RedisOwned;
use super::{BackendError, Cache, Saying, Sent};

/// The hashes of one kind, as one of the nodes sees them.
#[derive(Clone)]
pub struct OwnedHashes(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "redis")]
    Redis(RedisOwned),
}

/// A hash as it was found.
#[derive(Debug)]
pub struct Owned {
    pub owner: String,
    /// How often it was taken.
    pub takes: u64,
    pub fields: Vec<(Bytes, Bytes)>,
}

impl Cache {
    /// `None`: this process is the only node.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub fn owned_hashes(&self, kind: &str, node: &str) -> Option<OwnedHashes> {
        match self {
            Self::Embedded(_) => None,
            #[cfg(feature = "redis")]
            Self::Redis(cache) => {
                Some(OwnedHashes(Kind::Redis(RedisOwned::new(cache.clone(), kind, node))))
            }
        }
    }
}

#[cfg_attr(not(feature = "redis"), expect(unused_variables))]
impl OwnedHashes {
    /// Sets fields of a hash, which is made if it is not there, and is there for `ttl` from now on. Changes
    /// nothing of one that another node owns.
    ///
    /// # Errors
    /// Too much waits to be sent. So have the others that do not wait.
    pub fn put(
        &self,
        name: &str,
        fields: Vec<(String, Vec<u8>)>,
        ttl: Duration,
    ) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Ok(hashes.put(name, fields, ttl)?.into()),
        }
    }

    /// As [`OwnedHashes::put`], and no other field stays.
    ///
    /// # Errors
    /// See [`OwnedHashes::put`].
    pub fn replace(
        &self,
        name: &str,
        fields: Vec<(String, Vec<u8>)>,
        ttl: Duration,
    ) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Ok(hashes.replace(name, fields, ttl)?.into()),
        }
    }

    /// Removes a field, unless another node owns the hash.
    ///
    /// # Errors
    /// See [`OwnedHashes::put`].
    pub fn remove_field(&self, name: &str, field: String) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Ok(hashes.remove_field(name, field)?.into()),
        }
    }

    /// Removes a hash, unless another node owns it.
    ///
    /// # Errors
    /// See [`OwnedHashes::put`].
    pub fn remove(&self, name: &str) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Ok(hashes.remove(name)?.into()),
        }
    }

    /// # Errors
    /// A back end that does not answer.
    pub async fn find(&self, name: &str) -> Result<Option<Owned>, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Box::pin(hashes.find(name)).await,
        }
    }

    /// Takes a hash of the owner that it was found with: of several nodes one gets it. The hash as it is then,
    /// which its owner may have changed since; `None`: another node was before. `says` is said when it is taken,
    /// whoever learns of that.
    ///
    /// # Errors
    /// A back end that does not answer; then whether it was taken is unknown.
    pub async fn take(
        &self,
        name: &str,
        found: &Owned,
        ttl: Duration,
        says: &[Saying],
    ) -> Result<Option<Owned>, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref hashes) => Box::pin(hashes.take(name, found, ttl, says)).await,
        }
    }
}
