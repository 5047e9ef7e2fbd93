//! Faults that the simulation must notice: what it would see if the engine broke a promise.

use leveret::broker::Peeked;
use leveret::journal::{Entry, Kind};
use leveret::model::topology::{QueueKind, QueueSpec};

use crate::step::Publish;

/// The broker's records, as its journal knows them.
const KIND_MESSAGE: Kind = Kind(4);
const KIND_SETTLED: Kind = Kind(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Two ready messages change their places.
    Reordered,
    /// The end of a message in one of its queues is lost, so it comes back there.
    LostSettlement,
    /// A message that was confirmed is lost.
    LostMessage,
    /// Two messages change their places over a restart.
    SwappedPositions,
    /// The disk says that it has synced, and has not.
    LyingDisk,
    /// An acknowledgement, and in another commit what follows from it, with a power failure in between.
    TwoCommits,
    /// A connection that closes leaves its exclusive queues behind.
    OutlivesItsOwner,
    /// Everybody may use an exclusive queue.
    NotExclusive,
    /// A quorum queue is kept as a classic one.
    NoQuorum,
    /// A headers exchange compares also what begins with `x-`.
    ComparesAll,
    /// Receivers see the keys of BCC.
    ShowsBcc,
}

impl Fault {
    pub fn spoil(self, facts: &mut Vec<(Entry, Kind, Vec<u8>)>) {
        let of = |facts: &[(Entry, Kind, Vec<u8>)], kind: Kind| -> Vec<usize> {
            (0..facts.len()).filter(|&at| facts[at].1 == kind).collect()
        };
        let messages = of(facts, KIND_MESSAGE);
        match (self, messages.as_slice()) {
            (Self::LostSettlement, _) => {
                if let Some(&at) = of(facts, KIND_SETTLED).first() {
                    facts.remove(at);
                }
            }
            (Self::LostMessage, [first, ..]) => drop(facts.remove(*first)),
            (Self::SwappedPositions, &[first, second, ..]) => {
                let (a, b) = (facts[first].0, facts[second].0);
                (facts[first].0, facts[second].0) = (b, a);
            }
            _ => {}
        }
    }

    /// The keys of CC and of BCC that a message goes out with.
    pub fn keys(self, publish: &Publish) -> [Vec<&'static str>; 2] {
        match self {
            Self::ShowsBcc => [[publish.cc, publish.bcc].concat(), Vec::new()],
            _ => [publish.cc.to_vec(), publish.bcc.to_vec()],
        }
    }

    pub fn declared(self, mut spec: QueueSpec) -> QueueSpec {
        match self {
            Self::NotExclusive => spec.exclusive = false,
            Self::NoQuorum => spec.kind = QueueKind::Classic,
            _ => {}
        }
        spec
    }

    /// The arguments of a binding of a headers exchange.
    pub fn compared(self, arguments: &str) -> String {
        match self {
            Self::ComparesAll => {
                arguments.replace("all ", "all-with-x ").replace("any ", "any-with-x ")
            }
            _ => arguments.to_owned(),
        }
    }

    pub fn reorder(self, ready: &mut [Peeked]) {
        if self == Self::Reordered && ready.len() > 3 {
            ready.swap(0, 1);
        }
    }
}
