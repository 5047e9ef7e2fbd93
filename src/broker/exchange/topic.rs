//! Topic bindings as a trie of words.
//!
//! A key is matched by walking the set of trie nodes that its words so far can lead to, so the cost
//! follows the key's words and the patterns that fit, never the number of bindings.

use std::hash::Hash;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::bound::Bound;

type NodeId = u32;

const ROOT: NodeId = 0;

/// Values bound under topic patterns: `*` is exactly one word, `#` is none or more, words are split
/// by `.` and may be empty (AMQP 0-9-1, section 3.1.3.3).
#[derive(Debug)]
pub struct TopicTrie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<NodeId>,
}

#[derive(Debug)]
struct Node<T> {
    words: AHashMap<Box<str>, NodeId>,
    star: Option<NodeId>,
    hash: Option<NodeId>,
    /// It was reached by a `#`, so it stays active whatever word comes.
    is_hash: bool,
    values: Bound<T>,
}

impl<T> Node<T> {
    fn new(is_hash: bool) -> Self {
        Self { words: AHashMap::new(), star: None, hash: None, is_hash, values: Bound::default() }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
            && self.values.is_empty()
    }
}

impl<T: Eq + Hash> Default for TopicTrie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Eq + Hash> TopicTrie<T> {
    pub fn new() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new() }
    }

    /// Binds a value; the same value under the same pattern is kept once, and counted.
    pub fn insert(&mut self, pattern: &str, value: T) {
        let mut at = ROOT;
        for word in pattern.split('.') {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at as usize].values.add(value);
    }

    /// Removes one binding of a value and the nodes that only it needed.
    pub fn remove(&mut self, pattern: &str, value: &T) {
        let mut path: SmallVec<[(NodeId, &str); 8]> = SmallVec::new();
        let mut at = ROOT;
        for word in pattern.split('.') {
            path.push((at, word));
            match self.child(at, word) {
                Some(child) => at = child,
                None => return,
            }
        }
        self.nodes[at as usize].values.remove(value);
        while let Some((parent, word)) = path.pop() {
            if !self.nodes[at as usize].is_empty() {
                return;
            }
            self.drop_child(parent, word);
            self.free.push(at);
            at = parent;
        }
    }

    /// Calls `found` for the value of every pattern that matches; a value bound by several matching
    /// patterns is given several times.
    pub fn for_each_match<'a>(&'a self, key: &str, mut found: impl FnMut(&'a T)) {
        let mut active: SmallVec<[NodeId; 16]> = SmallVec::new();
        let mut next: SmallVec<[NodeId; 16]> = SmallVec::new();
        self.activate(ROOT, &mut active);
        for word in key.split('.') {
            next.clear();
            for &id in &active {
                let node = &self.nodes[id as usize];
                if node.is_hash {
                    next.push(id);
                }
                if let Some(&child) = node.words.get(word) {
                    self.activate(child, &mut next);
                }
                if let Some(child) = node.star {
                    self.activate(child, &mut next);
                }
            }
            // Two ways to one node (`#.#`) must not multiply.
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut active, &mut next);
            if active.is_empty() {
                return;
            }
        }
        for id in active {
            self.nodes[id as usize].values.iter().for_each(&mut found);
        }
    }

    /// Adds a node and those that a `#` reaches from it with no word at all.
    fn activate(&self, id: NodeId, active: &mut SmallVec<[NodeId; 16]>) {
        let mut at = Some(id);
        while let Some(id) = at {
            active.push(id);
            at = self.nodes[id as usize].hash;
        }
    }

    fn child(&self, parent: NodeId, word: &str) -> Option<NodeId> {
        let node = &self.nodes[parent as usize];
        match word {
            "*" => node.star,
            "#" => node.hash,
            word => node.words.get(word).copied(),
        }
    }

    fn add_child(&mut self, parent: NodeId, word: &str) -> NodeId {
        let node = Node::new(word == "#");
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                // Each node costs far more than a byte, so memory ends before 2^32 of them.
                (self.nodes.len() - 1) as NodeId
            }
        };
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = Some(id),
            "#" => parent.hash = Some(id),
            word => {
                parent.words.insert(word.into(), id);
            }
        }
        id
    }

    fn drop_child(&mut self, parent: NodeId, word: &str) {
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = None,
            "#" => parent.hash = None,
            word => {
                parent.words.remove(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(trie: &TopicTrie<String>, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        trie.for_each_match(key, |value| found.push(value.clone()));
        found.sort();
        found.dedup();
        found
    }

    fn trie(patterns: &[&str]) -> TopicTrie<String> {
        let mut trie = TopicTrie::new();
        for pattern in patterns {
            trie.insert(pattern, (*pattern).to_owned());
        }
        trie
    }

    /// The definition, word by word, as slow as it is plain.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                naive(rest, key) || key.split_first().is_some_and(|(_, key)| naive(pattern, key))
            }
            (Some((&word, rest)), Some((&first, key))) => {
                (word == "*" || word == first) && naive(rest, key)
            }
            _ => false,
        }
    }

    #[test]
    fn words_stars_and_hashes() {
        let trie =
            trie(&["order.*", "order.#", "#", "*.created", "order.created", "#.created.#", ""]);
        assert_eq!(
            matches(&trie, "order.created"),
            ["#", "#.created.#", "*.created", "order.#", "order.*", "order.created"]
        );
        assert_eq!(matches(&trie, "order"), ["#", "order.#"]);
        assert_eq!(matches(&trie, "order.a.b"), ["#", "order.#"]);
        assert_eq!(matches(&trie, ""), ["", "#"]);
        assert_eq!(matches(&trie, "order."), ["#", "order.#", "order.*"]);
    }

    #[test]
    fn removing_every_binding_leaves_one_node_in_use() {
        let patterns = ["a.b.c", "a.*.c", "a.#", "#", "a.b"];
        let mut trie = trie(&patterns);
        for pattern in patterns {
            trie.remove(pattern, &pattern.to_owned());
        }
        assert_eq!(trie.nodes.len() - trie.free.len(), 1);
        assert!(matches(&trie, "a.b.c").is_empty());
        trie.insert("a.b", "again".to_owned());
        assert_eq!(matches(&trie, "a.b"), ["again"]);
    }

    #[test]
    fn many_hashes_stay_cheap() {
        let pattern = ["#"; 100].join(".a.");
        let trie = trie(&[&pattern]);
        let key = ["a"; 120].join(".");
        assert_eq!(matches(&trie, &key).len(), 1);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            patterns in proptest::collection::vec("([ab*#]?)(\\.[ab*#]?){0,4}", 1..8),
            key in "([abc]?)(\\.[abc]?){0,5}",
        ) {
            let mut trie = TopicTrie::new();
            for pattern in &patterns {
                trie.insert(pattern, pattern.clone());
            }
            let mut expected: Vec<String> = patterns
                .iter()
                .filter(|pattern| {
                    naive(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
                })
                .cloned()
                .collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(matches(&trie, &key), expected);
        }
    }
}
