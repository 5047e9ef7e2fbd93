//! What still counts: which facts live in which segment, and which ends must be kept.
//!
//! Owned by the writer's thread; rebuilt from the rows at each start. No IO.
//!
//! What always holds:
//! - A fact lives in exactly one present segment, or in none.
//! - A segment stays while an older one is there that it holds the end of a fact of, or a copy of a
//!   fact of: without it, the older row would live again. Both lead from newer to older segments
//!   only, so they have no cycles.
//! - A segment is copied only when no older one is there that it holds copies of: so its own rows are
//!   the only ones that its ends of its own facts can speak of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Entry;
use super::position_set::PositionSet;

/// What a record weighs beyond its payload.
const FACT_BYTES: u64 = 16;
const END_BYTES: u64 = 16;

/// One present segment.
#[derive(Debug, Default)]
struct Content {
    /// The first and last position of its own facts, copies not counted.
    own: Option<(u64, u64)>,
    live: PositionSet,
    live_bytes: u64,
    /// Everything that was ever written to it, in the same unit as `live_bytes`.
    written_bytes: u64,
    /// Bytes of ends, by the present segment in which the ended copy lies.
    ends_of: BTreeMap<u64, u64>,
    /// The sum of `ends_of`.
    ends_bytes: u64,
    /// The present segments that it holds copies of: a crash, or the next slice, came in between.
    copies_of: BTreeSet<u64>,
}

/// The facts of one segment, to be added to in order.
pub(super) struct Facts<'a> {
    segment: u64,
    content: &'a mut Content,
    /// The last position that any segment has a fact of.
    last: Option<u64>,
    by_first_position: &'a mut BTreeMap<u64, u64>,
}

impl Facts<'_> {
    /// False when positions don't rise, which no undamaged log does.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        let position = entry.position.0;
        if self.last.is_some_and(|last| position <= last) {
            return false;
        }
        self.last = Some(position);
        match &mut self.content.own {
            Some((_, last)) => *last = position,
            own @ None => {
                *own = Some((position, position));
                self.by_first_position.insert(position, self.segment);
            }
        }
        self.content.add(entry);
        true
    }
}

/// All present segments.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    segments: BTreeMap<u64, Content>,
    /// The segments by the first position of their own facts.
    by_first_position: BTreeMap<u64, u64>,
    /// Live facts that compaction moved out of the segment that they were written to.
    moved: HashMap<u64, u64, ahash::RandomState>,
}

impl Liveness {
    pub(super) fn add_segment(&mut self, segment: u64) {
        self.segments.entry(segment).or_default();
    }

    /// A new fact in `segment`. False when positions don't rise, which no undamaged log does.
    pub(super) fn fact(&mut self, segment: u64, entry: Entry) -> bool {
        self.facts(segment).is_some_and(|mut facts| facts.add(entry))
    }

    /// Adds new facts to a present segment. `None`: it is none.
    pub(super) fn facts(&mut self, segment: u64) -> Option<Facts<'_>> {
        let last_segment = self.by_first_position.last_key_value().map(|(_, segment)| *segment);
        let last = last_segment
            .and_then(|last_segment| self.segments.get(&last_segment)?.own)
            .map(|(_, last)| last);
        let content = self.segments.get_mut(&segment)?;
        Some(Facts { segment, content, last, by_first_position: &mut self.by_first_position })
    }

    /// The segment that the live fact at `position` lies in.
    pub(super) fn locate(&self, position: u64) -> Option<u64> {
        let (_, &own) = self.by_first_position.range(..=position).next_back().unwrap_or((&0, &0));
        match self.segments.get(&own) {
            Some(content) if content.live.contains(position) => Some(own),
            _ => self.moved.get(&position).copied(),
        }
    }

    /// Ends a fact by a record in `segment`. Where its copy lies; `None` when no such fact lives.
    pub(super) fn end(&mut self, segment: u64, entry: Entry) -> Option<u64> {
        let at = self.locate(entry.position.0)?;
        self.moved.remove(&entry.position.0);
        self.segments.get_mut(&at)?.subtract(entry);
        self.keep_end(segment, at);
        Some(at)
    }

    /// An end that recovery found in `segment`; `of` held the copy that it ended. Its weight is not
    /// known: see [`Liveness::weigh`].
    pub(super) fn end_found(&mut self, segment: u64, position: u64, of: u64) {
        if let Some(at) = self.locate(position) {
            self.moved.remove(&position);
            if let Some(content) = self.segments.get_mut(&at) {
                content.live.remove(position);
            }
        }
        self.keep_end(segment, of);
    }

    /// Recovery weighs what lives once it knows what does: forgets all weights...
    pub(super) fn begin_weighing(&mut self) {
        for content in self.segments.values_mut() {
            content.live_bytes = 0;
        }
    }

    /// ...and takes them again, fact by fact. Whether the fact lives in this segment.
    pub(super) fn weigh(&mut self, segment: u64, entry: Entry) -> bool {
        let lives = self.locate(entry.position.0) == Some(segment);
        if lives && let Some(content) = self.segments.get_mut(&segment) {
            content.live_bytes += u64::from(entry.weight) + FACT_BYTES;
        }
        lives
    }

    /// Counts an end in `segment` of a fact in `of`, whether or not that segment is still there.
    pub(super) fn keep_end(&mut self, segment: u64, of: u64) {
        let counts = of != segment && self.is_present(of);
        let Some(content) = self.segments.get_mut(&segment) else { return };
        content.written_bytes += END_BYTES;
        if counts {
            *content.ends_of.entry(of).or_default() += END_BYTES;
            content.ends_bytes += END_BYTES;
        }
    }

    /// A copy of a live fact in `to`. If it still lies in another segment, it leaves that one.
    /// A copy of a fact that is not known is one whose original is gone.
    pub(super) fn copy(&mut self, to: u64, entry: Entry) {
        let from = self.locate(entry.position.0);
        if from == Some(to) {
            return;
        }
        if let Some(content) = from.and_then(|from| self.segments.get_mut(&from)) {
            content.subtract(entry);
        }
        let Some(content) = self.segments.get_mut(&to) else { return };
        content.add(entry);
        if let Some(from) = from {
            content.copies_of.insert(from);
        }
        self.moved.insert(entry.position.0, to);
    }

    pub(super) fn is_present(&self, segment: u64) -> bool {
        self.segments.contains_key(&segment)
    }

    /// A segment older than `active` in which nothing lives and that nothing older needs.
    pub(super) fn deletable(&self, active: u64) -> Option<u64> {
        self.segments
            .range(..active)
            .find(|(_, content)| content.is_dead())
            .map(|(&segment, _)| segment)
    }

    /// Forgets a segment whose file is gone for good, and with it what pinned it.
    pub(super) fn remove(&mut self, segment: u64) {
        if let Some(content) = self.segments.remove(&segment)
            && let Some((first, _)) = content.own
        {
            self.by_first_position.remove(&first);
        }
        for content in self.segments.values_mut() {
            content.ends_bytes -= content.ends_of.remove(&segment).unwrap_or(0);
            content.copies_of.remove(&segment);
        }
    }

    /// Compaction copied everything of `segment` that counts: its ends are elsewhere now. False
    /// when it can't go even so, which a victim always can.
    pub(super) fn copied(&mut self, segment: u64) -> bool {
        let Some(content) = self.segments.get_mut(&segment) else { return true };
        content.ends_of.clear();
        content.ends_bytes = 0;
        content.is_dead()
    }

    /// What to copy next: the oldest segment of which there are copies already (a crash left it half
    /// done); else the one with the lowest share of what counts; else, of more than `small_max`
    /// segments below `small_bytes`, the smallest.
    ///
    /// The lowest share only if it is below a half, and unless `space_is_scarce` only if more than a
    /// half of all sealed segments is dead: so a queue that is drained from its head copies little,
    /// its segments die by themselves.
    pub(super) fn victim(
        &self,
        active: u64,
        space_is_scarce: bool,
        small_bytes: u64,
        small_max: usize,
    ) -> Option<u64> {
        let half_done =
            self.segments.values().filter_map(|content| content.copies_of.first()).min();
        if half_done.is_some() {
            return half_done.copied();
        }
        let sealed = || self.segments.range(..active).map(|(&segment, content)| (segment, content));
        let all = sealed().fold((0, 0), |(written, kept), (_, content)| {
            (written + content.written_bytes, kept + content.kept_bytes())
        });
        if space_is_scarce || dead_by_half(all.0, all.1) {
            // Thousandths; a segment never holds 2^54 bytes.
            let share =
                |content: &Content| content.kept_bytes() * 1_000 / content.written_bytes.max(1);
            let emptiest = sealed().min_by_key(|(_, content)| share(content));
            let emptiest = emptiest.filter(|(_, content)| content.is_half_dead());
            if let Some((segment, _)) = emptiest {
                return Some(segment);
            }
        }
        let small = || sealed().filter(|(_, content)| content.written_bytes < small_bytes);
        if small().count() <= small_max {
            return None;
        }
        small().min_by_key(|(_, content)| content.written_bytes).map(|(segment, _)| segment)
    }

    /// What a copy of a segment takes.
    pub(super) fn kept_bytes(&self, segment: u64) -> u64 {
        self.segments.get(&segment).map_or(0, Content::kept_bytes)
    }

    /// Whether less than a half of what was written to a segment counts.
    pub(super) fn is_half_dead(&self, segment: u64) -> bool {
        self.segments.get(&segment).is_some_and(Content::is_half_dead)
    }

    /// Whether any fact lives in a segment.
    pub(super) fn is_alive(&self, segment: u64) -> bool {
        self.segments.get(&segment).is_some_and(|content| !content.live.is_empty())
    }

    pub(super) fn live_facts(&self) -> u64 {
        self.segments.values().map(|content| content.live.len() as u64).sum()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|content| content.live_bytes).sum()
    }

    pub(super) fn segments(&self) -> u64 {
        self.segments.len() as u64
    }
}

fn dead_by_half(written_bytes: u64, kept_bytes: u64) -> bool {
    kept_bytes < written_bytes / 2
}

impl Content {
    fn kept_bytes(&self) -> u64 {
        self.live_bytes + self.ends_bytes
    }

    fn is_half_dead(&self) -> bool {
        dead_by_half(self.written_bytes, self.kept_bytes())
    }

    fn is_dead(&self) -> bool {
        self.live.is_empty() && self.ends_of.is_empty() && self.copies_of.is_empty()
    }

    fn add(&mut self, entry: Entry) {
        let bytes = u64::from(entry.weight) + FACT_BYTES;
        self.live.insert(entry.position.0);
        self.live_bytes += bytes;
        self.written_bytes += bytes;
    }

    fn subtract(&mut self, entry: Entry) {
        if self.live.remove(entry.position.0) {
            let bytes = u64::from(entry.weight) + FACT_BYTES;
            // Ends of what was read in sum only weigh what they do on average, and a few at a segment's
            // edge may belong to its neighbour: nothing of that stays behind.
            self.live_bytes = match self.live.is_empty() {
                true => 0,
                false => self.live_bytes.saturating_sub(bytes),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Position;

    fn entry(position: u64) -> Entry {
        Entry { position: Position(position), weight: 84 }
    }

    fn with_segments(count: u64) -> Liveness {
        let mut liveness = Liveness::default();
        for segment in 1..=count {
            liveness.add_segment(segment);
        }
        liveness
    }

    #[test]
    fn a_segment_goes_when_nothing_lives_in_it_and_its_ends_are_moot() {
        let mut liveness = with_segments(3);
        assert!(liveness.fact(1, entry(1)));
        assert!(liveness.fact(1, entry(2)));
        assert!(liveness.fact(2, entry(3)));
        assert_eq!(liveness.end(2, entry(1)), Some(1));
        assert_eq!(liveness.end(3, entry(3)), Some(2));
        // Segment 2 holds nothing alive, but the end of fact 1, whose row is still there.
        assert_eq!(liveness.deletable(3), None);
        assert_eq!(liveness.end(3, entry(2)), Some(1));
        assert_eq!(liveness.deletable(3), Some(1));
        liveness.remove(1);
        assert_eq!(liveness.deletable(3), Some(2));
        liveness.remove(2);
        assert_eq!(liveness.deletable(3), None);
    }

    #[test]
    fn an_end_counts_once_and_only_for_a_fact() {
        let mut liveness = with_segments(1);
        assert!(liveness.fact(1, entry(5)));
        assert_eq!(liveness.end(1, entry(4)), None);
        assert_eq!(liveness.end(1, entry(5)), Some(1));
        assert_eq!(liveness.end(1, entry(5)), None);
    }

    #[test]
    fn ends_that_weigh_too_little_leave_nothing_behind() {
        let mut liveness = with_segments(2);
        let light = |position| Entry { weight: 20, ..entry(position) };
        (1..=2).for_each(|at| assert!(liveness.fact(1, entry(at))));
        assert!(liveness.fact(2, entry(3)));
        liveness.end(2, light(1));
        assert!(liveness.live_bytes() > 0);
        liveness.end(2, light(2));
        assert_eq!(liveness.live_bytes(), 84 + FACT_BYTES, "of the fact that lives");
        liveness.end(2, light(3));
        assert_eq!((liveness.live_facts(), liveness.live_bytes()), (0, 0));
    }

    #[test]
    fn positions_must_rise_from_segment_to_segment() {
        let mut liveness = with_segments(2);
        assert!(liveness.fact(1, entry(5)));
        assert!(!liveness.fact(1, entry(5)));
        assert!(!liveness.fact(2, entry(4)));
        assert!(liveness.fact(2, entry(6)));
        assert!(!liveness.fact(1, entry(6)));
    }

    #[test]
    fn a_copy_stays_until_the_row_that_it_was_made_from_is_gone() {
        let mut liveness = with_segments(3);
        assert!(liveness.fact(1, entry(1)));
        assert!(liveness.fact(1, entry(2)));
        liveness.copy(2, entry(1));
        assert_eq!(liveness.locate(1), Some(2));
        assert_eq!(liveness.end(3, entry(1)), Some(2));
        // Nothing lives in 2; but without it (and then without 3) the row in 1 would live again.
        assert_eq!(liveness.deletable(3), None);
        assert_eq!(liveness.end(3, entry(2)), Some(1));
        assert_eq!(liveness.deletable(3), Some(1));
        liveness.remove(1);
        assert_eq!(liveness.deletable(3), Some(2));
    }

    #[test]
    fn the_victim_is_the_emptiest_below_a_half() {
        let mut liveness = with_segments(4);
        for position in 0..30 {
            assert!(liveness.fact(1 + position / 10, entry(position)));
        }
        assert_eq!(liveness.victim(4, true, 0, 8), None);
        for position in (0..4).chain(10..16) {
            liveness.end(4, entry(position));
        }
        // Ten of thirty are dead: only if space is scarce.
        assert_eq!(liveness.victim(4, false, 0, 8), None);
        assert_eq!(liveness.victim(4, true, 0, 8), Some(2));
        for position in 20..27 {
            liveness.end(4, entry(position));
        }
        assert_eq!(liveness.victim(4, false, 0, 8), Some(3));
    }

    #[test]
    fn many_small_segments_are_merged_from_the_smallest_on() {
        let mut liveness = with_segments(4);
        for position in [1, 2, 3] {
            liveness.fact(1, entry(position));
        }
        liveness.fact(2, entry(4));
        liveness.fact(3, entry(5));
        liveness.fact(3, entry(6));
        assert_eq!(liveness.victim(4, false, 1_000, 3), None);
        assert_eq!(liveness.victim(4, false, 1_000, 2), Some(2));
    }

    /// A log without bytes: the records of each segment that is still there.
    #[derive(Default)]
    struct Log {
        rows: BTreeMap<u64, Vec<Row>>,
        liveness: Liveness,
        active: u64,
        next: u64,
        alive: Vec<u64>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Row {
        Fact(u64),
        Copy(u64),
        End { position: u64, of: u64 },
    }

    impl Log {
        fn roll(&mut self) {
            self.active += 1;
            self.liveness.add_segment(self.active);
            self.rows.insert(self.active, Vec::new());
        }

        fn write(&mut self, row: Row) {
            self.rows.entry(self.active).or_default().push(row);
        }

        fn fact(&mut self) {
            self.next += 1;
            assert!(self.liveness.fact(self.active, entry(self.next)));
            self.write(Row::Fact(self.next));
            self.alive.push(self.next);
        }

        fn end(&mut self, choice: usize) {
            if !self.alive.is_empty() {
                let position = self.alive.remove(choice % self.alive.len());
                let of = self.liveness.end(self.active, entry(position)).unwrap();
                self.write(Row::End { position, of });
            }
        }

        /// Compacts a part of a segment or all of it, as the writer does.
        fn compact(&mut self, choice: usize, records: usize) {
            let sealed: Vec<u64> = self.rows.range(..self.active).map(|(&id, _)| id).collect();
            let Some(&any) = sealed.get(choice % sealed.len().max(1)) else { return };
            // Any segment will do, as long as none is half done.
            let victim = match self.liveness.victim(self.active, false, 0, 0) {
                Some(victim) if !self.liveness.segments[&victim].copies_of.is_empty() => {
                    panic!("{victim} may not be copied")
                }
                Some(victim)
                    if self
                        .liveness
                        .segments
                        .values()
                        .any(|content| content.copies_of.contains(&victim)) =>
                {
                    victim
                }
                _ => any,
            };
            let rows = self.rows[&victim].clone();
            for row in rows.iter().take(records) {
                match *row {
                    Row::Fact(position) | Row::Copy(position)
                        if self.liveness.locate(position) == Some(victim) =>
                    {
                        self.liveness.copy(self.active, entry(position));
                        self.write(Row::Copy(position));
                    }
                    Row::End { position, of } if of != victim && self.liveness.is_present(of) => {
                        self.liveness.keep_end(self.active, of);
                        self.write(Row::End { position, of });
                    }
                    _ => {}
                }
            }
            if records >= rows.len() {
                assert!(self.liveness.copied(victim));
                self.delete(victim);
            }
        }

        fn delete(&mut self, dead: u64) {
            self.liveness.remove(dead);
            self.rows.remove(&dead);
        }

        /// What a start would make of the segments that are there.
        fn recover(&self) -> Liveness {
            let mut liveness = Liveness::default();
            for (&segment, rows) in &self.rows {
                liveness.add_segment(segment);
                for row in rows {
                    match *row {
                        Row::Fact(position) => assert!(liveness.fact(segment, entry(position))),
                        Row::Copy(position) => liveness.copy(segment, entry(position)),
                        Row::End { position, of } => liveness.end_found(segment, position, of),
                    }
                }
            }
            liveness
        }
    }

    proptest::proptest! {
        /// At every moment a start finds exactly what lives, whatever was deleted before.
        #[test]
        fn a_start_at_any_moment_finds_what_lives(
            steps in proptest::collection::vec((0..12u8, 0..1_000usize, 1..12usize), 1..200)
        ) {
            let mut log = Log::default();
            log.roll();
            for (step, choice, records) in steps {
                match step {
                    0..4 => log.fact(),
                    4..7 => log.end(choice),
                    7 => log.roll(),
                    8..10 => log.compact(choice, records),
                    _ => log.liveness.deletable(log.active).into_iter().for_each(|dead| log.delete(dead)),
                }
                let mut found = log.recover();
                let lives: Vec<u64> = (1..=log.next).filter(|&at| found.locate(at).is_some()).collect();
                proptest::prop_assert_eq!(&lives, &log.alive);
                if step == 11 {
                    // Go on from what the start found.
                    std::mem::swap(&mut log.liveness, &mut found);
                }
            }
        }
    }
}
