//! Declaring and binding.
//!
//! Each call that changes something durable gives the future of its commit; the change holds in
//! memory at once.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::access::Access;
use super::error::BrokerError;
use super::exchange::{Exchange, Target};
use super::queue::Queue;
use super::records::{
    BindingRecord, DestinationRecord, ExchangeRecord, KIND_BINDING, KIND_EXCHANGE, KIND_QUEUE,
    QueueRecord, record,
};
use super::topology::Topology;
use super::{Broker, QueueStatus, equivalence};
use crate::journal::{Commit, Entry, Group, Urgency};
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{
    Binding, Destination, EMIT_EXCHANGE, ExchangeSpec, QueueKind, QueueSpec,
};

/// Names that the broker keeps for itself.
const RESERVED_PREFIX: &str = "amq.";

impl Broker {
    /// Declares an exchange; the same declaration again changes nothing.
    ///
    /// # Errors
    /// Another property under that name; a reserved name; the default exchange.
    pub fn declare_exchange(&self, spec: ExchangeSpec) -> Result<Option<Commit>, BrokerError> {
        refuse_default(&spec.name)?;
        self.check_exchange(Access::Configure, &spec.name)?;
        let mut topology = self.vhost.topology.write();
        if let Ok(existing) = topology.exchange(&spec.name) {
            let vhost = &self.vhost.name;
            return equivalence::check_exchange(&existing.spec, &spec, vhost).map(|()| None);
        }
        refuse_reserved("exchange", spec.name.as_str())?;
        self.check_new_exchange(&spec)?;
        let mut group = Group::new();
        if spec.durable {
            let vhost = self.vhost.name.clone();
            group.fact(KIND_EXCHANGE, record(&ExchangeRecord { vhost, spec: spec.clone() }));
        }
        let (entry, commit) = self.append(group);
        topology.add_exchange(Exchange::new(spec, entry));
        Ok(commit)
    }

    /// An exchange as it is declared (a passive exchange.declare).
    ///
    /// # Errors
    /// An unknown exchange.
    pub fn exchange(&self, name: &ExchangeName) -> Result<ExchangeSpec, BrokerError> {
        Ok(self.vhost.topology.read().exchange(name)?.spec.clone())
    }

    /// Every exchange but the default one, sorted by name.
    pub fn exchanges(&self) -> Vec<ExchangeSpec> {
        let topology = self.vhost.topology.read();
        let mut specs: Vec<_> =
            topology.exchanges.values().map(|exchange| exchange.spec.clone()).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        specs
    }

    /// Declares a queue; the same declaration again changes nothing.
    ///
    /// # Errors
    /// Another property under that name; a reserved name; an exclusive queue of another connection;
    /// properties that its kind does not allow.
    pub fn declare_queue(&self, spec: QueueSpec) -> Result<Option<Commit>, BrokerError> {
        self.check_queue(Access::Configure, &spec.name)?;
        let mut topology = self.vhost.topology.write();
        if let Ok(existing) = topology.queue(spec.name.as_str()) {
            existing.check_owner(self.connection)?;
            if existing.spec.exclusive != spec.exclusive {
                return Err(existing.locked());
            }
            equivalence::check_queue(&existing.spec, &spec, &self.vhost.name)?;
            let queue = existing.clone();
            drop(topology);
            let effects = queue.touch(self.inner.now_ms());
            self.inner.run(&queue, effects);
            return Ok(None);
        }
        refuse_reserved("queue", spec.name.as_str())?;
        self.check_new_queue(&spec)?;
        self.add_queue(&mut topology, spec)
    }

    /// Declares a queue under a new name, `amq.gen-…` (queue.declare with an empty name). The name in
    /// `spec` is not used.
    ///
    /// # Errors
    /// Properties that its kind does not allow.
    pub fn declare_generated_queue(
        &self,
        mut spec: QueueSpec,
    ) -> Result<(QueueName, Option<Commit>), BrokerError> {
        let name = generated_name("amq.gen-")?;
        spec.name = name.clone();
        self.check_queue(Access::Configure, &name)?;
        self.check_new_queue(&spec)?;
        let mut topology = self.vhost.topology.write();
        let commit = self.add_queue(&mut topology, spec)?;
        Ok((name, commit))
    }

    /// Nothing of that name is there: the caller has looked under the same lock.
    pub(super) fn add_queue(
        &self,
        topology: &mut Topology,
        spec: QueueSpec,
    ) -> Result<Option<Commit>, BrokerError> {
        self.check_kind(&spec)?;
        let mut group = Group::new();
        if spec.durable && !spec.exclusive {
            let vhost = self.vhost.name.clone();
            group.fact(KIND_QUEUE, record(&QueueRecord { vhost, spec: spec.clone() }));
        }
        let (entry, commit) = self.append(group);
        let id = entry.map_or_else(|| self.inner.journal.next_position(), |entry| entry.position);
        let settings = topology.policies.settings(&spec);
        let (vhost, now_ms) = (self.vhost.name.clone(), self.inner.now_ms());
        let (owner, pager) = (self.connection, self.inner.pager.clone());
        let queue = Queue::new((id, entry), spec, vhost, owner, settings, pager, now_ms);
        let queue = Arc::new(queue);
        let effects = queue.touch(now_ms);
        topology.add_queue(queue.clone());
        // A queue without messages asks for nothing but a timer.
        if let Some(wake_ms) = effects.wake_ms {
            self.inner.timers.arm(&queue, wake_ms);
        }
        Ok(commit)
    }

    fn check_kind(&self, spec: &QueueSpec) -> Result<(), BrokerError> {
        if spec.kind == QueueKind::Classic {
            return Ok(());
        }
        let refused = [
            (!spec.durable, "non-durable"),
            (spec.exclusive, "exclusive-owner"),
            (spec.auto_delete, "auto-delete"),
        ];
        let (name, vhost) = (&spec.name, &self.vhost.name);
        if let Some((_, property)) = refused.into_iter().find(|(holds, _)| *holds) {
            return Err(BrokerError::Precondition(format!(
                "invalid property '{property}' for queue '{name}' in vhost '{vhost}'"
            )));
        }
        if spec.priority_max.is_some() {
            return Err(BrokerError::Precondition(format!(
                "invalid arg 'x-max-priority' for queue '{name}' in vhost '{vhost}' of queue type \
                 rabbit_quorum_queue"
            )));
        }
        Ok(())
    }

    /// A queue's counts (a passive queue.declare). Looking counts as using it (`x-expires`).
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn queue_status(&self, name: &QueueName) -> Result<QueueStatus, BrokerError> {
        let queue = self.own_queue(name)?;
        let effects = queue.touch(self.inner.now_ms());
        self.inner.run(&queue, effects);
        Ok(queue.status())
    }

    /// A queue as it is declared.
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn queue_spec(&self, name: &QueueName) -> Result<QueueSpec, BrokerError> {
        Ok(self.own_queue(name)?.spec.clone())
    }

    /// Binds a queue or an exchange to an exchange; the same binding again changes nothing.
    ///
    /// # Errors
    /// An unknown source or destination; the default exchange; an `x-match` that is none.
    pub fn bind(&self, binding: Binding) -> Result<Option<Commit>, BrokerError> {
        let binding = self.checked_binding(binding)?;
        let mut topology = self.vhost.topology.write();
        let target = topology.target(&binding.destination)?;
        self.check_target(&target)?;
        let source = topology.exchange(&binding.source)?;
        if source.has_binding(&binding) {
            return Ok(None);
        }
        source.accepts(&binding.arguments)?;
        let mut group = Group::new();
        if source.spec.durable
            && let Some(destination) = durable_destination(&topology, &target)
        {
            let record_of_it = BindingRecord {
                vhost: self.vhost.name.clone(),
                source: binding.source.clone(),
                destination,
                key: binding.key.clone(),
                arguments: binding.arguments.clone(),
            };
            group.fact(KIND_BINDING, record(&record_of_it));
        }
        let (entry, commit) = self.append(group);
        topology.add_binding(binding, target, entry);
        Ok(commit)
    }

    /// Removes a binding; one that is not there is no error, as in RabbitMQ.
    ///
    /// # Errors
    /// The default exchange; an exclusive queue of another connection.
    pub fn unbind(&self, binding: Binding) -> Result<Option<Commit>, BrokerError> {
        let binding = self.checked_binding(binding)?;
        let mut topology = self.vhost.topology.write();
        if let Ok(target) = topology.target(&binding.destination) {
            self.check_target(&target)?;
        }
        let mut group = Group::new();
        topology.remove_binding(&binding, &mut group);
        Ok(self.append(group).1)
    }

    /// Every binding of this vhost, in no order; those of the default exchange are not among them.
    pub fn bindings(&self) -> Vec<Binding> {
        let topology = self.vhost.topology.read();
        topology.exchanges.values().flat_map(Exchange::bindings).map(|b| (**b).clone()).collect()
    }

    fn checked_binding(&self, mut binding: Binding) -> Result<Binding, BrokerError> {
        self.check_destination(Access::Write, &binding.destination)?;
        refuse_default(&binding.source)?;
        if let Destination::Exchange(name) = &binding.destination {
            refuse_default(name)?;
        }
        self.check_exchange(Access::Read, &binding.source)?;
        binding.arguments = binding.arguments.sorted();
        Ok(binding)
    }

    fn check_target(&self, target: &Target) -> Result<(), BrokerError> {
        match target {
            Target::Queue(queue) => queue.check_owner(self.connection),
            Target::Exchange(_) => Ok(()),
        }
    }

    /// Appends a group of one fact at most; nothing when it is empty.
    pub(super) fn append(&self, group: Group) -> (Option<Entry>, Option<Commit>) {
        if group.is_empty() {
            return (None, None);
        }
        let appended = self.inner.journal.append(group, Urgency::Now);
        (appended.entries.first().copied(), Some(appended.commit))
    }
}

fn durable_destination(topology: &Topology, target: &Target) -> Option<DestinationRecord> {
    match target {
        Target::Queue(queue) => queue.is_durable().then(|| DestinationRecord::Queue(queue.id)),
        Target::Exchange(name) => {
            let durable = topology.exchange(name).is_ok_and(|exchange| exchange.spec.durable);
            durable.then(|| DestinationRecord::Exchange(name.clone()))
        }
    }
}

/// A name that nobody has: `prefix` and 128 random bits.
pub(super) fn generated_name(prefix: &str) -> Result<QueueName, BrokerError> {
    let bits = BASE64_URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
    Ok(QueueName::new(format!("{prefix}{bits}"))?)
}

pub(super) fn refuse_default(name: &ExchangeName) -> Result<(), BrokerError> {
    if name.is_default() {
        let text = "operation not permitted on the default exchange";
        return Err(BrokerError::AccessRefused(text.to_owned()));
    }
    Ok(())
}

fn refuse_reserved(what: &'static str, name: &str) -> Result<(), BrokerError> {
    if name.starts_with(RESERVED_PREFIX) {
        let text = format!("{what} name '{name}' contains reserved prefix 'amq.*'");
        return Err(BrokerError::AccessRefused(text));
    }
    Ok(())
}

pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX) || name == EMIT_EXCHANGE
}
