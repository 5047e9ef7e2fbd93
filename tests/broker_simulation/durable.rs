//! What the disk holds, as the oracle has it: plain maps, cloned at every change.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use leveret::model::topology::{ExchangeSpec, Policy, QueueSpec};

use crate::letter::Letter;

/// Orders messages as the log does.
pub type Seq = u64;
/// An incarnation of a queue.
pub type QueueNumber = u64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bound {
    pub exchange: String,
    pub queue: String,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub letter: Rc<Letter>,
    pub arrived_ms: u64,
    pub due_ms: Option<u64>,
    /// Where it is not settled.
    pub open: BTreeSet<QueueNumber>,
    /// How often it was delivered.
    pub marks: BTreeMap<QueueNumber, u32>,
    /// Failures, and when it is due again.
    pub retries: BTreeMap<QueueNumber, (u32, u64)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durable {
    pub exchanges: BTreeMap<String, ExchangeSpec>,
    pub queues: BTreeMap<String, (QueueNumber, QueueSpec)>,
    pub bindings: BTreeSet<Bound>,
    pub policies: BTreeMap<String, Policy>,
    pub messages: BTreeMap<Seq, Kept>,
    pub closed: bool,
}

impl Durable {
    pub fn is_open(&self, seq: Seq, queue: QueueNumber) -> bool {
        self.messages.get(&seq).is_some_and(|kept| kept.open.contains(&queue))
    }

    pub fn settle(&mut self, seq: Seq, queue: QueueNumber) {
        if let Some(kept) = self.messages.get_mut(&seq) {
            kept.open.remove(&queue);
            kept.marks.remove(&queue);
            kept.retries.remove(&queue);
            if kept.open.is_empty() {
                self.messages.remove(&seq);
            }
        }
    }

    /// A queue goes, and its messages with it.
    pub fn forget_queue(&mut self, name: &str, queue: QueueNumber) {
        if self.queues.get(name).is_some_and(|(number, _)| *number == queue) {
            self.queues.remove(name);
        }
        let all: Vec<Seq> = self.messages.keys().copied().collect();
        for seq in all {
            self.settle(seq, queue);
        }
    }
}
