//! What the broker writes to the journal, and how a message leaves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::cause::is_followed;
use super::memory::{Counted, Memory};
use crate::journal::{
    Appended, Commit, Entry, Group, Journal, Kind, Payload, Position, Urgency, decode_value,
    encode_plain, encode_value, put_bytes, put_number,
};
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message};
use crate::model::names::{ExchangeName, RoutingKey, UserName, VhostName};
use crate::model::topology::{ExchangeSpec, Policy, QueueSpec};
use crate::model::user::{PasswordHash, Permissions};

pub(super) const KIND_EXCHANGE: Kind = Kind(1);
pub(super) const KIND_QUEUE: Kind = Kind(2);
pub(super) const KIND_BINDING: Kind = Kind(3);
pub(super) const KIND_MESSAGE: Kind = Kind(4);
pub(super) const KIND_SETTLED: Kind = Kind(5);
pub(super) const KIND_RETRY: Kind = Kind(6);
pub(super) const KIND_VHOST: Kind = Kind(7);
pub(super) const KIND_POLICY: Kind = Kind(8);
pub(super) const KIND_DELIVERED: Kind = Kind(9);
pub(super) const KIND_CLOSED: Kind = Kind(10);
pub(super) const KIND_USER: Kind = Kind(11);
pub(super) const KIND_PERMISSIONS: Kind = Kind(12);

/// How long a mark of delivery may wait for something else to commit: as long as a message takes
/// that is worth counting when it ends the process.
const MARK_WITHIN: Duration = Duration::from_millis(100);

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

/// A message was handed to a consumer of the queue, so many times.
#[derive(Serialize, Deserialize)]
pub(super) struct DeliveredRecord {
    pub message: Position,
    pub queue: QueueId,
    pub deliveries: u32,
}

/// A user; without a password, one of a new broker's that was deleted.
#[derive(Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub name: UserName,
    pub password: Option<PasswordHash>,
}

/// What a user may do in a vhost.
#[derive(Serialize, Deserialize)]
pub(super) struct PermissionsRecord {
    pub vhost: VhostName,
    pub user: UserName,
    pub permissions: Permissions,
}

/// The broker was closed in order: what has no mark was not delivered.
#[derive(Serialize, Deserialize)]
pub(super) struct ClosedRecord {}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct MessageRecord {
    pub queues: Vec<QueueId>,
    pub published_ms: UnixMs,
    pub due_ms: Option<UnixMs>,
    pub message: Message,
}

/// What a start is told of a message in one durable queue, so that it can stay on the disk.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct MessageTag {
    pub queue: QueueId,
    pub priority: Option<u8>,
    pub body_bytes: u64,
    /// It expires or is delayed: its record is needed to know when.
    pub has_times: bool,
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
    counted: Counted,
    /// What happens to it is noted in the trace.
    traced: AtomicBool,
}

/// Which parts of the log stand for the message.
#[derive(Default)]
struct Journaled {
    entry: Option<Entry>,
    /// Durable queues in which it is not settled yet.
    open_queues: usize,
    /// What the log says of single queues: all of it ends with the message.
    notes: SmallVec<[Note; 1]>,
}

impl Journaled {
    /// It is settled in the last of its queues. No mark can come after that, so the group need not be
    /// appended under the lock.
    fn end(&mut self, entry: Entry, group: &mut Group) {
        self.open_queues = 0;
        self.entry = None;
        group.end(entry);
        for note in self.notes.drain(..) {
            group.end(note.entry);
        }
    }
}

/// A record about a message in one queue.
pub(super) struct Note {
    pub queue: QueueId,
    pub entry: Entry,
    pub what: Noted,
}

#[derive(PartialEq, Eq)]
pub(super) enum Noted {
    Settled,
    /// How often it was delivered.
    Delivered(u32),
}

impl Stored {
    pub(super) fn new(
        message: Message,
        published_ms: UnixMs,
        due_ms: Option<UnixMs>,
        durable_queues: SmallVec<[QueueId; 2]>,
        counted: Counted,
    ) -> Self {
        let journaled = Journaled { open_queues: durable_queues.len(), ..Journaled::default() };
        let journaled = Mutex::new(journaled);
        let traced = AtomicBool::new(!durable_queues.is_empty() && is_followed(&message));
        Self { message, published_ms, due_ms, durable_queues, journaled, counted, traced }
    }

    /// As recovery found it.
    pub(super) fn restored(
        record: MessageRecord,
        entry: Entry,
        notes: SmallVec<[Note; 1]>,
        counted: Counted,
    ) -> Self {
        let settled = notes.iter().filter(|note| note.what == Noted::Settled).count();
        let open_queues = record.queues.len().saturating_sub(settled);
        let traced = AtomicBool::new(is_followed(&record.message));
        Self {
            message: record.message,
            published_ms: record.published_ms,
            due_ms: record.due_ms,
            durable_queues: record.queues.into(),
            journaled: Mutex::new(Journaled { entry: Some(entry), open_queues, notes }),
            counted,
            traced,
        }
    }

    pub(super) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// From now on what happens to it is noted, if it is durable.
    pub(super) fn follow(&self) {
        self.traced.store(self.is_durable(), Ordering::Relaxed);
    }

    /// As its record says, of which nothing else is noted: what [`Stored::sole_entry`] was given up for.
    ///
    /// # Errors
    /// A payload that is no message's.
    pub(super) fn paged_in(
        entry: Entry,
        payload: &[u8],
        memory: &Arc<Memory>,
    ) -> Result<Self, String> {
        let record: MessageRecord =
            decode_value(FORMAT_VERSION, payload).map_err(|error| error.to_string())?;
        let counted = memory.count(record.message.weight());
        Ok(Self::restored(record, entry, SmallVec::new(), counted))
    }

    /// Its entry, if its record and `queue` are all that there is to say of it: then it can be read
    /// back instead of being held.
    pub(super) fn sole_entry(&mut self, queue: QueueId) -> Option<Entry> {
        let is_sole = self.is_durable_only_in(queue);
        let journaled = self.journaled.get_mut();
        journaled.entry.filter(|_| is_sole && journaled.notes.is_empty())
    }

    pub(super) fn is_durable_only_in(&self, queue: QueueId) -> bool {
        self.durable_queues.as_slice() == [queue]
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

    /// Adds to `group` what settles the message in `queue`, nothing for a transient one. `false`, and
    /// nothing is done: it is in other queues too, and [`Stored::settle`] has to say which is left.
    pub(super) fn end_in(&self, queue: QueueId, group: &mut Group) -> bool {
        let mut journaled = self.journaled.lock();
        match journaled.entry {
            Some(_) if !self.is_durable_in(queue) => true,
            Some(_) if journaled.open_queues > 1 => false,
            Some(entry) => {
                journaled.end(entry, group);
                true
            }
            None => true,
        }
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
            if journaled.open_queues <= 1 {
                journaled.end(entry, &mut group);
            } else {
                journaled.open_queues -= 1;
                journaled.notes.retain(|note| {
                    let stays = note.queue != queue;
                    if !stays {
                        group.end(note.entry);
                    }
                    stays
                });
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
            journaled.notes.push(Note { queue, entry: *entry, what: Noted::Settled });
        }
        Some(appended)
    }

    /// Marks that the message was handed to a consumer of `queue`, for the `deliveries`-th time. The
    /// mark rides on a later commit. It may come after the message was settled, and is left out then;
    /// otherwise, where the message is in the log.
    pub(super) fn mark(
        &self,
        journal: &Journal,
        queue: QueueId,
        deliveries: u32,
    ) -> Option<Position> {
        let mut journaled = self.journaled.lock();
        let Entry { position: message, .. } = journaled.entry?;
        let noted = journaled.notes.iter().position(|note| note.queue == queue);
        let mut group = Group::new();
        match noted.and_then(|at| journaled.notes.get(at)) {
            None => {}
            Some(Note { what: Noted::Delivered(before), entry, .. }) if *before < deliveries => {
                group.end(*entry);
            }
            Some(_) => return Some(message),
        }
        group.fact(KIND_DELIVERED, record(&DeliveredRecord { message, queue, deliveries }));
        let appended = journal.append(group, Urgency::Within(MARK_WITHIN));
        let Some(&entry) = appended.entries.first() else { return Some(message) };
        let note = Note { queue, entry, what: Noted::Delivered(deliveries) };
        match noted.and_then(|at| journaled.notes.get_mut(at)) {
            Some(before) => *before = note,
            None => journaled.notes.push(note),
        }
        Some(message)
    }
}

impl Payload for Stored {
    fn weight(&self) -> u32 {
        u32::try_from(self.counted.bytes()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { message, durable_queues, published_ms, due_ms, .. } = self;
        // By hand: this is done for every message, and a dozen properties that are not there take serde
        // longer than all the rest.
        out.push(FORMAT_VERSION);
        put_number(durable_queues.len() as u64, out);
        for queue in durable_queues {
            put_number(queue.0, out);
        }
        put_number(*published_ms, out);
        put_option(*due_ms, out);
        put_bytes(message.exchange.as_str().as_bytes(), out);
        put_bytes(message.routing_key.as_str().as_bytes(), out);
        match message.properties.are_usual() {
            true => out.extend_from_slice(&USUAL_PROPERTIES),
            false => encode_plain(&message.properties, out),
        }
        put_bytes(&message.body, out);
    }

    fn tag(&self, out: &mut Vec<u8>) {
        let &[queue] = self.durable_queues.as_slice() else { return };
        let properties = &self.message.properties;
        let has_times = properties.expiration_ms.is_some() || self.due_ms.is_some();
        out.push(FORMAT_VERSION);
        put_number(queue.0, out);
        // A byte as it is: bincode's number takes three from 251 on.
        out.push(u8::from(properties.priority.is_some()));
        out.extend(properties.priority);
        put_number(self.message.body.len() as u64, out);
        out.push(u8::from(has_times));
    }
}

/// The properties of a persistent message that says nothing else of itself, as they are encoded.
const USUAL_PROPERTIES: [u8; 13] = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn put_option(number: Option<u64>, out: &mut Vec<u8>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_number(number, out);
    }
}

/// Appends a message's record on its own and remembers where.
pub(super) fn append(journal: &Journal, stored: &Arc<Stored>) -> Commit {
    // Held over the append, so that no settlement can see the message without its entry.
    let mut journaled = stored.journaled.lock();
    let (entry, commit) = journal.append_fact(KIND_MESSAGE, stored, Urgency::Now);
    journaled.entry = Some(entry);
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_by_hand_as_bincode_writes_them() {
        let memory = Arc::<Memory>::default();
        let usual = || {
            let (exchange, key) = (ExchangeName::new("ex").unwrap(), RoutingKey::new("k").unwrap());
            Message::new(exchange, key, vec![7; 300]).persistent()
        };
        let mut transient = usual();
        transient.properties.persistent = false;
        let important = [0, 250, 251, 255].map(|priority| {
            let mut message = usual();
            message.properties.priority = Some(priority);
            message
        });
        let mut short_lived = usual();
        short_lived.properties.expiration_ms = Some(70_000);
        let mut named = usual();
        named.properties.message_id = Some("id".to_owned());
        let mut headed = usual();
        headed.properties.headers.set("x", 1);
        let others = [usual(), transient, short_lived, named, headed];
        for message in others.into_iter().chain(important) {
            for (queues, due_ms) in [(vec![], None), (vec![3], Some(1 << 40)), (vec![1, 300], None)]
            {
                let queues: Vec<QueueId> = queues.into_iter().map(Position).collect();
                let record = MessageRecord {
                    queues: queues.clone(),
                    published_ms: 1_700_000_000_000,
                    due_ms,
                    message: message.clone(),
                };
                let counted = memory.count(1);
                let queue = queues.as_slice().first().copied();
                let stored = Stored::new(
                    message.clone(),
                    record.published_ms,
                    due_ms,
                    SmallVec::from_vec(queues.clone()),
                    counted,
                );
                let (mut by_hand, mut bytes) = (Vec::new(), Vec::new());
                stored.encode(&mut by_hand);
                encode_value(FORMAT_VERSION, &record, &mut bytes);
                assert_eq!(by_hand, bytes);
                let (mut by_hand, mut bytes) = (Vec::new(), Vec::new());
                stored.tag(&mut by_hand);
                if let Some(queue) = queue.filter(|_| queues.len() == 1) {
                    let tag = MessageTag {
                        queue,
                        priority: message.properties.priority,
                        body_bytes: 300,
                        has_times: message.properties.expiration_ms.is_some() || due_ms.is_some(),
                    };
                    encode_value(FORMAT_VERSION, &tag, &mut bytes);
                }
                assert_eq!(by_hand, bytes);
            }
        }
    }
}
