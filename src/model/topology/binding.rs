//! What an exchange passes messages on to.

use serde::{Deserialize, Serialize};

use crate::model::message::Headers;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// Where a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Destination {
    Queue(QueueName),
    Exchange(ExchangeName),
}

/// A binding: two of them are one if all of it is equal, the order of the arguments aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// The exchange that passes messages on.
    pub source: ExchangeName,
    pub destination: Destination,
    pub key: RoutingKey,
    /// What a headers exchange compares; the other kinds only carry it.
    pub arguments: Headers,
}

impl Binding {
    pub fn queue(source: ExchangeName, queue: QueueName, key: RoutingKey) -> Self {
        let destination = Destination::Queue(queue);
        Self { source, destination, key, arguments: Headers::default() }
    }

    pub fn exchange(source: ExchangeName, destination: ExchangeName, key: RoutingKey) -> Self {
        let destination = Destination::Exchange(destination);
        Self { source, destination, key, arguments: Headers::default() }
    }

    #[must_use]
    pub fn with_arguments(mut self, arguments: Headers) -> Self {
        self.arguments = arguments.sorted();
        self
    }
}
