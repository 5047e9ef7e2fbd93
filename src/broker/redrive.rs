//! Looking into a dead-letter queue, and sending a message back to where it died.

use bytes::Bytes;

use super::Broker;
use super::dead_letter::{clear_deaths, death_text, deaths};
use super::error::BrokerError;
use super::queue::Queue;
use super::routing::Targets;
use crate::journal::Position;
use crate::model::message::{Message, Value};
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

/// A ready message, looked at without being taken.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Names the message as long as it stays in the queue.
    pub position: Position,
    pub message: Message,
    pub redelivered: bool,
}

impl Broker {
    /// Ready messages from the head on, at most `count`.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BrokerError> {
        let held = self.own_queue(queue)?.peek(count);
        let peeked = held.into_iter().map(|held| Peeked {
            position: held.position,
            message: held.stored.message.clone(),
            redelivered: held.redelivered,
        });
        Ok(peeked.collect())
    }

    /// Takes a dead-lettered message out of `queue` and puts it into the queue in which it died last,
    /// as it was first published there, in one commit. `body` replaces its body. `false`: no such
    /// message is ready.
    ///
    /// # Errors
    /// An unknown queue; a message that did not die, or whose queue is gone: it stays where it is.
    pub fn redrive(
        &self,
        queue: &QueueName,
        position: Position,
        body: Option<Bytes>,
    ) -> Result<bool, BrokerError> {
        let queue = self.own_queue(queue)?;
        let Some((held, effects)) = queue.take_ready(position) else { return Ok(false) };
        self.inner.run(&queue, effects);
        let (message, targets) = match self.revived(&queue, &held.stored.message, body) {
            Ok(revived) => revived,
            Err(error) => {
                let effects = match queue.put_back(held, self.inner.now_ms()) {
                    Ok(effects) => effects,
                    Err(refusal) => self.inner.refused(&queue, refusal).0,
                };
                self.inner.run(&queue, effects);
                return Err(error);
            }
        };
        for (target, effects) in self.inner.transfer(&queue, held, message, targets) {
            self.inner.run(&target, effects);
        }
        Ok(true)
    }

    /// The message as it was before it died, and the queue that it died in.
    fn revived(
        &self,
        queue: &Queue,
        dead: &Message,
        body: Option<Bytes>,
    ) -> Result<(Message, Targets), BrokerError> {
        let refuse =
            |reason| BrokerError::NotRedrivable { queue: queue.spec.name.to_string(), reason };
        let death =
            deaths(&dead.properties.headers).first().ok_or_else(|| refuse("it has no x-death"))?;
        let source = death_text(death, "queue").unwrap_or_default();
        let source = self.vhost.topology.read().queue(source).cloned();
        let source = source.map_err(|_| refuse("the queue that it died in is gone"))?;
        let mut message = dead.clone();
        if let Some(exchange) =
            death_text(death, "exchange").and_then(|name| ExchangeName::new(name).ok())
        {
            message.exchange = exchange;
        }
        if let Some(key) = first_routing_key(death) {
            message.routing_key = key;
        }
        clear_deaths(&mut message.properties.headers);
        if let Some(body) = body {
            message.body = body;
        }
        Ok((message, Targets::from_elem(source, 1)))
    }
}

fn first_routing_key(death: &Value) -> Option<RoutingKey> {
    let Value::Table(table) = death else { return None };
    let Some(Value::List(keys)) = table.get("routing-keys") else { return None };
    keys.first().and_then(Value::as_text).and_then(|key| RoutingKey::new(key).ok())
}
