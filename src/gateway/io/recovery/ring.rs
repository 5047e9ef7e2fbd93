//! The newest entries of the log, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::Entry;
use super::offset::Offset;
use crate::model::clock::UnixMs;

/// Its entries' positions follow one another without a hole.
#[derive(Default)]
pub struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Ring {
    /// Of entries in the order of the log; what lies before a hole is left out.
    pub fn of(entries: impl DoubleEndedIterator<Item = Entry>) -> Self {
        let mut ring = Self::default();
        for entry in entries.rev() {
            if ring.first().is_some_and(|first| first != entry.offset.position + 1) {
                break;
            }
            ring.bytes += entry.bytes();
            ring.entries.push_front(Arc::new(entry));
        }
        ring
    }

    pub fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn last(&self) -> Option<Offset> {
        self.entries.back().map(|entry| entry.offset)
    }

    /// The position of the oldest entry.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.offset.position)
    }

    pub fn contains(&self, offset: Offset) -> bool {
        let at = self.first().and_then(|first| offset.position.checked_sub(first));
        let entry = at.and_then(|at| self.entries.get(usize::try_from(at).ok()?));
        entry.is_some_and(|entry| entry.offset == offset)
    }

    /// The entries behind `start`, up to `end`.
    pub fn between(&self, start: u64, end: u64) -> impl Iterator<Item = &Arc<Entry>> {
        let index = |position: u64| {
            let at = self.first().map_or(0, |first| position.saturating_sub(first));
            usize::try_from(at).unwrap_or(usize::MAX).min(self.entries.len())
        };
        self.entries.range(index(start + 1)..index(end + 1).max(index(start + 1)))
    }

    /// Lets the oldest entries go: those of before `since_ms`, but the newest of these, which is where a
    /// client may stand that nothing was sent since; and what is more than `bytes_max`, though nothing
    /// behind `delivered`.
    pub fn trim(&mut self, since_ms: UnixMs, bytes_max: usize, delivered: u64) {
        while let Some(first) = self.entries.front()
            && first.offset.position < delivered
            && (self.bytes > bytes_max
                || self.entries.get(1).is_some_and(|second| second.time_ms < since_ms))
        {
            self.bytes -= first.bytes();
            self.entries.pop_front();
        }
    }

    /// Forgets the entries up to this one.
    pub fn forget_through(&mut self, position: u64) {
        while let Some(first) = self.entries.front()
            && first.offset.position <= position
        {
            self.bytes -= first.bytes();
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Audience;
    use super::*;
    use crate::gateway::io::Draft;
    use crate::wire::socket_io::Namespace;

    fn entry(position: u64, time_ms: UnixMs) -> Entry {
        let offset = Offset { epoch: 1, position };
        let draft = Draft::event(Namespace::ROOT, "event", &position.to_string()).unwrap();
        let (audience, packet) = (Audience::default(), draft.with_offset(&offset));
        Entry { offset, time_ms, audience, packet }
    }

    fn positions(ring: &Ring, start: u64, end: u64) -> Vec<u64> {
        ring.between(start, end).map(|entry| entry.offset.position).collect()
    }

    #[test]
    fn it_gives_what_lies_between_two_positions() {
        let ring = Ring::of((5..9).map(|n| entry(n, n)));
        assert_eq!(positions(&ring, 5, 7), [6, 7]);
        assert_eq!(positions(&ring, 4, 99), [5, 6, 7, 8]);
        assert_eq!(positions(&ring, 8, 8), [0_u64; 0]);
        assert_eq!(positions(&ring, 9, 3), [0_u64; 0]);
        assert!(ring.contains(Offset { epoch: 1, position: 5 }));
        for (epoch, position) in [(1, 4), (1, 9), (2, 5)] {
            assert!(!ring.contains(Offset { epoch, position }));
        }
    }

    #[test]
    fn what_lies_before_a_hole_is_not_loaded() {
        let ring = Ring::of([1, 2, 4, 5].into_iter().map(|n| entry(n, n)));
        assert_eq!((ring.first(), ring.len()), (Some(4), 2));
    }

    #[test]
    fn old_entries_go_but_the_newest_of_them() {
        let mut ring = Ring::of((1..6).map(|n| entry(n, n * 100)));
        ring.trim(350, usize::MAX, 5);
        assert_eq!(ring.first(), Some(3), "who got 3 at 300 was sent nothing before 400");
        ring.trim(10_000, usize::MAX, 5);
        assert_eq!((ring.first(), ring.len()), (Some(5), 1));
    }

    #[test]
    fn bytes_are_bounded_but_what_is_not_delivered_stays() {
        let mut ring = Ring::of((1..6).map(|n| entry(n, n)));
        let one = entry(1, 1).bytes();
        ring.trim(0, 3 * one, 2);
        assert_eq!(ring.first(), Some(2));
        ring.trim(0, 3 * one, 5);
        assert_eq!((ring.first(), ring.bytes), (Some(3), 3 * one));
    }
}
