//! Names from texts that are known to be fit.

use leveret::model::names::{ExchangeName, QueueName, RoutingKey};

pub fn exchange_name(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

pub fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub fn key(name: &str) -> RoutingKey {
    RoutingKey::new(name).unwrap()
}
