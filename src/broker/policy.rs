//! Policies: settings for queues and exchanges by name, changeable while they are in use.

use regex::{Regex, RegexBuilder};

use super::Broker;
use super::error::BrokerError;
use super::records::{KIND_POLICY, PolicyRecord, record};
use super::topology::Topology;
use super::versioned::Change;
use crate::journal::{Commit, Entry, Group, Urgency};
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{AppliesTo, Policy, QueueSettings, QueueSpec};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// The policies of one vhost, the highest priority first, then by name.
#[derive(Default)]
pub(super) struct Policies(Vec<Compiled>);

struct Compiled {
    policy: Policy,
    pattern: Regex,
    entry: Option<Entry>,
}

impl Policies {
    /// Adds a policy or replaces the one of that name, whose journal entry it gives back.
    pub(super) fn set(&mut self, policy: Policy, pattern: Regex, entry: Option<Entry>) {
        self.0.retain(|other| other.policy.name != policy.name);
        self.0.push(Compiled { policy, pattern, entry });
        self.0.sort_by(|a, b| {
            let order = b.policy.priority.cmp(&a.policy.priority);
            order.then_with(|| a.policy.name.cmp(&b.policy.name))
        });
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.0.iter().find(|compiled| compiled.policy.name == name)?.entry
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.0.iter().filter_map(|compiled| compiled.entry)
    }

    fn find(&self, name: &str, not_for: AppliesTo) -> Option<&Policy> {
        let mut matching = self.0.iter().filter(|compiled| compiled.policy.applies_to != not_for);
        Some(&matching.find(|compiled| compiled.pattern.is_match(name))?.policy)
    }

    pub(super) fn for_queue(&self, name: &QueueName) -> Option<&Policy> {
        self.find(name.as_str(), AppliesTo::Exchanges)
    }

    pub(super) fn for_exchange(&self, name: &ExchangeName) -> Option<&Policy> {
        self.find(name.as_str(), AppliesTo::Queues)
    }

    /// What holds for a queue: its own settings, under the policy that matches its name.
    pub(super) fn settings(&self, spec: &QueueSpec) -> QueueSettings {
        match self.for_queue(&spec.name) {
            Some(policy) => spec.settings.under(&policy.queue),
            None => spec.settings.clone(),
        }
    }
}

/// # Errors
/// What the regular expression's compiler says.
pub(super) fn compile(policy: &Policy) -> Result<Regex, BrokerError> {
    let pattern = RegexBuilder::new(&policy.pattern).size_limit(PATTERN_BYTES_MAX).build();
    pattern.map_err(|error| {
        BrokerError::Precondition(format!("policy '{}': bad pattern: {error}", policy.name))
    })
}

impl Broker {
    /// Sets a policy of this vhost and applies it at once.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn set_policy(&self, policy: Policy) -> Result<Commit, BrokerError> {
        let pattern = compile(&policy)?;
        let mut topology = self.vhost.topology.write();
        let mut group = Group::new();
        let vhost = self.vhost.name.clone();
        group.fact(KIND_POLICY, record(&PolicyRecord { vhost, policy: policy.clone() }));
        if let Some(previous) = topology.policies.entry(&policy.name) {
            group.end(previous);
        }
        let appended = self.inner.journal.append(group, Urgency::Now);
        topology.policies.set(policy, pattern, appended.entries.first().copied());
        self.apply_policies(topology);
        Ok(appended.commit)
    }

    /// Removes a policy; what it set ends at once. One that is not there is no error.
    pub fn clear_policy(&self, name: &str) -> Option<Commit> {
        let mut topology = self.vhost.topology.write();
        let entry = topology.policies.entry(name)?;
        topology.policies.0.retain(|compiled| compiled.policy.name != name);
        let mut group = Group::new();
        group.end(entry);
        let appended = self.inner.journal.append(group, Urgency::Now);
        self.apply_policies(topology);
        Some(appended.commit)
    }

    /// The policies of this vhost, the highest priority first.
    pub fn policies(&self) -> Vec<Policy> {
        let topology = self.vhost.topology.read();
        topology.policies.0.iter().map(|compiled| compiled.policy.clone()).collect()
    }

    /// Gives every queue and exchange what holds for it now. Dead letters that this makes are sent
    /// after the topology's lock is released, a step for each queue while the journal has room; the
    /// timers go on with the rest.
    fn apply_policies(&self, mut topology: Change<'_, Topology>) {
        let now_ms = self.inner.now_ms();
        topology.apply_alternates();
        let configured = topology.queues.values().map(|queue| {
            let effects = queue.configure(topology.policies.settings(&queue.spec), now_ms);
            (queue.clone(), effects)
        });
        let configured: Vec<_> = configured.collect();
        drop(topology);
        for (queue, effects) in configured {
            self.inner.run(&queue, effects);
        }
        self.inner.go_on();
    }
}

impl Topology {
    pub(super) fn apply_alternates(&mut self) {
        let names: Vec<_> = self.exchanges.keys().cloned().collect();
        for name in names {
            let Some(spec) = self.exchanges.get(&name).map(|exchange| exchange.spec.clone()) else {
                continue;
            };
            let alternate = self.alternate(&spec);
            if let Some(exchange) = self.exchanges.get_mut(&name) {
                exchange.alternate = alternate;
            }
        }
    }
}
