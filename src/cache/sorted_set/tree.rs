//! The order of a sorted set: a B-tree that counts.
//!
//! What always holds: every item is greater than all before it; a node knows how many items are in it
//! and below; all leaves are equally deep; only the nodes on the right edge may have fewer than
//! [`ITEMS_MIN`] items, and only the root none.

use std::cmp::Ordering;
use std::ops::Range;
use std::slice;

use super::score::Score;
use crate::cache::keyspace::{Key, allocated};

/// A member and its score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cache) struct Scored {
    pub score: Score,
    pub member: Key,
}

impl Scored {
    /// By score, then by the member's bytes.
    fn order(&self, score: Score, member: &[u8]) -> Ordering {
        self.score.cmp(&score).then_with(|| (*self.member).cmp(member))
    }
}

const ITEMS_MAX: usize = 31;
const ITEMS_MIN: usize = 8;
/// Two neighbours become one node when that leaves it room: else the next insertion would part them.
const MERGED_ITEMS_MAX: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    items: Vec<Scored>,
    /// One more than there are items; none in a leaf.
    children: Vec<Node>,
    /// Items in it and below.
    len: usize,
}

/// Where in a node the item of a rank is.
enum Place {
    Item(usize),
    /// The child, and the rank in it.
    Below(usize, usize),
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.root.len
    }

    /// Bytes of memory outside of `Self`, estimated.
    pub(super) fn bytes(&self) -> usize {
        /// A node is full when items are put in by rising scores, else to about 70 percent.
        const ITEM_BYTES: usize = (size_of::<Scored>() + size_of::<Node>() / ITEMS_MAX) * 100 / 85;
        const ROOM_MIN: usize = 4;
        match self.len() {
            0 => 0,
            len @ ..=ITEMS_MAX => {
                allocated(len.next_power_of_two().max(ROOM_MIN) * size_of::<Scored>())
            }
            len => len * ITEM_BYTES,
        }
    }

    /// Puts an item in that is not there.
    pub(super) fn insert(&mut self, item: Scored) {
        if let Some((middle, right)) = self.root.insert(item, true) {
            let left = std::mem::take(&mut self.root);
            let len = left.len + 1 + right.len;
            self.root = Node { items: vec![middle], children: vec![left, right], len };
        }
    }

    pub(super) fn remove(&mut self, score: Score, member: &[u8]) -> Option<Scored> {
        self.remove_at(self.rank(score, member)?)
    }

    /// Removes the item of this rank, 0 being the lowest.
    pub(super) fn remove_at(&mut self, rank: usize) -> Option<Scored> {
        let removed = self.root.remove_at(rank);
        if self.root.items.is_empty()
            && let Some(only) = self.root.children.pop()
        {
            self.root = only;
        }
        removed
    }

    pub(super) fn rank(&self, score: Score, member: &[u8]) -> Option<usize> {
        let rank = self.partition_point(|item| item.order(score, member).is_lt());
        self.at(rank).is_some_and(|item| item.order(score, member).is_eq()).then_some(rank)
    }

    /// How many items come first for which `is_before` holds; it holds for none after one for which it
    /// does not.
    pub(super) fn partition_point(&self, is_before: impl Fn(&Scored) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            let at = node.items.partition_point(&is_before);
            rank += at;
            let Some(child) = node.children.get(at) else { return rank };
            rank += node.children[..at].iter().map(|child| child.len).sum::<usize>();
            node = child;
        }
    }

    pub(super) fn at(&self, rank: usize) -> Option<&Scored> {
        self.range(rank..rank.saturating_add(1)).next()
    }

    /// The items of these ranks, cut to what is there.
    pub(super) fn range(&self, ranks: Range<usize>) -> Items<'_> {
        let ranks = ranks.start.min(self.len())..ranks.end.min(self.len());
        Items { tree: self, ranks, front: [].iter(), back: [].iter() }
    }

    /// Items that lie side by side, and where among them that of this rank is, which is below the length.
    fn run(&self, rank: usize) -> (&[Scored], usize) {
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node.place(rank) {
                Place::Item(at) if node.children.is_empty() => return (&node.items, at),
                Place::Item(at) => return (slice::from_ref(&node.items[at]), 0),
                Place::Below(at, within) => (node, rank) = (&node.children[at], within),
            }
        }
    }
}

impl Node {
    /// Of a rank below the length.
    fn place(&self, rank: usize) -> Place {
        let mut rank = rank;
        for (at, child) in self.children.iter().enumerate() {
            if rank < child.len {
                return Place::Below(at, rank);
            }
            rank -= child.len;
            if rank == 0 && at < self.items.len() {
                return Place::Item(at);
            }
            rank = rank.saturating_sub(1);
        }
        Place::Item(rank)
    }

    /// `is_last`: no item lies to the right of the node's. Returns what the node had no room for: an
    /// item, and a node for its right.
    fn insert(&mut self, item: Scored, is_last: bool) -> Option<(Scored, Self)> {
        self.len += 1;
        let at = self.items.partition_point(|it| it.order(item.score, &item.member).is_lt());
        let is_last = is_last && at == self.items.len();
        match self.children.get_mut(at) {
            None => self.items.insert(at, item),
            Some(child) => {
                let (middle, right) = child.insert(item, is_last)?;
                self.items.insert(at, middle);
                self.children.insert(at + 1, right);
            }
        }
        if self.items.len() <= ITEMS_MAX {
            return None;
        }
        // Whoever appends goes on doing so: the left node stays full.
        let middle = if is_last { self.items.len() - 2 } else { self.items.len() / 2 };
        let mut items = Vec::with_capacity(ITEMS_MAX + 1);
        items.extend(self.items.drain(middle + 1..));
        let middle_item = self.items.pop()?;
        let children =
            if self.children.is_empty() { Vec::new() } else { self.children.split_off(middle + 1) };
        let len = items.len() + children.iter().map(|child| child.len).sum::<usize>();
        self.len -= len + 1;
        Some((middle_item, Self { items, children, len }))
    }

    fn remove_at(&mut self, rank: usize) -> Option<Scored> {
        if rank >= self.len {
            return None;
        }
        self.len -= 1;
        match self.place(rank) {
            Place::Item(at) if self.children.is_empty() => Some(self.items.remove(at)),
            Place::Item(at) => {
                let child = &mut self.children[at];
                let before = child.remove_at(child.len - 1)?;
                let removed = std::mem::replace(&mut self.items[at], before);
                self.refill(at);
                Some(removed)
            }
            Place::Below(at, within) => {
                let removed = self.children[at].remove_at(within);
                self.refill(at);
                removed
            }
        }
    }

    /// Gives the child at `at` items of a neighbour, or joins the two, when it has too few.
    fn refill(&mut self, at: usize) {
        if self.children[at].items.len() >= ITEMS_MIN || self.items.is_empty() {
            return;
        }
        let left_at = at.saturating_sub(1);
        let (left, right) = self.children.split_at_mut(left_at + 1);
        let (left, right) = (&mut left[left_at], &mut right[0]);
        let separator = &mut self.items[left_at];
        if left.items.len() + 1 + right.items.len() <= MERGED_ITEMS_MAX {
            let separator = self.items.remove(left_at);
            let right = self.children.remove(left_at + 1);
            self.children[left_at].join(separator, right);
        } else if left_at == at {
            while left.items.len() < ITEMS_MIN {
                left.items.push(std::mem::replace(separator, right.items.remove(0)));
                let child = (!right.children.is_empty()).then(|| right.children.remove(0));
                let moved = 1 + child.as_ref().map_or(0, |child| child.len);
                left.children.extend(child);
                left.len += moved;
                right.len -= moved;
            }
        } else {
            while right.items.len() < ITEMS_MIN
                && let Some(last) = left.items.pop()
            {
                right.items.insert(0, std::mem::replace(separator, last));
                let child = left.children.pop();
                let moved = 1 + child.as_ref().map_or(0, |child| child.len);
                right.children.splice(0..0, child);
                right.len += moved;
                left.len -= moved;
            }
        }
    }

    fn join(&mut self, separator: Scored, mut right: Self) {
        self.len += 1 + right.len;
        self.items.push(separator);
        self.items.append(&mut right.items);
        self.children.append(&mut right.children);
    }
}

/// Items by rising ranks, or from behind by falling ones.
#[derive(Debug, Clone)]
pub(in crate::cache) struct Items<'a> {
    tree: &'a Tree,
    /// Those that are still to come.
    ranks: Range<usize>,
    front: slice::Iter<'a, Scored>,
    back: slice::Iter<'a, Scored>,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a Scored;

    fn next(&mut self) -> Option<&'a Scored> {
        let rank = self.ranks.next()?;
        if self.front.as_slice().is_empty() {
            let (items, at) = self.tree.run(rank);
            self.front = items.get(at..).unwrap_or_default().iter();
        }
        self.front.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl DoubleEndedIterator for Items<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let rank = self.ranks.next_back()?;
        if self.back.as_slice().is_empty() {
            let (items, at) = self.tree.run(rank);
            self.back = items.get(..=at).unwrap_or_default().iter();
        }
        self.back.next_back()
    }
}

impl ExactSizeIterator for Items<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(score: u16, member: u8) -> Scored {
        let score = Score::new(f64::from(score)).expect("a number");
        Scored { score, member: Key::from([member].as_slice()) }
    }

    /// Checks what always holds below a node; returns its depth.
    fn check(node: &Node, is_root: bool, is_last: bool) -> usize {
        let below: usize = node.children.iter().map(|child| child.len).sum();
        assert_eq!(node.len, node.items.len() + below);
        assert!(node.items.len() <= ITEMS_MAX);
        assert!(is_root || !node.items.is_empty());
        assert!(is_root || is_last || node.items.len() >= ITEMS_MIN);
        let Some(last) = node.children.len().checked_sub(1) else { return 1 };
        assert_eq!(last, node.items.len());
        let depths: Vec<usize> = node
            .children
            .iter()
            .enumerate()
            .map(|(at, child)| check(child, false, is_last && at == last))
            .collect();
        assert!(depths.iter().all(|depth| *depth == depths[0]));
        depths[0] + 1
    }

    fn compare(tree: &Tree, sorted: &[Scored]) {
        let depth = check(&tree.root, true, true);
        assert!(depth <= 1 + (sorted.len().max(1).ilog2() / 3) as usize + 1, "{depth}");
        assert_eq!(tree.len(), sorted.len());
        assert!(tree.range(0..tree.len()).eq(sorted));
        assert!(tree.range(0..tree.len()).rev().eq(sorted.iter().rev()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Many items one after the other.
        Insert {
            from: u16,
            count: u16,
            by: u16,
            member: u8,
        },
        Remove {
            from: u16,
            count: u16,
            by: u16,
            member: u8,
        },
        RemoveRanks {
            share: f64,
            count: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let some = || (0u16..2_000, 1u16..300, 1u16..40, 0u8..4);
        prop_oneof![
            3 => some().prop_map(|(from, count, by, member)| Step::Insert { from, count, by, member }),
            2 => some().prop_map(|(from, count, by, member)| Step::Remove { from, count, by, member }),
            1 => (0.0..1.0f64, 1usize..500).prop_map(|(share, count)| Step::RemoveRanks { share, count }),
        ]
    }

    /// Scores that go around, so that they rise, fall back, and meet those that are there.
    fn scores(from: u16, count: u16, by: u16) -> impl Iterator<Item = u16> {
        (0..count).map(move |n| (from + n * by) % 2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_sorted_vector(steps in prop::collection::vec(step(), 1..24), picks in any::<u64>()) {
            let mut tree = Tree::default();
            let mut sorted: Vec<Scored> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert { from, count, by, member } => {
                        for score in scores(from, count, by) {
                            let new = item(score, member);
                            let found = sorted.binary_search_by(|it| it.order(new.score, &new.member));
                            assert_eq!(tree.rank(new.score, &new.member), found.ok());
                            if let Err(at) = found {
                                tree.insert(new.clone());
                                sorted.insert(at, new);
                            }
                        }
                    }
                    Step::Remove { from, count, by, member } => {
                        for score in scores(from, count, by) {
                            let old = item(score, member);
                            let found = sorted.binary_search_by(|it| it.order(old.score, &old.member));
                            let removed = tree.remove(old.score, &old.member);
                            assert_eq!(removed, found.ok().map(|at| sorted.remove(at)));
                        }
                    }
                    Step::RemoveRanks { share, count } => {
                        let rank = (share * sorted.len() as f64) as usize;
                        for _ in 0..count {
                            let expected = (rank < sorted.len()).then(|| sorted.remove(rank));
                            assert_eq!(tree.remove_at(rank), expected);
                        }
                    }
                }
                compare(&tree, &sorted);
            }
            let from = (picks % 997) as usize * sorted.len() / 997;
            let to = from + (picks % 1_009) as usize * (sorted.len() - from) / 1_009;
            assert!(tree.range(from..to).eq(&sorted[from..to]));
            assert!(tree.range(from..to).rev().eq(sorted[from..to].iter().rev()));
            // From both ends by turns until they meet.
            let mut items = tree.range(from..to);
            let mut expected = sorted[from..to].iter();
            while let Some(next) = expected.next() {
                assert_eq!(items.next(), Some(next));
                assert_eq!(items.next_back(), expected.next_back());
            }
            assert_eq!(items.next(), None);
            assert_eq!(tree.at(sorted.len()), None);
            let score = item((picks % 2_000) as u16, 0).score;
            let before = sorted.partition_point(|it| it.score < score);
            assert_eq!(tree.partition_point(|it| it.score < score), before);
        }
    }

    #[test]
    fn rising_scores_fill_the_nodes() {
        let mut tree = Tree::default();
        for score in 0..10_000 {
            tree.insert(item(score, 0));
        }
        fn nodes(node: &Node) -> usize {
            1 + node.children.iter().map(nodes).sum::<usize>()
        }
        assert!(nodes(&tree.root) < 10_000 / (ITEMS_MAX - 2), "{}", nodes(&tree.root));
        for rank in (0..10_000).rev() {
            assert!(tree.remove_at(rank).is_some());
        }
        assert_eq!(tree.len(), 0);
    }
}
