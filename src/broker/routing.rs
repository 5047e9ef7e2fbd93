//! Exchanges and queues by name, and which queues a message reaches.

use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::error::BrokerError;
use super::queue::Queue;
use super::topic::TopicTrie;
use crate::journal::Entry;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};
use crate::model::topology::{Binding, ExchangeKind, ExchangeSpec};

/// The queues of one message; most messages reach few.
pub(super) type Targets = SmallVec<[Arc<Queue>; 4]>;

/// Everything that is declared.
pub(super) struct Topology {
    exchanges: AHashMap<ExchangeName, Exchange>,
    queues: AHashMap<QueueName, Arc<Queue>>,
    /// Each binding, with its journal entry when both of its ends are durable.
    bindings: AHashMap<Binding, Option<Entry>>,
}

pub(super) struct Exchange {
    pub spec: ExchangeSpec,
    pub entry: Option<Entry>,
    table: Table,
}

enum Table {
    Direct(AHashMap<RoutingKey, Vec<Arc<Queue>>>),
    /// A queue bound under two keys still gets one copy, so the count of its bindings is kept.
    Fanout(Vec<(Arc<Queue>, usize)>),
    Topic(TopicTrie<Arc<Queue>>),
}

impl Exchange {
    pub(super) fn new(spec: ExchangeSpec, entry: Option<Entry>) -> Self {
        let table = match spec.kind {
            ExchangeKind::Direct => Table::Direct(AHashMap::new()),
            ExchangeKind::Fanout => Table::Fanout(Vec::new()),
            ExchangeKind::Topic => Table::Topic(TopicTrie::new()),
        };
        Self { spec, entry, table }
    }
}

impl Table {
    fn bind(&mut self, key: &RoutingKey, queue: &Arc<Queue>) {
        match self {
            Self::Direct(keys) => keys.entry(key.clone()).or_default().push(queue.clone()),
            Self::Fanout(queues) => match queues.iter_mut().find(|(bound, _)| bound == queue) {
                Some((_, bindings)) => *bindings += 1,
                None => queues.push((queue.clone(), 1)),
            },
            Self::Topic(trie) => trie.insert(key.as_str(), queue.clone()),
        }
    }

    fn unbind(&mut self, key: &RoutingKey, queue: &Arc<Queue>) {
        match self {
            Self::Direct(keys) => {
                if let Some(queues) = keys.get_mut(key) {
                    queues.retain(|bound| bound != queue);
                    if queues.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            Self::Fanout(queues) => {
                if let Some(at) = queues.iter().position(|(bound, _)| bound == queue) {
                    queues[at].1 -= 1;
                    if queues[at].1 == 0 {
                        queues.remove(at);
                    }
                }
            }
            Self::Topic(trie) => trie.remove(key.as_str(), queue),
        }
    }

    fn route(&self, key: &RoutingKey) -> Targets {
        match self {
            Self::Direct(keys) => {
                keys.get(key).map(|queues| queues.iter().cloned().collect()).unwrap_or_default()
            }
            Self::Fanout(queues) => queues.iter().map(|(queue, _)| queue.clone()).collect(),
            Self::Topic(trie) => {
                let mut targets = Targets::new();
                trie.for_each_match(key.as_str(), |queue| targets.push(queue.clone()));
                // A message reaches a queue once, however many bindings match.
                targets.sort_unstable_by_key(|queue| queue.id);
                targets.dedup_by_key(|queue| queue.id);
                targets
            }
        }
    }
}

/// The exchanges that every broker has (AMQP 0-9-1, section 3.1.3). The default exchange is not among
/// them: it has no bindings of its own.
const PREDECLARED: [(&str, ExchangeKind); 3] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
];

impl Default for Topology {
    fn default() -> Self {
        let exchanges = PREDECLARED
            .into_iter()
            .filter_map(|(name, kind)| Some((ExchangeName::new(name).ok()?, kind)))
            .map(|(name, kind)| {
                let spec = ExchangeSpec { name: name.clone(), kind, durable: true };
                (name, Exchange::new(spec, None))
            })
            .collect();
        Self { exchanges, queues: AHashMap::new(), bindings: AHashMap::new() }
    }
}

impl Topology {
    pub(super) fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.queues.values()
    }

    pub(super) fn queue(&self, name: &str) -> Option<&Arc<Queue>> {
        self.queues.get(name)
    }

    pub(super) fn exchange(&self, name: &ExchangeName) -> Result<&Exchange, BrokerError> {
        self.exchanges
            .get(name)
            .ok_or_else(|| BrokerError::NotFound { what: "exchange", name: name.to_string() })
    }

    pub(super) fn add_exchange(&mut self, exchange: Exchange) {
        self.exchanges.insert(exchange.spec.name.clone(), exchange);
    }

    pub(super) fn remove_exchange(&mut self, name: &ExchangeName) -> Option<Exchange> {
        self.exchanges.remove(name)
    }

    pub(super) fn add_queue(&mut self, queue: Arc<Queue>) {
        self.queues.insert(queue.spec.name.clone(), queue);
    }

    pub(super) fn remove_queue(&mut self, name: &QueueName) -> Option<Arc<Queue>> {
        self.queues.remove(name)
    }

    pub(super) fn has_binding(&self, binding: &Binding) -> bool {
        self.bindings.contains_key(binding)
    }

    /// Both ends exist: the caller has looked them up under the same lock.
    pub(super) fn add_binding(
        &mut self,
        binding: Binding,
        queue: &Arc<Queue>,
        entry: Option<Entry>,
    ) {
        if let Some(exchange) = self.exchanges.get_mut(&binding.exchange) {
            exchange.table.bind(&binding.key, queue);
            self.bindings.insert(binding, entry);
        }
    }

    /// The binding's journal entry; `None` when there is no such binding.
    pub(super) fn remove_binding(&mut self, binding: &Binding) -> Option<Option<Entry>> {
        let entry = self.bindings.remove(binding)?;
        if let (Some(exchange), Some(queue)) =
            (self.exchanges.get_mut(&binding.exchange), self.queues.get(&binding.queue))
        {
            exchange.table.unbind(&binding.key, queue);
        }
        Some(entry)
    }

    /// Every binding that `keep` names, for the deletion of one of its ends.
    pub(super) fn bindings_where(&self, belongs: impl Fn(&Binding) -> bool) -> Vec<Binding> {
        self.bindings.keys().filter(|binding| belongs(binding)).cloned().collect()
    }

    /// The queues that a message reaches, each once.
    pub(super) fn route(
        &self,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Result<Targets, BrokerError> {
        if exchange.is_default() {
            return Ok(self.queues.get(key.as_str()).cloned().into_iter().collect());
        }
        Ok(self.exchange(exchange)?.table.route(key))
    }
}
