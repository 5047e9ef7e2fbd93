//! What the broker writes to the journal, and how a message leaves it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::journal::{
    Appended, Commit, Entry, Group, Journal, Kind, Payload, Position, Urgency, encode_value,
};
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message};
use crate::model::names::{ExchangeName, RoutingKey, VhostName};
use crate::model::topology::{ExchangeSpec, Policy, QueueSpec};

pub(super) const KIND_EXCHANGE: Kind = Kind(1);
pub(super) const KIND_QUEUE: Kind = Kind(2);
pub(super) const KIND_BINDING: Kind = Kind(3);
pub(super) const KIND_MESSAGE: Kind = Kind(4);
pub(super) const KIND_SETTLED: Kind = Kind(5);
pub(super) const KIND_RETRY: Kind = Kind(6);
pub(super) const KIND_VHOST: Kind = Kind(7);
pub(super) const KIND_POLICY: Kind = Kind(8);

/// The format of every record below.
pub(super) const FORMAT_VERSION: u8 = 1;

/// A queue's incarnation: the log position of its declaration, so that a queue deleted and declared
/// again is another one, and a message of the first never appears in the second.
pub(super) type QueueId = Position;

#[derive(Serialize, Deserialize)]
pub(super) struct VhostRecord {
    pub name: VhostName,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyRecord {
    pub vhost: VhostName,
    pub policy: Policy,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ExchangeRecord {
    pub vhost: VhostName,
    pub spec: ExchangeSpec,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QueueRecord {
    pub vhost: VhostName,
    pub spec: QueueSpec,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BindingRecord {
    pub vhost: VhostName,
    pub source: ExchangeName,
    pub destination: DestinationRecord,
    pub key: RoutingKey,
    pub arguments: Headers,
}

#[derive(Serialize, Deserialize)]
pub(super) enum DestinationRecord {
    Queue(QueueId),
    Exchange(ExchangeName),
}

/// A message is settled in one of several queues that it reached.
#[derive(Serialize, Deserialize)]
pub(super) struct SettledRecord {
    pub message: Position,
    pub queue: QueueId,
}

/// A failed delivery waits for its next attempt.
#[derive(Serialize, Deserialize)]
pub(super) struct RetryRecord {
    pub message: Position,
    pub queue: QueueId,
    pub failures: u32,
    pub due_ms: UnixMs,
    pub error: String,
}

/// Borrowed, so that writing copies a body once: into the batch.
#[derive(Serialize)]
struct MessageRecordRef<'a> {
    queues: &'a [QueueId],
    published_ms: UnixMs,
    due_ms: Option<UnixMs>,
    message: &'a Message,
}

#[derive(Deserialize)]
pub(super) struct MessageRecord {
    pub queues: Vec<QueueId>,
    pub published_ms: UnixMs,
    pub due_ms: Option<UnixMs>,
    pub message: Message,
}

/// A small record, encoded when it is appended.
pub(super) fn record(value: &impl Serialize) -> Arc<dyn Payload> {
    let mut bytes = Vec::new();
    encode_value(FORMAT_VERSION, value, &mut bytes);
    Arc::new(bytes)
}

/// A message in memory: one allocation, shared by the queues that it reached and the open batch.
pub(super) struct Stored {
    pub message: Message,
    pub published_ms: UnixMs,
    /// When a delayed message becomes ready.
    pub due_ms: Option<UnixMs>,
    /// The durable queues that it is written for; empty for a transient message.
    durable_queues: SmallVec<[QueueId; 2]>,
    journaled: Mutex<Journaled>,
}

/// Which parts of the log stand for the message.
#[derive(Default)]
struct Journaled {
    entry: Option<Entry>,
    /// Durable queues in which it is not settled yet.
    open_queues: usize,
    /// The records of the queues in which it is.
    settled: SmallVec<[Entry; 1]>,
}

impl Stored {
    pub(super) fn new(
        message: Message,
        published_ms: UnixMs,
        due_ms: Option<UnixMs>,
        durable_queues: SmallVec<[QueueId; 2]>,
    ) -> Self {
        let journaled = Journaled { open_queues: durable_queues.len(), ..Journaled::default() };
        Self { message, published_ms, due_ms, durable_queues, journaled: Mutex::new(journaled) }
    }

    /// As recovery found it: `settled` are the records of queues in which it is settled already.
    pub(super) fn restored(
        record: MessageRecord,
        entry: Entry,
        settled: SmallVec<[Entry; 1]>,
    ) -> Self {
        let open_queues = record.queues.len().saturating_sub(settled.len());
        Self {
            message: record.message,
            published_ms: record.published_ms,
            due_ms: record.due_ms,
            durable_queues: record.queues.into(),
            journaled: Mutex::new(Journaled { entry: Some(entry), open_queues, settled }),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        !self.durable_queues.is_empty()
    }

    /// Whether its part in that queue is written.
    pub(super) fn is_durable_in(&self, queue: QueueId) -> bool {
        self.durable_queues.contains(&queue)
    }

    /// From when on its time to live runs.
    pub(super) fn arrived_ms(&self) -> UnixMs {
        self.due_ms.unwrap_or(self.published_ms)
    }

    pub(super) fn set_entry(&self, entry: Entry) {
        self.journaled.lock().entry = Some(entry);
    }

    /// Settles the message in `queue`, in one group with whatever `group` holds already. `retry` is
    /// the record of its last failure there, which ends with it.
    pub(super) fn settle(
        &self,
        journal: &Journal,
        queue: QueueId,
        retry: Option<Entry>,
        mut group: Group,
    ) -> Option<Appended> {
        let mut journaled = self.journaled.lock();
        let mut wrote_settled = false;
        if let Some(entry) = journaled.entry
            && self.durable_queues.contains(&queue)
        {
            journaled.open_queues = journaled.open_queues.saturating_sub(1);
            if journaled.open_queues == 0 {
                group.end(entry);
                for settled in journaled.settled.drain(..) {
                    group.end(settled);
                }
                journaled.entry = None;
            } else {
                wrote_settled = true;
                group.fact(KIND_SETTLED, record(&SettledRecord { message: entry.position, queue }));
            }
        }
        if let Some(retry) = retry {
            group.end(retry);
        }
        if group.is_empty() {
            return None;
        }
        let appended = journal.append(group, Urgency::Now);
        if wrote_settled && let Some(entry) = appended.entries.last() {
            journaled.settled.push(*entry);
        }
        Some(appended)
    }
}

impl Payload for Stored {
    fn weight(&self) -> u32 {
        u32::try_from(self.message.weight()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let record = MessageRecordRef {
            queues: &self.durable_queues,
            published_ms: self.published_ms,
            due_ms: self.due_ms,
            message: &self.message,
        };
        encode_value(FORMAT_VERSION, &record, out);
    }
}

/// Appends a message's record on its own and remembers where.
pub(super) fn append(journal: &Journal, stored: &Arc<Stored>) -> Commit {
    let mut group = Group::new();
    group.fact(KIND_MESSAGE, stored.clone());
    // Held over the append, so that no settlement can see the message without its entry.
    let mut journaled = stored.journaled.lock();
    let appended = journal.append(group, Urgency::Now);
    journaled.entry = appended.entries.first().copied();
    appended.commit
}
