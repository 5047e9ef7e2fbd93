//! From the journal's live facts back to exchanges, queues and messages.

use std::sync::Arc;

use ahash::AHashMap;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::Inner;
use super::queue::{Held, Queue};
use super::routing::{Exchange, Topology};
use super::stored::{
    BindingRecord, ExchangeRecord, FORMAT_VERSION, KIND_BINDING, KIND_EXCHANGE, KIND_MESSAGE,
    KIND_QUEUE, KIND_RETRY, KIND_SETTLED, MessageRecord, QueueId, QueueRecord, RetryRecord,
    SettledRecord, Stored,
};
use crate::journal::{Entry, Group, Kind, Position, Urgency, decode_value};
use crate::model::topology::Binding;

/// Collects the broker's facts while the journal is read; they may come in any order.
#[derive(Default)]
pub struct Recovery {
    exchanges: Vec<(Entry, ExchangeRecord)>,
    queues: Vec<(Entry, QueueRecord)>,
    bindings: Vec<(Entry, BindingRecord)>,
    messages: Vec<(Entry, MessageRecord)>,
    settled: AHashMap<Position, Vec<(Entry, QueueId)>>,
    retries: AHashMap<(Position, QueueId), (Entry, RetryRecord)>,
}

impl Recovery {
    /// Takes one fact.
    ///
    /// # Errors
    /// A kind that is not the broker's, or a payload that can't be decoded.
    pub fn accept(&mut self, entry: Entry, kind: Kind, payload: &[u8]) -> Result<(), String> {
        match kind {
            KIND_EXCHANGE => self.exchanges.push((entry, decode(payload)?)),
            KIND_QUEUE => self.queues.push((entry, decode(payload)?)),
            KIND_BINDING => self.bindings.push((entry, decode(payload)?)),
            KIND_MESSAGE => self.messages.push((entry, decode(payload)?)),
            KIND_SETTLED => {
                let settled: SettledRecord = decode(payload)?;
                self.settled.entry(settled.message).or_default().push((entry, settled.queue));
            }
            KIND_RETRY => {
                let retry: RetryRecord = decode(payload)?;
                self.retries.insert((retry.message, retry.queue), (entry, retry));
            }
            Kind(other) => return Err(format!("record kind {other} is none of the broker's")),
        }
        Ok(())
    }

    /// Builds everything anew, and ends the facts that nothing needs any more.
    pub(super) fn restore(mut self, inner: &Arc<Inner>) {
        let mut orphans = Group::new();
        let queues = self.restore_topology(&mut inner.topology.write(), &mut orphans);
        self.messages.sort_unstable_by_key(|(entry, _)| entry.position);
        for (entry, record) in std::mem::take(&mut self.messages) {
            self.restore_message(inner, &queues, entry, record);
        }
        for (entry, _) in self.settled.into_values().flatten() {
            orphans.end(entry);
        }
        for (entry, _) in self.retries.into_values() {
            orphans.end(entry);
        }
        if !orphans.is_empty() {
            inner.journal.append(orphans, Urgency::Now);
        }
        let now_ms = inner.now_ms();
        for queue in queues.values() {
            let effects = queue.tick(now_ms);
            inner.run(queue, effects);
        }
    }

    fn restore_topology(
        &mut self,
        topology: &mut Topology,
        orphans: &mut Group,
    ) -> AHashMap<QueueId, Arc<Queue>> {
        for (entry, ExchangeRecord { spec }) in self.exchanges.drain(..) {
            topology.add_exchange(Exchange::new(spec, Some(entry)));
        }
        let mut queues = AHashMap::new();
        for (entry, QueueRecord { spec }) in self.queues.drain(..) {
            let queue = Arc::new(Queue::new(entry.position, spec, Some(entry)));
            topology.add_queue(queue.clone());
            queues.insert(queue.id, queue);
        }
        for (entry, BindingRecord { exchange, queue, key }) in self.bindings.drain(..) {
            let Some(queue) = queues.get(&queue) else {
                orphans.end(entry);
                continue;
            };
            let binding = Binding { exchange, queue: queue.spec.name.clone(), key };
            topology.add_binding(binding, queue, Some(entry));
        }
        queues
    }

    fn restore_message(
        &mut self,
        inner: &Inner,
        queues: &AHashMap<QueueId, Arc<Queue>>,
        entry: Entry,
        record: MessageRecord,
    ) {
        let settled = self.settled.remove(&entry.position).unwrap_or_default();
        let open: SmallVec<[QueueId; 2]> = record
            .queues
            .iter()
            .filter(|id| !settled.iter().any(|(_, queue)| queue == *id))
            .copied()
            .collect();
        let settled: SmallVec<[Entry; 1]> = settled.into_iter().map(|(entry, _)| entry).collect();
        let stored = Arc::new(Stored::restored(record, entry, settled));
        for id in open {
            let retry = self.retries.remove(&(entry.position, id));
            let retry_entry = retry.as_ref().map(|(entry, _)| *entry);
            let Some(queue) = queues.get(&id) else {
                // The queue was deleted; the crash came before its messages were.
                let _appended = stored.settle(&inner.journal, id, retry_entry, Group::new());
                continue;
            };
            let held = Held {
                expires_ms: queue.expires_ms(&stored),
                stored: stored.clone(),
                position: entry.position,
                failures: retry.as_ref().map_or(0, |(_, retry)| retry.failures),
                last_error: retry.as_ref().map(|(_, retry)| Arc::from(retry.error.as_str())),
                retry: retry_entry,
                // It may have been: what was delivered is not written down.
                redelivered: true,
            };
            queue.restore(held, retry.map(|(_, retry)| retry.due_ms));
        }
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    decode_value(FORMAT_VERSION, payload).map_err(|error| error.to_string())
}
