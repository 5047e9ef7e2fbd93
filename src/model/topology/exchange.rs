//! An exchange as it is declared.

use serde::{Deserialize, Serialize};

use crate::model::names::ExchangeName;

/// The exchange whose messages are events for sockets; every vhost has it.
pub const EMIT_EXCHANGE: &str = "leveret.emit";

/// How an exchange picks the destinations of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Binding keys are patterns of words: `*` is one word, `#` is none or more.
    Topic,
    /// A binding's arguments are compared to the message's headers, as its `x-match` says.
    Headers,
}

impl ExchangeKind {
    /// As exchange.declare names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// An exchange as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    pub name: ExchangeName,
    pub kind: ExchangeKind,
    pub durable: bool,
    /// It is deleted when the last binding that it is the source of has gone; never before the first.
    pub auto_delete: bool,
    /// Only other exchanges pass messages to it.
    pub internal: bool,
    /// `alternate-exchange`: what takes the messages that match no binding.
    pub alternate: Option<ExchangeName>,
}

impl ExchangeSpec {
    /// A durable exchange with no arguments.
    pub fn durable(name: ExchangeName, kind: ExchangeKind) -> Self {
        let (auto_delete, internal, alternate) = (false, false, None);
        Self { name, kind, durable: true, auto_delete, internal, alternate }
    }

    /// An exchange that a restart forgets.
    pub fn transient(name: ExchangeName, kind: ExchangeKind) -> Self {
        Self { durable: false, ..Self::durable(name, kind) }
    }

    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    #[must_use]
    pub fn alternate(mut self, exchange: ExchangeName) -> Self {
        self.alternate = Some(exchange);
        self
    }
}
