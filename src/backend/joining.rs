//! What a broker has in common with a cache, and with other processes.

use super::{Broker, Cache};

impl Broker {
    /// Lets acknowledgements change `cache`, if both stand on one journal. Only the first call counts.
    pub fn join(&self, cache: &Cache) {
        match (self, cache) {
            (Self::Embedded(broker), Cache::Embedded(cache)) => {
                broker.set_companion(Box::new(cache.clone()));
            }
            #[cfg(feature = "redis")]
            (Self::Embedded(_), Cache::Redis(_)) => {}
            #[cfg(feature = "rabbitmq")]
            (Self::RabbitMq(_), _) => {}
        }
    }

    /// Whether an acknowledgement can change `cache` in its own commit ([`super::Delivery::ack_with`]).
    pub fn commits_with(&self, cache: &Cache) -> bool {
        match (self, cache) {
            (Self::Embedded(_), Cache::Embedded(_)) => true,
            #[cfg(feature = "redis")]
            (Self::Embedded(_), Cache::Redis(_)) => false,
            #[cfg(feature = "rabbitmq")]
            (Self::RabbitMq(_), _) => false,
        }
    }

    /// Whether other processes may work on it too: what is published reaches all of them.
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Embedded(_))
    }
}
