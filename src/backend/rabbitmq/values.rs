//! Messages and arguments, as lapin says them, and back.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::model::message::{Headers, Labels, Properties, Value};
use crate::model::topology::{ExchangeSpec, QueueKind, QueueSpec};

/// # Errors
/// A text of more than 255 bytes, which AMQP's short strings don't hold.
pub(super) fn short(text: &str) -> Result<ShortString, BackendError> {
    ShortString::try_new(text).map_err(|_| {
        let shown: String = text.chars().take(32).collect();
        precondition(format!("'{shown}...' has {} bytes, over the limit of 255", text.len()))
    })
}

pub(super) fn precondition(reason: impl Into<String>) -> BackendError {
    BackendError::Broker(BrokerError::Precondition(reason.into()))
}

pub(super) fn table(headers: &Headers) -> Result<FieldTable, BackendError> {
    let mut table = FieldTable::default();
    for (name, value) in headers.iter() {
        table.insert(short(name)?, sent(value)?);
    }
    Ok(table)
}

fn sent(value: &Value) -> Result<AMQPValue, BackendError> {
    Ok(match value {
        Value::Void => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        // As most clients send them: in 32 bits if they fit.
        Value::Int(number) => match i32::try_from(*number) {
            Ok(number) => AMQPValue::LongInt(number),
            Err(_) => AMQPValue::LongLongInt(*number),
        },
        Value::Double(number) => AMQPValue::Double(*number),
        Value::Text(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Binary(bytes) => AMQPValue::ByteArray(bytes.to_vec().into()),
        Value::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        Value::List(values) => {
            let values = values.iter().map(sent).collect::<Result<Vec<_>, _>>()?;
            AMQPValue::FieldArray(values.into())
        }
        Value::Table(entries) => AMQPValue::FieldTable(table(entries)?),
    })
}

fn got(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongInt(number) => Value::Int((*number).into()),
        AMQPValue::LongUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongLongInt(number) => Value::Int(*number),
        AMQPValue::Float(number) => Value::Double((*number).into()),
        AMQPValue::Double(number) => Value::Double(*number),
        AMQPValue::DecimalValue(number) => {
            let scale = i32::from(number.scale);
            Value::Double(f64::from(number.value) / 10f64.powi(scale))
        }
        AMQPValue::ShortString(text) => Value::Text(text.to_string()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Binary(text.as_bytes().to_vec().into()),
        },
        AMQPValue::ByteArray(bytes) => Value::Binary(bytes.as_slice().to_vec().into()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldArray(values) => Value::List(values.as_slice().iter().map(got).collect()),
        AMQPValue::FieldTable(table) => Value::Table(headers(table)),
        AMQPValue::Void => Value::Void,
    }
}

fn headers(table: &FieldTable) -> Headers {
    table.inner().iter().map(|(name, value)| (name.to_string(), got(value))).collect()
}

pub(super) fn properties(properties: &Properties) -> Result<BasicProperties, BackendError> {
    let mut out =
        BasicProperties::default().with_delivery_mode(if properties.persistent { 2 } else { 1 });
    if !properties.headers.is_empty() {
        out = out.with_headers(table(&properties.headers)?);
    }
    if let Some(priority) = properties.priority {
        out = out.with_priority(priority);
    }
    if let Some(expiration_ms) = properties.expiration_ms {
        out = out.with_expiration(short(&expiration_ms.to_string())?);
    }
    if let Some(timestamp_s) = properties.timestamp_s {
        out = out.with_timestamp(timestamp_s);
    }
    let labels: &Labels = properties;
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<String>, With); 8] = [
        (&labels.content_type, BasicProperties::with_content_type),
        (&labels.content_encoding, BasicProperties::with_content_encoding),
        (&labels.correlation_id, BasicProperties::with_correlation_id),
        (&labels.reply_to, BasicProperties::with_reply_to),
        (&labels.message_id, BasicProperties::with_message_id),
        (&labels.kind, BasicProperties::with_type),
        (&labels.user_id, BasicProperties::with_user_id),
        (&labels.app_id, BasicProperties::with_app_id),
    ];
    for (text, with) in texts {
        if let Some(text) = text {
            out = with(out, short(text)?);
        }
    }
    Ok(out)
}

pub(super) fn received(properties: &BasicProperties) -> Properties {
    let text = |text: &Option<ShortString>| text.as_ref().map(ShortString::to_string);
    let mut received = Properties::from(Labels {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        message_id: text(properties.message_id()),
        timestamp_s: *properties.timestamp(),
        kind: text(properties.kind()),
        user_id: text(properties.user_id()),
        app_id: text(properties.app_id()),
    });
    received.headers = properties.headers().as_ref().map(headers).unwrap_or_default();
    received.persistent = *properties.delivery_mode() == Some(2);
    received.priority = *properties.priority();
    received.expiration_ms = text(properties.expiration()).and_then(|text| text.parse().ok());
    received
}

/// What a queue is declared with. The retry policy is none of it: the adapter carries that out.
pub(super) fn queue_arguments(spec: &QueueSpec) -> Result<FieldTable, BackendError> {
    let settings = &spec.settings;
    let mut all = Headers::default();
    let mut number = |name: &str, number: Option<u64>| {
        if let Some(number) = number {
            let fits = i64::try_from(number)
                .map_err(|_| precondition(format!("{name} of {number} is too large")))?;
            all.set(name, fits);
        }
        Ok::<(), BackendError>(())
    };
    number("x-message-ttl", settings.message_ttl_ms)?;
    number("x-expires", settings.expires_ms)?;
    number("x-max-length", settings.length_max)?;
    number("x-max-length-bytes", settings.length_bytes_max)?;
    number("x-delivery-limit", settings.delivery_limit.map(u64::from))?;
    number("x-consumer-timeout", settings.consumer_timeout_ms)?;
    number("x-max-priority", spec.priority_max.map(u64::from))?;
    if let Some(overflow) = settings.overflow {
        all.set("x-overflow", overflow.as_str());
    }
    if let Some(to) = &settings.dead_letter {
        all.set("x-dead-letter-exchange", to.exchange.as_str());
        if let Some(key) = &to.routing_key {
            all.set("x-dead-letter-routing-key", key.as_str());
        }
    }
    if spec.kind == QueueKind::Quorum {
        all.set("x-queue-type", spec.kind.as_str());
    }
    if spec.single_active_consumer {
        all.set("x-single-active-consumer", true);
    }
    table(&all)
}

pub(super) fn exchange_arguments(spec: &ExchangeSpec) -> Result<FieldTable, BackendError> {
    let mut all = Headers::default();
    if let Some(alternate) = &spec.alternate {
        all.set("alternate-exchange", alternate.as_str());
    }
    table(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_were_sent() {
        let mut sent = Properties::from(Labels {
            content_type: Some("text/plain".to_owned()),
            content_encoding: Some("gzip".to_owned()),
            correlation_id: Some("c".to_owned()),
            reply_to: Some("r".to_owned()),
            message_id: Some("m".to_owned()),
            timestamp_s: Some(7),
            kind: Some("k".to_owned()),
            user_id: Some("u".to_owned()),
            app_id: Some("a".to_owned()),
        });
        sent.persistent = true;
        sent.priority = Some(3);
        sent.expiration_ms = Some(500);
        let inner: Headers = [("i".to_owned(), Value::Int(1 << 40))].into_iter().collect();
        for (name, value) in [
            ("a", Value::Void),
            ("b", Value::Bool(true)),
            ("c", Value::List(vec![Value::from("x"), Value::Double(0.5)])),
            ("d", Value::Table(inner)),
            ("e", Value::Binary(vec![0, 255].into())),
            ("f", Value::Timestamp(9)),
            ("g", Value::Int(-1)),
        ] {
            sent.headers.set(name, value);
        }
        assert_eq!(received(&properties(&sent).unwrap()), sent);
    }

    #[test]
    fn a_text_that_amqp_does_not_hold_is_refused() {
        let mut properties = Properties::default();
        properties.message_id = Some("x".repeat(256));
        assert!(super::properties(&properties).is_err());
        let mut properties = Properties::default();
        properties.headers.set("x".repeat(256), true);
        assert!(super::properties(&properties).is_err());
    }
}
