//! Which queues a message reaches.

use std::sync::Arc;

use ahash::AHashSet;
use smallvec::SmallVec;

use super::error::BrokerError;
use super::exchange::{Exchange, Target};
use super::queue::Queue;
use super::topology::Topology;
use crate::model::message::{Headers, Message, Value};
use crate::model::names::ExchangeName;
use crate::model::topology::ExchangeKind;

/// The queues of one message; most messages reach few.
pub(super) type Targets = SmallVec<[Arc<Queue>; 4]>;

/// Where a message goes.
pub(super) struct Route {
    pub targets: Targets,
    /// Its headers had a say: another message with the same exchange and key may go elsewhere.
    pub by_headers: bool,
}

/// Headers that add routing keys; BCC is taken off before delivery.
pub(crate) const CC: &str = "CC";
pub(super) const BCC: &str = "BCC";

/// A message's own key, then those of its CC and BCC headers.
type Keys<'a> = SmallVec<[&'a str; 2]>;

impl Topology {
    /// Where a client's message goes, each queue once.
    ///
    /// # Errors
    /// An unknown or internal exchange; a CC or BCC that is no list.
    pub(super) fn route_published(&self, message: &Message) -> Result<Route, BrokerError> {
        let keys = keys(message)?;
        let has_more_keys = keys.len() > 1;
        if message.exchange.is_default() {
            return Ok(Route { targets: self.named_by(&keys), by_headers: has_more_keys });
        }
        let exchange = self.exchange(&message.exchange)?;
        if exchange.spec.internal {
            let text = format!(
                "cannot publish to internal exchange '{}' in vhost '{}'",
                message.exchange, self.vhost
            );
            return Err(BrokerError::AccessRefused(text));
        }
        let mut route = self.route(exchange, &keys, &message.properties.headers);
        route.by_headers |= has_more_keys;
        Ok(route)
    }

    /// Where a dead letter goes; an unknown exchange leads nowhere.
    pub(super) fn route_dead_letter(&self, message: &Message) -> Targets {
        let keys = keys(message).unwrap_or_else(|_| single_key(message));
        if message.exchange.is_default() {
            return self.named_by(&keys);
        }
        match self.exchanges.get(&message.exchange) {
            Some(exchange) => self.route(exchange, &keys, &message.properties.headers).targets,
            None => Targets::new(),
        }
    }

    /// The default exchange routes to the queues that the keys name.
    fn named_by(&self, keys: &[&str]) -> Targets {
        let mut targets: Targets =
            keys.iter().filter_map(|&key| self.queues.get(key)).cloned().collect();
        deduplicate(&mut targets);
        targets
    }

    /// Walks from exchange to exchange; one that was seen is not walked again, so cycles end. An
    /// exchange in which nothing matches passes the message to its alternate.
    fn route<'a>(&'a self, first: &'a Exchange, keys: &[&str], headers: &Headers) -> Route {
        let (mut targets, mut by_headers) = (Targets::new(), false);
        let mut seen: AHashSet<&ExchangeName> = AHashSet::new();
        let mut work: SmallVec<[&Exchange; 4]> = SmallVec::from_elem(first, 1);
        while let Some(exchange) = work.pop() {
            by_headers |= exchange.spec.kind == ExchangeKind::Headers;
            let mut matched = false;
            let mut pass_to = |name: &'a ExchangeName| {
                seen.insert(&exchange.spec.name);
                if seen.insert(name)
                    && let Some(next) = self.exchanges.get(name)
                {
                    work.push(next);
                }
            };
            exchange.for_each_match(keys, headers, |target| {
                matched = true;
                match target {
                    Target::Queue(queue) => targets.push(queue.clone()),
                    Target::Exchange(name) => pass_to(name),
                }
            });
            match &exchange.alternate {
                Some(alternate) if !matched && alternate.is_default() => {
                    targets.extend(self.named_by(keys));
                }
                Some(alternate) if !matched => pass_to(alternate),
                _ => {}
            }
        }
        deduplicate(&mut targets);
        Route { targets, by_headers }
    }
}

/// Whether the message may have more keys than its own.
pub(super) fn may_have_more_keys(message: &Message) -> bool {
    let headers = &message.properties.headers;
    [CC, BCC].into_iter().any(|name| headers.get(name).is_some())
}

/// A message reaches a queue once, however many bindings and keys match.
fn deduplicate(targets: &mut Targets) {
    if targets.len() > 1 {
        targets.sort_unstable_by_key(|queue| queue.id);
        targets.dedup_by_key(|queue| queue.id);
    }
}

fn single_key(message: &Message) -> Keys<'_> {
    SmallVec::from_elem(message.routing_key.as_str(), 1)
}

/// # Errors
/// A CC or BCC header that is no list.
#[cfg(feature = "rabbitmq")]
pub(crate) fn check_keys(message: &Message) -> Result<(), BrokerError> {
    keys(message).map(|_| ())
}

fn keys(message: &Message) -> Result<Keys<'_>, BrokerError> {
    let mut keys = single_key(message);
    for name in [CC, BCC] {
        match message.properties.headers.get(name) {
            None => {}
            Some(Value::List(more)) => keys.extend(more.iter().filter_map(Value::as_text)),
            Some(other) => {
                return Err(BrokerError::Precondition(format!(
                    "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                    other.type_name()
                )));
            }
        }
    }
    Ok(keys)
}
