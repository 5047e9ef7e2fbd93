//! A message and its properties, as AMQP 0-9-1 has them (class basic, section 1.8).

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::names::{ExchangeName, RoutingKey};

/// The header by which a message asks to become ready later, in milliseconds after its publishing.
pub const X_DELAY: &str = "x-delay";

/// What a publisher sent: immutable from then on, and shared by every queue that it reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub exchange: ExchangeName,
    pub routing_key: RoutingKey,
    pub properties: Properties,
    pub body: Bytes,
}

impl Message {
    pub fn new(exchange: ExchangeName, routing_key: RoutingKey, body: impl Into<Bytes>) -> Self {
        Self { exchange, routing_key, properties: Properties::default(), body: body.into() }
    }

    /// The same message with delivery mode 2.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.properties.persistent = true;
        self
    }

    /// The same message with a delay: until then its queues hold it back. A part of a millisecond counts as a
    /// whole one, and more than [`i64::MAX`] of them as so many.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        let delay_ms = delay.as_nanos().div_ceil(1_000_000);
        let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX);
        self.properties.headers.set(X_DELAY, delay_ms);
        self
    }

    /// Bytes of memory that it stands for, estimated: the body, the texts and a constant.
    pub fn weight(&self) -> usize {
        const FIXED_BYTES: usize = 128;
        FIXED_BYTES + self.body.len() + self.routing_key.as_str().len() + self.properties.weight()
    }
}

/// The basic properties. A missing one is `None`, as on the wire. Those that most messages lack, and the
/// broker does not look at to pass a message on, are in [`Labels`], and reached as if they were here.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "Record")]
pub struct Properties {
    pub headers: Headers,
    /// Delivery mode 2: the message survives a restart in a durable queue.
    pub persistent: bool,
    pub priority: Option<u8>,
    /// Time to live from publishing on, in milliseconds.
    pub expiration_ms: Option<u64>,
    /// Apart, so that a message without them is small: it is copied on its way, and kept in memory.
    labels: Option<Box<Labels>>,
}

/// What a publisher says about a message, for whoever consumes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub message_id: Option<String>,
    /// Seconds since the Unix epoch, set by the publisher.
    pub timestamp_s: Option<u64>,
    /// AMQP's `type`.
    pub kind: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
}

static NO_LABELS: Labels = Labels {
    content_type: None,
    content_encoding: None,
    correlation_id: None,
    reply_to: None,
    message_id: None,
    timestamp_s: None,
    kind: None,
    user_id: None,
    app_id: None,
};

impl Deref for Properties {
    type Target = Labels;

    fn deref(&self) -> &Labels {
        self.labels.as_deref().unwrap_or(&NO_LABELS)
    }
}

impl DerefMut for Properties {
    fn deref_mut(&mut self) -> &mut Labels {
        self.labels.get_or_insert_default()
    }
}

impl From<Labels> for Properties {
    fn from(labels: Labels) -> Self {
        let labels = (labels != NO_LABELS).then(|| Box::new(labels));
        Self { labels, ..Self::default() }
    }
}

/// All properties side by side, in the order in which they are stored.
#[derive(Debug, PartialEq, Serialize)]
struct RecordRef<'a> {
    content_type: &'a Option<String>,
    content_encoding: &'a Option<String>,
    headers: &'a Headers,
    persistent: bool,
    priority: Option<u8>,
    correlation_id: &'a Option<String>,
    reply_to: &'a Option<String>,
    expiration_ms: Option<u64>,
    message_id: &'a Option<String>,
    timestamp_s: Option<u64>,
    kind: &'a Option<String>,
    user_id: &'a Option<String>,
    app_id: &'a Option<String>,
}

/// As [`RecordRef`], to be read.
#[derive(Deserialize)]
struct Record {
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: Headers,
    persistent: bool,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration_ms: Option<u64>,
    message_id: Option<String>,
    timestamp_s: Option<u64>,
    kind: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
}

impl From<Record> for Properties {
    fn from(record: Record) -> Self {
        let labels = Labels {
            content_type: record.content_type,
            content_encoding: record.content_encoding,
            correlation_id: record.correlation_id,
            reply_to: record.reply_to,
            message_id: record.message_id,
            timestamp_s: record.timestamp_s,
            kind: record.kind,
            user_id: record.user_id,
            app_id: record.app_id,
        };
        Self {
            headers: record.headers,
            persistent: record.persistent,
            priority: record.priority,
            expiration_ms: record.expiration_ms,
            ..Self::from(labels)
        }
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record().serialize(serializer)
    }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        self.record() == other.record()
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.record().fmt(f)
    }
}

impl Properties {
    fn record(&self) -> RecordRef<'_> {
        let labels: &Labels = self;
        RecordRef {
            content_type: &labels.content_type,
            content_encoding: &labels.content_encoding,
            headers: &self.headers,
            persistent: self.persistent,
            priority: self.priority,
            correlation_id: &labels.correlation_id,
            reply_to: &labels.reply_to,
            expiration_ms: self.expiration_ms,
            message_id: &labels.message_id,
            timestamp_s: labels.timestamp_s,
            kind: &labels.kind,
            user_id: &labels.user_id,
            app_id: &labels.app_id,
        }
    }

    /// Whether they say that the message is persistent, and nothing else.
    pub fn are_usual(&self) -> bool {
        let Self { headers, persistent, priority, expiration_ms, labels } = self;
        *persistent
            && headers.is_empty()
            && priority.is_none()
            && expiration_ms.is_none()
            && labels.is_none()
    }

    fn weight(&self) -> usize {
        let Some(labels) = &self.labels else { return self.headers.weight() };
        let texts = [
            &labels.content_type,
            &labels.content_encoding,
            &labels.correlation_id,
            &labels.reply_to,
            &labels.message_id,
            &labels.kind,
            &labels.user_id,
            &labels.app_id,
        ];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + self.headers.weight()
    }
}

/// A header table: few entries, in the order in which they were added, names unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Headers(Vec<(String, Value)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same entries in the order of their names.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self
    }

    /// Whether lists and tables lie within each other more than `levels` deep. It looks no deeper than
    /// that itself; everything else here follows the nesting with the stack.
    pub fn is_deeper_than(&self, levels: usize) -> bool {
        self.0.iter().any(|(_, value)| value.is_deeper_than(levels))
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.weight()).sum()
    }
}

impl FromIterator<(String, Value)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in entries {
            headers.set(name, value);
        }
        headers
    }
}

/// A field value of a header table. Floats are equal when their bits are, so that tables can be keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Value {
    Void,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Binary(Bytes),
    /// Seconds since the Unix epoch.
    Timestamp(u64),
    List(Vec<Value>),
    Table(Headers),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Void, Self::Void) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Binary(a), Self::Binary(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Table(a), Self::Table(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Void => {}
            Self::Bool(value) => value.hash(state),
            Self::Int(value) => value.hash(state),
            Self::Double(value) => value.to_bits().hash(state),
            Self::Text(text) => text.hash(state),
            Self::Binary(bytes) => bytes.hash(state),
            Self::Timestamp(seconds) => seconds.hash(state),
            Self::List(values) => values.hash(state),
            Self::Table(table) => table.hash(state),
        }
    }
}

impl Value {
    /// What RabbitMQ calls a value of this type in its error texts.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Bool(_) => "bool",
            Self::Int(_) => "signedint",
            Self::Double(_) => "double",
            Self::Text(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::List(_) => "array",
            Self::Table(_) => "table",
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn is_deeper_than(&self, levels: usize) -> bool {
        let within = |levels: usize| match self {
            Self::List(values) => values.iter().any(|value| value.is_deeper_than(levels)),
            Self::Table(table) => table.is_deeper_than(levels),
            _ => false,
        };
        match (self, levels.checked_sub(1)) {
            (Self::List(_) | Self::Table(_), None) => true,
            (_, left) => within(left.unwrap_or(0)),
        }
    }

    fn weight(&self) -> usize {
        const FIXED_BYTES: usize = 16;
        FIXED_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::List(values) => values.iter().map(Value::weight).sum(),
                Self::Table(table) => table.weight(),
                _ => 0,
            }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::List(values)
    }
}

impl From<Headers> for Value {
    fn from(table: Headers) -> Self {
        Self::Table(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Headers {
        let mut value = Value::Bool(true);
        for level in 0..levels {
            value = match level % 2 {
                0 => Value::List(vec![value]),
                _ => Value::Table([("n".to_owned(), value)].into_iter().collect()),
            };
        }
        [("x".to_owned(), value)].into_iter().collect()
    }

    #[test]
    fn depth_counts_lists_and_tables() {
        assert!(!nested(0).is_deeper_than(0));
        assert!(nested(1).is_deeper_than(0));
        assert!(!nested(5).is_deeper_than(5));
        assert!(nested(6).is_deeper_than(5));
    }
}
