//! Messages of a queue that are on the disk alone.

use crate::journal::{Entry, Position};
use crate::model::clock::UnixMs;

/// What decides when a message expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Times {
    pub arrived_ms: UnixMs,
    pub expiration_ms: Option<u64>,
}

/// What a run keeps of a message that enters it.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Paged {
    pub entry: Entry,
    /// In how many durable queues it is.
    pub queues: usize,
    pub body_bytes: u64,
    /// As far as they are known without reading it.
    pub times: Option<Times>,
    /// It has a time to live of its own.
    pub expires: bool,
    pub redelivered: bool,
}

/// Neighbours in a queue of which memory holds the places, about a byte each, the lengths of bodies that
/// differ, two bytes or so each, and sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Run {
    first: u64,
    last: u64,
    count: u32,
    /// In how many queues the first is.
    first_queues: u32,
    /// From each position to the next, and in how many queues that one is: see [`push_step`].
    steps: Vec<u8>,
    /// The length of each body, as [`push_number`] writes it; empty while all are equal.
    lengths: Vec<u8>,
    pub body_bytes: u64,
    /// The sum of the entries' weights.
    pub weight: u64,
    pub redelivered: bool,
    /// Of the first message; not known after that was taken out, and after a start.
    pub times: Option<Times>,
    /// Some message has a time to live of its own.
    pub expires: bool,
}

/// More messages are not read back at once, however small they are.
const COUNT_MAX: u32 = 4_096;

impl Run {
    pub(super) fn of(paged: &Paged) -> Self {
        let position = paged.entry.position.0;
        Self {
            first: position,
            last: position,
            count: 1,
            first_queues: u32::try_from(paged.queues).unwrap_or(u32::MAX),
            steps: Vec::new(),
            lengths: Vec::new(),
            body_bytes: paged.body_bytes,
            weight: u64::from(paged.entry.weight),
            redelivered: paged.redelivered,
            times: paged.times,
            expires: paged.expires,
        }
    }

    pub(in crate::broker) fn first(&self) -> Position {
        Position(self.first)
    }

    pub(in crate::broker) fn last(&self) -> Position {
        Position(self.last)
    }

    pub(in crate::broker) fn len(&self) -> usize {
        self.count as usize
    }

    /// Takes a message that comes after all others, if it fits in.
    pub(super) fn push(&mut self, paged: &Paged, weight_max: u64) -> bool {
        let (position, weight) = (paged.entry.position.0, u64::from(paged.entry.weight));
        let fits = self.redelivered == paged.redelivered
            && self.count < COUNT_MAX
            && self.weight + weight <= weight_max;
        if fits {
            push_step(&mut self.steps, position - self.last, paged.queues);
            self.push_length(paged.body_bytes);
            self.last = position;
            self.count += 1;
            self.body_bytes += paged.body_bytes;
            self.weight += weight;
            self.expires |= paged.expires;
        }
        fits
    }

    fn push_length(&mut self, body_bytes: u64) {
        let count = u64::from(self.count);
        if self.lengths.is_empty() {
            let each = self.body_bytes / count;
            if body_bytes == each {
                return;
            }
            for _ in 0..count {
                push_number(&mut self.lengths, each);
            }
        }
        push_number(&mut self.lengths, body_bytes);
    }

    /// The bytes of each body.
    fn lengths(&self) -> impl Iterator<Item = u64> {
        let mut bytes = self.lengths.iter().copied();
        let each = self.lengths.is_empty().then(|| self.body_bytes / u64::from(self.count));
        std::iter::from_fn(move || each.or_else(|| next_number(&mut bytes)))
    }

    pub(in crate::broker) fn positions(&self) -> impl Iterator<Item = Position> {
        self.messages().map(|(position, _)| position)
    }

    /// Each with the number of durable queues that it is in.
    pub(in crate::broker) fn messages(&self) -> impl Iterator<Item = (Position, usize)> {
        let mut at = Some((self.first, self.first_queues as usize));
        let mut steps = self.steps.iter().copied();
        std::iter::from_fn(move || {
            let (position, queues) = at?;
            at = next_step(&mut steps).map(|(step, queues)| (position + step, queues));
            Some((Position(position), queues))
        })
    }

    /// What ends its messages, each with the number of its queues. Their weights are right in sum: space
    /// is accounted by segment, and neighbours lie in one.
    pub(in crate::broker) fn entries(&self) -> impl Iterator<Item = (Entry, usize)> {
        let count = u64::from(self.count);
        let (share, rest) = (self.weight / count, self.weight % count);
        self.messages().zip(0..).map(move |((position, queues), at)| {
            let weight = share + u64::from(at < rest);
            (Entry { position, weight: u32::try_from(weight).unwrap_or(u32::MAX) }, queues)
        })
    }

    pub(in crate::broker) fn contains(&self, position: Position) -> bool {
        self.positions().any(|at| at == position)
    }

    /// Its messages, each with its share of the weights.
    pub(in crate::broker) fn into_shares(self) -> impl Iterator<Item = Paged> {
        let messages: Vec<((Entry, usize), u64)> = self.entries().zip(self.lengths()).collect();
        messages.into_iter().map(move |((entry, queues), body_bytes)| Paged {
            entry,
            queues,
            body_bytes,
            times: None,
            expires: self.expires,
            redelivered: self.redelivered,
        })
    }

    /// The messages before `position`, and those after it; it is in neither. The weight is divided by
    /// the messages' number: what it lacks is made up for when the run is read.
    pub(in crate::broker) fn split(self, position: Position) -> (Option<Self>, Option<Self>) {
        let before = self.part(|at| at < position, 0);
        let taken = before.as_ref().map_or(0, |before| before.count);
        let after = self.part(|at| at > position, taken);
        (before, after)
    }

    fn part(&self, belongs: impl Fn(Position) -> bool, skipped: u32) -> Option<Self> {
        let mut part: Option<Self> = None;
        let paged = |((position, queues), body_bytes)| Paged {
            entry: Entry { position, weight: 0 },
            queues,
            body_bytes,
            times: None,
            expires: self.expires,
            redelivered: self.redelivered,
        };
        for message in self.messages().zip(self.lengths()).filter(|&((at, _), _)| belongs(at)) {
            match &mut part {
                Some(part) => {
                    part.push(&paged(message), u64::MAX);
                }
                None => part = Some(Self::of(&paged(message))),
            }
        }
        let mut part = part?;
        // All that is left after the part before took its share.
        let upto = |count: u32| {
            u64::try_from(u128::from(self.weight) * u128::from(count) / u128::from(self.count))
                .unwrap_or(self.weight)
        };
        part.weight = match skipped {
            0 => upto(part.count),
            _ => upto(skipped + part.count) - upto(skipped),
        };
        part.times = self.times.filter(|_| part.first == self.first);
        Some(part)
    }
}

/// Adds a message to the last of `runs`, or begins a new one: none weighs more than `weight_max`,
/// unless it is a single message. Positions rise.
pub(in crate::broker) fn push(runs: &mut Vec<Run>, paged: &Paged, weight_max: u64) {
    if !runs.last_mut().is_some_and(|run| run.push(paged, weight_max)) {
        runs.push(Run::of(paged));
    }
}

/// Set in a byte: more follow.
const MORE: u8 = 0x80;
/// Set in the first byte of a step: the message is in several queues, and their number follows it.
const SEVERAL: u8 = 0x40;

/// Adds a step, of 6 bits in the first byte and 7 in the others, the lowest first.
fn push_step(steps: &mut Vec<u8>, step: u64, queues: usize) {
    let several = if queues > 1 { SEVERAL } else { 0 };
    let more = if step < u64::from(SEVERAL) { 0 } else { MORE };
    steps.push(u8::try_from(step & u64::from(SEVERAL - 1)).unwrap_or_default() | several | more);
    if more > 0 {
        push_number(steps, step >> 6);
    }
    if queues > 1 {
        push_number(steps, queues as u64);
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        out.push(u8::try_from(number & u64::from(MORE - 1)).unwrap_or_default() | MORE);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn next_step(steps: &mut impl Iterator<Item = u8>) -> Option<(u64, usize)> {
    let first = steps.next()?;
    let mut step = u64::from(first & (SEVERAL - 1));
    if first & MORE > 0 {
        step |= next_number(steps)? << 6;
    }
    let queues = if first & SEVERAL > 0 { next_number(steps)? } else { 1 };
    Some((step, usize::try_from(queues).unwrap_or(usize::MAX)))
}

fn next_number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes.next()?;
        number |= u64::from(byte & (MORE - 1)) << shift;
        if byte < MORE {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(position: u64, body_bytes: u64) -> Paged {
        Paged {
            entry: Entry {
                position: Position(position),
                weight: u32::try_from(body_bytes).unwrap() + 100,
            },
            queues: [1, 1, 3, 700][usize::try_from(position % 4).unwrap()],
            body_bytes,
            times: Some(Times { arrived_ms: position, expiration_ms: None }),
            expires: false,
            redelivered: false,
        }
    }

    /// Most are equal; not those of the first hundred.
    fn length(position: u64) -> u64 {
        match position % 100_000 {
            0..100 => position % 1_000,
            _ if position % 10 == 9 => position % 100_000,
            _ => 900,
        }
    }

    fn runs(positions: &[u64], weight_max: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        for &position in positions {
            push(&mut runs, &paged(position, length(position)), weight_max);
        }
        runs
    }

    fn positions(run: &Run) -> Vec<u64> {
        let messages = run.messages();
        let queues_are_right = |(position, queues): (Position, usize)| {
            assert_eq!(queues, paged(position.0, 0).queues);
            position.0
        };
        messages.map(queues_are_right).collect()
    }

    #[test]
    fn positions_come_back_however_far_apart_they_are() {
        let places = [0, 1, 2, 129, 130, 16_514, 5_000_000, u64::MAX - 1, u64::MAX];
        let run = runs(&places, u64::MAX).remove(0);
        assert_eq!(positions(&run), places);
        assert_eq!((run.first(), run.last(), run.len()), (Position(0), Position(u64::MAX), 9));
    }

    #[test]
    fn a_run_has_a_bound_and_one_kind_of_message() {
        let all = runs(&[900, 901, 902, 903], 2_100);
        assert_eq!(all.iter().map(Run::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(runs(&[900, 901], 5).len(), 2);
        let dense: Vec<u64> = (0..10_000).collect();
        let all = runs(&dense, u64::MAX);
        assert_eq!(all.len(), 3);
        // A byte each, and one or two more of half of them.
        assert!(all[0].steps.len() < 2 * 4_096);
        // Nothing for equal bodies, two bytes for one of up to 16 KiB among others.
        let equal: Vec<u64> = (0..4_096).map(|at| 1_000 + at * 10).collect();
        assert!(runs(&equal, u64::MAX).remove(0).lengths.is_empty());
        let unequal: Vec<u64> = (1_000..5_096).collect();
        assert_eq!(runs(&unequal, u64::MAX).remove(0).lengths.len(), 2 * 4_096);
        let mut two = runs(&[1], u64::MAX);
        push(&mut two, &Paged { redelivered: true, ..paged(2, 0) }, u64::MAX);
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn the_weights_of_its_ends_are_right_in_sum() {
        let run = runs(&[5, 99, 700], u64::MAX).remove(0);
        let entries: Vec<(Entry, usize)> = run.entries().collect();
        let ends = entries.iter().map(|(entry, queues)| (entry.position.0, *queues));
        assert!(ends.eq([(5, 1), (99, 700), (700, 1)]));
        assert_eq!(entries.iter().map(|(entry, _)| u64::from(entry.weight)).sum::<u64>(), 1_304);
    }

    proptest::proptest! {
        #[test]
        fn a_split_keeps_every_other_message_and_the_sums(
            places in proptest::collection::btree_set(0..100_000u64, 1..300),
            at in 0..100_000u64,
        ) {
            let places: Vec<u64> = places.into_iter().collect();
            let run = runs(&places, u64::MAX).remove(0);
            let (before, after) = run.clone().split(Position(at));
            let both: Vec<u64> = before.iter().chain(&after).flat_map(positions).collect();
            let others: Vec<u64> = places.iter().copied().filter(|&place| place != at).collect();
            proptest::prop_assert_eq!(&both, &others);
            let sum: u64 = before.iter().chain(&after).map(|part| part.weight).sum();
            if others.len() == places.len() {
                proptest::prop_assert_eq!(sum, run.weight);
            } else {
                proptest::prop_assert!(sum <= run.weight);
            }
            for part in before.iter().chain(&after) {
                let bytes = |position: &u64| length(*position);
                proptest::prop_assert_eq!(part.body_bytes, positions(part).iter().map(bytes).sum::<u64>());
                let shares = part.clone().into_shares();
                let are_exact = shares.into_iter().all(|paged| {
                    paged.body_bytes == length(paged.entry.position.0)
                });
                proptest::prop_assert!(are_exact);
            }
            if let Some(before) = before {
                proptest::prop_assert_eq!(before.times, run.times);
            }
            proptest::prop_assert!(after.is_none_or(|after| after.len() == places.len()
                || after.times.is_none()));
        }
    }
}
