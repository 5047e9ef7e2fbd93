//! Which client events go to an exchange, and how: what [`Gateway::bridge_events`] is told.
//!
//! [`Gateway::bridge_events`]: super::Gateway::bridge_events

use std::time::Duration;

use super::events;
use crate::model::glob;
use crate::model::names::{ExchangeName, NameError};
use crate::model::topology::EMIT_EXCHANGE;
use crate::wire::socket_io::{Namespace, is_reserved};

/// Where client events go when nothing else is said: a durable topic exchange.
pub const EVENTS_EXCHANGE: &str = "leveret.events";

/// How long a reply may take when nothing else is said.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Client events of one namespace that are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBridge {
    namespace: Box<str>,
    patterns: Vec<Box<str>>,
    exchange: ExchangeName,
    reply_timeout: Duration,
}

/// What can't be bridged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventBridgeError {
    #[error("'{0}' is not a namespace such as / or /orders")]
    Namespace(String),
    #[error("an event's name is empty")]
    Empty,
    #[error("'{0}' is reserved by Socket.IO")]
    Reserved(String),
    #[error("'{0}' is an event of the application itself")]
    Own(String),
    #[error(transparent)]
    ExchangeName(#[from] NameError),
    #[error("'{0}' is not an exchange that clients' events may go to")]
    Exchange(String),
}

impl EventBridge {
    /// Events by their names, or by patterns as Redis's KEYS has them (`order:*`), which do not match what
    /// the application itself takes. They go to [`EVENTS_EXCHANGE`], and a reply is waited for 5 s.
    ///
    /// # Errors
    /// A name that is empty, reserved, or the application's own; what is no namespace.
    pub fn new<E: Into<Box<str>>>(
        namespace: &str,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Self, EventBridgeError> {
        if Namespace::new(namespace).is_err() {
            return Err(EventBridgeError::Namespace(namespace.to_owned()));
        }
        let patterns: Vec<Box<str>> = events.into_iter().map(E::into).collect();
        for pattern in &patterns {
            let named = || pattern.clone().into_string();
            match &**pattern {
                "" => return Err(EventBridgeError::Empty),
                name if is_reserved(name) => return Err(EventBridgeError::Reserved(named())),
                name if events::is_own(namespace, name) => {
                    return Err(EventBridgeError::Own(named()));
                }
                _ => {}
            }
        }
        let exchange = ExchangeName::new(EVENTS_EXCHANGE)?;
        Ok(Self { namespace: namespace.into(), patterns, exchange, reply_timeout: REPLY_TIMEOUT })
    }

    /// Another exchange, which is declared as a durable topic exchange if there is none of its name.
    ///
    /// # Errors
    /// A name that is none; the default exchange, where a client would choose the queue; the exchange
    /// whose messages go to sockets.
    pub fn to_exchange(self, name: &str) -> Result<Self, EventBridgeError> {
        let exchange = ExchangeName::new(name)?;
        if exchange.is_default() || name == EMIT_EXCHANGE {
            return Err(EventBridgeError::Exchange(name.to_owned()));
        }
        Ok(Self { exchange, ..self })
    }

    /// How long a client that asked for an acknowledgement waits for the reply.
    #[must_use]
    pub fn with_reply_timeout(self, reply_timeout: Duration) -> Self {
        Self { reply_timeout, ..self }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn exchange(&self) -> &ExchangeName {
        &self.exchange
    }

    pub fn reply_timeout(&self) -> Duration {
        self.reply_timeout
    }

    /// Whether an event is published.
    pub fn takes(&self, event: &str) -> bool {
        self.patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), event.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_taken() {
        let bridge = EventBridge::new("/", ["order:*", "ping me"]).unwrap();
        for (event, taken) in [
            ("order:new", true),
            ("order:", true),
            ("ping me", true),
            ("order", false),
            ("ping", false),
            ("message:send", false),
        ] {
            assert_eq!(bridge.takes(event), taken, "{event}");
        }
        assert_eq!(bridge.exchange().as_str(), "leveret.events");
    }

    #[test]
    fn what_cannot_be_bridged_is_named() {
        let refused = |namespace, event: &str| {
            EventBridge::new(namespace, [event]).err().map(|error| error.to_string())
        };
        let own = "'message:send' is an event of the application itself";
        assert_eq!(refused("/", "message:send").as_deref(), Some(own));
        assert_eq!(refused("/orders", "message:send"), None);
        let everywhere = "'auth:refresh' is an event of the application itself";
        assert_eq!(refused("/orders", "auth:refresh").as_deref(), Some(everywhere));
        assert_eq!(refused("/", "").as_deref(), Some("an event's name is empty"));
        let reserved = "'disconnect' is reserved by Socket.IO";
        assert_eq!(refused("/orders", "disconnect").as_deref(), Some(reserved));
        for namespace in ["", "orders", "/a,b"] {
            assert!(refused(namespace, "x").is_some_and(|line| line.contains("not a namespace")));
        }
        for exchange in ["", "leveret.emit"] {
            let bridge = EventBridge::new("/", ["x"]).unwrap().to_exchange(exchange);
            assert_eq!(bridge, Err(EventBridgeError::Exchange(exchange.to_owned())));
        }
    }
}
