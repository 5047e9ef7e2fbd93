//! One queue: what is ready, what waits for its time, what is unacknowledged, who consumes.
//!
//! Owns a state machine under one lock. It never calls out while it holds the lock: what has to
//! happen elsewhere (dead letters, a timer, the queue's own deletion) comes back as [`Effects`], for
//! the broker to run afterwards. What always holds: a message is in exactly one of ready, delayed and
//! unacked; a consumer waits its turn only while it can take a message.

mod band;
mod consumers;
mod credit;
mod dispatch;
mod effects;
mod entering;
mod held;
mod ready;
mod run;
mod settling;
mod state;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub(super) use band::Part;
pub use consumers::ConsumerEnd;
pub(super) use consumers::{ConsumerId, Ends, InExclusiveUse, Slot};
pub(super) use credit::Credit;
pub(super) use effects::{DEAD_BYTES_MAX, Effects};
pub(super) use held::{Failed, Held, Reason};
pub(super) use run::{Paged, Run, Times, push as push_paged};

use super::QueueStatus;
use super::channel::REPLY_TO;
use super::connection::ConnectionId;
use super::error::BrokerError;
use super::metrics::QueueCounters;
use super::paging::Pager;
use super::records::QueueId;
use super::stored::Stored;
use crate::journal::{Entry, Position};
use crate::model::clock::UnixMs;
use crate::model::names::VhostName;
use crate::model::topology::{QueueKind, QueueSettings, QueueSpec};
use dispatch::{PAGE_LOOKS_MAX_OF_TICK, arm, page_out, time_out};
use ready::Ready;
use state::{State, Unacked};

pub(super) type Tag = u64;

pub(super) struct Queue {
    pub id: QueueId,
    pub spec: QueueSpec,
    pub vhost: VhostName,
    /// The connection that declared it; only an exclusive queue cares.
    pub owner: ConnectionId,
    pub entry: Option<Entry>,
    pub counters: QueueCounters,
    /// It stands behind direct reply-to: to a client it is no queue.
    pub is_for_replies: bool,
    /// Its settings give its messages a time to live.
    limits_time: AtomicBool,
    /// What comes may be written alone: see [`Queue::write_behind`].
    is_long: AtomicBool,
    state: Mutex<State>,
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Queue {}

impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A delivery on its way to a consumer.
pub(super) struct Parcel {
    /// What the consumer's owner knows it by.
    pub key: u32,
    pub tag: Tag,
    pub position: Position,
    pub stored: Arc<Stored>,
    pub failures: u32,
    pub returns: u32,
    pub redelivered: bool,
}

/// What [`Queue::get`] found.
pub(super) enum Got {
    Parcel(Parcel),
    Empty,
    /// What is dead lies in front: it is to be asked again when that is gone.
    Unfinished,
    /// As [`Got::Unfinished`], and another thread is at it.
    InHands,
}

/// A message was not taken.
pub(super) enum Refusal {
    /// The queue was deleted in the meantime.
    Deleted(Held),
    /// The queue is at its maximum length and refuses what is new; `dead_letter`: that goes to the
    /// dead-letter exchange.
    Full { held: Held, dead_letter: bool },
}

/// What a queue left.
pub(super) struct Deleted {
    /// How many messages were ready.
    pub ready: usize,
    pub parts: Vec<Part>,
    /// What was not ready.
    pub held: Vec<Held>,
    /// What had died before, and is dead-lettered.
    pub dying: VecDeque<(Held, Reason)>,
}

/// Whether a message fits into the queue's maximum length, whatever it does with one that does not.
pub(super) enum Room {
    Free,
    Full,
    /// It does not fit into the empty queue either.
    Never,
}

/// What has to hold for a queue to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteIf {
    pub unused: bool,
    pub empty: bool,
}

impl Queue {
    pub(super) fn new(
        (id, entry): (QueueId, Option<Entry>),
        spec: QueueSpec,
        vhost: VhostName,
        owner: ConnectionId,
        settings: QueueSettings,
        pager: Arc<Pager>,
        now_ms: UnixMs,
    ) -> Self {
        let counters = QueueCounters::new(&spec);
        let ready = Ready::new(spec.priority_max.unwrap_or(0), id, pager);
        let is_for_replies = spec.name.as_str().starts_with(REPLY_TO);
        let limits_time = AtomicBool::new(settings.message_ttl_ms.is_some());
        let state = Mutex::new(State::new(&spec, settings, ready, now_ms));
        let is_long = AtomicBool::new(false);
        Self {
            id,
            spec,
            vhost,
            owner,
            entry,
            counters,
            is_for_replies,
            limits_time,
            is_long,
            state,
        }
    }

    /// # Errors
    /// An exclusive queue of another connection.
    pub(super) fn check_owner(&self, connection: ConnectionId) -> Result<(), BrokerError> {
        if self.spec.exclusive && self.owner != connection {
            return Err(self.locked());
        }
        Ok(())
    }

    /// Whether its persistent messages are written: an exclusive queue never outlives the process.
    pub(super) fn is_durable(&self) -> bool {
        self.spec.durable && !self.spec.exclusive
    }

    /// Whether its settings give its messages a time to live.
    pub(super) fn limits_time(&self) -> bool {
        self.limits_time.load(Ordering::Relaxed)
    }

    pub(super) fn locked(&self) -> BrokerError {
        BrokerError::ResourceLocked { name: self.spec.name.to_string(), vhost: self.vhost.clone() }
    }

    pub(super) fn settings(&self) -> Arc<QueueSettings> {
        self.state.lock().settings.clone()
    }

    /// Whether its deliveries show how often they came back.
    pub(super) fn shows_delivery_count(&self) -> bool {
        self.spec.kind == QueueKind::Quorum
    }

    /// Gives the queue other settings. What they forbid is left to [`Queue::proceed`]: they may be those
    /// of very many queues.
    pub(super) fn configure(&self, settings: QueueSettings, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        self.limits_time.store(settings.message_ttl_ms.is_some(), Ordering::Relaxed);
        if *state.settings != settings {
            // The time of disuse begins anew, or a queue that was idle before would go at once.
            state.used_ms = now_ms;
        }
        state.settings = Arc::new(settings);
        if state.settings.consumer_timeout_ms.is_some() && !state.unacked.is_empty() {
            state.timeout_check_ms = Some(now_ms);
        }
        self.dispatch_living(&mut state, now_ms)
    }

    /// It was declared again, or asked for by name.
    pub(super) fn touch(&self, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        state.used_ms = now_ms;
        self.dispatch(&mut state, now_ms)
    }

    /// Puts a recovered message back; [`Queue::tick`] looks at all of them afterwards. One that came
    /// back too often dies then: an unclean stop counts as a return.
    pub(super) fn restore(&self, held: Held, due_ms: Option<UnixMs>) {
        let mut state = self.state.lock();
        if state.is_over_delivery_limit(&held) {
            return state.dying.push_back((held, Reason::DeliveryLimit));
        }
        match due_ms.or(held.stored.due_ms()) {
            Some(due_ms) => {
                state.delayed.insert((due_ms, held.position), held);
            }
            None => state.ready.insert(held),
        }
        if state.ready.is_crowded() {
            state.ready.page_out(usize::MAX);
        }
    }

    /// Takes messages that a start left on the disk, in order.
    pub(super) fn restore_runs(&self, band: u8, runs: Vec<Run>) {
        self.state.lock().ready.restore(band, runs);
    }

    pub(super) fn page_out(&self, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        page_out(&mut state, now_ms, usize::MAX);
        let mut effects = Effects::default();
        arm(&mut state, &mut effects);
        effects
    }

    /// Does what is due: retries and delayed messages become ready, what is at the head expires,
    /// consumers that hold a delivery too long end, and an unused queue asks to be deleted. Without
    /// `has_room` in the journal, what is dead waits for [`Queue::proceed`].
    pub(super) fn tick(&self, now_ms: UnixMs, has_room: bool) -> Effects {
        let mut state = self.state.lock();
        // A timer that stands for an earlier plan ends here, and is not replaced.
        if state.armed_ms.is_some_and(|armed_ms| armed_ms <= now_ms) {
            state.armed_ms = None;
        }
        if state.page_check_ms.is_some_and(|check_ms| check_ms <= now_ms) {
            page_out(&mut state, now_ms, PAGE_LOOKS_MAX_OF_TICK);
        }
        while let Some(entry) = state.delayed.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let held = entry.remove();
            state.ready.insert(held);
        }
        let expired = state.queue_expires_ms().is_some_and(|expires_ms| expires_ms <= now_ms);
        let had_any = !state.consumers.is_empty();
        time_out(&mut state, now_ms);
        let unused = self.is_left_alone(&mut state, had_any, now_ms);
        let mut effects = match has_room {
            true => self.dispatch(&mut state, now_ms),
            false => self.dispatch_living(&mut state, now_ms),
        };
        effects.unused = unused || expired;
        effects
    }

    /// Goes on where a step was full. Until then nobody takes more of the dead out.
    pub(super) fn proceed(&self, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        if state.in_hands {
            return Effects::default();
        }
        state.burying = false;
        self.dispatch(&mut state, now_ms)
    }

    /// What a step took out is where the dead go. The next may be taken here, if it `may_bury`, and is left to
    /// [`Queue::proceed`] otherwise.
    pub(super) fn buried(&self, now_ms: UnixMs, may_bury: bool) -> Effects {
        let mut state = self.state.lock();
        state.in_hands = false;
        // Whoever found more of the dead meanwhile left it here.
        match std::mem::take(&mut state.burying) {
            false => Effects::default(),
            true if may_bury => self.dispatch(&mut state, now_ms),
            true => self.dispatch_living(&mut state, now_ms),
        }
    }

    /// Takes the head for a caller that is no consumer (basic.get).
    pub(super) fn get(&self, now_ms: UnixMs) -> (Got, Effects) {
        let mut state = self.state.lock();
        state.used_ms = now_ms;
        let mut effects = self.dispatch(&mut state, now_ms);
        if effects.front_is_dead {
            let is_with_others = state.in_hands && !effects.in_hands;
            return (if is_with_others { Got::InHands } else { Got::Unfinished }, effects);
        }
        let Some(held) = state.ready.pop_front() else { return (Got::Empty, effects) };
        let tag = state.next_tag;
        state.next_tag += 1;
        let parcel = Parcel::new(&held, 0, tag);
        self.handed_out(&mut state, now_ms);
        self.mark_delivered(&held, &state.settings, &mut effects);
        let unacked = Unacked { held, consumer: None, credit: None, since_ms: now_ms };
        state.unacked.insert(tag, unacked);
        arm(&mut state, &mut effects);
        (Got::Parcel(parcel), effects)
    }

    /// # Errors
    /// An exclusive consumer stands in the way.
    pub(super) fn add_consumer(
        &self,
        slot: Slot,
        now_ms: UnixMs,
    ) -> Result<(ConsumerId, Effects), InExclusiveUse> {
        let mut state = self.state.lock();
        let id = state.consumers.add(slot)?;
        if state.deleted {
            state.consumers.end_all(ConsumerEnd::QueueDeleted);
        }
        Ok((id, self.dispatch(&mut state, now_ms)))
    }

    pub(super) fn cancel_all(&self) {
        self.state.lock().consumers.end_all(ConsumerEnd::Cancelled);
    }

    /// A consumer whose channel was full, or that had no credit, has room again.
    pub(super) fn resume(&self, id: ConsumerId, now_ms: UnixMs) -> Effects {
        let mut state = self.state.lock();
        state.consumers.resume(id);
        self.dispatch(&mut state, now_ms)
    }

    /// Takes every ready message out, in the order of delivery.
    pub(super) fn drain_ready(&self) -> Vec<Part> {
        self.state.lock().ready.drain()
    }

    /// Ends the queue, if what was asked for holds. What it held is the caller's to settle. `None`: another caller has ended it.
    ///
    /// # Errors
    /// It has consumers or messages.
    pub(super) fn delete(&self, only: DeleteIf) -> Result<Option<Deleted>, BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Ok(None);
        }
        let (name, vhost) = (self.spec.name.to_string(), self.vhost.clone());
        if only.unused && !state.consumers.is_empty() {
            return Err(BrokerError::InUse { what: "queue", name, vhost });
        }
        let waits = !state.delayed.is_empty() || !state.dying.is_empty();
        if only.empty && (state.ready.len() > 0 || waits) {
            return Err(BrokerError::NotEmpty { name, vhost });
        }
        state.deleted = true;
        state.consumers.end_all(ConsumerEnd::QueueDeleted);
        let ready = state.ready.len();
        let parts = state.ready.drain();
        let mut held: Vec<Held> = std::mem::take(&mut state.delayed).into_values().collect();
        for unacked in std::mem::take(&mut state.unacked).into_values() {
            if let Some(credit) = unacked.credit {
                credit.give_back();
            }
            held.push(unacked.held);
        }
        let dying = std::mem::take(&mut state.dying);
        Ok(Some(Deleted { ready, parts, held, dying }))
    }

    /// Takes a ready message out that was `seen` here, and which need not be read again; what lies behind
    /// it may have to be looked at sooner now. `None`: it is not ready any more.
    pub(super) fn take_ready(&self, seen: &Held) -> Option<(Held, Effects)> {
        let mut state = self.state.lock();
        let held = state.ready.take(seen)?;
        let mut effects = Effects::default();
        arm(&mut state, &mut effects);
        Some((held, effects))
    }

    /// Ready messages behind `after` in the order of the log, at most `count`.
    pub(super) fn ready_after(&self, after: Option<Position>, count: usize) -> Vec<Held> {
        self.state.lock().ready.after(after, count)
    }

    pub(super) fn ready_at(&self, position: Position) -> Option<Held> {
        let before = position.0.checked_sub(1).map(Position);
        self.ready_after(before, 1).pop().filter(|held| held.position == position)
    }

    pub(super) fn room_for(&self, body_bytes: u64) -> Room {
        let state = self.state.lock();
        let settings = &state.settings;
        let never = settings.length_max == Some(0)
            || settings.length_bytes_max.is_some_and(|max| body_bytes > max);
        match state.is_over_length(1, body_bytes) {
            _ if never => Room::Never,
            true => Room::Full,
            false => Room::Free,
        }
    }

    pub(super) fn peek(&self, count: usize) -> Vec<Held> {
        self.state.lock().ready.peek(count)
    }

    pub(super) fn ready_count(&self) -> usize {
        self.state.lock().ready.len()
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.state.lock();
        QueueStatus {
            name: self.spec.name.clone(),
            ready: state.ready.len(),
            ready_bytes: state.ready.body_bytes(),
            on_disk: state.ready.on_disk(),
            unacked: state.unacked.len(),
            delayed: state.delayed.len(),
            consumers: state.consumers.len(),
            published: self.counters.published.total(),
            delivered: self.counters.delivered.total(),
            acked: self.counters.acked.total(),
        }
    }
}

impl Parcel {
    fn new(held: &Held, key: u32, tag: Tag) -> Self {
        Self {
            key,
            tag,
            position: held.position,
            stored: held.stored.clone(),
            failures: held.failures(),
            returns: held.returns,
            redelivered: held.redelivered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_small_for_there_may_be_very_many() {
        // With the counts of its handles it fits into what the allocator gives out for so much.
        const COUNTS_BYTES: usize = 16;
        assert!(size_of::<Queue>() + COUNTS_BYTES <= 896, "{}", size_of::<Queue>());
    }
}
