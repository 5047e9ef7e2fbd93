//! Where the last message of a handle went: most publishers send the next one the same way, and need not
//! ask the topology, which all of them share.

use ahash::RandomState;
use try_lock::TryLock;

use super::error::BrokerError;
use super::routing::{Route, Targets, may_have_more_keys};
use super::vhost::Vhost;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, RoutingKey};

/// It keeps the queues of one route, deleted ones until the next message.
///
/// Nobody waits for it: to leave a lock that nobody waits for is a plain store.
pub(super) struct LastRoute(TryLock<Memory>);

#[derive(Default)]
struct Memory {
    known: Option<Box<Known>>,
    /// Of the exchange and key of the last message, if it went another way: only what comes twice in a row
    /// is worth keeping.
    other: u64,
}

struct Known {
    exchange: ExchangeName,
    key: RoutingKey,
    /// Of the topology.
    version: u64,
    targets: Targets,
}

impl Known {
    /// Whether a message goes the same way.
    fn leads(&self, message: &Message) -> bool {
        self.key == message.routing_key
            && self.exchange == message.exchange
            && !may_have_more_keys(message)
    }
}

/// A handle that is made of another one remembers nothing.
impl Clone for LastRoute {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Default for LastRoute {
    fn default() -> Self {
        Self(TryLock::new(Memory::default()))
    }
}

impl LastRoute {
    /// Sends a client's message where it goes.
    ///
    /// # Errors
    /// As [`super::topology::Topology::route_published`].
    pub(super) fn send<T>(
        &self,
        vhost: &Vhost,
        message: Message,
        send: impl FnOnce(Message, &Targets) -> T,
    ) -> Result<T, BrokerError> {
        // Another thread may be sending by this handle, or this one, whom a message woke.
        let Some(mut memory) = self.0.try_lock() else {
            let route = vhost.topology.read().route_published(&message)?;
            return Ok(send(message, &route.targets));
        };
        let Memory { known, other } = &mut *memory;
        if let Some(known) = known
            && known.version == vhost.topology.version()
            && known.leads(&message)
        {
            *other = 0;
            return Ok(send(message, &known.targets));
        }
        let (version, Route { targets, by_headers }) = {
            let topology = vhost.topology.read();
            (vhost.topology.version(), topology.route_published(&message)?)
        };
        let way = hash(&message);
        if by_headers || std::mem::replace(other, way) != way {
            return Ok(send(message, &targets));
        }
        let (exchange, key) = (message.exchange.clone(), message.routing_key.clone());
        let known = known.insert(Box::new(Known { exchange, key, version, targets }));
        Ok(send(message, &known.targets))
    }
}

fn hash(message: &Message) -> u64 {
    RandomState::with_seeds(1, 2, 3, 4).hash_one((&message.exchange, &message.routing_key))
}
