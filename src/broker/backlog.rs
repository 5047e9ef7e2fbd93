//! Messages that a start leaves on the disk: of them the journal told the tags alone.

use std::iter::Peekable;

use ahash::AHashMap;

use super::BrokerOptions;
use super::queue::{Paged, Run, push_paged};
use super::stored::{MessageTag, QueueId};
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
    pub(super) fn add(&mut self, entry: Entry, tag: &MessageTag) {
        let line = self.lines.entry((tag.queue, tag.priority)).or_default();
        let body_bytes = tag.body_bytes;
        let paged = Paged { entry, body_bytes, times: None, expires: false, redelivered: false };
        if line.runs.is_empty() || entry.position > line.last {
            line.last = entry.position;
            push_paged(&mut line.runs, &paged, collected_bytes());
        } else {
            line.late.push(paged);
        }
    }

    /// The messages of each queue and of each of its bands (which `band_of` tells of a queue and a
    /// priority) in order, and which of the `noted` messages were taken out, since more is known of
    /// them. `noted` rises. A run weighs `run_bytes` at most, unless it is a single message.
    pub(super) fn into_runs(
        self,
        band_of: impl Fn(QueueId, Option<u8>) -> u8,
        noted: &[Position],
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
                leave_out(run, noted, &mut runs, &mut taken);
            }
            in_order.push(Restored { queue, band, runs });
        }
        taken.sort_unstable();
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

/// Puts a run to `runs` without what is noted.
fn leave_out(run: Run, noted: &[Position], runs: &mut Vec<Run>, taken: &mut Vec<Position>) {
    let from = noted.partition_point(|&position| position < run.first());
    let to = noted.partition_point(|&position| position <= run.last());
    let mut left = Some(run);
    for &position in noted.get(from..to).unwrap_or_default() {
        let Some(run) = left.take() else { return };
        if run.contains(position) {
            taken.push(position);
            let (before, after) = run.split(position);
            runs.extend(before);
            left = after;
        } else {
            left = Some(run);
        }
    }
    runs.extend(left);
}

#[cfg(test)]
mod tests {
    use super::*;

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
            backlog.add(Entry { position: Position(position), weight: 100 }, &tag);
        }
        let noted: Vec<Position> = [1, 99, 100, 777, 4_999, 5_001, 9_999].map(Position).to_vec();
        let (lines, taken) = backlog.into_runs(|_, _| 0, &noted, true, 64 * 1024);
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
                backlog.add(Entry { position: Position(position), weight: 100 }, &tag);
            }
            let (lines, _) = backlog.into_runs(|_, _| 0, &[], false, run_bytes);
            assert_eq!(lines[0].runs.len(), expected);
            assert!(positions(&lines[0].runs).into_iter().eq(1..=1_000));
        }
    }
}
