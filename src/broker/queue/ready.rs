//! The messages of a queue that wait for a consumer.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Held;
use super::band::{Band, Front, PagedOut, Part};
use super::run::{Paged, Run, Times};
use crate::broker::paging::Pager;
use crate::broker::records::QueueId;
use crate::journal::Position;

/// One band a priority, the highest delivered first; in a band the order is that of the log.
///
/// A message nearly always enters at the back and leaves at the front; one that returns finds its old
/// place by its position. What lies behind the head leaves memory when there is too much, and comes
/// back a run at a time, read under the queue's lock: at most [`Pager::run_bytes`], or one message.
pub(super) struct Ready {
    queue: QueueId,
    pager: Arc<Pager>,
    bands: SmallVec<[Band; 1]>,
    len: usize,
    /// How many of them are on the disk alone.
    on_disk: usize,
    body_bytes: u64,
    /// What is in memory and could leave it.
    resident_bytes: u64,
    /// How much of it the pager counts.
    counted_bytes: u64,
    /// An attempt to page is not worth it below this.
    attempt_bytes: u64,
}

/// What could leave memory after an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Nothing before it is committed.
    Uncommitted,
    /// What the attempt did not get to.
    More,
}

/// Where an attempt left more, the next one comes after so much, or a run: less than what one looks at.
const MORE_BYTES: u64 = 64 * 1024;

/// A queue is long that has so many runs, about, behind its head: what comes then has time to be written and
/// read back, and would not stay in memory anyway.
const LONG_PARTS: usize = 16;

impl Ready {
    pub(super) fn new(priority_max: u8, queue: QueueId, pager: Arc<Pager>) -> Self {
        let bands = (0..=priority_max).map(|_| Band::default()).collect();
        let (resident_bytes, counted_bytes, attempt_bytes) = (0, 0, 0);
        let (len, on_disk, body_bytes) = (0, 0, 0);
        Self {
            queue,
            pager,
            bands,
            len,
            on_disk,
            body_bytes,
            resident_bytes,
            counted_bytes,
            attempt_bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn on_disk(&self) -> usize {
        self.on_disk
    }

    /// Bytes of the bodies.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn has_priorities(&self) -> bool {
        self.bands.len() > 1
    }

    /// A priority above the queue's maximum counts as the maximum, a missing one as 0.
    fn band_of(&self, priority: Option<u8>) -> usize {
        usize::from(priority.unwrap_or(0)).min(self.bands.len() - 1)
    }

    pub(super) fn insert(&mut self, held: Held) {
        self.len += 1;
        self.body_bytes += held.body_bytes();
        self.entered(&held);
        let at = self.band_of(held.stored.message.properties.priority);
        self.bands[at].insert(held);
    }

    /// Whether it is long, and in one line: what comes is best written alone, if all before it is on the
    /// disk.
    pub(super) fn is_long(&self) -> bool {
        self.bands.len() == 1 && self.bands.iter().all(|band| band.rest.len() >= LONG_PARTS)
    }

    /// Whether the next message can be on the disk alone.
    pub(super) fn takes_paged(&self) -> bool {
        self.is_long() && self.bands.iter().all(Band::ends_on_disk)
    }

    /// Takes a message behind all others that is on the disk alone.
    pub(super) fn push_paged(&mut self, paged: &Paged) {
        if let [band] = self.bands.as_mut_slice() {
            self.len += 1;
            self.on_disk += 1;
            self.body_bytes += paged.body_bytes;
            band.push_paged(paged, self.pager.run_bytes());
        }
    }

    /// What decides when the next message expires. `None`: there is none, it does not expire, or it
    /// can't be read now. `has_ttl`: the queue limits its time.
    pub(super) fn front_times(&mut self, has_ttl: bool) -> Option<Times> {
        let band = self.bands.iter().rev().find(|band| !band.is_empty())?;
        match band.front() {
            Front::Times(times) => Some(times),
            Front::Unread { expires } if (expires || has_ttl) && self.fill() => {
                self.front().map(Held::times)
            }
            Front::Unread { .. } | Front::Empty => None,
        }
    }

    fn front(&self) -> Option<&Held> {
        self.bands.iter().rev().find_map(|band| band.head.front())
    }

    /// Gets the next message into memory. `false`: there is none, or it can't be read now, and what
    /// comes after it must wait too.
    pub(super) fn fill(&mut self) -> bool {
        let Self { bands, pager, .. } = self;
        let Some(band) = bands.iter_mut().rev().find(|band| !band.is_empty()) else {
            return false;
        };
        if !band.head.is_empty() {
            return true;
        }
        let mut of_run = None;
        let filled = band.fill_head(|run| {
            let held = pager.read(run)?;
            of_run = Some(run.body_bytes);
            Some(held)
        });
        if let Some(bytes) = of_run {
            let (mut body_bytes, mut resident_bytes) = (0, 0);
            for held in &band.head {
                body_bytes += held.body_bytes();
                resident_bytes += held.weight();
            }
            self.on_disk -= band.head.len();
            self.body_bytes = self.body_bytes - bytes + body_bytes;
            self.resident_bytes += resident_bytes;
            self.count();
        }
        filled
    }

    pub(super) fn pop_front(&mut self) -> Option<Held> {
        if !self.fill() {
            return None;
        }
        let held = self.bands.iter_mut().rev().find_map(|band| band.head.pop_front())?;
        self.left(&held);
        Some(held)
    }

    /// Takes a message out that was `seen` here: what is on the disk alone is not read again.
    pub(super) fn take(&mut self, seen: &Held) -> Option<Held> {
        let position = seen.position;
        if let Some(held) = self.bands.iter_mut().find_map(|band| band.take(position)) {
            self.left(&held);
            return Some(held);
        }
        for band in &mut self.bands {
            let Some((own, run)) = band.run_of(position) else { continue };
            let held = Held { redelivered: run.redelivered, ..seen.clone() };
            let (before, after) = band.leave_run(own, position);
            self.len -= 1;
            self.on_disk -= 1;
            self.body_bytes = self.body_bytes - before + after;
            return Some(held);
        }
        None
    }

    /// Takes runs that a start found, behind all others.
    pub(super) fn restore(&mut self, band: u8, runs: Vec<Run>) {
        let at = self.band_of(Some(band));
        for run in runs {
            self.len += run.len();
            self.on_disk += run.len();
            self.body_bytes += run.body_bytes;
            self.bands[at].rest.push_back(Part::Paged(run));
        }
    }

    fn entered(&mut self, held: &Held) {
        if held.stored.is_pageable_in(self.queue) {
            self.resident_bytes += held.weight();
            self.count();
        }
    }

    fn left(&mut self, held: &Held) {
        self.len -= 1;
        self.body_bytes -= held.body_bytes();
        if held.stored.is_pageable_in(self.queue) {
            self.resident_bytes -= held.weight();
            self.attempt_bytes = self.attempt_bytes.min(self.next_attempt_bytes());
            self.count();
        }
    }

    /// With how much it is worth looking again for what can leave memory: an eighth more, so that what
    /// can't leave is looked at a bounded number of times for each message that came.
    fn next_attempt_bytes(&self) -> u64 {
        self.head_bytes().map_or(0, |head_bytes| {
            let step = self.pager.run_bytes().min(head_bytes);
            self.resident_bytes + step.max(self.resident_bytes / 8)
        })
    }

    /// Tells the pager, when it is worth it.
    fn count(&mut self) {
        if self.resident_bytes.abs_diff(self.counted_bytes) >= self.pager.count_bytes() {
            self.pager.resident_is(self.counted_bytes, self.resident_bytes);
            self.counted_bytes = self.resident_bytes;
        }
    }

    /// How much of it may stay in memory; `None`: as much as it likes. A long one gives up its end
    /// altogether once it has begun to: what follows need not enter memory then.
    fn head_bytes(&self) -> Option<u64> {
        self.pager.head_bytes().or_else(|| self.is_long().then(|| self.pager.head_bytes_of_long()))
    }

    /// Whether memory is short, and this queue holds more of it than it needs.
    pub(super) fn is_crowded(&self) -> bool {
        self.resident_bytes >= self.attempt_bytes
            && self.head_bytes().is_some_and(|bytes| self.resident_bytes > bytes)
    }

    /// Takes what it can out of memory, and looks at so many messages for that.
    pub(super) fn page_out(&mut self, looks_max: usize) -> Left {
        let Some(head_bytes_max) = self.head_bytes() else { return Left::Nothing };
        if !self.pager.keeps() {
            // A journal that forgets can't give back.
            return Left::Nothing;
        }
        let run_bytes_max = self.pager.run_bytes();
        let committed = self.pager.committed_position();
        let small_ones = self.pager.reads_uncommitted();
        let can_read = |held: &Held| {
            held.position <= committed || (small_ones && held.stored.is_read_before_commit())
        };
        let queue = self.queue;
        let mut out = PagedOut::within(looks_max);
        for band in &mut self.bands {
            let mut page = |held: &mut Held| held.paged(queue);
            band.page_out(head_bytes_max, run_bytes_max, &can_read, &mut out, &mut page);
        }
        self.on_disk += out.messages;
        self.resident_bytes -= out.bytes;
        self.count();
        let left = match self.resident_bytes > head_bytes_max {
            true if out.has_more => Left::More,
            true if out.awaits_commit => Left::Uncommitted,
            true | false => Left::Nothing,
        };
        self.attempt_bytes = match left {
            Left::More => self.resident_bytes + run_bytes_max.min(MORE_BYTES),
            _ if self.resident_bytes > head_bytes_max => self.next_attempt_bytes(),
            _ => 0,
        };
        left
    }

    /// The first messages, in the order of delivery. What is on the disk is read and stays there.
    pub(super) fn peek(&self, count: usize) -> Vec<Held> {
        let mut held = Vec::new();
        for band in self.bands.iter().rev() {
            self.look(band, None, count - held.len(), &mut held);
        }
        held
    }

    /// Behind `after` in the order of the log, at most `count`.
    pub(super) fn after(&self, after: Option<Position>, count: usize) -> Vec<Held> {
        let mut held = Vec::new();
        for band in &self.bands {
            self.look(band, after, count, &mut held);
        }
        held.sort_unstable_by_key(|held| held.position);
        held.truncate(count);
        held
    }

    /// The next messages of a band behind `after`, without what can't be read and all behind it.
    fn look(&self, band: &Band, after: Option<Position>, mut count: usize, out: &mut Vec<Held>) {
        let is_behind = |position: Position| after.is_none_or(|after| position > after);
        let mut look = |line: &VecDeque<Held>, count: usize| {
            let from = line.partition_point(|held| !is_behind(held.position));
            let before = out.len();
            out.extend(line.range(from..).take(count).cloned());
            out.len() - before
        };
        count -= look(&band.head, count);
        let reached = band.rest.partition_point(|part| part.last() <= after.unwrap_or_default());
        for part in band.rest.range(reached..) {
            match part {
                _ if count == 0 => return,
                Part::Memory(line) => count -= look(line, count),
                Part::Paged(run) => {
                    let wanted = run.positions().filter(|&at| is_behind(at)).take(count);
                    let wanted: Vec<Position> = wanted.collect();
                    let Some(read) = self.pager.read_held(&wanted, run.redelivered) else { return };
                    count -= wanted.len();
                    let line: VecDeque<Held> = read.into();
                    look(&line, line.len());
                }
            }
        }
    }

    /// Takes everything out, in the order of delivery.
    pub(super) fn drain(&mut self) -> Vec<Part> {
        (self.len, self.on_disk, self.body_bytes, self.resident_bytes) = (0, 0, 0, 0);
        self.attempt_bytes = 0;
        self.count();
        self.bands.iter_mut().rev().flat_map(|band| band.drain()).collect()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.pager.resident_is(self.counted_bytes, 0);
    }
}
