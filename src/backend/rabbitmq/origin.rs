//! Where a message was published that enters a queue by its name: after a delay, or out of the dead letters.
//! To the server it then comes from the default exchange; who consumes it sees where it came from.

use super::delay::PREFIX;
use crate::broker::shared::{CC, X_DEATH, X_RETRY_COUNT, death_text};
use crate::model::message::{Headers, Message, Value};
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// A table of what was true before; it is taken off again before anybody sees it.
const X_ORIGIN: &str = "x-leveret-origin";

/// A message for `queue`, with what is needed to show it as it was. `failures`: deliveries of it in that queue
/// that failed.
pub(super) fn enter(mut message: Message, queue: &QueueName, failures: u32) -> Message {
    let mut origin = Headers::default();
    origin.set("queue", queue.as_str());
    origin.set("exchange", message.exchange.as_str());
    origin.set("routing-key", message.routing_key.as_str());
    origin.set("failures", i64::from(failures));
    let headers = &mut message.properties.headers;
    // The default exchange would follow its keys.
    if let Some(keys) = headers.remove(CC) {
        origin.set(CC, keys);
    }
    headers.set(X_ORIGIN, origin);
    message.properties.expiration_ms = None;
    // The keys of queues and the names of exchanges have the same bounds.
    if let (Ok(exchange), Ok(key)) = (ExchangeName::new(""), RoutingKey::new(queue.as_str())) {
        message.exchange = exchange;
        message.routing_key = key;
    }
    message
}

/// Shows a message that was taken out of `queue` as it was before it entered: how often its delivery failed
/// there before.
pub(super) fn leave(message: &mut Message, queue: &QueueName) -> u32 {
    hide_delays(&mut message.properties.headers);
    let Some(Value::Table(origin)) = message.properties.headers.remove(X_ORIGIN) else { return 0 };
    let text = |name: &str| origin.get(name).and_then(Value::as_text);
    let is_ours = text("queue") == Some(queue.as_str()) && message.exchange.as_str().is_empty();
    if !is_ours {
        // It went on to elsewhere since.
        return 0;
    }
    if let Some(exchange) = text("exchange").and_then(|name| ExchangeName::new(name).ok()) {
        message.exchange = exchange;
    }
    if let Some(key) = text("routing-key").and_then(|key| RoutingKey::new(key).ok()) {
        message.routing_key = key;
    }
    if let Some(keys) = origin.get(CC) {
        message.properties.headers.set(CC, keys.clone());
    }
    let failures = origin.get("failures").and_then(Value::as_int).unwrap_or(0);
    let failures = u32::try_from(failures).unwrap_or(0);
    if failures > 0 {
        message.properties.headers.set(X_RETRY_COUNT, i64::from(failures));
    }
    failures
}

/// Takes off what RabbitMQ notes of the time in a queue of delays: to who consumes it, that is no death.
fn hide_delays(headers: &mut Headers) {
    let is_delay = |name: Option<&str>| name.is_some_and(|name| name.starts_with(PREFIX));
    let Some(Value::List(mut deaths)) = headers.remove(X_DEATH) else { return };
    deaths.retain(|death| !is_delay(death_text(death, "queue")));
    for end in ["first", "last"] {
        let field = |name: &str| format!("x-{end}-death-{name}");
        if !is_delay(headers.get(&field("queue")).and_then(Value::as_text)) {
            continue;
        }
        // The newest death stands first.
        let death = if end == "first" { deaths.last() } else { deaths.first() };
        for name in ["queue", "reason", "exchange"] {
            match death.and_then(|death| death_text(death, name)) {
                Some(text) => headers.set(field(name), text),
                None => _ = headers.remove(&field(name)),
            }
        }
    }
    if !deaths.is_empty() {
        headers.set(X_DEATH, deaths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Message {
        let (exchange, key) =
            (ExchangeName::new("events").unwrap(), RoutingKey::new("a.b").unwrap());
        let mut message = Message::new(exchange, key, "body").persistent();
        message.properties.headers.set("CC", Value::List(vec![Value::from("c")]));
        message
    }

    #[test]
    fn a_message_leaves_a_queue_as_it_was_before_it_entered() {
        let queue = QueueName::new("q").unwrap();
        let mut message = enter(published(), &queue, 0);
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "q"));
        assert!(message.properties.headers.get("CC").is_none());
        assert_eq!(leave(&mut message, &queue), 0);
        assert_eq!(message, published());
    }

    #[test]
    fn what_failed_is_counted_in_its_own_queue_alone() {
        let (queue, other) = (QueueName::new("q").unwrap(), QueueName::new("other").unwrap());
        let mut message = enter(published(), &queue, 2);
        assert_eq!(leave(&mut message.clone(), &other), 0);
        assert_eq!(leave(&mut message, &queue), 2);
        assert_eq!(message.properties.headers.get(X_RETRY_COUNT), Some(&Value::Int(2)));
    }

    #[test]
    fn the_time_in_a_queue_of_delays_is_no_death() {
        let death = |queue: &str| {
            let fields = [("queue", queue), ("reason", "rejected"), ("exchange", "e")];
            Value::Table(
                fields
                    .map(|(name, text)| (name.to_owned(), Value::from(text)))
                    .into_iter()
                    .collect(),
            )
        };
        let mut headers = Headers::default();
        headers.set(X_DEATH, vec![death("leveret.delay.5"), death("q")]);
        headers.set("x-last-death-queue", "leveret.delay.5");
        headers.set("x-first-death-queue", "q");
        hide_delays(&mut headers);
        assert_eq!(headers.get(X_DEATH), Some(&Value::List(vec![death("q")])));
        assert_eq!(headers.get("x-last-death-queue").and_then(Value::as_text), Some("q"));
        let mut headers = Headers::default();
        headers.set(X_DEATH, vec![death("leveret.delay.5")]);
        headers.set("x-first-death-queue", "leveret.delay.5");
        hide_delays(&mut headers);
        assert!(headers.is_empty());
    }
}
