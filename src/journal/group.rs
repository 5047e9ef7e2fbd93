//! What is appended together.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Entry, Kind, row};

/// A payload that weighs no more is encoded as it is appended: its memory is at hand then, and the
/// writer, on another core, would have to fetch it. A larger one is worth waiting for its end.
pub const SMALL_WEIGHT_MAX: u32 = 512;

/// What a fact says. A small one is encoded as it is appended, while it is at hand; a larger one by the
/// writer, and only if the fact was not ended before that.
pub trait Payload: Send + Sync {
    /// About how many bytes `encode` will write.
    fn weight(&self) -> u32;
    fn encode(&self, out: &mut Vec<u8>);

    /// Appends what its owner wants to be told of it at a start instead of the payload: at most
    /// [`row::TAG_BYTES_MAX`] bytes. Only a fact with a tag can be read back with [`Journal::read`](super::Journal::read).
    fn tag(&self, out: &mut Vec<u8>) {
        let _none = out;
    }
}

/// Appends tag and payload; how many bytes the tag has.
pub(super) fn encode_content<P: Payload + ?Sized>(payload: &P, out: &mut Vec<u8>) -> u8 {
    let start = out.len();
    payload.tag(out);
    out.truncate(start + row::TAG_BYTES_MAX);
    let tag_bytes = u8::try_from(out.len() - start).unwrap_or(u8::MAX);
    payload.encode(out);
    tag_bytes
}

impl Payload for Vec<u8> {
    fn weight(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// Facts and ends that become durable together or not at all.
#[derive(Default)]
pub struct Group {
    pub(super) facts: SmallVec<[(Kind, Fact); 2]>,
    /// The payloads of those that came encoded.
    pub(super) encoded: Vec<u8>,
    pub(super) ends: SmallVec<[Entry; 4]>,
    pub(super) in_order: bool,
}

/// What a fact of a group says.
pub(super) enum Fact {
    Shared(Arc<dyn Payload>),
    /// It lies in [`Group::encoded`].
    Encoded {
        weight: u32,
        start: usize,
        bytes: u32,
    },
    /// Nothing that is written.
    Place,
}

impl Fact {
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Shared(payload) => payload.weight(),
            Self::Encoded { weight, .. } => *weight,
            Self::Place => 0,
        }
    }
}

impl Group {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fact; the n-th call's entry is the n-th of [`Appended::entries`](super::Appended::entries).
    pub fn fact(&mut self, kind: Kind, payload: Arc<dyn Payload>) -> &mut Self {
        self.facts.push((kind, Fact::Shared(payload)));
        self
    }

    /// As [`Group::fact`], of a payload without a tag that weighs at most [`SMALL_WEIGHT_MAX`]: it is
    /// spared an allocation of its own. `encode` appends it.
    pub fn small_fact(
        &mut self,
        kind: Kind,
        weight: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        let start = self.encoded.len();
        encode(&mut self.encoded);
        let bytes = u32::try_from(self.encoded.len() - start).unwrap_or(u32::MAX);
        self.facts.push((kind, Fact::Encoded { weight, start, bytes }));
        self
    }

    /// Takes a position among the facts, as [`Group::fact`] does, for something that is not written: a
    /// transient message that came between durable ones. Its entry is never ended.
    pub fn place(&mut self) -> &mut Self {
        self.facts.push((Kind(0), Fact::Place));
        self
    }

    /// Makes room for so many facts more.
    pub fn reserve_facts(&mut self, count: usize) {
        self.facts.reserve(count);
    }

    /// Ends a fact. An entry is ended at most once.
    pub fn end(&mut self, entry: Entry) -> &mut Self {
        self.ends.push(entry);
        self
    }

    /// It is never settled before what was appended earlier. For facts that stand for one another, as
    /// a key's values do: once a new one has come and gone, the end of the old may still be undone.
    pub fn in_order(&mut self) -> &mut Self {
        self.in_order = true;
        self
    }

    /// Facts that were added so far.
    pub fn fact_count(&self) -> usize {
        self.facts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.ends.is_empty()
    }
}
