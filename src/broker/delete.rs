//! Deleting and purging.

use std::sync::Arc;

use super::access::Access;
use super::declare::{is_reserved, refuse_default};
use super::error::BrokerError;
use super::queue::{DeleteIf, Part, Queue, Run};
use super::records::QueueId;
use super::vhost::Vhost;
use super::{Broker, Inner};
use crate::journal::{Commit, Group, Urgency};
use crate::model::names::{ExchangeName, QueueName};

impl Broker {
    /// Deletes an exchange and its bindings; one that is not there is no error, as in RabbitMQ.
    /// `if_unused`: only when it is the source of no binding.
    ///
    /// # Errors
    /// One of the predeclared exchanges; one in use.
    pub fn delete_exchange(
        &self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<Option<Commit>, BrokerError> {
        refuse_default(name)?;
        self.check_exchange(Access::Configure, name)?;
        let vhost = &self.vhost.name;
        let mut topology = self.vhost.topology.write();
        let Ok(exchange) = topology.exchange(name) else { return Ok(None) };
        if is_reserved(name.as_str()) {
            let text =
                format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed");
            return Err(BrokerError::AccessRefused(text));
        }
        if if_unused && exchange.has_bindings() {
            let (name, vhost) = (name.to_string(), vhost.clone());
            return Err(BrokerError::InUse { what: "exchange", name, vhost });
        }
        let mut group = Group::new();
        topology.remove_exchange(name, &mut group);
        Ok(self.append(group).1)
    }

    /// Deletes a queue with its bindings and messages; its consumers end. How many messages were
    /// ready; 0 for a queue that is not there, as in RabbitMQ.
    ///
    /// # Errors
    /// An exclusive queue of another connection; `only` does not hold.
    pub fn delete_queue(&self, name: &QueueName, only: DeleteIf) -> Result<usize, BrokerError> {
        self.check_queue(Access::Configure, name)?;
        let queue = match self.vhost.topology.read().queue(name.as_str()) {
            Ok(queue) => queue.clone(),
            Err(_) => return Ok(0),
        };
        queue.check_owner(self.connection)?;
        self.inner.delete_queue(&self.vhost, &queue, only)
    }

    /// Removes every ready message; how many those were.
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn purge(&self, name: &QueueName) -> Result<usize, BrokerError> {
        let queue = self.readable_queue(name)?;
        let parts = queue.drain_ready();
        let count = parts.iter().map(Part::len).sum();
        self.inner.settle_parts(&queue, parts);
        Ok(count)
    }

    /// The connection went: its exclusive queues go with it.
    pub(super) fn delete_exclusive_queues(&self) {
        self.delete_queues(|queue| queue.spec.exclusive && queue.owner == self.connection);
    }

    /// Everything in the vhost goes.
    pub(super) fn clear(&self) {
        self.delete_queues(|_| true);
        let mut topology = self.vhost.topology.write();
        let mut group = Group::new();
        let names: Vec<_> = topology.exchanges.keys().cloned().collect();
        for name in names {
            topology.remove_exchange(&name, &mut group);
        }
        for entry in topology.policies.entries() {
            group.end(entry);
        }
        let _appended = self.append(group);
    }

    fn delete_queues(&self, goes: impl Fn(&Queue) -> bool) {
        let queues: Vec<_> =
            self.vhost.topology.read().queues.values().filter(|q| goes(q)).cloned().collect();
        for queue in queues {
            let _ready = self.inner.delete_queue(&self.vhost, &queue, DeleteIf::default());
        }
    }
}

impl Inner {
    /// A queue says that nothing uses it any more. It may have been taken up again since.
    pub(super) fn delete_unused(&self, queue: &Arc<Queue>) {
        let vhost = self.vhosts.read().get(&queue.vhost).cloned();
        if let Some(vhost) = vhost {
            let only = DeleteIf { unused: true, empty: false };
            let _ready = self.delete_queue(&vhost, queue, only);
        }
    }

    fn delete_queue(
        &self,
        vhost: &Vhost,
        queue: &Arc<Queue>,
        only: DeleteIf,
    ) -> Result<usize, BrokerError> {
        let mut topology = vhost.topology.write();
        let Some(deleted) = queue.delete(only)? else { return Ok(0) };
        let mut group = Group::new();
        topology.remove_queue(queue, &mut group);
        if let Some(entry) = queue.entry {
            group.end(entry);
        }
        if !group.is_empty() {
            self.journal.append(group, Urgency::Now);
        }
        drop(topology);
        // The queue's own record has ended by now: a crash in between leaves messages of a queue
        // that is no more, and recovery drops those.
        self.settle_parts(queue, deleted.parts);
        let _commit = self.settle_all(queue, &deleted.held);
        for (held, reason) in deleted.dying {
            for (target, effects) in self.dead_letter(queue, held, reason) {
                self.run(&target, effects);
            }
        }
        Ok(deleted.ready)
    }

    /// Ends messages in their order: of a purge that a crash cuts short, the last ones are left.
    fn settle_parts(&self, queue: &Queue, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Memory(held) => drop(self.settle_all(queue, Vec::from(held).as_slice())),
                Part::Paged(run) => self.settle_runs(queue.id, vec![run]),
            }
        }
    }

    /// A run's messages need not be read to be ended.
    pub(super) fn settle_runs(&self, queue: QueueId, runs: Vec<Run>) {
        let append = |group: &mut Group| {
            if !group.is_empty() {
                self.journal.append(std::mem::take(group), Urgency::Now);
            }
        };
        for run in runs {
            let mut group = Group::new();
            for (entry, queues) in run.entries() {
                if queues == 1 {
                    group.end(entry);
                    continue;
                }
                let mut notes = self.spread.enter(entry.position);
                if notes.open(queues) > 1 {
                    append(&mut group);
                    notes.settle(&self.journal, (entry, queues), queue, Group::new());
                } else {
                    notes.end_all(&mut group);
                    group.end(entry);
                }
            }
            append(&mut group);
        }
    }
}
