//! Faults that the simulation must notice: what it would see if the engine broke a promise.

use leveret::broker::Peeked;
use leveret::journal::{Entry, Kind};

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

    pub fn reorder(self, ready: &mut [Peeked]) {
        if self == Self::Reordered && ready.len() > 3 {
            ready.swap(0, 1);
        }
    }
}
