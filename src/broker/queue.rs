//! One queue: what is ready, what waits for its next attempt, what is unacknowledged, who consumes.
//!
//! A state machine under one lock. It never calls out while it holds the lock: what has to happen
//! elsewhere (dead letters, a timer) comes back as [`Effects`], for the broker to run afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use super::QueueStatus;
use super::metrics::QueueCounters;
use super::stored::{QueueId, Stored};
use crate::journal::{Entry, Position};
use crate::model::clock::UnixMs;
use crate::model::topology::QueueSpec;

pub(super) type Tag = u64;
pub(super) type ConsumerId = u64;

pub(super) struct Queue {
    pub id: QueueId,
    pub spec: QueueSpec,
    pub entry: Option<Entry>,
    pub counters: QueueCounters,
    state: Mutex<State>,
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

#[derive(Default)]
struct State {
    /// Sorted by position.
    ready: VecDeque<Held>,
    delayed: BTreeMap<(UnixMs, Position), Held>,
    unacked: AHashMap<Tag, Unacked>,
    consumers: AHashMap<ConsumerId, Slot>,
    /// Consumers that can take one more, in turn: each is in here once at most.
    turns: VecDeque<ConsumerId>,
    next_tag: Tag,
    next_consumer: ConsumerId,
    /// The earliest time at which a timer was asked for and has not fired.
    armed_ms: Option<UnixMs>,
    deleted: bool,
}

/// A message in this queue.
#[derive(Clone)]
pub(super) struct Held {
    pub stored: Arc<Stored>,
    pub position: Position,
    pub expires_ms: Option<UnixMs>,
    /// Failed deliveries so far, counted by the retry policy.
    pub failures: u32,
    pub last_error: Option<Arc<str>>,
    /// The journal's record of the last failure.
    pub retry: Option<Entry>,
    pub redelivered: bool,
}

struct Unacked {
    held: Held,
    consumer: Option<ConsumerId>,
}

struct Slot {
    parcels: flume::Sender<Parcel>,
    /// `None` is unlimited: then the channel's capacity is what bounds it.
    prefetch: Option<usize>,
    in_flight: usize,
    waits_its_turn: bool,
}

/// A delivery on its way to a consumer.
pub(super) struct Parcel {
    pub tag: Tag,
    pub stored: Arc<Stored>,
    pub failures: u32,
    pub redelivered: bool,
}

/// Why a message died, as `x-death` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Rejected,
    Expired,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// What a queue asks of the broker after its lock is released.
#[derive(Default)]
#[must_use]
pub(super) struct Effects {
    pub dead: Vec<(Held, Reason)>,
    pub wake_ms: Option<UnixMs>,
}

impl Slot {
    fn has_credit(&self) -> bool {
        self.prefetch.is_none_or(|prefetch| self.in_flight < prefetch)
    }
}

impl State {
    /// Puts a message where its position says: nearly always at the back.
    fn insert_ready(&mut self, held: Held) {
        if self.ready.back().is_none_or(|last| last.position < held.position) {
            self.ready.push_back(held);
            return;
        }
        let at = self.ready.partition_point(|other| other.position < held.position);
        self.ready.insert(at, held);
    }

    fn offer_turn(&mut self, id: ConsumerId) {
        if let Some(slot) = self.consumers.get_mut(&id)
            && slot.has_credit()
            && !slot.waits_its_turn
        {
            slot.waits_its_turn = true;
            self.turns.push_back(id);
        }
    }

    /// Removes a delivery and gives its consumer its credit back.
    fn take_unacked(&mut self, tag: Tag) -> Option<Held> {
        let unacked = self.unacked.remove(&tag)?;
        if let Some(id) = unacked.consumer {
            if let Some(slot) = self.consumers.get_mut(&id) {
                slot.in_flight -= 1;
            }
            self.offer_turn(id);
        }
        Some(unacked.held)
    }

    fn next_due_ms(&self) -> Option<UnixMs> {
        let expiry = self.ready.front().and_then(|head| head.expires_ms);
        let retry = self.delayed.first_key_value().map(|(&(due_ms, _), _)| due_ms);
        match (expiry, retry) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Queue {
    pub(super) fn new(id: QueueId, spec: QueueSpec, entry: Option<Entry>) -> Self {
        let counters = QueueCounters::new(spec.name.as_str());
        Self { id, spec, entry, counters, state: Mutex::default() }
    }

    /// When a message that was published at `published_ms` expires here: the lower TTL wins.
    pub(super) fn expires_ms(&self, stored: &Stored) -> Option<UnixMs> {
        let own_ms = stored.message.properties.expiration_ms;
        let ttl_ms = match (own_ms, self.spec.message_ttl_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        ttl_ms.map(|ttl_ms| stored.published_ms.saturating_add(ttl_ms))
    }

    /// # Errors
    /// The message, when the queue was deleted in the meantime.
    pub(super) fn enqueue(&self, held: Held, now_ms: UnixMs) -> Result<Effects, Held> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(held);
        }
        state.insert_ready(held);
        Ok(self.dispatch(&mut state, now_ms))
    }

    /// Puts a recovered message back; [`Queue::tick`] looks at all of them afterwards.
    pub(super) fn restore(&self, held: Held, due_ms: Option<UnixMs>) {
        let mut state = self.state.lock();
        match due_ms {
            Some(due_ms) => {
                state.delayed.insert((due_ms, held.position), held);
            }
            None => state.insert_ready(held),
        }
    }

    /// Holds a failed delivery until `due_ms`.
    ///
    /// # Errors
    /// The message, when the queue was deleted in the meantime.
    pub(super) fn delay(
        &self,
        held: Held,
        due_ms: UnixMs,
        now_ms: UnixMs,
    ) -> Result<Effects, Held> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(held);
        }
        state.delayed.insert((due_ms, held.position), held);
        Ok(self.dispatch(&mut state, now_ms))
    }

    /// Takes a delivery out, to settle it. `None`: the queue was deleted, which settled it.
    pub(super) fn take_unacked(&self, tag: Tag, now_ms: UnixMs) -> Option<(Held, Effects)> {
        let mut state = self.state.lock();
        let held = state.take_unacked(tag)?;
        Some((held, self.dispatch(&mut state, now_ms)))
    }

    /// Returns a delivery to its old place. `seen`: somebody looked at it.
    pub(super) fn requeue(&self, tag: Tag, seen: bool, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        if let Some(mut held) = state.take_unacked(tag) {
            held.redelivered |= seen;
            state.insert_ready(held);
        }
        self.dispatch(&mut state, now_ms)
    }

    /// Moves what is due to the ready messages and expires what is at the head.
    pub(super) fn tick(&self, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        state.armed_ms = None;
        while let Some(entry) = state.delayed.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let held = entry.remove();
            state.insert_ready(held);
        }
        self.dispatch(&mut state, now_ms)
    }

    /// Takes the head for a caller that is no consumer (basic.get).
    pub(super) fn get(&self, now_ms: UnixMs) -> (Option<Parcel>, Effects) {
        let mut state = self.state.lock();
        let effects = self.dispatch(&mut state, now_ms);
        let parcel = state.ready.pop_front().map(|held| self.hand_out(&mut state, held, None));
        (parcel, effects)
    }

    pub(super) fn add_consumer(
        &self,
        parcels: flume::Sender<Parcel>,
        prefetch: Option<usize>,
        now_ms: UnixMs,
    ) -> (ConsumerId, Effects) {
        let mut state = self.state.lock();
        let id = state.next_consumer;
        state.next_consumer += 1;
        // On a deleted queue the sender is dropped here, and the consumer ends at once.
        if !state.deleted {
            state
                .consumers
                .insert(id, Slot { parcels, prefetch, in_flight: 0, waits_its_turn: false });
            state.offer_turn(id);
        }
        (id, self.dispatch(&mut state, now_ms))
    }

    /// Forgets a consumer. Its deliveries stay unacknowledged until they are settled.
    pub(super) fn remove_consumer(&self, id: ConsumerId) {
        let mut state = self.state.lock();
        state.consumers.remove(&id);
        state.turns.retain(|&other| other != id);
    }

    pub(super) fn cancel_all(&self) {
        let mut state = self.state.lock();
        state.consumers.clear();
        state.turns.clear();
    }

    /// A consumer whose channel was full has room again.
    pub(super) fn resume(&self, id: ConsumerId, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        state.offer_turn(id);
        self.dispatch(&mut state, now_ms)
    }

    /// Takes every ready message out.
    pub(super) fn drain_ready(&self) -> Vec<Held> {
        self.state.lock().ready.drain(..).collect()
    }

    /// Ends the queue; what it held is the caller's to settle.
    pub(super) fn delete(&self) -> Vec<Held> {
        let mut state = self.state.lock();
        state.deleted = true;
        state.consumers.clear();
        state.turns.clear();
        let State { ready, delayed, unacked, .. } = &mut *state;
        let mut held: Vec<Held> = ready.drain(..).collect();
        held.extend(std::mem::take(delayed).into_values());
        held.extend(unacked.drain().map(|(_, unacked)| unacked.held));
        held
    }

    pub(super) fn take_ready(&self, position: Position) -> Option<Held> {
        let mut state = self.state.lock();
        let at = state.ready.binary_search_by_key(&position, |held| held.position).ok()?;
        state.ready.remove(at)
    }

    pub(super) fn peek(&self, count: usize) -> Vec<Held> {
        self.state.lock().ready.iter().take(count).cloned().collect()
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.state.lock();
        QueueStatus {
            name: self.spec.name.clone(),
            ready: state.ready.len(),
            unacked: state.unacked.len(),
            delayed: state.delayed.len(),
            consumers: state.consumers.len(),
        }
    }

    /// Hands ready messages to the consumers whose turn it is, and expires at the head. A message
    /// whose time ends this very millisecond (TTL 0) is still delivered if somebody can take it.
    fn dispatch(&self, state: &mut State, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        while let Some(head) = state.ready.front() {
            let expires_ms = head.expires_ms.unwrap_or(UnixMs::MAX);
            if expires_ms < now_ms || (expires_ms == now_ms && state.turns.is_empty()) {
                effects.dead.extend(state.ready.pop_front().map(|held| (held, Reason::Expired)));
                continue;
            }
            let Some(id) = state.turns.pop_front() else { break };
            self.deliver_head(state, id);
        }
        if let Some(due_ms) = state.next_due_ms()
            && state.armed_ms.is_none_or(|armed_ms| due_ms < armed_ms)
        {
            state.armed_ms = Some(due_ms);
            effects.wake_ms = Some(due_ms);
        }
        effects
    }

    fn deliver_head(&self, state: &mut State, id: ConsumerId) {
        let Some(slot) = state.consumers.get_mut(&id) else { return };
        slot.waits_its_turn = false;
        // A full channel belongs to a consumer without a prefetch limit: it resumes by itself.
        if slot.parcels.is_full() {
            return;
        }
        let parcels = slot.parcels.clone();
        let Some(held) = state.ready.pop_front() else { return };
        let parcel = self.hand_out(state, held, Some(id));
        let tag = parcel.tag;
        if parcels.try_send(parcel).is_err() {
            // The consumer went away this moment; it returns what was in its channel, and this here.
            state.consumers.remove(&id);
            if let Some(held) = state.take_unacked(tag) {
                state.insert_ready(held);
            }
            return;
        }
        state.offer_turn(id);
    }

    fn hand_out(&self, state: &mut State, held: Held, consumer: Option<ConsumerId>) -> Parcel {
        let tag = state.next_tag;
        state.next_tag += 1;
        let parcel = Parcel {
            tag,
            stored: held.stored.clone(),
            failures: held.failures,
            redelivered: held.redelivered,
        };
        if let Some(slot) = consumer.and_then(|id| state.consumers.get_mut(&id)) {
            slot.in_flight += 1;
        }
        state.unacked.insert(tag, Unacked { held, consumer });
        self.counters.delivered.increment(1);
        parcel
    }
}
