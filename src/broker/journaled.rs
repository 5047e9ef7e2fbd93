//! What the log says of a message in one queue.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::records::{DeliveredRecord, KIND_DELIVERED, QueueId, record};
use crate::journal::{Entry, Group, Journal, Position, Urgency};

/// Which parts of the log stand for a message in one queue.
#[derive(Default)]
pub(super) struct Journaled {
    /// Where it is; 0 before it is written and after it is settled, which happens under the lock of the mark.
    position: AtomicU64,
    mark: Mutex<Option<Mark>>,
}

/// The record of how often a message was delivered.
#[derive(Clone, Copy)]
struct Mark {
    position: NonZeroU64,
    weight: u32,
    deliveries: u32,
}

/// The mark of an earlier life.
pub(super) type Delivered = (Entry, u32);

impl Mark {
    fn new(entry: Entry, deliveries: u32) -> Option<Self> {
        let position = NonZeroU64::new(entry.position.0)?;
        Some(Self { position, weight: entry.weight, deliveries })
    }

    fn entry(&self) -> Entry {
        Entry { position: Position(self.position.get()), weight: self.weight }
    }
}

impl Journaled {
    pub(super) fn was_delivered(&self, (entry, deliveries): Delivered) {
        *self.mark.lock() = Mark::new(entry, deliveries);
    }

    /// Before any queue has it, so that nobody settles it meanwhile.
    pub(super) fn set_position(&self, position: Position) {
        self.position.store(position.0, Ordering::Release);
    }

    fn position(&self) -> Option<Position> {
        let position = self.position.load(Ordering::Acquire);
        (position > 0).then_some(Position(position))
    }

    /// Where it is, if that is all that stands for it.
    pub(super) fn position_alone(&mut self) -> Option<Position> {
        let position = self.position()?;
        self.mark.get_mut().is_none().then_some(position)
    }

    /// It is settled. No mark can come after that, so the group need not be appended under the lock.
    pub(super) fn end(&self, weight: u32, group: &mut Group) {
        let mut mark = self.mark.lock();
        let Some(position) = self.position() else { return };
        self.position.store(0, Ordering::Relaxed);
        group.end(Entry { position, weight });
        if let Some(mark) = mark.take() {
            group.end(mark.entry());
        }
    }

    /// Marks the `deliveries`-th delivery; where the message is, unless it is settled.
    pub(super) fn mark(
        &self,
        journal: &Journal,
        queue: QueueId,
        (deliveries, urgency): (u32, Urgency),
    ) -> Option<Position> {
        let mut mark = self.mark.lock();
        let message = self.position()?;
        let mut group = Group::new();
        match *mark {
            Some(mark) if mark.deliveries >= deliveries => return Some(message),
            Some(mark) => drop(group.end(mark.entry())),
            None => {}
        }
        group.fact(KIND_DELIVERED, record(&DeliveredRecord { message, queue, deliveries }));
        let appended = journal.append(group, urgency);
        if let Some(&entry) = appended.entries.first() {
            *mark = Mark::new(entry, deliveries);
        }
        Some(message)
    }
}
