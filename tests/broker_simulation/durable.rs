//! What the disk holds, as the oracle has it: plain maps. A change clones what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use leveret::model::topology::{ExchangeSpec, Policy, QueueSpec};

use crate::letter::Letter;
use crate::shared::Shared;

/// Orders messages as the log does.
pub type Seq = u64;
/// An incarnation of a queue.
pub type QueueNumber = u64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bound {
    pub exchange: String,
    pub to: End,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    Queue(String),
    Exchange(String),
}

impl Bound {
    pub fn new(exchange: &str, to: End, key: &str) -> Self {
        Self { exchange: exchange.to_owned(), to, key: key.to_owned() }
    }

    pub fn leads_to_queue(&self, queue: &str) -> bool {
        matches!(&self.to, End::Queue(name) if name == queue)
    }

    /// It goes with any of these exchanges.
    pub fn is_of_any(&self, exchanges: &[String]) -> bool {
        let has = |name: &String| exchanges.contains(name);
        has(&self.exchange) || matches!(&self.to, End::Exchange(name) if has(name))
    }
}

#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Kept {
    pub letter: Shared<Letter>,
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
    pub exchanges: Rc<BTreeMap<String, ExchangeSpec>>,
    pub queues: Rc<BTreeMap<String, (QueueNumber, QueueSpec)>>,
    pub bindings: Rc<BTreeSet<Bound>>,
    pub policies: Rc<BTreeMap<String, Policy>>,
    pub messages: BTreeMap<Seq, Shared<Kept>>,
    pub closed: bool,
}

/// What mostly tells two of them apart.
impl Hash for Durable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { exchanges, queues, bindings, policies, messages, closed } = self;
        exchanges.keys().for_each(|name| name.hash(state));
        queues.values().for_each(|(number, _)| number.hash(state));
        policies.keys().for_each(|name| name.hash(state));
        (bindings, messages, closed).hash(state);
    }
}

impl Durable {
    pub fn is_open(&self, seq: Seq, queue: QueueNumber) -> bool {
        self.messages.get(&seq).is_some_and(|kept| kept.open.contains(&queue))
    }

    pub fn settle(&mut self, seq: Seq, queue: QueueNumber) {
        if self.is_open(seq, queue)
            && let Some(kept) = self.messages.get_mut(&seq)
        {
            let kept = kept.make_mut();
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
            Rc::make_mut(&mut self.queues).remove(name);
        }
        let all: Vec<Seq> = self.messages.keys().copied().collect();
        for seq in all {
            self.settle(seq, queue);
        }
    }
}
