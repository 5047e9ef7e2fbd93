//! What a dead letter says of its last death.

use super::super::dead_letter::{X_LAST_ERROR, X_RETRY_COUNT, death_text, deaths};
use crate::model::message::{Message, Value};

/// The newest `x-death` of a message, and what the retry policy left beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death<'a> {
    /// The queue that it died in.
    pub queue: &'a str,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: &'a str,
    /// Where it had been published, and under which key.
    pub exchange: &'a str,
    pub routing_key: Option<&'a str>,
    /// How often it died there for this reason.
    pub count: i64,
    /// Seconds since the Unix epoch.
    pub at_s: Option<u64>,
    /// The error text of the last failed delivery (`x-last-error`).
    pub error: Option<&'a str>,
    /// Deliveries that failed (`x-retry-count`); 0 without a retry policy.
    pub attempts: i64,
}

impl<'a> Death<'a> {
    /// `None`: the message has not died.
    pub fn newest(message: &'a Message) -> Option<Self> {
        let headers = &message.properties.headers;
        let death = deaths(headers).first()?;
        let Value::Table(table) = death else { return None };
        let text = |field| death_text(death, field).unwrap_or_default();
        Some(Self {
            queue: text("queue"),
            reason: text("reason"),
            exchange: text("exchange"),
            routing_key: match table.get("routing-keys") {
                Some(Value::List(keys)) => keys.first().and_then(Value::as_text),
                _ => None,
            },
            count: table.get("count").and_then(Value::as_int).unwrap_or(1),
            at_s: match table.get("time") {
                Some(&Value::Timestamp(seconds)) => Some(seconds),
                _ => None,
            },
            error: headers.get(X_LAST_ERROR).and_then(Value::as_text),
            attempts: headers.get(X_RETRY_COUNT).and_then(Value::as_int).unwrap_or(0),
        })
    }
}
