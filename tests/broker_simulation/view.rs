//! What can be seen of a broker between two steps, of the engine as of a world.

use std::collections::BTreeMap;

/// The queues by their names.
pub type View = BTreeMap<String, QueueView>;

#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// Bodies, and which may have been delivered before, in the order of delivery.
    pub ready: Vec<(u64, bool)>,
    pub ready_bytes: u64,
    pub unacked: usize,
    pub delayed: usize,
    pub consumers: usize,
}
