//! Who consumes a queue, and whose turn it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::Parcel;
use super::credit::Credit;

pub(in crate::broker) type ConsumerId = u64;

/// Why a consumer gets nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerEnd {
    /// The broker is shutting down, or the consumer was cancelled by its owner.
    Cancelled,
    /// The queue was deleted.
    QueueDeleted,
    /// It left a delivery unsettled for longer than the queue's consumer timeout.
    TimedOut,
}

/// Where a consumer's ends are told, and that it found its line full; shared by the consumers of one
/// channel.
#[derive(Default)]
pub(in crate::broker) struct Ends {
    ended: Mutex<SmallVec<[(u32, ConsumerEnd); 1]>>,
    pub changed: Notify,
    stalled: Mutex<Vec<u32>>,
}

impl Ends {
    fn tell(&self, key: u32, end: ConsumerEnd) {
        self.ended.lock().push((key, end));
        self.changed.notify_one();
    }

    pub(in crate::broker) fn first(&self) -> Option<ConsumerEnd> {
        self.ended.lock().first().map(|(_, end)| *end)
    }

    pub(in crate::broker) fn take(&self) -> SmallVec<[(u32, ConsumerEnd); 1]> {
        std::mem::take(&mut self.ended.lock())
    }

    /// The consumers that may try again when the line has room.
    pub(in crate::broker) fn take_stalled(&self) -> Vec<u32> {
        std::mem::take(&mut self.stalled.lock())
    }
}

/// A consumer as its queue sees it.
pub(in crate::broker) struct Slot {
    pub parcels: flume::Sender<Parcel>,
    /// What its owner knows it by, on every parcel.
    pub key: u32,
    pub ends: Arc<Ends>,
    /// `None` is unlimited: then the channel's capacity is what bounds it.
    pub prefetch: Option<usize>,
    pub credit: Option<Arc<Credit>>,
    /// `x-priority`: while a consumer of a higher one can take messages, it gets them all.
    pub priority: i64,
    pub exclusive: bool,
    pub no_ack: bool,
    pub in_flight: usize,
    pub waits_its_turn: bool,
    /// Its owner is told that it found the line full, and will resume it.
    pub is_stalled: bool,
}

impl Slot {
    /// `false`: the line is full or its owner went away.
    pub(super) fn send(&mut self, parcel: Parcel) -> bool {
        match self.parcels.try_send(parcel) {
            Ok(()) => true,
            Err(flume::TrySendError::Full(parcel)) if !self.is_stalled => {
                self.is_stalled = true;
                self.ends.stalled.lock().push(self.key);
                // Who emptied the line before that did not see it.
                self.parcels.try_send(parcel).is_ok()
            }
            Err(_) => false,
        }
    }

    fn has_room(&self) -> bool {
        self.prefetch.is_none_or(|prefetch| self.in_flight < prefetch)
    }
}

/// Another consumer stands in the way (exclusive).
pub(in crate::broker) struct InExclusiveUse;

pub(super) struct Consumers {
    /// In the order in which they came.
    slots: BTreeMap<ConsumerId, Slot>,
    turns: Turns,
    next_id: ConsumerId,
    single_active: bool,
    /// The one that gets the messages of a queue with a single active consumer.
    active: Option<ConsumerId>,
}

impl Consumers {
    pub(super) fn new(single_active: bool) -> Self {
        let (slots, turns) = (BTreeMap::new(), Turns::default());
        Self { slots, turns, next_id: 0, single_active, active: None }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Slot> {
        self.slots.get_mut(&id)
    }

    /// # Errors
    /// An exclusive consumer is or wants to be alone.
    pub(super) fn add(&mut self, slot: Slot) -> Result<ConsumerId, InExclusiveUse> {
        let taken = self.slots.values().next().is_some_and(|other| other.exclusive);
        let not_alone = slot.exclusive && (self.single_active || !self.slots.is_empty());
        if taken || not_alone {
            return Err(InExclusiveUse);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.slots.insert(id, slot);
        if self.single_active && self.active.is_none() {
            self.active = Some(id);
        }
        self.offer_turn(id);
        Ok(id)
    }

    /// Forgets a consumer; the next one becomes the active one.
    pub(super) fn remove(&mut self, id: ConsumerId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.turns.remove(slot.priority, id);
        if self.active == Some(id) {
            self.active = self.next_active();
            if let Some(next) = self.active {
                self.offer_turn(next);
            }
        }
    }

    /// The highest priority, and among equals who came first.
    fn next_active(&self) -> Option<ConsumerId> {
        let first = self.slots.iter().min_by_key(|(id, slot)| (-slot.priority, **id));
        first.map(|(id, _)| *id)
    }

    pub(super) fn end(&mut self, id: ConsumerId, end: ConsumerEnd) {
        if let Some(slot) = self.slots.get(&id) {
            slot.ends.tell(slot.key, end);
        }
        self.remove(id);
    }

    pub(super) fn end_all(&mut self, end: ConsumerEnd) {
        for slot in std::mem::take(&mut self.slots).into_values() {
            slot.ends.tell(slot.key, end);
        }
        self.turns = Turns::default();
        self.active = None;
    }

    /// Its line has room again, or it has credit.
    pub(super) fn resume(&mut self, id: ConsumerId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.is_stalled = false;
        }
        self.offer_turn(id);
    }

    /// Lines a consumer up if it can take one more.
    pub(super) fn offer_turn(&mut self, id: ConsumerId) {
        if self.single_active && self.active != Some(id) {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.has_room()
            && !slot.waits_its_turn
        {
            slot.waits_its_turn = true;
            self.turns.push(slot.priority, id);
        }
    }

    pub(super) fn next_turn(&mut self) -> Option<ConsumerId> {
        self.turns.pop()
    }

    pub(super) fn anyone_waits(&self) -> bool {
        !self.turns.is_empty()
    }

    /// A delivery of this consumer was settled.
    pub(super) fn settled(&mut self, id: ConsumerId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
        self.offer_turn(id);
    }
}

/// Consumers that can take one more, in turn, a line for each priority, the highest first. Each
/// consumer is in here once at most.
#[derive(Default)]
struct Turns(SmallVec<[(i64, VecDeque<ConsumerId>); 1]>);

impl Turns {
    fn push(&mut self, priority: i64, id: ConsumerId) {
        match self.0.iter().position(|(other, _)| *other <= priority) {
            Some(at) if self.0[at].0 == priority => self.0[at].1.push_back(id),
            at => {
                let at = at.unwrap_or(self.0.len());
                self.0.insert(at, (priority, VecDeque::from([id])));
            }
        }
    }

    fn pop(&mut self) -> Option<ConsumerId> {
        self.0.iter_mut().find_map(|(_, line)| line.pop_front())
    }

    fn remove(&mut self, priority: i64, id: ConsumerId) {
        if let Some(at) = self.0.iter().position(|(other, _)| *other == priority) {
            self.0[at].1.retain(|&other| other != id);
            if self.0[at].1.is_empty() {
                self.0.remove(at);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, line)| line.is_empty())
    }
}
