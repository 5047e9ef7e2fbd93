//! Declaring, binding, purging and deleting.
//!
//! Each call that changes something durable gives the future of its commit; the change holds in
//! memory at once.

use std::sync::Arc;

use super::Broker;
use super::error::BrokerError;
use super::queue::{Held, Queue};
use super::routing::{Exchange, Topology};
use super::stored::{
    BindingRecord, ExchangeRecord, KIND_BINDING, KIND_EXCHANGE, KIND_QUEUE, QueueRecord, record,
};
use crate::journal::{Commit, Group, Urgency};
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{Binding, ExchangeSpec, QueueSpec};

/// Names that the broker keeps for itself.
const RESERVED_PREFIX: &str = "amq.";
const RESERVED: &str = "names that begin with 'amq.' are reserved";

impl Broker {
    /// Declares an exchange; the same declaration again changes nothing.
    ///
    /// # Errors
    /// Another kind or durability under that name; a reserved name; the default exchange.
    pub fn declare_exchange(&self, spec: ExchangeSpec) -> Result<Option<Commit>, BrokerError> {
        refuse_default(&spec.name)?;
        let mut topology = self.inner.topology.write();
        if let Ok(existing) = topology.exchange(&spec.name) {
            return match exchange_difference(&existing.spec, &spec) {
                None => Ok(None),
                Some(property) => Err(inequivalent("exchange", spec.name.as_str(), property)),
            };
        }
        refuse_reserved("exchange", spec.name.as_str())?;
        let mut group = Group::new();
        if spec.durable {
            group.fact(KIND_EXCHANGE, record(&ExchangeRecord { spec: spec.clone() }));
        }
        let (entry, commit) = self.append(group);
        topology.add_exchange(Exchange::new(spec, entry));
        Ok(commit)
    }

    /// Declares a queue; the same declaration again changes nothing.
    ///
    /// # Errors
    /// Another property under that name; a reserved name.
    pub fn declare_queue(&self, spec: QueueSpec) -> Result<Option<Commit>, BrokerError> {
        let mut topology = self.inner.topology.write();
        if let Some(existing) = topology.queue(spec.name.as_str()) {
            return match queue_difference(&existing.spec, &spec) {
                None => Ok(None),
                Some(property) => Err(inequivalent("queue", spec.name.as_str(), property)),
            };
        }
        refuse_reserved("queue", spec.name.as_str())?;
        let mut group = Group::new();
        if spec.durable {
            group.fact(KIND_QUEUE, record(&QueueRecord { spec: spec.clone() }));
        }
        let (entry, commit) = self.append(group);
        let id = entry.map_or_else(|| self.inner.journal.next_position(), |entry| entry.position);
        topology.add_queue(Arc::new(Queue::new(id, spec, entry)));
        Ok(commit)
    }

    /// Binds a queue; the same binding again changes nothing.
    ///
    /// # Errors
    /// An unknown queue or exchange; the default exchange.
    pub fn bind(&self, binding: Binding) -> Result<Option<Commit>, BrokerError> {
        refuse_default(&binding.exchange)?;
        let mut topology = self.inner.topology.write();
        let exchange_durable = topology.exchange(&binding.exchange)?.spec.durable;
        let queue = known_queue(&topology, &binding.queue)?;
        if topology.has_binding(&binding) {
            return Ok(None);
        }
        let mut group = Group::new();
        if exchange_durable && queue.spec.durable {
            let (exchange, key) = (binding.exchange.clone(), binding.key.clone());
            group.fact(KIND_BINDING, record(&BindingRecord { exchange, queue: queue.id, key }));
        }
        let (entry, commit) = self.append(group);
        topology.add_binding(binding, &queue, entry);
        Ok(commit)
    }

    /// Removes a binding; one that is not there is no error, as in RabbitMQ.
    pub fn unbind(&self, binding: &Binding) -> Option<Commit> {
        let mut group = Group::new();
        if let Some(entry) = self.inner.topology.write().remove_binding(binding).flatten() {
            group.end(entry);
        }
        self.append(group).1
    }

    /// Deletes an exchange and its bindings.
    ///
    /// # Errors
    /// An unknown exchange; one of the predeclared ones.
    pub fn delete_exchange(&self, name: &ExchangeName) -> Result<Option<Commit>, BrokerError> {
        refuse_default(name)?;
        refuse_reserved("exchange", name.as_str())?;
        let mut topology = self.inner.topology.write();
        topology.exchange(name)?;
        let mut group = Group::new();
        end_bindings(&mut topology, &mut group, |binding| binding.exchange == *name);
        if let Some(entry) = topology.remove_exchange(name).and_then(|exchange| exchange.entry) {
            group.end(entry);
        }
        Ok(self.append(group).1)
    }

    /// Deletes a queue with its bindings and messages; its consumers end. How many messages it held.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn delete_queue(&self, name: &QueueName) -> Result<usize, BrokerError> {
        let queue = {
            let mut topology = self.inner.topology.write();
            let queue = known_queue(&topology, name)?;
            let mut group = Group::new();
            end_bindings(&mut topology, &mut group, |binding| binding.queue == *name);
            if let Some(entry) = queue.entry {
                group.end(entry);
            }
            topology.remove_queue(name);
            self.append(group);
            queue
        };
        // The queue's own record has ended by now: a crash in between leaves messages of a queue
        // that is no more, and recovery drops those.
        Ok(self.settle_all(&queue, queue.delete()))
    }

    /// Removes every ready message; how many those were.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn purge(&self, name: &QueueName) -> Result<usize, BrokerError> {
        let queue = self.inner.queue(name)?;
        Ok(self.settle_all(&queue, queue.drain_ready()))
    }

    fn settle_all(&self, queue: &Queue, held: Vec<Held>) -> usize {
        let count = held.len();
        for held in held {
            let _appended =
                held.stored.settle(&self.inner.journal, queue.id, held.retry, Group::new());
        }
        count
    }

    /// Appends a group of one fact at most; nothing when it is empty.
    fn append(&self, group: Group) -> (Option<crate::journal::Entry>, Option<Commit>) {
        if group.is_empty() {
            return (None, None);
        }
        let appended = self.inner.journal.append(group, Urgency::Now);
        (appended.entries.first().copied(), Some(appended.commit))
    }
}

fn end_bindings(topology: &mut Topology, group: &mut Group, belongs: impl Fn(&Binding) -> bool) {
    for binding in topology.bindings_where(belongs) {
        if let Some(entry) = topology.remove_binding(&binding).flatten() {
            group.end(entry);
        }
    }
}

fn known_queue(topology: &Topology, name: &QueueName) -> Result<Arc<Queue>, BrokerError> {
    let not_found = || BrokerError::NotFound { what: "queue", name: name.to_string() };
    topology.queue(name.as_str()).cloned().ok_or_else(not_found)
}

fn refuse_default(name: &ExchangeName) -> Result<(), BrokerError> {
    if name.is_default() {
        let reason = "operation not permitted on the default exchange";
        return Err(BrokerError::AccessRefused { what: "exchange", name: String::new(), reason });
    }
    Ok(())
}

fn refuse_reserved(what: &'static str, name: &str) -> Result<(), BrokerError> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(BrokerError::AccessRefused { what, name: name.to_owned(), reason: RESERVED });
    }
    Ok(())
}

fn inequivalent(what: &'static str, name: &str, property: &'static str) -> BrokerError {
    BrokerError::Inequivalent { what, name: name.to_owned(), property }
}

fn exchange_difference(a: &ExchangeSpec, b: &ExchangeSpec) -> Option<&'static str> {
    [(a.kind != b.kind, "type"), (a.durable != b.durable, "durable")]
        .into_iter()
        .find_map(differing)
}

fn queue_difference(a: &QueueSpec, b: &QueueSpec) -> Option<&'static str> {
    let exchange = |spec: &QueueSpec| spec.dead_letter.as_ref().map(|to| to.exchange.clone());
    let key = |spec: &QueueSpec| spec.dead_letter.as_ref().and_then(|to| to.routing_key.clone());
    [
        (a.durable != b.durable, "durable"),
        (a.message_ttl_ms != b.message_ttl_ms, "x-message-ttl"),
        (exchange(a) != exchange(b), "x-dead-letter-exchange"),
        (key(a) != key(b), "x-dead-letter-routing-key"),
        (a.retry != b.retry, "retry policy"),
    ]
    .into_iter()
    .find_map(differing)
}

fn differing((differs, property): (bool, &'static str)) -> Option<&'static str> {
    differs.then_some(property)
}
