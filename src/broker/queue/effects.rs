//! What a step of a queue leaves to do.

use std::sync::Arc;

use smallvec::SmallVec;

use super::held::{Held, Reason};
use crate::broker::stored::Stored;
use crate::model::clock::UnixMs;

/// What a queue asks of the broker after its lock is released.
#[derive(Default)]
#[must_use]
pub(in crate::broker) struct Effects {
    pub dead: Vec<(Held, Reason)>,
    pub wake_ms: Option<UnixMs>,
    /// Durable messages that were handed out, each with the number of its deliveries.
    pub delivered: SmallVec<[(Arc<Stored>, u32); 1]>,
    /// The queue has a delivery limit: their marks are not to wait for another commit, as the message that
    /// they count may be what ends the process.
    pub marks_count: bool,
    /// Nothing uses the queue any more: it asks to be deleted.
    pub unused: bool,
    /// More than one step takes is dead: [`super::Queue::proceed`] goes on.
    pub unfinished: bool,
    /// Once the dead are at their place, [`super::Queue::buried`] has to be told: others wait for that, so
    /// that they arrive in order.
    pub in_hands: bool,
    /// The next message is dead, and has to wait for its step.
    pub(super) front_is_dead: bool,
    /// What `dead` weighs in the journal, about.
    pub(super) dead_bytes: usize,
}

/// So many messages die in one step at most: they may come from the disk, and memory has to hold them.
const DEAD_MAX: usize = 1_024;
/// A step ends with the message that reaches so many bytes: so much the journal is asked for before
/// the next.
pub(in crate::broker) const DEAD_BYTES_MAX: usize = 256 * 1024;

impl Effects {
    /// Whether there is nothing to do, as after most steps.
    pub(in crate::broker) fn are_none(&self) -> bool {
        let Self { dead, wake_ms, delivered, unused, unfinished, .. } = self;
        dead.is_empty() && delivered.is_empty() && wake_ms.is_none() && !unused && !unfinished
    }

    pub(in crate::broker) fn is_full(&self) -> bool {
        self.dead.len() >= DEAD_MAX || self.dead_bytes >= DEAD_BYTES_MAX
    }

    pub(super) fn bury(&mut self, held: Held, reason: Reason) {
        self.dead_bytes += held.journal_bytes();
        self.dead.push((held, reason));
    }
}
