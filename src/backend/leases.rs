//! Which node has sockets of whom. Where the cache is in this process there is one node.

use std::time::Duration;

#[cfg(feature = "redis")]
use super::redis::RedisCache;
use super::{BackendError, Cache};

/// What it means that a user has a socket on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// It had none on any.
    pub is_first: bool,
    /// The node had no lease, and others may have taken its users for gone. It has one now.
    pub had_no_lease: bool,
}

/// What one node holds on behalf of its users, for as long as it renews its lease.
#[derive(Clone)]
pub struct Leases(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "redis")]
    Redis(RedisCache),
}

impl Cache {
    /// `None`: this process is the only node.
    pub fn leases(&self) -> Option<Leases> {
        match self {
            Self::Embedded(_) => None,
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Some(Leases(Kind::Redis(cache.clone()))),
        }
    }
}

#[cfg_attr(not(feature = "redis"), expect(unused_variables))]
impl Leases {
    /// The user has a socket on the node; whether it had none on any.
    ///
    /// # Errors
    /// A back end that does not answer. So do all methods here.
    pub async fn hold(
        &self,
        user: &str,
        node: &str,
        lease: Duration,
    ) -> Result<Held, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.hold_user(user, node, lease)).await,
        }
    }

    /// The user has no socket on the node any more; whether it has none on any.
    ///
    /// # Errors
    /// See [`Leases::hold`].
    pub async fn give_up(&self, user: &str, node: &str) -> Result<bool, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.give_up_user(user, node)).await,
        }
    }

    /// The node is there for `lease` from now on; whether it was not, or not any
    /// more. Then others may have taken its users for gone.
    ///
    /// # Errors
    /// See [`Leases::hold`].
    pub async fn renew(&self, node: &str, lease: Duration) -> Result<bool, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.renew_node(node, lease)).await,
        }
    }

    /// Some of the users whose last node did not renew its lease, and whether there may be more. Each is given
    /// to one caller, once, and the cache's key of `key_prefix` and its name is removed in the same step.
    ///
    /// # Errors
    /// See [`Leases::hold`].
    pub async fn take_over(&self, key_prefix: &str) -> Result<(bool, Vec<String>), BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.take_over_users(key_prefix)).await,
        }
    }
}
