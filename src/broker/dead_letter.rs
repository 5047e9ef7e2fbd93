//! Where a dead message goes, and what it says of its deaths.
//!
//! Mirrors RabbitMQ's dead lettering: `x-death` has one entry a {queue, reason}, which tells of the first
//! such death; another one raises its count and brings it to the front. `x-first-death-*` and `x-last-death-*` name the ends of that history. Beside it
//! stand `x-last-error` and `x-retry-count`, what the retry policy knows.

use std::sync::Arc;

use super::Inner;
use super::queue::{Effects, Held, Queue, Reason};
use super::routing::{CC, Targets};
use super::trace::{What, shared};
use crate::journal::Group;
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message, Value};
use crate::model::topology::DeadLetter;

pub(crate) const X_DEATH: &str = "x-death";
pub(crate) const X_RETRY_COUNT: &str = "x-retry-count";
pub(crate) const X_DELIVERY_COUNT: &str = "x-delivery-count";
pub(crate) const X_LAST_ERROR: &str = "x-last-error";

impl Inner {
    /// Takes a dead message out of `queue` and into the queues of its dead-letter exchange, in one
    /// group. A missing exchange, or one that routes nowhere, drops it, as in RabbitMQ.
    pub(super) fn dead_letter(
        &self,
        queue: &Arc<Queue>,
        held: Held,
        reason: Reason,
    ) -> Vec<(Arc<Queue>, Effects)> {
        let counters = &queue.counters;
        match reason {
            Reason::Expired => counters.expired.increment(1),
            Reason::Rejected | Reason::MaxLength | Reason::DeliveryLimit => {
                counters.dead_lettered.increment(1);
            }
        }
        let error = shared(held.failed.as_ref().and_then(|failed| failed.error.as_ref()));
        let died = |to| What::Died { queue: queue.spec.name.clone(), reason, error, to };
        let Some((message, targets)) = self.last_station(queue, &held, reason) else {
            self.trace.note_and_follow(&held.stored, held.position, self.now_ms(), || died(None));
            let retry = held.retry_entry();
            let _appended = held.stored.settle(&self.journal, queue.id, retry, Group::new());
            return Vec::new();
        };
        self.transfer(queue, held, message, targets, |to| died(Some(to)))
    }

    /// The dead letter and the queues that it reaches; `None` when it reaches none.
    fn last_station(
        &self,
        queue: &Queue,
        held: &Held,
        reason: Reason,
    ) -> Option<(Message, Targets)> {
        let settings = queue.settings();
        let policy = settings.dead_letter.as_ref()?;
        let vhost = self.vhosts.read().get(&queue.vhost).cloned()?;
        let message = dead_message(queue, held, reason, policy, self.now_ms());
        let mut targets = vhost.topology.read().route_dead_letter(&message);
        let deaths = deaths(&message.properties.headers);
        targets.retain(|target| !is_cycle(target, deaths));
        (!targets.is_empty()).then_some((message, targets))
    }
}

fn dead_message(
    queue: &Queue,
    held: &Held,
    reason: Reason,
    policy: &DeadLetter,
    now_ms: UnixMs,
) -> Message {
    let original = &held.stored.message;
    let mut message = original.clone();
    message.exchange = policy.exchange.clone();
    let properties = &mut message.properties;
    let expiration_ms = properties.expiration_ms.take();
    let headers = &mut properties.headers;
    add_death(headers, queue.spec.name.as_str(), original, reason.as_str(), expiration_ms, now_ms);
    if let Some(key) = &policy.routing_key {
        message.routing_key = key.clone();
        headers.remove(CC);
    }
    if let Some(error) = held.failed.as_ref().and_then(|failed| failed.error.as_deref()) {
        headers.set(X_LAST_ERROR, error);
    }
    if held.failures() > 0 {
        headers.set(X_RETRY_COUNT, i64::from(held.failures()));
    }
    message
}

/// Notes in `headers` that `original` died in the queue of that name.
pub(crate) fn add_death(
    headers: &mut Headers,
    queue_name: &str,
    original: &Message,
    reason: &str,
    expiration_ms: Option<u64>,
    now_ms: UnixMs,
) {
    let mut deaths = match headers.remove(X_DEATH) {
        Some(Value::List(deaths)) => deaths,
        _ => Vec::new(),
    };
    let same = |death: &Value| {
        death_text(death, "queue") == Some(queue_name)
            && death_text(death, "reason") == Some(reason)
    };
    let death = match deaths.iter().position(same).map(|at| deaths.remove(at)) {
        Some(Value::Table(mut death)) => {
            let count = death.get("count").and_then(Value::as_int).unwrap_or(0);
            death.set("count", count.saturating_add(1));
            death
        }
        _ => {
            let mut death = Headers::default();
            death.set("count", 1);
            death.set("reason", reason);
            death.set("queue", queue_name);
            death.set("time", Value::Timestamp(now_ms / 1_000));
            death.set("exchange", original.exchange.as_str());
            death.set("routing-keys", routing_keys(original));
            if let Some(expiration_ms) = expiration_ms {
                death.set("original-expiration", expiration_ms.to_string());
            }
            death
        }
    };
    deaths.insert(0, Value::Table(death));
    headers.set(X_DEATH, deaths);
    for (name, value) in
        [("reason", reason), ("queue", queue_name), ("exchange", original.exchange.as_str())]
    {
        let first = format!("x-first-death-{name}");
        if headers.get(&first).is_none() {
            headers.set(first, value);
        }
        headers.set(format!("x-last-death-{name}"), value);
    }
}

/// The keys that a message was published under, but for its BCC ones.
fn routing_keys(message: &Message) -> Vec<Value> {
    let mut keys = vec![Value::from(message.routing_key.as_str())];
    if let Some(Value::List(more)) = message.properties.headers.get(CC) {
        keys.extend(more.iter().cloned());
    }
    keys
}

/// Takes every trace of a message's deaths away.
pub(crate) fn clear_deaths(headers: &mut Headers) {
    let traces: Vec<String> = headers
        .iter()
        .map(|(name, _)| name)
        .filter(|name| {
            [X_DEATH, X_LAST_ERROR, X_RETRY_COUNT].contains(name)
                || name.starts_with("x-first-death-")
                || name.starts_with("x-last-death-")
        })
        .map(str::to_owned)
        .collect();
    for name in traces {
        headers.remove(&name);
    }
}

/// The `x-death` entries, newest first.
pub(super) fn deaths(headers: &Headers) -> &[Value] {
    match headers.get(X_DEATH) {
        Some(Value::List(deaths)) => deaths,
        _ => &[],
    }
}

pub(crate) fn death_text<'a>(death: &'a Value, field: &str) -> Option<&'a str> {
    match death {
        Value::Table(table) => table.get(field).and_then(Value::as_text),
        _ => None,
    }
}

/// Whether the message came from `target` to here without anybody having rejected it: it would
/// go round for ever.
fn is_cycle(target: &Queue, deaths: &[Value]) -> bool {
    for death in deaths {
        if death_text(death, "reason") == Some(Reason::Rejected.as_str()) {
            return false;
        }
        if death_text(death, "queue") == Some(target.spec.name.as_str()) {
            return true;
        }
    }
    false
}
