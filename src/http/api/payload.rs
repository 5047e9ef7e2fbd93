//! Messages as JSON, both ways.
//!
//! A header value is its JSON counterpart. Two have none: `{"$base64": "..."}` is a byte string and
//! `{"$timestamp": 1700000000}` a time in seconds since the Unix epoch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::backend::Death;
use crate::http::Problem;
use crate::model::message::{Headers, Labels, Message, Properties, Value};

const BYTES_MEMBER: &str = "$base64";
const TIMESTAMP_MEMBER: &str = "$timestamp";

/// How a body's bytes are written as a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    #[default]
    Utf8,
    Base64,
}

/// A message as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    pub properties: ShownProperties,
    pub headers: Map<String, Json>,
    /// Bytes of the whole body.
    pub body_bytes: usize,
    pub body: String,
    pub body_encoding: Encoding,
    /// `body` is only the beginning.
    pub truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<ShownDeath>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownDeath {
    queue: String,
    reason: String,
    exchange: String,
    routing_key: Option<String>,
    count: i64,
    /// Milliseconds since the Unix epoch.
    at: Option<u64>,
    error: Option<String>,
    attempts: i64,
}

impl Shown {
    /// With at most `body_bytes_max` bytes of the body.
    pub(super) fn new(message: &Message, redelivered: bool, body_bytes_max: usize) -> Self {
        let (body, body_encoding, truncated) = shown_body(&message.body, body_bytes_max);
        Self {
            exchange: message.exchange.to_string(),
            routing_key: message.routing_key.to_string(),
            redelivered,
            properties: ShownProperties::new(&message.properties),
            headers: shown_headers(&message.properties.headers),
            body_bytes: message.body.len(),
            body,
            body_encoding,
            truncated,
            death: Death::newest(message).map(|death| ShownDeath {
                queue: death.queue.to_owned(),
                reason: death.reason.to_owned(),
                exchange: death.exchange.to_owned(),
                routing_key: death.routing_key.map(str::to_owned),
                count: death.count,
                at: death.at_s.and_then(|at_s| at_s.checked_mul(1000)),
                error: death.error.map(str::to_owned),
                attempts: death.attempts,
            }),
        }
    }
}

/// Text where the bytes are text, cut between two characters.
fn shown_body(body: &[u8], bytes_max: usize) -> (String, Encoding, bool) {
    let truncated = body.len() > bytes_max;
    let beginning = body.get(..bytes_max).unwrap_or(body);
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => Some(text),
        // A character that is cut is no reason to show all of the text as base64.
        Err(error) if truncated && error.error_len().is_none() => {
            beginning.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_) => None,
    };
    match text {
        Some(text) => (text.to_owned(), Encoding::Utf8, truncated),
        None => (BASE64.encode(beginning), Encoding::Base64, truncated),
    }
}

/// # Errors
/// A Problem that names `bodyEncoding`.
pub(super) fn read_body(text: String, encoding: Encoding) -> Result<Bytes, Problem> {
    match encoding {
        Encoding::Utf8 => Ok(Bytes::from(text)),
        Encoding::Base64 => BASE64
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| Problem::field("body", &format!("it is no base64: {error}"))),
    }
}

/// The basic properties but for the headers; unset ones are left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ShownProperties {
    persistent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
}

impl ShownProperties {
    fn new(properties: &Properties) -> Self {
        let Labels {
            content_type,
            content_encoding,
            correlation_id,
            reply_to,
            message_id,
            timestamp_s,
            kind,
            user_id,
            app_id,
        } = Labels::clone(properties);
        let &Properties { persistent, priority, expiration_ms, .. } = properties;
        Self {
            persistent,
            content_type,
            content_encoding,
            priority,
            correlation_id,
            reply_to,
            expiration: expiration_ms,
            message_id,
            timestamp: timestamp_s,
            kind,
            user_id,
            app_id,
        }
    }

    pub(super) fn read(self, headers: Headers) -> Properties {
        let mut properties = Properties::from(Labels {
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            correlation_id: self.correlation_id,
            reply_to: self.reply_to,
            message_id: self.message_id,
            timestamp_s: self.timestamp,
            kind: self.kind,
            user_id: self.user_id,
            app_id: self.app_id,
        });
        properties.headers = headers;
        properties.persistent = self.persistent;
        properties.priority = self.priority;
        properties.expiration_ms = self.expiration;
        properties
    }
}

fn shown_headers(headers: &Headers) -> Map<String, Json> {
    headers.iter().map(|(name, value)| (name.to_owned(), shown_value(value))).collect()
}

fn shown_value(value: &Value) -> Json {
    let tagged =
        |member: &str, value: Json| Json::Object(Map::from_iter([(member.to_owned(), value)]));
    match value {
        Value::Void => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Int(value) => Json::from(*value),
        Value::Double(value) => Json::from(*value),
        Value::Text(text) => Json::from(text.as_str()),
        Value::Binary(bytes) => tagged(BYTES_MEMBER, Json::from(BASE64.encode(bytes))),
        Value::Timestamp(seconds) => tagged(TIMESTAMP_MEMBER, Json::from(*seconds)),
        Value::List(values) => values.iter().map(shown_value).collect(),
        Value::Table(table) => Json::Object(shown_headers(table)),
    }
}

/// # Errors
/// A Problem that names the header.
pub(super) fn read_headers(members: Map<String, Json>) -> Result<Headers, Problem> {
    let read = |(name, value): (String, Json)| match read_value(value) {
        Ok(value) => Ok((name, value)),
        Err(reason) => Err(Problem::field(&format!("headers.{name}"), reason)),
    };
    members.into_iter().map(read).collect()
}

/// JSON's own nesting is bounded by its parser.
fn read_value(value: Json) -> Result<Value, &'static str> {
    Ok(match value {
        Json::Null => Value::Void,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, _) if number.is_u64() => return Err("the number does not fit into 64 bits"),
            (None, Some(double)) => Value::Double(double),
            (None, None) => return Err("the number can't be represented"),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(values) => {
            Value::List(values.into_iter().map(read_value).collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let only = (members.len() == 1).then(|| members.iter().next()).flatten();
            match only.map(|(name, value)| (name.as_str(), value)) {
                Some((BYTES_MEMBER, Json::String(text))) => {
                    let bytes = BASE64.decode(text).map_err(|_| "$base64 holds no base64")?;
                    Value::Binary(Bytes::from(bytes))
                }
                Some((TIMESTAMP_MEMBER, seconds)) => {
                    let seconds = seconds.as_u64().ok_or("$timestamp holds no whole seconds")?;
                    Value::Timestamp(seconds)
                }
                _ => {
                    let read = |(name, value)| Ok::<_, &'static str>((name, read_value(value)?));
                    Value::Table(members.into_iter().map(read).collect::<Result<_, _>>()?)
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_types_both_ways() {
        let mut table = Headers::default();
        table.set("at", Value::Timestamp(1_700_000_000));
        table.set("bytes", Value::Binary(Bytes::from_static(&[0, 255])));
        let mut headers = Headers::default();
        headers.set("void", Value::Void);
        headers.set("list", vec![Value::from(true), Value::Int(-3), Value::Double(0.5)]);
        headers.set("table", table);
        headers.set("text", "hare");
        let shown = shown_headers(&headers);
        assert_eq!(shown["table"]["bytes"]["$base64"], "AP8=");
        let read = read_headers(shown).unwrap();
        assert_eq!(read.sorted(), headers.sorted());
    }

    #[test]
    fn a_header_that_can_t_be_is_named() {
        let members = serde_json::from_str(r#"{"n": 18446744073709551615}"#).unwrap();
        let problem = read_headers(members).unwrap_err();
        assert!(format!("{problem:?}").contains("headers.n"));
        let members = serde_json::from_str(r#"{"b": {"$base64": "?"}}"#).unwrap();
        assert!(read_headers(members).is_err());
    }

    #[test]
    fn a_body_is_text_where_it_can_be() {
        assert_eq!(shown_body("häse".as_bytes(), 99), ("häse".into(), Encoding::Utf8, false));
        // The umlaut's two bytes are cut apart.
        assert_eq!(shown_body("häse".as_bytes(), 2), ("h".into(), Encoding::Utf8, true));
        assert_eq!(shown_body(&[255, 1, 2], 2), ("/wE=".into(), Encoding::Base64, true));
        assert_eq!(shown_body(b"", 0), (String::new(), Encoding::Utf8, false));
    }
}
