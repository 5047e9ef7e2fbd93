//! From the journal's live facts back to exchanges, queues and messages.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::Inner;
use super::backlog::{Backlog, Found, Restored};
use super::connection::IN_PROCESS;
use super::exchange::{Exchange, Target};
use super::journaled::Delivered;
use super::policy;
use super::queue::{Failed, Held, Queue, Times};
use super::records::{
    BindingRecord, ClosedRecord, DeliveredRecord, DestinationRecord, ExchangeRecord,
    FORMAT_VERSION, KIND_BINDING, KIND_CLOSED, KIND_DELIVERED, KIND_EXCHANGE, KIND_MESSAGE,
    KIND_PERMISSIONS, KIND_POLICY, KIND_QUEUE, KIND_RETRY, KIND_SETTLED, KIND_USER, KIND_VHOST,
    MessageRecord, MessageTag, PermissionsRecord, PolicyRecord, QueueId, QueueRecord, RetryRecord,
    SEVERAL_TAG_VERSION, SettledRecord, SeveralTag, UserRecord, VhostRecord,
};
use super::spread::{Note, Noted, Spread};
use super::stored::Stored;
use super::vhost::Vhost;
use crate::journal::{Content, Entry, Group, Kind, Position, Urgency, decode_value};
use crate::model::names::VhostName;
use crate::model::topology::{Binding, Destination};

/// Collects the broker's facts while the journal is read; they may come in any order.
#[derive(Default)]
pub struct Recovery {
    vhosts: Vec<(Entry, VhostRecord)>,
    users: Vec<(Entry, UserRecord)>,
    permissions: Vec<(Entry, PermissionsRecord)>,
    policies: Vec<(Entry, PolicyRecord)>,
    exchanges: Vec<(Entry, ExchangeRecord)>,
    queues: Vec<(Entry, QueueRecord)>,
    bindings: Vec<(Entry, BindingRecord)>,
    messages: Vec<(Entry, MessageRecord)>,
    /// Messages that stay on the disk.
    backlog: Backlog,
    /// The message whose record comes next, since its tag was not enough.
    timed: Option<(Position, Tag)>,
    /// Those in memory that were given with a tag: the journal finds them again.
    tagged: AHashSet<Position>,
    /// Where messages of several queues are settled.
    spread: Arc<Spread>,
    retries: AHashMap<(Position, QueueId), (Entry, RetryRecord)>,
    delivered: AHashMap<(Position, QueueId), (Entry, u32)>,
    /// A stop was one in order.
    closed: Vec<Entry>,
}

/// What is told of a message before its record.
enum Tag {
    One(MessageTag),
    Several(SeveralTag),
}

impl Recovery {
    /// Takes what the journal tells of one fact. `false`: a tag is not enough.
    ///
    /// # Errors
    /// As [`Recovery::accept`].
    pub fn accept_content(
        &mut self,
        entry: Entry,
        kind: Kind,
        content: Content<'_>,
    ) -> Result<bool, String> {
        match content {
            Content::Payload(payload) => match self.timed.take() {
                Some((position, tag)) if position == entry.position => {
                    self.accept_timed(entry, &tag, payload).map(|()| true)
                }
                _ => self.accept(entry, kind, payload).map(|()| true),
            },
            Content::Tag(tag) if kind == KIND_MESSAGE => {
                if tag.first() == Some(&SEVERAL_TAG_VERSION) {
                    return self.accept_several(entry, tag);
                }
                let tag: MessageTag = decode(tag)?;
                let stays = !tag.has_times;
                match stays {
                    true => self.backlog.add(entry, &tag, None),
                    false => self.timed = Some((entry.position, Tag::One(tag))),
                }
                Ok(stays)
            }
            Content::Tag(_) => Ok(false),
        }
    }

    fn accept_several(&mut self, entry: Entry, tag: &[u8]) -> Result<bool, String> {
        let tag: SeveralTag =
            decode_value(SEVERAL_TAG_VERSION, tag).map_err(|error| error.to_string())?;
        let stays = !tag.has_times && !tag.steps.is_empty();
        if stays {
            self.backlog.add_to_several(entry, &tag, None);
        } else if tag.steps.is_empty() {
            self.tagged.insert(entry.position);
        } else {
            self.timed = Some((entry.position, Tag::Several(tag)));
        }
        Ok(stays)
    }

    /// Takes a message whose record tells when it expires or is due. What expires stays on the disk.
    fn accept_timed(&mut self, entry: Entry, tag: &Tag, payload: &[u8]) -> Result<(), String> {
        let record: MessageRecord = decode(payload)?;
        if record.due_ms.is_some() {
            self.tagged.insert(entry.position);
            self.messages.push((entry, record));
            return Ok(());
        }
        let expiration_ms = record.message.properties.expiration_ms;
        let times = Some(Times { arrived_ms: record.published_ms, expiration_ms });
        match tag {
            Tag::One(tag) => self.backlog.add(entry, tag, times),
            Tag::Several(tag) => self.backlog.add_to_several(entry, tag, times),
        }
        Ok(())
    }

    pub(super) fn spread(&self) -> Arc<Spread> {
        self.spread.clone()
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// A kind that is not the broker's, or a payload that can't be decoded.
    pub fn accept(&mut self, entry: Entry, kind: Kind, payload: &[u8]) -> Result<(), String> {
        match kind {
            KIND_VHOST => self.vhosts.push((entry, decode(payload)?)),
            KIND_USER => self.users.push((entry, decode(payload)?)),
            KIND_PERMISSIONS => self.permissions.push((entry, decode(payload)?)),
            KIND_POLICY => self.policies.push((entry, decode(payload)?)),
            KIND_EXCHANGE => self.exchanges.push((entry, decode(payload)?)),
            KIND_QUEUE => self.queues.push((entry, decode(payload)?)),
            KIND_BINDING => self.bindings.push((entry, decode(payload)?)),
            KIND_MESSAGE => self.messages.push((entry, decode(payload)?)),
            KIND_SETTLED => {
                let settled: SettledRecord = decode(payload)?;
                let note = Note { queue: settled.queue, entry, what: Noted::Settled };
                self.spread.enter(settled.message).add(note);
            }
            KIND_RETRY => {
                let retry: RetryRecord = decode(payload)?;
                self.retries.insert((retry.message, retry.queue), (entry, retry));
            }
            KIND_DELIVERED => {
                let mark: DeliveredRecord = decode(payload)?;
                self.delivered.insert((mark.message, mark.queue), (entry, mark.deliveries));
            }
            KIND_CLOSED => {
                let ClosedRecord {} = decode(payload)?;
                self.closed.push(entry);
            }
            Kind(other) => return Err(format!("record kind {other} is none of the broker's")),
        }
        Ok(())
    }

    /// Builds everything anew, and ends the facts that nothing needs any more.
    pub(super) fn restore(mut self, inner: &Arc<Inner>) {
        let mut orphans = Group::new();
        let queues = self.restore_topology(inner, &mut orphans);
        self.restore_users(inner, &mut orphans);
        // An older record than the last life's says nothing: a crash took back that it was ended.
        let was_closed =
            self.closed.iter().any(|entry| inner.journal.is_of_last_life(entry.position));
        let spread = inner.spread.clone();
        let mut found = Found::none_yet(&spread);
        self.restore_backlog(inner, &queues, &mut found, was_closed);
        self.messages.sort_unstable_by_key(|(entry, _)| entry.position);
        for (entry, record) in std::mem::take(&mut self.messages) {
            found.is_there(entry.position);
            self.restore_message(inner, &queues, entry, record, was_closed);
        }
        for entry in self.closed.drain(..) {
            orphans.end(entry);
        }
        for (entry, _) in self.delivered.into_values() {
            orphans.end(entry);
        }
        for position in found.missing() {
            spread.enter(position).end_all(&mut orphans);
        }
        for (entry, _) in self.retries.into_values() {
            orphans.end(entry);
        }
        if !orphans.is_empty() {
            inner.journal.append(orphans, Urgency::Now);
        }
        let now_ms = inner.now_ms();
        for queue in queues.values() {
            inner.tick_queue(queue, now_ms);
        }
    }

    /// Policies come before the exchanges and queues that they shape, bindings after both.
    fn restore_topology(
        &mut self,
        inner: &Inner,
        orphans: &mut Group,
    ) -> AHashMap<QueueId, Arc<Queue>> {
        let mut vhosts = inner.vhosts.write();
        for (entry, VhostRecord { name }) in self.vhosts.drain(..) {
            vhosts.insert(name.clone(), Vhost::new(name, Some(entry)));
        }
        // A record of a vhost that is gone was left by a crash in the middle of its deletion.
        let mut in_vhost = |name: &VhostName, entry: Entry| {
            let vhost = vhosts.get(name).cloned();
            if vhost.is_none() {
                orphans.end(entry);
            }
            vhost
        };
        for (entry, PolicyRecord { vhost, policy }) in self.policies.drain(..) {
            let Some(vhost) = in_vhost(&vhost, entry) else { continue };
            match policy::compile(&policy) {
                Ok(pattern) => vhost.topology.write().policies.set(policy, pattern, Some(entry)),
                Err(error) => tracing::error!(policy = policy.name, %error, "a policy is left out"),
            }
        }
        for (entry, ExchangeRecord { vhost, spec }) in self.exchanges.drain(..) {
            let Some(vhost) = in_vhost(&vhost, entry) else { continue };
            vhost.topology.write().add_exchange(Exchange::new(spec, Some(entry)));
        }
        let mut queues = AHashMap::new();
        let now_ms = inner.now_ms();
        for (entry, QueueRecord { vhost, spec }) in self.queues.drain(..) {
            let Some(vhost) = in_vhost(&vhost, entry) else { continue };
            let mut topology = vhost.topology.write();
            let settings = topology.policies.settings(&spec);
            let (id, name) = (entry.position, vhost.name.clone());
            let (id, pager) = ((id, Some(entry)), inner.pager.clone());
            let queue = Queue::new(id, spec, name, IN_PROCESS, settings, pager, now_ms);
            let queue = Arc::new(queue);
            topology.add_queue(queue.clone());
            queues.insert(queue.id, queue);
        }
        for (entry, record) in self.bindings.drain(..) {
            let vhost = vhosts.get(&record.vhost);
            if !vhost.is_some_and(|vhost| restore_binding(vhost, &queues, entry, record)) {
                orphans.end(entry);
            }
        }
        queues
    }

    /// Of a message that was delivered the record is read, if it is not known to be settled; the others
    /// stay where they are.
    fn restore_backlog(
        &mut self,
        inner: &Inner,
        queues: &AHashMap<QueueId, Arc<Queue>>,
        found: &mut Found<'_>,
        was_closed: bool,
    ) {
        let noted = self.delivered.keys().chain(self.retries.keys()).map(|(message, _)| message);
        let mut noted: Vec<Position> = noted.copied().collect();
        noted.sort_unstable();
        noted.dedup();
        let band_of = |id, priority: Option<u8>| {
            let queue: Option<&Arc<Queue>> = queues.get(&id);
            let max = queue.and_then(|queue| queue.spec.priority_max).unwrap_or(0);
            priority.unwrap_or(0).min(max)
        };
        let backlog = std::mem::take(&mut self.backlog);
        let run_bytes = inner.pager.run_bytes();
        let (lines, taken) = backlog.into_runs(band_of, &noted, found, !was_closed, run_bytes);
        for Restored { queue, band, runs } in lines {
            match queues.get(&queue) {
                Some(queue) => queue.restore_runs(band, runs),
                // The queue was deleted; the crash came before its messages were.
                None => inner.settle_runs(queue, runs),
            }
        }
        self.tagged.extend(taken.iter().copied());
        let mut were_read = AHashSet::with_capacity(taken.len());
        let read = inner.journal.read(&taken, &mut |entry, _, payload| match decode(payload) {
            Ok(record) => {
                were_read.insert(entry.position);
                self.messages.push((entry, record));
            }
            Err(reason) => tracing::error!(position = entry.position.0, reason, "no message"),
        });
        if let Err(error) = read {
            inner.pager.failed(error);
        }
        // What is noted of them must not end while they are there.
        let is_read = |message: &Position| {
            were_read.contains(message) || taken.binary_search(message).is_err()
        };
        self.delivered.retain(|(message, _), _| is_read(message));
        self.retries.retain(|(message, _), _| is_read(message));
    }

    /// After the vhosts, that permissions belong to.
    fn restore_users(&mut self, inner: &Inner, orphans: &mut Group) {
        let vhosts = inner.vhosts.read();
        let mut users = inner.users.write();
        for (entry, record) in self.users.drain(..) {
            users.restore_user(entry, record);
        }
        for (entry, record) in self.permissions.drain(..) {
            let has_vhost = vhosts.contains_key(&record.vhost);
            if !has_vhost || !users.restore_permissions(entry, record) {
                orphans.end(entry);
            }
        }
    }

    fn restore_message(
        &mut self,
        inner: &Inner,
        queues: &AHashMap<QueueId, Arc<Queue>>,
        entry: Entry,
        record: MessageRecord,
        was_closed: bool,
    ) {
        let is_open = |id: &QueueId| {
            record.queues.len() < 2 || !inner.spread.is_settled_in(entry.position, *id)
        };
        let open: SmallVec<[QueueId; 2]> = record.queues.iter().copied().filter(is_open).collect();
        let mut deliveries: SmallVec<[(QueueId, Delivered); 1]> = SmallVec::new();
        for &queue in &open {
            if let Some((entry, count)) = self.delivered.remove(&(entry.position, queue)) {
                deliveries.push((queue, (entry, count)));
            }
        }
        if record.queues.len() > 1 {
            let mut notes = inner.spread.enter(entry.position);
            for &(queue, (entry, count)) in &deliveries {
                notes.add(Note { queue, entry, what: Noted::Delivered(count) });
            }
        }
        let delivered = deliveries.first().map(|&(_, delivered)| delivered);
        let is_readable = self.tagged.contains(&entry.position);
        let (spread, memory) = (&inner.spread, &inner.memory);
        let stored = Stored::restored(record, entry, delivered, is_readable, spread, memory);
        let stored = Arc::new(stored);
        for id in open {
            let retry = self.retries.remove(&(entry.position, id));
            let retry_entry = retry.as_ref().map(|(entry, _)| *entry);
            let Some(queue) = queues.get(&id) else {
                // The queue was deleted; the crash came before its messages were.
                let _appended = stored.settle(&inner.journal, id, retry_entry, Group::new());
                continue;
            };
            let due_ms = retry.as_ref().map(|(_, retry)| retry.due_ms);
            let failed = retry.map(|(entry, retry)| {
                let error = Some(Arc::from(retry.error));
                Box::new(Failed { failures: retry.failures, error, entry: Some(entry) })
            });
            let deliveries = deliveries.iter().find(|(queue, _)| *queue == id);
            // A mark rides on a later commit: after an unclean stop one may be missing, and whatever
            // may have been delivered is flagged.
            let redelivered = deliveries.is_some() || !was_closed;
            let returns = deliveries.map_or(0, |(_, (_, count))| *count);
            let held = Held::new(stored.clone(), entry.position);
            let held = Held { redelivered, returns, failed, ..held };
            queue.restore(held, due_ms);
        }
    }
}

/// `false`: one of its ends is gone.
fn restore_binding(
    vhost: &Vhost,
    queues: &AHashMap<QueueId, Arc<Queue>>,
    entry: Entry,
    record: BindingRecord,
) -> bool {
    let mut topology = vhost.topology.write();
    let (destination, target) = match record.destination {
        DestinationRecord::Queue(id) => match queues.get(&id) {
            Some(queue) => {
                (Destination::Queue(queue.spec.name.clone()), Target::Queue(queue.clone()))
            }
            None => return false,
        },
        DestinationRecord::Exchange(name) => {
            let destination = Destination::Exchange(name);
            match topology.target(&destination) {
                Ok(target) => (destination, target),
                Err(_) => return false,
            }
        }
    };
    if topology.exchange(&record.source).is_err() {
        return false;
    }
    let (source, key, arguments) = (record.source, record.key, record.arguments);
    topology.add_binding(Binding { source, destination, key, arguments }, target, Some(entry));
    true
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    decode_value(FORMAT_VERSION, payload).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Broker;
    use super::*;
    use crate::journal::{FolderStore, Journal, JournalOptions};
    use crate::model::clock::ManualClock;
    use crate::model::message::{Message, Value};
    use crate::model::names::{ExchangeName, QueueName, RoutingKey};
    use crate::model::topology::QueueSpec;

    #[test]
    fn of_messages_with_a_tag_only_the_delayed_are_gathered_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let open = |recovery: &mut Recovery| {
            let store = Box::new(FolderStore::open(folder.path()).unwrap());
            let mut accept =
                |entry, kind, content: Content<'_>| recovery.accept_content(entry, kind, content);
            Journal::open_by_tags(store, JournalOptions::default(), &mut accept).unwrap()
        };
        let mut recovery = Recovery::default();
        let journal = open(&mut recovery);
        let broker = Broker::new(journal.clone(), ManualClock::at(1_000_000), recovery);
        let fanout = ExchangeName::new("amq.fanout").unwrap();
        for name in ["one", "other"] {
            let queue = QueueName::new(name).unwrap();
            broker.declare_queue(QueueSpec::durable(queue.clone())).unwrap();
            broker
                .bind(Binding::queue(fanout.clone(), queue, RoutingKey::new("").unwrap()))
                .unwrap();
        }
        for exchange in [ExchangeName::default_exchange(), fanout] {
            let to = || {
                let key = RoutingKey::new("one").unwrap();
                Message::new(exchange.clone(), key, b"body".to_vec()).persistent()
            };
            let mut expires = to();
            expires.properties.expiration_ms = Some(60_000);
            let mut delayed = to();
            delayed.properties.headers.set("x-delay", Value::Int(60_000));
            for message in [to(), expires, delayed] {
                drop(broker.try_publish(message).unwrap());
            }
        }
        drop(broker);
        journal.close();
        drop(journal);
        let mut recovery = Recovery::default();
        drop(open(&mut recovery));
        assert_eq!(recovery.messages.len(), 2);
        assert!(recovery.messages.iter().all(|(_, record)| record.due_ms.is_some()));
    }
}
