//! A prefetch that several consumers of one channel share (basic.qos with global).

use indexmap::IndexSet;
use parking_lot::Mutex;

/// How many deliveries a channel may hold unsettled, over all its consumers. Taken under a queue's
/// lock, so it never calls out.
#[derive(Default)]
pub(in crate::broker) struct Credit(Mutex<State>);

#[derive(Default)]
struct State {
    /// 0 is unlimited.
    limit: usize,
    used: usize,
    /// The channel's keys of consumers that found no credit.
    waiting: IndexSet<u32, ahash::RandomState>,
}

impl Credit {
    /// Takes one, or remembers that consumer `key` wants one.
    pub(super) fn take_or_wait(&self, key: u32) -> bool {
        let mut state = self.0.lock();
        if state.limit > 0 && state.used >= state.limit {
            state.waiting.insert(key);
            return false;
        }
        state.used += 1;
        true
    }

    pub(super) fn give_back(&self) {
        let mut state = self.0.lock();
        state.used = state.used.saturating_sub(1);
    }

    pub(in crate::broker) fn set_limit(&self, limit: usize) {
        self.0.lock().limit = limit;
    }

    /// The consumers that may try again, when there is credit.
    pub(in crate::broker) fn take_waiting(&self) -> Vec<u32> {
        let mut state = self.0.lock();
        let has_credit = state.limit == 0 || state.used < state.limit;
        if has_credit { state.waiting.drain(..).collect() } else { Vec::new() }
    }
}
