//! Whether a declaration says what an earlier one of that name said, in RabbitMQ's words.

use super::error::BrokerError;
use crate::model::message::Value;
use crate::model::names::VhostName;
use crate::model::topology::{ExchangeSpec, QueueKind, QueueSettings, QueueSpec};

/// # Errors
/// The first property that differs.
pub(super) fn check_exchange(
    current: &ExchangeSpec,
    received: &ExchangeSpec,
    vhost: &VhostName,
) -> Result<(), BrokerError> {
    let flag = |property, received: bool, current: bool| {
        (property, Some(received.to_string()), Some(current.to_string()))
    };
    let properties = [
        ("type", Some(received.kind.as_str().to_owned()), Some(current.kind.as_str().to_owned())),
        flag("durable", received.durable, current.durable),
        flag("auto_delete", received.auto_delete, current.auto_delete),
        flag("internal", received.internal, current.internal),
    ];
    let alternate = |spec: &ExchangeSpec| Some(Value::from(spec.alternate.as_ref()?.as_str()));
    let arguments = [("alternate-exchange", alternate(received), alternate(current))];
    let name = current.name.as_str();
    check("exchange", name, vhost, properties, arguments)
}

/// # Errors
/// The first property that differs.
pub(super) fn check_queue(
    current: &QueueSpec,
    received: &QueueSpec,
    vhost: &VhostName,
) -> Result<(), BrokerError> {
    let flag = |property, received: bool, current: bool| {
        (property, Some(received.to_string()), Some(current.to_string()))
    };
    let properties = [
        flag("durable", received.durable, current.durable),
        flag("auto_delete", received.auto_delete, current.auto_delete),
    ];
    let pairs = arguments(received).into_iter().zip(arguments(current));
    let pairs = pairs.map(|((name, received), (_, current))| (name, received, current));
    check("queue", current.name.as_str(), vhost, properties, pairs)
}

/// A queue's arguments as they were given.
fn arguments(spec: &QueueSpec) -> [(&'static str, Option<Value>); 13] {
    let settings: &QueueSettings = &spec.settings;
    let number = |number: Option<u64>| number.map(int);
    let dead_letter = settings.dead_letter.as_ref();
    let quorum = spec.kind == QueueKind::Quorum;
    [
        ("x-queue-type", quorum.then(|| Value::from(spec.kind.as_str()))),
        ("x-expires", number(settings.expires_ms)),
        ("x-message-ttl", number(settings.message_ttl_ms)),
        ("x-dead-letter-exchange", dead_letter.map(|to| Value::from(to.exchange.as_str()))),
        (
            "x-dead-letter-routing-key",
            dead_letter.and_then(|to| Some(Value::from(to.routing_key.as_ref()?.as_str()))),
        ),
        ("x-max-length", number(settings.length_max)),
        ("x-max-length-bytes", number(settings.length_bytes_max)),
        ("x-max-priority", spec.priority_max.map(|max| Value::Int(i64::from(max)))),
        ("x-overflow", settings.overflow.map(|overflow| Value::from(overflow.as_str()))),
        ("x-single-active-consumer", spec.single_active_consumer.then(|| Value::Bool(true))),
        ("x-delivery-limit", settings.delivery_limit.map(|limit| Value::Int(i64::from(limit)))),
        ("x-consumer-timeout", number(settings.consumer_timeout_ms)),
        ("retry", settings.retry.as_ref().map(|retry| Value::from(format!("{retry:?}")))),
    ]
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

type Property = (&'static str, Option<String>, Option<String>);
type Argument = (&'static str, Option<Value>, Option<Value>);

fn check(
    what: &'static str,
    name: &str,
    vhost: &VhostName,
    properties: impl IntoIterator<Item = Property>,
    arguments: impl IntoIterator<Item = Argument>,
) -> Result<(), BrokerError> {
    let differing = |property, difference| BrokerError::Inequivalent {
        what,
        name: name.to_owned(),
        vhost: vhost.clone(),
        property,
        difference,
    };
    for (property, received, current) in properties {
        if received != current {
            let (received, current) = (received.unwrap_or_default(), current.unwrap_or_default());
            let difference = format!("received '{received}' but current is '{current}'");
            return Err(differing(property, difference));
        }
    }
    for (property, received, current) in arguments {
        let difference = match (&received, &current) {
            (Some(a), Some(b)) if a != b => {
                format!("received '{}' but current is '{}'", plain(a), plain(b))
            }
            (None, Some(current)) => format!("received none but current is {}", typed(current)),
            (Some(received), None) => format!("received {} but current is none", typed(received)),
            _ => continue,
        };
        return Err(differing(property, difference));
    }
    Ok(())
}

fn typed(value: &Value) -> String {
    format!("the value '{}' of type '{}'", plain(value), value.type_name())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        other => format!("{other:?}"),
    }
}
