//! Messages that a start leaves on the disk: of them the journal told the tags alone.

use std::iter::Peekable;

use ahash::AHashMap;

use super::BrokerOptions;
use super::queue::{Paged, Run, Times, push_paged};
use super::records::{MessageTag, QueueId, SeveralTag};
use super::spread::Spread;
use crate::journal::{Entry, Position};

/// By queue and priority.
#[derive(Default)]
pub(super) struct Backlog {
    lines: AHashMap<(QueueId, Option<u8>), Line>,
}

/// The messages of one band of a queue.
pub(super) struct Restored {
    pub queue: QueueId,
    pub band: u8,
    pub runs: Vec<Run>,
}

#[derive(Default)]
struct Line {
    runs: Vec<Run>,
    last: Position,
    /// What compaction moved comes late.
    late: Vec<Paged>,
}

/// While the journal is read, before a broker's own bound is known.
fn collected_bytes() -> u64 {
    BrokerOptions::default().run_bytes()
}

impl Backlog {
    /// Adds a message; with its times, if it has some.
    pub(super) fn add(&mut self, entry: Entry, tag: &MessageTag, times: Option<Times>) {
        self.add_to(entry, 1, (tag.queue, tag.priority), tag.body_bytes, times);
    }

    /// As [`Backlog::add`], to each queue.
    pub(super) fn add_to_several(&mut self, entry: Entry, tag: &SeveralTag, times: Option<Times>) {
        let mut queue = 0_u64;
        for step in &tag.steps {
            queue = queue.wrapping_add(*step);
            let line = (Position(queue), tag.priority);
            self.add_to(entry, tag.steps.len(), line, tag.body_bytes, times);
        }
    }

    fn add_to(
        &mut self,
        entry: Entry,
        queues: usize,
        line: (QueueId, Option<u8>),
        body_bytes: u64,
        times: Option<Times>,
    ) {
        let line = self.lines.entry(line).or_default();
        let expires = times.is_some_and(|times| times.expiration_ms.is_some());
        let redelivered = false;
        let paged = Paged { entry, queues, body_bytes, times, expires, redelivered };
        if line.runs.is_empty() || entry.position > line.last {
            line.last = entry.position;
            push_paged(&mut line.runs, &paged, collected_bytes());
        } else {
            line.late.push(paged);
        }
    }

    /// The messages of each queue and of each of its bands (which `band_of` tells of a queue and a
    /// priority) in order, without those that are settled in the queue. And which of the `noted` messages
    /// were taken out everywhere, since more is known of them. `noted` rises. A run weighs `run_bytes` at
    /// most, unless it is a single message.
    pub(super) fn into_runs(
        self,
        band_of: impl Fn(QueueId, Option<u8>) -> u8,
        noted: &[Position],
        spread: &mut Found<'_>,
        redelivered: bool,
        run_bytes: u64,
    ) -> (Vec<Restored>, Vec<Position>) {
        let mut bands: AHashMap<(QueueId, u8), Vec<Line>> = AHashMap::new();
        for ((queue, priority), line) in self.lines {
            bands.entry((queue, band_of(queue, priority))).or_default().push(line);
        }
        let mut taken = Vec::new();
        let mut in_order = Vec::with_capacity(bands.len());
        for ((queue, band), lines) in bands {
            let mut runs = Vec::new();
            for mut run in merged(lines, run_bytes) {
                run.redelivered = redelivered;
                leave_out(run, queue, noted, spread, run_bytes, &mut runs, &mut taken);
            }
            in_order.push(Restored { queue, band, runs });
        }
        taken.sort_unstable();
        taken.dedup();
        (in_order, taken)
    }
}

/// Lines in which the messages lie in order become one, in runs of `run_bytes` at most.
fn merged(mut lines: Vec<Line>, run_bytes: u64) -> Vec<Run> {
    let fits = |run: &Run| run.weight <= run_bytes || run.len() == 1;
    if let [line] = lines.as_mut_slice()
        && line.late.is_empty()
        && line.runs.iter().all(fits)
    {
        return std::mem::take(&mut line.runs);
    }
    let mut sources: Vec<Peekable<Box<dyn Iterator<Item = Paged>>>> = Vec::new();
    for Line { runs, mut late, .. } in lines {
        late.sort_unstable_by_key(|paged| paged.entry.position);
        let in_runs = runs.into_iter().flat_map(Run::into_shares);
        sources.push((Box::new(in_runs) as Box<dyn Iterator<Item = Paged>>).peekable());
        sources.push((Box::new(late.into_iter()) as Box<dyn Iterator<Item = Paged>>).peekable());
    }
    let mut runs = Vec::new();
    loop {
        let next = sources.iter_mut().filter_map(|source| {
            let position = source.peek()?.entry.position;
            Some((position, source))
        });
        let Some((_, source)) = next.min_by_key(|(position, _)| *position) else { return runs };
        if let Some(paged) = source.next() {
            push_paged(&mut runs, &paged, run_bytes);
        }
    }
}

/// Puts a run to `runs` without what is noted, and without what is settled in the queue.
fn leave_out(
    run: Run,
    queue: QueueId,
    noted: &[Position],
    spread: &mut Found<'_>,
    run_bytes: u64,
    runs: &mut Vec<Run>,
    taken: &mut Vec<Position>,
) {
    let from = noted.partition_point(|&position| position < run.first());
    let to = noted.partition_point(|&position| position <= run.last());
    let noted = noted.get(from..to).unwrap_or_default();
    let stays: Vec<bool> = run
        .messages()
        .map(|(position, queues)| {
            let is_settled = queues > 1 && spread.is_settled_in(position, queue);
            let is_noted = noted.binary_search(&position).is_ok();
            if is_noted && !is_settled {
                taken.push(position);
            }
            !is_noted && !is_settled
        })
        .collect();
    if stays.iter().all(|&stays| stays) {
        return runs.push(run);
    }
    for (paged, stays) in run.into_shares().zip(stays) {
        if stays {
            push_paged(runs, &paged, run_bytes);
        }
    }
}

/// Which messages that something is noted of were found in the log.
pub(super) struct Found<'a> {
    spread: &'a Spread,
    /// Rising.
    noted: Vec<Position>,
    found: Vec<bool>,
}

impl<'a> Found<'a> {
    pub(super) fn none_yet(spread: &'a Spread) -> Self {
        let noted = spread.positions();
        let found = vec![false; noted.len()];
        Self { spread, noted, found }
    }

    pub(super) fn is_there(&mut self, position: Position) -> bool {
        let at = self.noted.binary_search(&position).ok();
        let found = at.and_then(|at| self.found.get_mut(at));
        found.map(|found| *found = true).is_some()
    }

    fn is_settled_in(&mut self, position: Position, queue: QueueId) -> bool {
        self.is_there(position) && self.spread.is_settled_in(position, queue)
    }

    /// The others.
    pub(super) fn missing(self) -> impl Iterator<Item = Position> {
        self.noted.into_iter().zip(self.found).filter(|(_, found)| !found).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::spread::{Note, Noted};

    fn positions(runs: &[Run]) -> Vec<u64> {
        runs.iter().flat_map(Run::positions).map(|position| position.0).collect()
    }

    #[test]
    fn what_comes_late_finds_its_place_and_what_is_noted_is_left_out() {
        let mut backlog = Backlog::default();
        let queue = Position(1);
        let tag = MessageTag { queue, priority: None, body_bytes: 10, has_times: false };
        for position in (100..5_000).filter(|at| at % 3 > 0).chain((99..5_003).step_by(3)) {
            let priority = (position % 5 == 0).then_some(9);
            let tag = MessageTag { priority, ..tag };
            backlog.add(Entry { position: Position(position), weight: 100 }, &tag, None);
        }
        let noted: Vec<Position> = [1, 99, 100, 777, 4_999, 5_001, 9_999].map(Position).to_vec();
        let spread = Spread::default();
        let mut found = Found::none_yet(&spread);
        let (lines, taken) = backlog.into_runs(|_, _| 0, &noted, &mut found, true, 64 * 1024);
        assert_eq!(taken, noted[1..6]);
        let Restored { queue: of, band, runs } = &lines[0];
        assert_eq!((lines.len(), *of, *band), (1, queue, 0));
        let expected: Vec<u64> =
            (99..5_000).chain([5_001]).filter(|&at| !noted.contains(&Position(at))).collect();
        assert_eq!(positions(runs), expected);
        assert!(runs.len() < 20 && runs.iter().all(|run| run.redelivered));
        // Five of 4,902 are gone.
        let bytes: u64 = runs.iter().map(|run| run.body_bytes).sum();
        assert!(bytes.abs_diff(4_897 * 10) <= 10, "{bytes}");
    }

    #[test]
    fn runs_keep_the_brokers_own_bound() {
        let queue = Position(1);
        let tag = MessageTag { queue, priority: None, body_bytes: 10, has_times: false };
        for (run_bytes, expected) in [(0, 1_000), (1_000, 100), (u64::MAX, 1)] {
            let mut backlog = Backlog::default();
            for position in 1..=1_000 {
                backlog.add(Entry { position: Position(position), weight: 100 }, &tag, None);
            }
            let spread = Spread::default();
            let mut found = Found::none_yet(&spread);
            let (lines, _) = backlog.into_runs(|_, _| 0, &[], &mut found, false, run_bytes);
            assert_eq!(lines[0].runs.len(), expected);
            assert!(positions(&lines[0].runs).into_iter().eq(1..=1_000));
        }
    }

    #[test]
    fn what_is_settled_in_a_queue_is_left_out_there_alone() {
        let spread = Spread::default();
        let [left, right] = [3, 7].map(Position);
        let settle = |message: u64, queue| {
            let entry = Entry { position: Position(10_000 + message), weight: 9 };
            let note = Note { queue, entry, what: Noted::Settled };
            spread.enter(Position(message)).add(note);
        };
        // One is not in the log, and one is noted to be read.
        (100..300).chain([77]).for_each(|message| settle(message, left));
        settle(350, right);
        let mut backlog = Backlog::default();
        for position in 100..400 {
            let tag = SeveralTag {
                steps: vec![left.0, right.0 - left.0],
                priority: None,
                body_bytes: 10,
                has_times: false,
            };
            backlog.add_to_several(Entry { position: Position(position), weight: 100 }, &tag, None);
        }
        let mut found = Found::none_yet(&spread);
        let noted = [Position(350)];
        let (lines, taken) = backlog.into_runs(|_, _| 0, &noted, &mut found, true, 2_000);
        assert_eq!((lines.len(), taken.as_slice()), (2, &noted[..]));
        for Restored { queue, runs, .. } in lines {
            let first = if queue == left { 300 } else { 100 };
            assert!(positions(&runs).into_iter().eq((first..400).filter(|&at| at != 350)));
            assert!(runs.iter().all(|run| run.redelivered && run.weight <= 2_000));
            let queues: Vec<usize> = runs.iter().flat_map(Run::messages).map(|it| it.1).collect();
            assert!(queues.iter().all(|&queues| queues == 2));
        }
        assert!(found.missing().eq([Position(77)]));
    }
}
