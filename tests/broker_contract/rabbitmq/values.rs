//! What is declared and sent, as lapin says it, and back.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use leveret::model::message::{Labels, Properties, Value};
use leveret::model::topology::{Policy, QueueKind, QueueSettings, QueueSpec};

use super::short;

pub fn queue_arguments(spec: &QueueSpec) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, value) in settings(&spec.settings) {
        arguments.insert(short(&format!("x-{name}")), sent(&value));
    }
    if spec.kind == QueueKind::Quorum {
        arguments.insert(short("x-queue-type"), AMQPValue::LongString("quorum".into()));
    }
    if let Some(priority_max) = spec.priority_max {
        arguments.insert(short("x-max-priority"), AMQPValue::LongInt(priority_max.into()));
    }
    if spec.single_active_consumer {
        arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
    }
    arguments
}

/// Settings by the names that policies give them.
fn settings(settings: &QueueSettings) -> Vec<(&'static str, Value)> {
    assert!(settings.retry.is_none(), "RabbitMQ has no retry policy");
    let int = |number: u64| Value::Int(number.try_into().unwrap());
    let mut all = Vec::new();
    all.extend(settings.message_ttl_ms.map(|ms| ("message-ttl", int(ms))));
    all.extend(settings.expires_ms.map(|ms| ("expires", int(ms))));
    all.extend(settings.length_max.map(|max| ("max-length", int(max))));
    all.extend(settings.length_bytes_max.map(|max| ("max-length-bytes", int(max))));
    all.extend(settings.overflow.map(|overflow| ("overflow", overflow.as_str().into())));
    all.extend(settings.delivery_limit.map(|limit| ("delivery-limit", int(limit.into()))));
    if let Some(to) = &settings.dead_letter {
        all.push(("dead-letter-exchange", to.exchange.as_str().into()));
        let key = to.routing_key.as_ref();
        all.extend(key.map(|key| ("dead-letter-routing-key", key.as_str().into())));
    }
    all
}

pub fn definition(policy: &Policy) -> serde_json::Value {
    let mut all: serde_json::Map<String, serde_json::Value> = settings(&policy.queue)
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Int(number) => number.into(),
                other => other.as_text().unwrap().into(),
            };
            (name.to_owned(), value)
        })
        .collect();
    if let Some(alternate) = &policy.alternate {
        all.insert("alternate-exchange".to_owned(), alternate.as_str().into());
    }
    all.into()
}

pub fn table<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(short(name), sent(value));
    }
    table
}

fn sent(value: &Value) -> AMQPValue {
    match value {
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
            AMQPValue::FieldArray(values.iter().map(sent).collect::<Vec<_>>().into())
        }
        Value::Table(entries) => AMQPValue::FieldTable(table(entries.iter())),
    }
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
        AMQPValue::ShortString(text) => Value::Text(text.to_string()),
        AMQPValue::LongString(text) => Value::Text(text.to_string()),
        AMQPValue::ByteArray(bytes) => Value::Binary(bytes.as_slice().to_vec().into()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldArray(values) => Value::List(values.as_slice().iter().map(got).collect()),
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter();
            Value::Table(entries.map(|(name, value)| (name.to_string(), got(value))).collect())
        }
        AMQPValue::Void => Value::Void,
        AMQPValue::DecimalValue(other) => panic!("no test has decimals: {other:?}"),
    }
}

pub fn properties(properties: &Properties) -> BasicProperties {
    let mut out = BasicProperties::default();
    if !properties.headers.is_empty() {
        out = out.with_headers(table(properties.headers.iter()));
    }
    out = out.with_delivery_mode(if properties.persistent { 2 } else { 1 });
    if let Some(priority) = properties.priority {
        out = out.with_priority(priority);
    }
    if let Some(expiration_ms) = properties.expiration_ms {
        out = out.with_expiration(short(&expiration_ms.to_string()));
    }
    type Label = fn(BasicProperties, ShortString) -> BasicProperties;
    let labels: [(&Option<String>, Label); 8] = [
        (&properties.content_type, BasicProperties::with_content_type),
        (&properties.content_encoding, BasicProperties::with_content_encoding),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.message_id, BasicProperties::with_message_id),
        (&properties.kind, BasicProperties::with_type),
        (&properties.user_id, BasicProperties::with_user_id),
        (&properties.app_id, BasicProperties::with_app_id),
    ];
    for (label, with) in labels {
        if let Some(label) = label {
            out = with(out, short(label));
        }
    }
    match properties.timestamp_s {
        Some(timestamp_s) => out.with_timestamp(timestamp_s),
        None => out,
    }
}

pub fn received(properties: &BasicProperties) -> Properties {
    let text = |text: &Option<ShortString>| text.as_ref().map(ShortString::to_string);
    let headers = properties.headers().clone().unwrap_or_default();
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
    let headers = headers.inner().iter();
    received.headers = headers.map(|(name, value)| (name.to_string(), got(value))).collect();
    received.persistent = *properties.delivery_mode() == Some(2);
    received.priority = *properties.priority();
    received.expiration_ms = text(properties.expiration()).and_then(|text| text.parse().ok());
    received
}
