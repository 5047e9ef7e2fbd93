//! The messages of a queue that wait for a consumer.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Held;
use crate::journal::Position;

/// One band a priority, the highest delivered first; in a band the order is that of the log.
///
/// A message nearly always enters at the back and leaves at the front; one that returns finds its old
/// place by its position.
pub(super) struct Ready {
    bands: SmallVec<[VecDeque<Held>; 1]>,
    len: usize,
    body_bytes: u64,
}

impl Ready {
    pub(super) fn new(priority_max: u8) -> Self {
        let bands = (0..=priority_max).map(|_| VecDeque::new()).collect();
        Self { bands, len: 0, body_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// A priority above the queue's maximum counts as the maximum, a missing one as 0.
    fn band_of(&self, held: &Held) -> usize {
        let priority = held.stored.message.properties.priority.unwrap_or(0);
        usize::from(priority).min(self.bands.len() - 1)
    }

    pub(super) fn insert(&mut self, held: Held) {
        self.len += 1;
        self.body_bytes += held.body_bytes();
        let at = self.band_of(&held);
        let band = &mut self.bands[at];
        if band.back().is_none_or(|last| last.position < held.position) {
            band.push_back(held);
            return;
        }
        let at = band.partition_point(|other| other.position < held.position);
        band.insert(at, held);
    }

    pub(super) fn front(&self) -> Option<&Held> {
        self.bands.iter().rev().find_map(VecDeque::front)
    }

    pub(super) fn pop_front(&mut self) -> Option<Held> {
        let held = self.bands.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.left(&held);
        Some(held)
    }

    pub(super) fn take(&mut self, position: Position) -> Option<Held> {
        let held = self.bands.iter_mut().find_map(|band| {
            let at = band.binary_search_by_key(&position, |held| held.position).ok()?;
            band.remove(at)
        })?;
        self.left(&held);
        Some(held)
    }

    fn left(&mut self, held: &Held) {
        self.len -= 1;
        self.body_bytes -= held.body_bytes();
    }

    /// Behind `after` in the order of the log, at most `count`.
    pub(super) fn after(&self, after: Option<Position>, count: usize) -> Vec<Held> {
        let mut found = Vec::new();
        for band in &self.bands {
            let start =
                after.map_or(0, |after| band.partition_point(|held| held.position <= after));
            found.extend(band.range(start..).take(count).cloned());
        }
        found.sort_unstable_by_key(|held| held.position);
        found.truncate(count);
        found
    }

    /// In the order of delivery.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.bands.iter().rev().flatten()
    }

    pub(super) fn drain(&mut self) -> Vec<Held> {
        (self.len, self.body_bytes) = (0, 0);
        self.bands.iter_mut().rev().flat_map(std::mem::take).collect()
    }
}
