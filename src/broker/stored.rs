//! A message in memory, what the journal gets of it, and how it leaves both.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use super::cause::is_followed;
use super::journaled::{Delivered, Journaled};
use super::memory::{Counted, Memory};
use super::records::{FORMAT_VERSION, KIND_MESSAGE, MessageRecord, QueueId, SEVERAL_TAG_VERSION};
use super::spread::{Noted, Spread};
use crate::journal::row::TAG_BYTES_MAX;
use crate::journal::{
    Appended, Commit, Entry, Group, Journal, Payload, Position, SMALL_WEIGHT_MAX, Urgency,
    decode_value, encode_plain, put_bytes, put_number,
};
use crate::model::clock::UnixMs;
use crate::model::message::Message;

/// How long a mark of delivery may wait for something else to commit: as long as a message takes
/// that is worth counting when it ends the process.
pub(super) const MARK_WITHIN: Duration = Duration::from_millis(100);

/// A message in memory: one allocation, shared by the queues that it reached and the open batch.
pub(super) struct Stored {
    pub message: Message,
    pub published_ms: UnixMs,
    due_ms: Option<NonZeroU64>,
    durable: Durable,
    /// As much as its entry in the log weighs.
    counted: Counted,
    /// What happens to it is noted in the trace.
    traced: AtomicBool,
}

/// The durable queues that a message is written for, and what the log says of it.
pub(super) enum Durable {
    /// None: it is transient.
    Nowhere,
    In {
        queue: QueueId,
        journaled: Journaled,
    },
    InSeveral(Box<Several>),
}

/// Of a message in several queues. What is noted of them is in the [`Spread`], since the message may be
/// in memory twice, or leave it and come back.
pub(super) struct Several {
    /// At least two, rising.
    queues: SmallVec<[QueueId; 3]>,
    /// 0 before it is written.
    position: AtomicU64,
    spread: Arc<Spread>,
    /// A queue has settled it that had it from here. When nothing is noted then, all have.
    is_settled: AtomicBool,
    /// It is among [`Spread::bodies`].
    is_shared: AtomicBool,
    /// The log gives it back.
    is_readable: bool,
}

impl Durable {
    pub(super) fn new(queues: impl IntoIterator<Item = QueueId>, spread: &Arc<Spread>) -> Self {
        Self::of(queues, spread, true)
    }

    fn of(
        queues: impl IntoIterator<Item = QueueId>,
        spread: &Arc<Spread>,
        is_readable: bool,
    ) -> Self {
        let mut queues = queues.into_iter();
        let Some(queue) = queues.next() else { return Self::Nowhere };
        let Some(second) = queues.next() else {
            return Self::In { queue, journaled: Journaled::default() };
        };
        let mut queues: SmallVec<[QueueId; 3]> =
            [queue, second].into_iter().chain(queues).collect();
        queues.sort_unstable();
        Self::InSeveral(Box::new(Several {
            queues,
            position: AtomicU64::new(0),
            spread: spread.clone(),
            is_settled: AtomicBool::new(false),
            is_shared: AtomicBool::new(false),
            is_readable,
        }))
    }

    /// Rising.
    fn queues(&self) -> &[QueueId] {
        match self {
            Self::Nowhere => &[],
            Self::In { queue, .. } => std::slice::from_ref(queue),
            Self::InSeveral(several) => &several.queues,
        }
    }
}

impl Several {
    fn entry(&self, weight: u32) -> Option<Entry> {
        let position = self.position.load(Ordering::Acquire);
        (position > 0).then_some(Entry { position: Position(position), weight })
    }
}

impl Stored {
    pub(super) fn new(
        message: Message,
        published_ms: UnixMs,
        due_ms: Option<UnixMs>,
        durable: Durable,
        counted: Counted,
    ) -> Self {
        let traced = !matches!(durable, Durable::Nowhere) && is_followed(&message);
        let traced = AtomicBool::new(traced);
        let due_ms = due_ms.and_then(NonZeroU64::new);
        Self { message, published_ms, due_ms, durable, counted, traced }
    }

    /// As recovery found it, with the mark that it had if it was in one queue. `is_readable`: it has a
    /// tag, so that the journal finds it again.
    pub(super) fn restored(
        record: MessageRecord,
        entry: Entry,
        delivered: Option<Delivered>,
        is_readable: bool,
        spread: &Arc<Spread>,
        memory: &Arc<Memory>,
    ) -> Self {
        let counted = memory.count(entry.weight as usize);
        let traced = AtomicBool::new(is_followed(&record.message));
        let durable = Durable::of(record.queues, spread, is_readable);
        if let (Durable::In { journaled, .. }, Some(delivered)) = (&durable, delivered) {
            journaled.was_delivered(delivered);
        }
        let due_ms = record.due_ms.and_then(NonZeroU64::new);
        let (message, published_ms) = (record.message, record.published_ms);
        let stored = Self { message, published_ms, due_ms, durable, counted, traced };
        stored.set_entry(entry);
        stored
    }

    /// Read back after [`Stored::leaving`] it was given up for its entry.
    ///
    /// # Errors
    /// A payload that is no message's.
    pub(super) fn paged_in(
        entry: Entry,
        payload: &[u8],
        spread: &Arc<Spread>,
        memory: &Arc<Memory>,
    ) -> Result<Arc<Self>, String> {
        let record: MessageRecord =
            decode_value(FORMAT_VERSION, payload).map_err(|error| error.to_string())?;
        let stored = Arc::new(Self::restored(record, entry, None, true, spread, memory));
        let Durable::InSeveral(several) = &stored.durable else { return Ok(stored) };
        let notes = spread.look(entry.position);
        if notes.iter().any(|note| note.what == Noted::Followed) {
            stored.traced.store(true, Ordering::Relaxed);
        }
        let settled = notes.iter().filter(|note| note.what == Noted::Settled).count();
        Ok(match several.queues.len() - settled.min(several.queues.len()) {
            0 | 1 => stored,
            _ => stored.shared(several),
        })
    }

    /// Who else looks for it finds it. The one that is to be used.
    fn shared(self: &Arc<Self>, several: &Several) -> Arc<Self> {
        // Before it is there: once it is, it has to be taken away.
        several.is_shared.store(true, Ordering::Relaxed);
        let position = Position(several.position.load(Ordering::Acquire));
        several.spread.bodies.share(position, self)
    }

    pub(super) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// From now on what happens to it is noted, if it is durable.
    pub(super) fn follow(&self) {
        self.traced.store(self.is_durable(), Ordering::Relaxed);
        if let Durable::InSeveral(several) = &self.durable
            && let Some(entry) = several.entry(0)
            && !is_followed(&self.message)
        {
            let mut notes = several.spread.enter(entry.position);
            if !several.is_over(notes.is_empty()) {
                notes.follow();
            }
        }
    }

    /// When a delayed message becomes ready.
    pub(super) fn due_ms(&self) -> Option<UnixMs> {
        self.due_ms.map(NonZeroU64::get)
    }

    /// From when on its time to live runs.
    pub(super) fn arrived_ms(&self) -> UnixMs {
        self.due_ms().unwrap_or(self.published_ms)
    }

    /// Whether it may leave memory when it is ready in `queue`, and come back from the log.
    pub(super) fn is_pageable_in(&self, queue: QueueId) -> bool {
        match &self.durable {
            Durable::Nowhere => false,
            Durable::In { queue: own, .. } => *own == queue,
            Durable::InSeveral(several) => several.is_readable && several.has(queue),
        }
    }

    /// What the queue has to keep to read it back, if it can: its entry, and in how many queues it is.
    /// The queue gives it up then, and others that have it keep it where that queue finds it.
    pub(super) fn leaving(self: &mut Arc<Self>, queue: QueueId) -> Option<(Entry, usize)> {
        let weight = self.weight();
        match &self.durable {
            Durable::InSeveral(several) if self.is_pageable_in(queue) => {
                let entry = several.entry(weight)?;
                if Arc::strong_count(self) > 1 {
                    self.shared(several);
                }
                Some((entry, several.queues.len()))
            }
            Durable::In { .. } if self.is_pageable_in(queue) => {
                let Durable::In { journaled, .. } = &mut Arc::get_mut(self)?.durable else {
                    return None;
                };
                let position = journaled.position_alone()?;
                Some((Entry { position, weight }, 1))
            }
            _ => None,
        }
    }

    /// Whether the log gives it back also before it is committed.
    pub(super) fn is_read_before_commit(&self) -> bool {
        self.weight() <= SMALL_WEIGHT_MAX
    }

    pub(super) fn is_durable(&self) -> bool {
        !matches!(self.durable, Durable::Nowhere)
    }

    /// Whether its part in that queue is written.
    pub(super) fn is_durable_in(&self, queue: QueueId) -> bool {
        self.durable.queues().binary_search(&queue).is_ok()
    }

    /// Before any queue has it.
    pub(super) fn set_entry(&self, entry: Entry) {
        match &self.durable {
            Durable::Nowhere => {}
            Durable::In { journaled, .. } => journaled.set_position(entry.position),
            Durable::InSeveral(several) => {
                several.position.store(entry.position.0, Ordering::Release);
            }
        }
    }

    /// Adds to `group` what settles the message in `queue`, nothing for a transient one. `false`, and
    /// nothing is done: it is in other queues too, and [`Stored::settle`] has to say which is left.
    pub(super) fn end_in(&self, queue: QueueId, group: &mut Group) -> bool {
        match &self.durable {
            Durable::In { queue: own, journaled } if *own == queue => {
                journaled.end(self.weight(), group);
            }
            Durable::InSeveral(several) if several.has(queue) => {
                let Some(entry) = several.entry(self.weight()) else { return true };
                let mut notes = several.spread.enter(entry.position);
                if notes.open(several.queues.len()) > 1 {
                    return false;
                }
                several.is_settled.store(true, Ordering::Relaxed);
                notes.end_all(group);
                group.end(entry);
            }
            _ => {}
        }
        true
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
        if let Some(retry) = retry {
            group.end(retry);
        }
        match &self.durable {
            Durable::In { queue: own, journaled } if *own == queue => {
                journaled.end(self.weight(), &mut group);
            }
            Durable::InSeveral(several) if several.has(queue) => {
                if let Some(entry) = several.entry(self.weight()) {
                    let mut notes = several.spread.enter(entry.position);
                    several.is_settled.store(true, Ordering::Relaxed);
                    let message = (entry, several.queues.len());
                    return Some(notes.settle(journal, message, queue, group));
                }
            }
            _ => {}
        }
        (!group.is_empty()).then(|| journal.append(group, Urgency::Now))
    }

    /// Marks that the message was handed to a consumer of `queue`, for the `deliveries`-th time, with a
    /// commit as soon as is said. It may come after the message was settled, and is left out then;
    /// otherwise, where the message is in the log.
    pub(super) fn mark(
        &self,
        journal: &Journal,
        queue: QueueId,
        (deliveries, urgency): (u32, Urgency),
    ) -> Option<Position> {
        match &self.durable {
            Durable::Nowhere => None,
            Durable::In { journaled, .. } => journaled.mark(journal, queue, (deliveries, urgency)),
            Durable::InSeveral(several) => {
                let message = several.entry(0)?.position;
                let mut notes = several.spread.enter(message);
                if several.is_over(notes.is_empty()) {
                    return None;
                }
                notes.mark(journal, queue, (deliveries, urgency));
                Some(message)
            }
        }
    }
}

impl Several {
    fn has(&self, queue: QueueId) -> bool {
        self.queues.binary_search(&queue).is_ok()
    }

    /// Whether every queue has settled it, if one did that had it from here. A queue that was given a
    /// delivery settles it from where it was given: so none is open that is still to be marked.
    fn is_over(&self, nothing_is_noted: bool) -> bool {
        nothing_is_noted && self.is_settled.load(Ordering::Relaxed)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Durable::InSeveral(several) = &self.durable
            && several.is_shared.load(Ordering::Relaxed)
        {
            let position = Position(several.position.load(Ordering::Relaxed));
            several.spread.bodies.forget(position, self);
        }
    }
}

impl Payload for Stored {
    fn weight(&self) -> u32 {
        u32::try_from(self.counted.bytes()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.outline().encode(out);
    }

    fn tag(&self, out: &mut Vec<u8>) {
        self.outline().tag(out);
    }
}

impl Stored {
    fn outline(&self) -> Outline<'_> {
        Outline {
            queues: self.durable.queues(),
            published_ms: self.published_ms,
            due_ms: self.due_ms(),
            message: &self.message,
        }
    }
}

/// What the log has of a message.
pub(super) struct Outline<'a> {
    /// Rising.
    pub queues: &'a [QueueId],
    pub published_ms: UnixMs,
    pub due_ms: Option<UnixMs>,
    pub message: &'a Message,
}

impl Payload for Outline<'_> {
    fn weight(&self) -> u32 {
        u32::try_from(self.message.weight()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { queues, published_ms, due_ms, message } = *self;
        // By hand: this is done for every message, and a dozen properties that are not there take serde
        // longer than all the rest.
        out.push(FORMAT_VERSION);
        put_number(queues.len() as u64, out);
        for queue in queues {
            put_number(queue.0, out);
        }
        put_number(published_ms, out);
        put_option(due_ms, out);
        put_bytes(message.exchange.as_str().as_bytes(), out);
        put_bytes(message.routing_key.as_str().as_bytes(), out);
        match message.properties.are_usual() {
            true => out.extend_from_slice(&USUAL_PROPERTIES),
            false => encode_plain(&message.properties, out),
        }
        put_bytes(&message.body, out);
    }

    fn tag(&self, out: &mut Vec<u8>) {
        match self.queues {
            [] => return,
            &[queue] => {
                out.push(FORMAT_VERSION);
                put_number(queue.0, out);
            }
            queues => {
                out.push(SEVERAL_TAG_VERSION);
                put_steps(queues, out);
            }
        }
        let properties = &self.message.properties;
        let has_times = properties.expiration_ms.is_some() || self.due_ms.is_some();
        // A byte as it is: bincode's number takes three from 251 on.
        out.push(u8::from(properties.priority.is_some()));
        out.extend(properties.priority);
        put_number(self.message.body.len() as u64, out);
        out.push(u8::from(has_times));
    }
}

/// The lowest of the queues, which rise, and the steps to the others, which are nearly always short: queues are
/// declared together. None of them, if they don't fit into a tag.
fn put_steps(queues: &[QueueId], out: &mut Vec<u8>) {
    /// What else a tag has takes less.
    const BYTES_MAX: usize = TAG_BYTES_MAX - 30;
    let start = out.len();
    if queues.len() < BYTES_MAX {
        put_number(queues.len() as u64, out);
        let mut before = 0;
        for queue in queues {
            put_number(queue.0 - before, out);
            before = queue.0;
        }
    }
    if out.len() == start || out.len() - start > BYTES_MAX {
        out.truncate(start);
        put_number(0, out);
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
    let (entry, commit) = journal.append_fact(KIND_MESSAGE, stored, Urgency::Now);
    stored.set_entry(entry);
    commit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::records::{MessageTag, SeveralTag};
    use crate::journal::encode_value;
    use crate::model::names::{ExchangeName, RoutingKey};

    #[test]
    fn a_message_in_memory_is_small_beside_its_texts_and_body() {
        assert_eq!((size_of::<Message>(), size_of::<Stored>()), (120, 208));
    }

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
            let wide: Vec<u64> = (1..=400).rev().collect();
            for (queues, due_ms) in [
                (vec![], None),
                (vec![3], Some(1 << 40)),
                (vec![300, 1, 70_000], None),
                (wide, None),
            ] {
                let mut queues: Vec<QueueId> = queues.into_iter().map(Position).collect();
                let given = queues.clone();
                queues.sort_unstable();
                let record = MessageRecord {
                    queues: queues.clone(),
                    published_ms: 1_700_000_000_000,
                    due_ms,
                    message: message.clone(),
                };
                let counted = memory.count(1);
                let stored = Stored::new(
                    message.clone(),
                    record.published_ms,
                    due_ms,
                    Durable::new(given, &Arc::default()),
                    counted,
                );
                let (mut by_hand, mut bytes) = (Vec::new(), Vec::new());
                stored.encode(&mut by_hand);
                encode_value(FORMAT_VERSION, &record, &mut bytes);
                assert_eq!(by_hand, bytes);
                let (mut by_hand, mut bytes) = (Vec::new(), Vec::new());
                stored.tag(&mut by_hand);
                let priority = message.properties.priority;
                let body_bytes = 300;
                let has_times = message.properties.expiration_ms.is_some() || due_ms.is_some();
                let steps = match queues.as_slice() {
                    [] => None,
                    &[queue] => {
                        let tag = MessageTag { queue, priority, body_bytes, has_times };
                        encode_value(FORMAT_VERSION, &tag, &mut bytes);
                        None
                    }
                    [_, _, _] => Some(vec![1, 299, 69_700]),
                    _ => Some(Vec::new()),
                };
                if let Some(steps) = steps {
                    let tag = SeveralTag { steps, priority, body_bytes, has_times };
                    encode_value(SEVERAL_TAG_VERSION, &tag, &mut bytes);
                }
                assert_eq!(by_hand, bytes);
                assert!(by_hand.len() <= TAG_BYTES_MAX);
            }
        }
    }
}
