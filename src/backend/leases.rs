//! What each node holds on behalf of others: which users have sockets there, and which of them are in which
//! rooms. Where the cache is in this process there is one node.
//!
//! What always holds: what is to be said when the first node holds something, or the last one does not any
//! more, is said in the same step, so it is said once whoever hears of that step.

use std::time::Duration;

#[cfg(feature = "redis")]
use super::redis::{RedisAnswer, RedisCache};
use super::{BackendError, Cache, Saying};

/// Something that nodes hold: a member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holding {
    pub group: String,
    pub member: String,
    /// What is to be known of it when its node is gone.
    pub note: String,
}

/// What it means that a node holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// No node did before.
    pub is_first: bool,
    /// The node had no lease, and others may have taken what it held. It has one now.
    pub had_no_lease: bool,
}

/// What one node holds, for as long as it renews its lease.
#[derive(Clone)]
pub struct Leases(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "redis")]
    Redis(RedisCache),
}

/// A change on its way. Changes are made in the order of the calls.
#[must_use = "whether it was made shows its answer"]
pub struct Holds(Answer);

enum Answer {
    #[cfg(feature = "redis")]
    Redis(RedisAnswer),
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
    /// The node holds something; `says` is said if no node did. To be asked by [`Holds::held`].
    ///
    /// # Errors
    /// Too much waits to be sent.
    pub fn hold(
        &self,
        node: &str,
        lease: Duration,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<Holds, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => {
                Ok(Holds(Answer::Redis(cache.hold_for(node, lease, holding, says)?)))
            }
        }
    }

    /// The node does not hold something any more; `says` is said if it was the last one. To be asked by
    /// [`Holds::gone`].
    ///
    /// # Errors
    /// As [`Leases::hold`].
    pub fn give_up(
        &self,
        node: &str,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<Holds, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Ok(Holds(Answer::Redis(cache.give_up(node, holding, says)?))),
        }
    }

    /// As [`Self::give_up`], for a node that is gone; nothing of one that is back.
    ///
    /// # Errors
    /// As [`Leases::hold`].
    pub fn take_over(
        &self,
        node: &str,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<Holds, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => {
                Ok(Holds(Answer::Redis(cache.take_over(node, holding, says)?)))
            }
        }
    }

    /// The node is there for `lease` from now on; whether it was not, or not any
    /// more. Then others may have taken what it held.
    ///
    /// # Errors
    /// A back end that does not answer. So do all methods below.
    pub async fn renew(&self, node: &str, lease: Duration) -> Result<bool, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.renew_node(node, lease)).await,
        }
    }

    /// The node is shut down. What it still holds, as of a user that may come back elsewhere, is for others to
    /// take over when its lease ends; if there is nothing, it has none any more.
    ///
    /// # Errors
    /// See [`Leases::renew`].
    pub async fn end(&self, node: &str) -> Result<(), BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.end_node(node)).await,
        }
    }

    /// Some of what nodes hold that did not renew their leases, with the node.
    ///
    /// # Errors
    /// See [`Leases::renew`].
    pub async fn lapsed(&self) -> Result<Vec<(String, Holding)>, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.lapsed_holdings()).await,
        }
    }

    /// The nodes that have a lease, without those that were shut down.
    ///
    /// # Errors
    /// See [`Leases::renew`].
    pub async fn nodes(&self) -> Result<Vec<String>, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Kind::Redis(ref cache) => Box::pin(cache.leased_nodes()).await,
        }
    }
}

impl Holds {
    /// # Errors
    /// It was refused, or the back end was not reached: then whether it was done is unknown, and it may be
    /// done again.
    pub async fn held(self) -> Result<Held, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Answer::Redis(answer) => answer.held().await,
        }
    }

    /// Whether no node holds it any more.
    ///
    /// # Errors
    /// As [`Self::held`].
    pub async fn gone(self) -> Result<bool, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Answer::Redis(answer) => answer.gone().await,
        }
    }
}
