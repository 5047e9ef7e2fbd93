//! One exchange: its bindings, and what a message matches.
//!
//! Owns the table of each kind of exchange. Imports nothing of the broker but a queue's handle.
//! What always holds: the table says exactly what `bindings` says.

mod bound;
mod headers;
mod topic;

use std::sync::Arc;

use ahash::AHashMap;

pub use topic::TopicTrie;

use super::error::BrokerError;
use super::queue::Queue;
use crate::journal::Entry;
use crate::model::message::Headers;
use crate::model::names::{ExchangeName, RoutingKey};
use crate::model::topology::{Binding, ExchangeKind, ExchangeSpec};
use bound::Bound;
use headers::HeadersMatch;

/// What a binding leads to. An exchange is looked up by its name when a message gets there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Queue(Arc<Queue>),
    Exchange(ExchangeName),
}

pub(super) struct Exchange {
    pub spec: ExchangeSpec,
    pub entry: Option<Entry>,
    /// What takes the messages that match nothing: its own alternate exchange, or a policy's.
    pub alternate: Option<ExchangeName>,
    table: Table,
    /// Each binding that this is the source of, with its journal entry when both ends are durable.
    bindings: AHashMap<Arc<Binding>, Option<Entry>>,
}

enum Table {
    Direct(AHashMap<RoutingKey, Bound<Target>>),
    Fanout(Bound<Target>),
    Topic(TopicTrie<Target>),
    Headers(Vec<(HeadersMatch, Arc<Binding>, Target)>),
}

impl Exchange {
    pub(super) fn new(spec: ExchangeSpec, entry: Option<Entry>) -> Self {
        let table = match spec.kind {
            ExchangeKind::Direct => Table::Direct(AHashMap::new()),
            ExchangeKind::Fanout => Table::Fanout(Bound::default()),
            ExchangeKind::Topic => Table::Topic(TopicTrie::new()),
            ExchangeKind::Headers => Table::Headers(Vec::new()),
        };
        let alternate = spec.alternate.clone();
        Self { spec, entry, alternate, table, bindings: AHashMap::new() }
    }

    pub(super) fn has_bindings(&self) -> bool {
        !self.bindings.is_empty()
    }

    pub(super) fn has_binding(&self, binding: &Binding) -> bool {
        self.bindings.contains_key(binding)
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings.keys()
    }

    /// The journal entries of its bindings, to end them with it.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.bindings.into_values().flatten()
    }

    /// Whether a binding with these arguments is possible here.
    ///
    /// # Errors
    /// An `x-match` that a headers exchange does not know.
    pub(super) fn accepts(&self, arguments: &Headers) -> Result<(), BrokerError> {
        match self.table {
            Table::Headers(_) => HeadersMatch::new(arguments).map(|_| ()),
            _ => Ok(()),
        }
    }

    pub(super) fn bind(&mut self, binding: Arc<Binding>, target: Target, entry: Option<Entry>) {
        match &mut self.table {
            Table::Direct(keys) => keys.entry(binding.key.clone()).or_default().add(target),
            Table::Fanout(bound) => bound.add(target),
            Table::Topic(trie) => trie.insert(binding.key.as_str(), target),
            Table::Headers(bound) => match HeadersMatch::new(&binding.arguments) {
                Ok(wanted) => bound.push((wanted, binding.clone(), target)),
                Err(_) => return,
            },
        }
        self.bindings.insert(binding, entry);
    }

    /// The binding's journal entry; `None` when there is no such binding.
    pub(super) fn unbind(&mut self, binding: &Binding, target: &Target) -> Option<Option<Entry>> {
        let entry = self.bindings.remove(binding)?;
        match &mut self.table {
            Table::Direct(keys) => {
                if let Some(bound) = keys.get_mut(&binding.key) {
                    bound.remove(target);
                    if bound.is_empty() {
                        keys.remove(&binding.key);
                    }
                }
            }
            Table::Fanout(bound) => bound.remove(target),
            Table::Topic(trie) => trie.remove(binding.key.as_str(), target),
            Table::Headers(bound) => bound.retain(|(_, other, _)| **other != *binding),
        }
        Some(entry)
    }

    /// Calls `found` for the target of every binding that matches; a target that several of them
    /// lead to may be given several times.
    pub(super) fn for_each_match<'a>(
        &'a self,
        keys: &[&str],
        headers: &Headers,
        mut found: impl FnMut(&'a Target),
    ) {
        match &self.table {
            Table::Direct(bound) => {
                let bound = keys.iter().filter_map(|&key| bound.get(key));
                bound.flat_map(Bound::iter).for_each(found);
            }
            Table::Fanout(bound) => bound.iter().for_each(found),
            Table::Topic(trie) => {
                for key in keys {
                    trie.for_each_match(key, &mut found);
                }
            }
            Table::Headers(bound) => {
                let matching = bound.iter().filter(|(wanted, ..)| wanted.matches(headers));
                matching.for_each(|(.., target)| found(target));
            }
        }
    }
}
