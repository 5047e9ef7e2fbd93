//! Which dead letters are meant, and what became of them.

use std::collections::BTreeMap;

use super::{Death, Stuck};
use crate::journal::Position;
use crate::model::message::Message;
use crate::model::names::QueueName;

/// Reasons, and targets, that a tally tells apart; headers can name any number of queues.
const TOLD_APART_MAX: usize = 100;

/// Which messages of a dead-letter queue are redriven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Ids(Vec<Position>),
    Matching(DeathFilter),
}

/// What has to be true of a message's newest death; everything that is given must hold, and without
/// anything every message is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeathFilter {
    /// Part of the error text.
    pub error: Option<String>,
    pub reason: Option<String>,
    /// The queue that it died in.
    pub queue: Option<String>,
}

impl DeathFilter {
    pub(crate) fn matches(&self, message: &Message) -> bool {
        if *self == Self::default() {
            return true;
        }
        let Some(death) = Death::newest(message) else { return false };
        let holds = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let error = death.error.unwrap_or_default();
        self.error.as_deref().is_none_or(|part| error.contains(part))
            && holds(&self.reason, death.reason)
            && holds(&self.queue, death.queue)
    }
}

/// What became, or would become, of the messages that were meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages by the queue that they went to. One that is routed to two queues counts in both.
    pub queues: BTreeMap<QueueName, u64>,
    pub moved: u64,
    /// Messages that stay, by the reason.
    pub stuck: BTreeMap<Stuck, u64>,
    pub kept: u64,
    /// Of the ids that were named: those of no ready message.
    pub missing: u64,
}

impl Tally {
    pub(crate) fn count_moved<'a>(&mut self, queues: impl IntoIterator<Item = &'a QueueName>) {
        self.moved += 1;
        for queue in queues {
            if self.queues.len() < TOLD_APART_MAX || self.queues.contains_key(queue) {
                *self.queues.entry(queue.clone()).or_default() += 1;
            }
        }
    }

    pub(crate) fn count_kept(&mut self, why: Stuck) {
        self.kept += 1;
        if self.stuck.len() < TOLD_APART_MAX || self.stuck.contains_key(&why) {
            *self.stuck.entry(why).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_stays_small_and_counts_on() {
        let mut tally = Tally::default();
        for number in 0..TOLD_APART_MAX + 50 {
            tally.count_kept(Stuck::QueueGone(format!("q{number}")));
            tally.count_moved([&QueueName::new(format!("q{number}")).unwrap()]);
        }
        assert_eq!((tally.stuck.len(), tally.kept), (TOLD_APART_MAX, 150));
        assert_eq!((tally.queues.len(), tally.moved), (TOLD_APART_MAX, 150));
    }
}
