//! Everything that is declared in one vhost, by name.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::error::BrokerError;
use super::exchange::{Exchange, Target};
use super::policy::Policies;
use super::queue::Queue;
use crate::journal::{Entry, Group};
use crate::model::names::{ExchangeName, QueueName, VhostName};
use crate::model::topology::{Binding, Destination, EMIT_EXCHANGE, ExchangeKind, ExchangeSpec};

pub(super) struct Topology {
    pub vhost: VhostName,
    pub policies: Policies,
    pub(super) exchanges: AHashMap<ExchangeName, Exchange>,
    pub(super) queues: AHashMap<QueueName, Arc<Queue>>,
    /// The bindings that lead to a queue or an exchange, so that deleting one costs what it has.
    leading_to: AHashMap<Destination, AHashSet<Arc<Binding>>>,
}

/// The exchanges that every vhost has (AMQP 0-9-1, section 3.1.3), and the broker's own. The default exchange is not among
/// them: it has no bindings of its own.
const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    (EMIT_EXCHANGE, ExchangeKind::Topic),
];

impl Topology {
    pub(super) fn new(vhost: VhostName) -> Self {
        let exchanges = PREDECLARED
            .into_iter()
            .filter_map(|(name, kind)| Some((ExchangeName::new(name).ok()?, kind)))
            .map(|(name, kind)| {
                (name.clone(), Exchange::new(ExchangeSpec::durable(name, kind), None))
            })
            .collect();
        let (queues, leading_to) = (AHashMap::new(), AHashMap::new());
        Self { vhost, policies: Policies::default(), exchanges, queues, leading_to }
    }

    pub(super) fn queue(&self, name: &str) -> Result<&Arc<Queue>, BrokerError> {
        self.queues.get(name).ok_or_else(|| self.not_found("queue", name))
    }

    pub(super) fn exchange(&self, name: &ExchangeName) -> Result<&Exchange, BrokerError> {
        self.exchanges.get(name).ok_or_else(|| self.not_found("exchange", name.as_str()))
    }

    fn not_found(&self, what: &'static str, name: &str) -> BrokerError {
        BrokerError::NotFound { what, name: name.to_owned(), vhost: self.vhost.clone() }
    }

    pub(super) fn add_exchange(&mut self, mut exchange: Exchange) {
        exchange.alternate = self.alternate(&exchange.spec);
        self.exchanges.insert(exchange.spec.name.clone(), exchange);
    }

    pub(super) fn add_queue(&mut self, queue: Arc<Queue>) {
        self.queues.insert(queue.spec.name.clone(), queue);
    }

    /// What takes an exchange's unroutable messages: its own argument, or a policy's.
    pub(super) fn alternate(&self, spec: &ExchangeSpec) -> Option<ExchangeName> {
        let policy = || self.policies.for_exchange(&spec.name)?.alternate.clone();
        spec.alternate.clone().or_else(policy)
    }

    /// What a binding leads to.
    ///
    /// # Errors
    /// An unknown queue or exchange.
    pub(super) fn target(&self, destination: &Destination) -> Result<Target, BrokerError> {
        Ok(match destination {
            Destination::Queue(name) => Target::Queue(self.queue(name.as_str())?.clone()),
            Destination::Exchange(name) => Target::Exchange(self.exchange(name)?.spec.name.clone()),
        })
    }

    /// Both ends exist: the caller has looked them up under the same lock.
    pub(super) fn add_binding(&mut self, binding: Binding, target: Target, entry: Option<Entry>) {
        let binding = Arc::new(binding);
        if let Some(source) = self.exchanges.get_mut(&binding.source) {
            let bindings = self.leading_to.entry(binding.destination.clone()).or_default();
            bindings.insert(binding.clone());
            source.bind(binding, target, entry);
        }
    }

    /// Removes a binding if it is there, and its source if that was auto-delete and has no other.
    pub(super) fn remove_binding(&mut self, binding: &Binding, group: &mut Group) {
        let Ok(target) = self.target(&binding.destination) else { return };
        let Some(source) = self.exchanges.get_mut(&binding.source) else { return };
        let Some(entry) = source.unbind(binding, &target) else { return };
        if let Some(entry) = entry {
            group.end(entry);
        }
        let unused = source.spec.auto_delete && !source.has_bindings();
        if let Some(bindings) = self.leading_to.get_mut(&binding.destination) {
            bindings.remove(binding);
            if bindings.is_empty() {
                self.leading_to.remove(&binding.destination);
            }
        }
        if unused {
            self.remove_exchange(&binding.source, group);
        }
    }

    /// Removes an exchange with the bindings from and to it, and every auto-delete exchange that has
    /// no binding left then. A loop over work, not a recursion: such a chain may be long.
    pub(super) fn remove_exchange(&mut self, name: &ExchangeName, group: &mut Group) {
        let mut work = vec![name.clone()];
        while let Some(name) = work.pop() {
            let Some(exchange) = self.exchanges.remove(&name) else { continue };
            if let Some(entry) = exchange.entry {
                group.end(entry);
            }
            for binding in exchange.bindings() {
                if let Some(bindings) = self.leading_to.get_mut(&binding.destination) {
                    bindings.remove(binding);
                    if bindings.is_empty() {
                        self.leading_to.remove(&binding.destination);
                    }
                }
            }
            exchange.into_entries().for_each(|entry| {
                group.end(entry);
            });
            let target = Target::Exchange(name.clone());
            work.extend(self.unbind_all(&Destination::Exchange(name), &target, group));
        }
    }

    /// Removes a queue with the bindings to it.
    pub(super) fn remove_queue(&mut self, queue: &Arc<Queue>, group: &mut Group) {
        let name = queue.spec.name.clone();
        // Another incarnation under that name is none of this caller's business.
        if self.queues.get(&name) != Some(queue) {
            return;
        }
        self.queues.remove(&name);
        let target = Target::Queue(queue.clone());
        for unused in self.unbind_all(&Destination::Queue(name), &target, group) {
            self.remove_exchange(&unused, group);
        }
    }

    /// Removes every binding to a destination; the auto-delete exchanges that are unused by then.
    fn unbind_all(
        &mut self,
        destination: &Destination,
        target: &Target,
        group: &mut Group,
    ) -> Vec<ExchangeName> {
        let mut unused = Vec::new();
        for binding in self.leading_to.remove(destination).unwrap_or_default() {
            let Some(source) = self.exchanges.get_mut(&binding.source) else { continue };
            if let Some(entry) = source.unbind(&binding, target).flatten() {
                group.end(entry);
            }
            if source.spec.auto_delete && !source.has_bindings() {
                unused.push(binding.source.clone());
            }
        }
        unused
    }
}
