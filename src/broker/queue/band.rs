//! The ready messages of one priority, in the order of the log.

use std::collections::VecDeque;

use super::Held;
use super::run::{self, Run, Times};
use crate::journal::Position;

/// Messages are delivered from `head`; what lies behind it may be on the disk alone. A queue that
/// never was long has a head and nothing else.
#[derive(Default)]
pub(super) struct Band {
    pub head: VecDeque<Held>,
    /// All behind the head, in order.
    pub rest: VecDeque<Part>,
    /// To how many bytes the head was cut last.
    cut_to: u64,
    /// Mostly none: there may be very many queues.
    strays: Option<Box<Strays>>,
}

/// What entered between others behind the head, and may still leave memory.
#[derive(Default)]
struct Strays(Vec<Position>);

/// Messages next to each other. None in a band is empty.
pub(in crate::broker) enum Part {
    Memory(VecDeque<Held>),
    Paged(Run),
}

/// What is known of the first message without reading it.
pub(super) enum Front {
    Empty,
    Times(Times),
    /// `expires`: it may have a time to live of its own.
    Unread {
        expires: bool,
    },
}

impl Part {
    pub(in crate::broker) fn len(&self) -> usize {
        match self {
            Self::Memory(held) => held.len(),
            Self::Paged(run) => run.len(),
        }
    }

    fn first(&self) -> Position {
        match self {
            Self::Memory(held) => held.front().map_or(Position::default(), |held| held.position),
            Self::Paged(run) => run.first(),
        }
    }

    pub(super) fn last(&self) -> Position {
        match self {
            Self::Memory(held) => held.back().map_or(Position::default(), |held| held.position),
            Self::Paged(run) => run.last(),
        }
    }
}

/// Keeps the order: nearly always at the back.
fn insert(line: &mut VecDeque<Held>, held: Held) {
    if line.back().is_none_or(|last| last.position < held.position) {
        line.push_back(held);
        return;
    }
    let at = line.partition_point(|other| other.position < held.position);
    line.insert(at, held);
}

impl Band {
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.rest.is_empty()
    }

    pub(super) fn insert(&mut self, held: Held) {
        let is_ahead = self.rest.front().is_none_or(|part| held.position <= part.first());
        if is_ahead {
            return insert(&mut self.head, held);
        }
        let after = match self.rest.back() {
            // What is new goes behind all others.
            Some(last) if last.first() < held.position => self.rest.len(),
            _ => self.rest.partition_point(|part| part.first() < held.position),
        };
        let own = after - 1;
        match self.rest.get_mut(own) {
            Some(Part::Memory(line)) => return insert(line, held),
            Some(Part::Paged(run)) if held.position < run.last() => {
                self.strayed(held.position);
                if let Some(Part::Paged(run)) = self.rest.remove(own) {
                    let (before, behind) = run.split(held.position);
                    let middle = Part::Memory(VecDeque::from([held]));
                    let parts = [before.map(Part::Paged), Some(middle), behind.map(Part::Paged)];
                    self.put(own, parts.into_iter().flatten());
                }
                return;
            }
            _ => {}
        }
        match self.rest.get_mut(after) {
            Some(Part::Memory(line)) => line.push_front(held),
            next => {
                if next.is_some() {
                    self.strayed(held.position);
                }
                self.rest.insert(after, Part::Memory(VecDeque::from([held])));
            }
        }
    }

    /// Others stay in memory, as long as nobody looks at these.
    fn strayed(&mut self, position: Position) {
        const STRAYS_MAX: usize = 1_024;
        let Strays(strays) = &mut **self.strays.get_or_insert_default();
        if strays.len() < STRAYS_MAX {
            strays.push(position);
        }
    }

    /// Whether all that lies in front of what comes next is at its place, and the last of it on the disk.
    pub(super) fn ends_on_disk(&self) -> bool {
        matches!(self.rest.back(), Some(Part::Paged(_))) && self.strays.is_none()
    }

    /// Takes a message that comes after all others and is on the disk alone.
    pub(super) fn push_paged(&mut self, paged: &run::Paged, run_bytes_max: u64) {
        if let Some(Part::Paged(run)) = self.rest.back_mut()
            && run.push(paged, run_bytes_max)
        {
            return;
        }
        self.rest.push_back(Part::Paged(Run::of(paged)));
    }

    fn put(&mut self, at: usize, parts: impl DoubleEndedIterator<Item = Part>) {
        for part in parts.rev() {
            self.rest.insert(at, part);
        }
    }

    pub(super) fn front(&self) -> Front {
        let first = match (self.head.front(), self.rest.front()) {
            (Some(held), _) => held,
            (None, Some(Part::Memory(line))) => match line.front() {
                Some(held) => held,
                None => return Front::Empty,
            },
            (None, Some(Part::Paged(run))) => {
                let unread = Front::Unread { expires: run.expires };
                return run.times.map_or(unread, Front::Times);
            }
            (None, None) => return Front::Empty,
        };
        Front::Times(first.times())
    }

    /// Gets the first message into memory, if there is one. `false`: there is none, or it could not
    /// be read and stays where it is.
    pub(super) fn fill_head(&mut self, read: impl FnOnce(&Run) -> Option<Vec<Held>>) -> bool {
        if !self.head.is_empty() {
            return true;
        }
        match self.rest.pop_front() {
            Some(Part::Memory(line)) => {
                self.head = line;
                true
            }
            Some(Part::Paged(run)) => match read(&run) {
                Some(held) => {
                    self.head = held.into();
                    true
                }
                None => {
                    self.rest.push_front(Part::Paged(run));
                    false
                }
            },
            None => false,
        }
    }

    /// Takes a message out that is in memory.
    pub(super) fn take(&mut self, position: Position) -> Option<Held> {
        let take = |line: &mut VecDeque<Held>| {
            let at = line.binary_search_by_key(&position, |held| held.position).ok()?;
            line.remove(at)
        };
        if let Some(held) = take(&mut self.head) {
            return Some(held);
        }
        let own = self.own(position)?;
        let Some(Part::Memory(line)) = self.rest.get_mut(own) else { return None };
        let held = take(line)?;
        if line.is_empty() {
            self.rest.remove(own);
        }
        Some(held)
    }

    /// The part behind the head that a message is in, if it is in any.
    fn own(&self, position: Position) -> Option<usize> {
        self.rest.partition_point(|part| part.first() <= position).checked_sub(1)
    }

    /// The run that a message is in.
    pub(super) fn run_of(&self, position: Position) -> Option<(usize, &Run)> {
        let own = self.own(position)?;
        match self.rest.get(own) {
            Some(Part::Paged(run)) if run.contains(position) => Some((own, run)),
            _ => None,
        }
    }

    /// Takes one message out of a run; what the sums of bodies of the run, and of what is left of
    /// it, are.
    pub(super) fn leave_run(&mut self, own: usize, position: Position) -> (u64, u64) {
        let Some(Part::Paged(run)) = self.rest.remove(own) else { return (0, 0) };
        let before = run.body_bytes;
        let (ahead, behind) = run.split(position);
        let left = [ahead, behind].into_iter().flatten();
        let bytes = left.clone().map(|run| run.body_bytes).sum();
        self.put(own, left.map(Part::Paged).collect::<Vec<_>>().into_iter());
        (before, bytes)
    }

    /// Takes what may be read back out of memory: what can be, behind the first `head_bytes_max` of
    /// the head, at the end of the line, and what strayed between others, as far as `out` may look.
    pub(super) fn page_out(
        &mut self,
        head_bytes_max: u64,
        run_bytes_max: u64,
        can_read: &impl Fn(&Held) -> bool,
        out: &mut PagedOut,
        page: &mut impl FnMut(&mut Held) -> Option<run::Paged>,
    ) {
        if self.rest.is_empty() || head_bytes_max < self.cut_to {
            self.cut_to = head_bytes_max;
            let mut bytes = 0;
            let kept = self.head.iter().position(|held| {
                bytes += held.weight();
                bytes > head_bytes_max
            });
            if let Some(kept) = kept.map(|kept| kept.max(1)).filter(|&at| at < self.head.len()) {
                let line = self.head.split_off(kept);
                self.head.shrink_to_fit();
                let parts = out.page_line(line, Vec::new(), run_bytes_max, can_read, page);
                self.put(0, parts.into_iter());
            }
        }
        for stray in self.strays.take().map(|strays| strays.0).unwrap_or_default() {
            let own = self.rest.partition_point(|part| part.first() <= stray);
            self.page_part(own, run_bytes_max, can_read, out, page);
            if out.is_cut_short() {
                self.strayed(stray);
            }
        }
        self.page_part(self.rest.len(), run_bytes_max, can_read, out, page);
    }

    /// Takes what it can of the part before `end` out of memory.
    fn page_part(
        &mut self,
        end: usize,
        run_bytes_max: u64,
        can_read: &impl Fn(&Held) -> bool,
        out: &mut PagedOut,
        page: &mut impl FnMut(&mut Held) -> Option<run::Paged>,
    ) {
        let Some(own) = end.checked_sub(1) else { return };
        let Some(Part::Memory(line)) = self.rest.get_mut(own) else { return };
        let line = std::mem::take(line);
        // A short run that the last attempt left is filled up.
        let last =
            own.checked_sub(1).filter(|&at| matches!(self.rest.get(at), Some(Part::Paged(_))));
        let begin = last.unwrap_or(own);
        let last = last.and_then(|at| self.rest.remove(at)).and_then(Part::into_run);
        self.rest.remove(begin);
        let last = last.into_iter().collect();
        let parts = out.page_line(line, last, run_bytes_max, can_read, page);
        self.put(begin, parts.into_iter());
    }

    /// Takes everything out, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Part> + use<> {
        self.strays = None;
        let head = Part::Memory(std::mem::take(&mut self.head));
        std::iter::once(head).chain(std::mem::take(&mut self.rest))
    }
}

impl Part {
    fn into_run(self) -> Option<Run> {
        match self {
            Self::Paged(run) => Some(run),
            Self::Memory(_) => None,
        }
    }
}

/// What left memory.
pub(super) struct PagedOut {
    /// So many messages may be looked at still.
    looks_left: usize,
    pub messages: usize,
    pub bytes: u64,
    /// Something only waits for its commit.
    pub awaits_commit: bool,
    /// Something only waits for being looked at.
    pub has_more: bool,
}

impl PagedOut {
    pub(super) fn within(looks_max: usize) -> Self {
        Self { looks_left: looks_max, messages: 0, bytes: 0, awaits_commit: false, has_more: false }
    }

    /// Whether there is more for another attempt.
    fn is_cut_short(&self) -> bool {
        self.awaits_commit || self.has_more
    }

    /// What a line of messages becomes behind `runs`.
    fn page_line(
        &mut self,
        mut line: VecDeque<Held>,
        mut runs: Vec<Run>,
        run_bytes_max: u64,
        can_read: &impl Fn(&Held) -> bool,
        page: &mut impl FnMut(&mut Held) -> Option<run::Paged>,
    ) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut kept = VecDeque::new();
        while let Some(front) = line.front() {
            if !can_read(front) {
                self.awaits_commit = true;
                break;
            }
            if self.looks_left == 0 {
                self.has_more = true;
                break;
            }
            self.looks_left -= 1;
            let Some(mut held) = line.pop_front() else { break };
            match page(&mut held) {
                Some(paged) => {
                    if !kept.is_empty() {
                        parts.push(Part::Memory(std::mem::take(&mut kept)));
                    }
                    self.messages += 1;
                    self.bytes += held.weight();
                    run::push(&mut runs, &paged, run_bytes_max);
                }
                None => {
                    parts.extend(runs.drain(..).map(Part::Paged));
                    kept.push_back(held);
                }
            }
        }
        parts.extend(runs.into_iter().map(Part::Paged));
        // `kept` is empty, or comes after every run. It is looked at again unless there is more behind it.
        if !self.has_more && !kept.is_empty() {
            kept.append(&mut line);
        }
        parts.extend([kept, line].into_iter().filter(|line| !line.is_empty()).map(Part::Memory));
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::memory::Memory;
    use crate::broker::stored::{Durable, Stored};
    use crate::journal::Entry;
    use crate::model::message::Message;
    use crate::model::names::{ExchangeName, RoutingKey};

    fn paged(position: u64) -> run::Paged {
        run::Paged {
            entry: Entry { position: Position(position), weight: 100 },
            queues: 1,
            body_bytes: 3,
            times: None,
            expires: false,
            redelivered: false,
        }
    }

    fn held(position: u64) -> Held {
        let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("k").unwrap());
        let message = Message::new(exchange, key, vec![7; 3]);
        let counted = Arc::<Memory>::default().count(message.weight());
        let stored = Stored::new(message, 1, None, Durable::Nowhere, counted);
        Held::new(Arc::new(stored), Position(position))
    }

    fn positions(band: &Band) -> Vec<u64> {
        let of_part = |part: &Part| match part {
            Part::Memory(line) => line.iter().map(|held| held.position.0).collect(),
            Part::Paged(run) => run.positions().map(|position| position.0).collect::<Vec<_>>(),
        };
        band.head
            .iter()
            .map(|held| held.position.0)
            .chain(band.rest.iter().flat_map(of_part))
            .collect()
    }

    #[test]
    fn what_enters_between_messages_on_the_disk_follows_them_there() {
        let mut band = Band::default();
        band.insert(held(1));
        // Runs of at most four.
        for position in (10..100).filter(|position| position % 7 > 0) {
            band.push_paged(&paged(position), 400);
        }
        assert!(band.ends_on_disk());
        let strays = [14, 21, 35, 49, 91];
        for position in strays {
            band.insert(held(position));
            assert!(!band.ends_on_disk());
        }
        let expected: Vec<u64> = [1]
            .into_iter()
            .chain((10..100).filter(|at| at % 7 > 0 || strays.contains(at)))
            .collect();
        assert_eq!(positions(&band), expected);
        // Some have to wait for others to let go of them, and one stays.
        let mut out = PagedOut::within(usize::MAX);
        let mut page = |held: &mut Held| (held.position.0 != 35).then(|| paged(held.position.0));
        band.page_out(0, 400, &|_| true, &mut out, &mut page);
        assert_eq!((out.messages, out.is_cut_short()), (4, false));
        assert_eq!(positions(&band), expected);
        let in_memory = band.rest.iter().filter(|part| matches!(part, Part::Memory(_)));
        assert_eq!(in_memory.count(), 1);
        assert!(band.ends_on_disk());
    }

    #[test]
    fn what_is_not_looked_at_yet_is_so_by_the_next_attempt() {
        let mut band = Band::default();
        band.insert(held(1));
        (10..20).filter(|at| at % 3 > 0).for_each(|at| band.push_paged(&paged(at), u64::MAX));
        [12, 15, 18].into_iter().for_each(|position| band.insert(held(position)));
        let mut page = |held: &mut Held| Some(paged(held.position.0));
        for left in [2, 1, 0] {
            let mut out = PagedOut::within(1);
            band.page_out(0, u64::MAX, &|_| true, &mut out, &mut page);
            let strays = band.strays.as_ref().map_or(0, |strays| strays.0.len());
            assert_eq!((out.messages, strays), (1, left));
        }
        assert!(band.ends_on_disk());
        assert!(positions(&band).into_iter().eq([1].into_iter().chain(10..20)));
    }
}
