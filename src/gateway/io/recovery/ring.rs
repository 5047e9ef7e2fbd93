//! The newest entries of the log, in memory, and which of them concern whom.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use ahash::AHashMap;

use super::entry::{Audience, Entry, Target};
use super::offset::Offset;
use crate::gateway::io::SocketId;
use crate::gateway::shrink;
use crate::model::clock::UnixMs;

/// Its entries' positions follow one another without a hole.
#[derive(Default)]
pub struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    index: Index,
}

/// The positions of the entries, rising, by whom they are for. Who comes back looks at its own, however
/// many there are of others.
#[derive(Default)]
struct Index {
    everybody: VecDeque<u64>,
    rooms: AHashMap<Box<str>, VecDeque<u64>>,
    sockets: AHashMap<SocketId, VecDeque<u64>>,
}

impl Ring {
    /// Of entries in the order of the log; what lies before a hole is left out.
    pub fn of(entries: impl DoubleEndedIterator<Item = Entry>) -> Self {
        let (mut kept, mut next) = (VecDeque::new(), None);
        for entry in entries.rev() {
            if next.is_some_and(|next| next != entry.offset.position + 1) {
                break;
            }
            next = Some(entry.offset.position);
            kept.push_front(Arc::new(entry));
        }
        let mut ring = Self::default();
        kept.into_iter().for_each(|entry| ring.push(entry));
        ring
    }

    pub fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.bytes();
        self.index.add(&entry.audience, entry.offset.position);
        self.entries.push_back(entry);
    }

    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.bytes -= entry.bytes();
        self.index.remove_first(&entry.audience, entry.offset.position);
        shrink::deque(&mut self.entries);
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
        self.at(offset.position).is_some_and(|entry| entry.offset == offset)
    }

    #[cfg(test)]
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    fn at(&self, position: u64) -> Option<&Arc<Entry>> {
        let at = position.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The entries behind `start`, up to `end`, that are for everybody, for the socket, or for one of the
    /// rooms, of each of them those behind the position that stands beside it; each once, in the order of
    /// the log. Except for whom an entry is, its reader has to look itself. No other entry is looked at.
    pub fn addressed<'a>(
        &'a self,
        socket: SocketId,
        rooms: impl Iterator<Item = (&'a str, u64)>,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let index = &self.index;
        let rooms = rooms.filter_map(|(room, since)| Some((index.rooms.get(room)?, since)));
        let own = index.sockets.get(&socket).map(|list| (list, start));
        let lists = std::iter::once((&index.everybody, start)).chain(own).chain(rooms);
        // The next position of each list, and behind it where that stands there.
        let mut heads = BinaryHeap::new();
        let mut lists_left = Vec::new();
        for (list, since) in lists {
            let at = list.partition_point(|position| *position <= since.max(start));
            if let Some(first) = list.get(at) {
                heads.push(Reverse((*first, lists_left.len(), at)));
                lists_left.push(list);
            }
        }
        let mut last = None;
        std::iter::from_fn(move || {
            loop {
                let Reverse((position, number, at)) = heads.pop()?;
                if position > end {
                    return None;
                }
                if let Some(next) = lists_left.get(number).and_then(|list| list.get(at + 1)) {
                    heads.push(Reverse((*next, number, at + 1)));
                }
                if last.replace(position) != Some(position) {
                    return self.at(position);
                }
            }
        })
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
            self.pop();
        }
    }

    /// Forgets the entries up to this one.
    pub fn forget_through(&mut self, position: u64) {
        while self.first().is_some_and(|first| first <= position) {
            self.pop();
        }
    }
}

impl Index {
    fn add(&mut self, audience: &Audience, position: u64) {
        if audience.to.is_empty() {
            self.everybody.push_back(position);
        }
        for target in &audience.to {
            let list = match target {
                Target::Socket(id) => self.sockets.entry(*id).or_default(),
                Target::Room(room) => match self.rooms.get_mut(&**room) {
                    Some(list) => list,
                    None => self.rooms.entry((**room).into()).or_default(),
                },
            };
            // One that is named twice is one.
            if list.back() != Some(&position) {
                list.push_back(position);
            }
        }
    }

    /// Of an entry before which there is none.
    fn remove_first(&mut self, audience: &Audience, position: u64) {
        if audience.to.is_empty() {
            take_first(&mut self.everybody, position);
        }
        for target in &audience.to {
            match target {
                Target::Socket(id) => take_first_of(&mut self.sockets, id, position),
                Target::Room(room) => take_first_of(&mut self.rooms, &**room, position),
            }
        }
    }
}

fn take_first_of<K, Q>(lists: &mut AHashMap<K, VecDeque<u64>>, name: &Q, position: u64)
where
    K: Borrow<Q> + Hash + Eq,
    Q: Hash + Eq + ?Sized,
{
    let Some(list) = lists.get_mut(name) else { return };
    take_first(list, position);
    if list.is_empty() {
        lists.remove(name);
        shrink::table(lists);
    }
}

fn take_first(list: &mut VecDeque<u64>, position: u64) {
    if list.front() == Some(&position) {
        list.pop_front();
        shrink::deque(list);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Audience;
    use super::*;
    use crate::gateway::io::Draft;
    use crate::wire::socket_io::Namespace;

    fn entry(position: u64, time_ms: UnixMs) -> Entry {
        entry_for(Audience::default(), position, time_ms)
    }

    fn entry_for(audience: Audience, position: u64, time_ms: UnixMs) -> Entry {
        let offset = Offset { epoch: 1, position };
        let draft = Draft::event(Namespace::ROOT, "event", &position.to_string()).unwrap();
        Entry { offset, time_ms, audience, packet: draft.with_offset(&offset) }
    }

    fn to(rooms: &[&str]) -> Audience {
        let to = rooms.iter().map(|room| Target::of(room.to_string())).collect();
        Audience { to, ..Audience::default() }
    }

    fn positions(ring: &Ring, start: u64, end: u64) -> Vec<u64> {
        addressed(ring, SocketId::random(), &[], start, end)
    }

    /// What is looked at for a socket in these rooms.
    fn addressed(
        ring: &Ring,
        socket: SocketId,
        rooms: &[(&str, u64)],
        start: u64,
        end: u64,
    ) -> Vec<u64> {
        let entries = ring.addressed(socket, rooms.iter().copied(), start, end);
        entries.map(|entry| entry.offset.position).collect()
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
    fn who_comes_back_looks_at_no_entry_of_others() {
        let me = SocketId::random();
        let audience = |n: u64| match n {
            500 => Audience::default(),
            700 => Audience::socket(me),
            900 => to(&["mine", "ours", "mine"]),
            n if n % 250 == 0 => to(&["ours"]),
            n if n % 2 == 0 => to(&["theirs"]),
            _ => Audience::socket(SocketId::random()),
        };
        let ring = Ring::of((1..=1_000).map(|n| entry_for(audience(n), n, n)));
        let rooms = [("mine", 0), ("ours", 300), ("nobody's", 0)];
        assert_eq!(addressed(&ring, me, &rooms, 0, 1_000), [500, 700, 750, 900, 1_000]);
        assert_eq!(addressed(&ring, me, &rooms, 600, 999), [700, 750, 900]);
        assert_eq!(addressed(&ring, SocketId::random(), &[], 0, 1_000), [500]);
    }

    #[test]
    fn what_goes_from_the_ring_goes_from_its_index() {
        let audience = |n: u64| match n % 3 {
            0 => Audience::default(),
            1 => to(&["a", "a", "b"]),
            _ => Audience::socket(SocketId::random()),
        };
        let mut ring = Ring::of((1..=1_000).map(|n| entry_for(audience(n), n, n)));
        ring.trim(0, entry(1, 1).bytes(), 999);
        assert_eq!(positions(&ring, 0, 1_000), [999]);
        assert_eq!(addressed(&ring, SocketId::random(), &[("b", 0)], 0, 1_000), [999, 1_000]);
        ring.forget_through(1_000);
        assert_eq!((ring.len(), ring.bytes), (0, 0));
        assert!(ring.index.rooms.is_empty() && ring.index.sockets.is_empty());
        assert!(ring.index.everybody.is_empty() && ring.entries.capacity() <= 64);
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
