//! What a queue keeps under its lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::AHashMap;

use super::consumers::{ConsumerId, Consumers};
use super::credit::Credit;
use super::held::{Held, Reason};
use super::ready::Ready;
use super::{Effects, Tag};
use crate::journal::Position;
use crate::model::clock::UnixMs;
use crate::model::topology::{Overflow, QueueSettings, QueueSpec};

pub(super) struct State {
    /// What holds now: the queue's own settings under its policy's.
    pub settings: Arc<QueueSettings>,
    pub ready: Ready,
    /// Failed deliveries and delayed messages, by the time at which they become ready.
    pub delayed: BTreeMap<(UnixMs, Position), Held>,
    pub unacked: AHashMap<Tag, Unacked>,
    pub consumers: Consumers,
    pub next_tag: Tag,
    /// When it was last declared, got from, or left by its last consumer (`x-expires`).
    pub used_ms: UnixMs,
    /// When the oldest delivery may have to be looked at for the consumer timeout.
    pub timeout_check_ms: Option<UnixMs>,
    /// When to look again for messages that can leave memory.
    pub page_check_ms: Option<UnixMs>,
    /// The earliest time at which a timer was asked for and has not fired.
    pub armed_ms: Option<UnixMs>,
    /// More is dead than one step takes, and somebody will go on with it: nobody else takes any of it.
    pub burying: bool,
    /// What a step took out is on its way to where the dead go, and comes before all that dies now.
    pub in_hands: bool,
    /// What died in hands, and waits to be taken out; empty, unless much died at once.
    pub dying: VecDeque<(Held, Reason)>,
    pub deleted: bool,
}

pub(super) struct Unacked {
    pub held: Held,
    pub consumer: Option<ConsumerId>,
    pub credit: Option<Arc<Credit>>,
    pub since_ms: UnixMs,
}

impl State {
    pub(super) fn new(
        spec: &QueueSpec,
        settings: QueueSettings,
        ready: Ready,
        now_ms: UnixMs,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            ready,
            delayed: BTreeMap::new(),
            unacked: AHashMap::new(),
            consumers: Consumers::new(spec.single_active_consumer),
            next_tag: 0,
            used_ms: now_ms,
            timeout_check_ms: None,
            page_check_ms: None,
            armed_ms: None,
            burying: false,
            in_hands: false,
            dying: VecDeque::new(),
            deleted: false,
        }
    }

    /// Where the dead go somewhere, nobody takes more of them out before those of a step are there.
    pub(super) fn take_in_hands(&mut self, effects: &mut Effects) {
        if self.settings.dead_letter.is_some() {
            self.in_hands = true;
            effects.in_hands = true;
            // Whoever has them goes on.
            effects.unfinished = false;
        }
    }

    /// Removes a delivery and gives its consumer its credit back.
    pub(super) fn take_unacked(&mut self, tag: Tag) -> Option<Held> {
        let unacked = self.unacked.remove(&tag)?;
        if let Some(credit) = unacked.credit {
            credit.give_back();
        }
        if let Some(id) = unacked.consumer {
            self.consumers.settled(id);
        }
        Some(unacked.held)
    }

    /// When the next message expires here: the lower of its own time to live and the queue's.
    pub(super) fn front_expires_ms(&mut self) -> Option<UnixMs> {
        let times = self.ready.front_times(self.settings.message_ttl_ms.is_some())?;
        let ttl_ms = match (times.expiration_ms, self.settings.message_ttl_ms) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(times.arrived_ms.saturating_add(ttl_ms))
    }

    pub(super) fn queue_expires_ms(&self) -> Option<UnixMs> {
        let expires_ms = self.settings.expires_ms.filter(|_| !self.deleted)?;
        self.consumers.is_empty().then(|| self.used_ms.saturating_add(expires_ms))
    }

    /// When something is due, of which the next message expires when the caller says.
    pub(super) fn next_due_ms(&self, front_expires_ms: Option<UnixMs>) -> Option<UnixMs> {
        // Of what is dead, somebody takes care already.
        let front = if self.burying { None } else { front_expires_ms };
        let delayed = self.delayed.first_key_value().map(|(&(due_ms, _), _)| due_ms);
        let times =
            [front, delayed, self.queue_expires_ms(), self.timeout_check_ms, self.page_check_ms];
        let next_ms = times
            .map(|time| time.unwrap_or(UnixMs::MAX))
            .into_iter()
            .fold(UnixMs::MAX, UnixMs::min);
        (next_ms < UnixMs::MAX).then_some(next_ms)
    }

    /// Whether `more` messages with so many bytes are refused for the queue's length; if so, whether they
    /// are dead-lettered.
    pub(super) fn refuses(&self, more: usize, more_bytes: u64) -> Option<bool> {
        let dead_letter = match self.settings.overflow {
            None | Some(Overflow::DropHead) => return None,
            Some(Overflow::RejectPublish) => false,
            Some(Overflow::RejectPublishDlx) => true,
        };
        self.is_over_length(more, more_bytes).then_some(dead_letter)
    }

    /// A message comes in: ready, or held until its delay has passed.
    pub(super) fn admit(&mut self, held: Held, now_ms: UnixMs) {
        match held.stored.due_ms() {
            Some(due_ms) if due_ms > now_ms => {
                self.delayed.insert((due_ms, held.position), held);
            }
            _ => self.ready.insert(held),
        }
    }

    /// Whether messages that come one after another may be looked at when all are there: without a length
    /// to keep to, and in one line.
    pub(super) fn takes_runs(&self) -> bool {
        let QueueSettings { length_max, length_bytes_max, .. } = &*self.settings;
        length_max.is_none() && length_bytes_max.is_none() && !self.ready.has_priorities()
    }

    /// Whether nothing becomes of a message that comes now before all others are gone, which are many.
    pub(super) fn takes_paged(&self) -> bool {
        !self.deleted
            && self.takes_runs()
            && !self.consumers.anyone_waits()
            && self.ready.takes_paged()
    }

    /// Whether `more` messages with so many bytes beside what is ready are more than is allowed.
    pub(super) fn is_over_length(&self, more: usize, more_bytes: u64) -> bool {
        let settings = &self.settings;
        let len = (self.ready.len() + more) as u64;
        settings.length_max.is_some_and(|max| len > max)
            || settings
                .length_bytes_max
                .is_some_and(|max| self.ready.body_bytes() + more_bytes > max)
    }

    /// Whether a message came back more often than is allowed.
    pub(super) fn is_over_delivery_limit(&self, held: &Held) -> bool {
        self.settings.delivery_limit.is_some_and(|limit| held.returns > limit)
    }
}
