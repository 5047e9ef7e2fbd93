//! Dead letters by what killed them.

use ahash::AHashMap;

use super::super::Broker;
use super::super::error::BrokerError;
use super::super::trace::shortened;
use super::{Death, LOOKED_AT_MAX, PAGE_MESSAGES};
use crate::journal::Position;
use crate::model::message::Message;
use crate::model::names::QueueName;

/// Groups of one answer; an error text with a number in it makes one each.
const GROUPS_MAX: usize = 1_000;

/// Messages that died in one queue, for one reason, with one error text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeathGroup {
    pub error: Option<String>,
    pub reason: String,
    pub queue: String,
    pub count: u64,
    /// Bytes of the bodies.
    pub body_bytes: u64,
    /// When the first and the last of them died, in seconds since the Unix epoch.
    pub oldest_s: Option<u64>,
    pub newest_s: Option<u64>,
    /// One of them: the first in the queue.
    pub sample: Position,
}

/// The groups of a queue, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeathGroups {
    pub groups: Vec<DeathGroup>,
    /// Dead letters of further groups, which are too many to be told apart.
    pub ungrouped: u64,
    /// Messages that did not die.
    pub alive: u64,
    /// Whether all of the queue was looked at; of a longer one the first 100,000 messages are.
    pub complete: bool,
}

impl Broker {
    /// Groups the ready messages of `queue` by error text, reason, and the queue in which they died.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn dead_letter_groups(&self, queue: &QueueName) -> Result<DeathGroups, BrokerError> {
        let queue = self.readable_queue(queue)?;
        let mut found = GroupsFound::default();
        let mut after = None;
        let mut looked_at = 0;
        loop {
            let page = queue.ready_after(after, PAGE_MESSAGES);
            let Some(last) = page.last() else { break };
            after = Some(last.position);
            for held in &page {
                found.look(&held.stored.message, held.position);
            }
            looked_at += page.len() as u64;
            if looked_at >= LOOKED_AT_MAX {
                found.cut = !queue.ready_after(after, 1).is_empty();
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(found.sorted())
    }
}

/// Groups in the making.
#[derive(Default)]
pub(crate) struct GroupsFound {
    groups: AHashMap<(String, String, String), DeathGroup>,
    ungrouped: u64,
    alive: u64,
    /// Not all of the queue was looked at.
    pub(crate) cut: bool,
}

impl GroupsFound {
    /// `position` is what the message is named by.
    pub(crate) fn look(&mut self, message: &Message, position: Position) {
        match Death::newest(message) {
            Some(death) => self.add(&death, message.body.len() as u64, position),
            None => self.alive += 1,
        }
    }

    fn add(&mut self, death: &Death<'_>, body_bytes: u64, position: Position) {
        let error = death.error.map(shortened);
        let key =
            (error.unwrap_or_default().to_owned(), death.reason.to_owned(), death.queue.to_owned());
        if self.groups.len() == GROUPS_MAX && !self.groups.contains_key(&key) {
            self.ungrouped += 1;
            return;
        }
        let group = self.groups.entry(key).or_insert_with(|| DeathGroup {
            error: error.map(str::to_owned),
            reason: death.reason.to_owned(),
            queue: death.queue.to_owned(),
            count: 0,
            body_bytes: 0,
            oldest_s: death.at_s,
            newest_s: death.at_s,
            sample: position,
        });
        group.count += 1;
        group.body_bytes += body_bytes;
        if let Some(at_s) = death.at_s {
            group.oldest_s = Some(group.oldest_s.map_or(at_s, |oldest_s| oldest_s.min(at_s)));
            group.newest_s = Some(group.newest_s.map_or(at_s, |newest_s| newest_s.max(at_s)));
        }
    }

    pub(crate) fn sorted(self) -> DeathGroups {
        let mut groups: Vec<_> = self.groups.into_values().collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then(a.sample.cmp(&b.sample)));
        DeathGroups { groups, ungrouped: self.ungrouped, alive: self.alive, complete: !self.cut }
    }
}
