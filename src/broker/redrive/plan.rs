//! What a redrive would do.

use super::super::Broker;
use super::super::error::BrokerError;
use super::super::queue::{Held, Queue};
use super::{Edit, LOOKED_AT_MAX, PAGE_MESSAGES, Selection, Tally};
use crate::journal::Position;
use crate::model::names::QueueName;

impl Broker {
    /// Says what would go where and what would stay, and changes nothing. `false` beside it: the queue is
    /// longer than 100,000 messages, and only these were looked at.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn plan_redrive(
        &self,
        queue: &QueueName,
        selection: &Selection,
    ) -> Result<(Tally, bool), BrokerError> {
        let queue = self.readable_queue(queue)?;
        let mut tally = Tally::default();
        let filter = match selection {
            Selection::Ids(ids) => {
                for &id in ids {
                    match queue.ready_at(id) {
                        Some(held) => self.plan_one(&queue, &held, &mut tally),
                        None => tally.missing += 1,
                    }
                }
                return Ok((tally, true));
            }
            Selection::Matching(filter) => filter,
        };
        let mut after: Option<Position> = None;
        let mut looked_at = 0;
        loop {
            let page = queue.ready_after(after, PAGE_MESSAGES);
            let Some(last) = page.last() else { return Ok((tally, true)) };
            if looked_at >= LOOKED_AT_MAX {
                return Ok((tally, false));
            }
            after = Some(last.position);
            looked_at += page.len() as u64;
            for held in page.iter().filter(|held| filter.matches(&held.stored.message)) {
                self.plan_one(&queue, held, &mut tally);
            }
            tokio::task::yield_now().await;
        }
    }

    fn plan_one(&self, queue: &Queue, held: &Held, tally: &mut Tally) {
        match self.revived(queue, &held.stored.message, Edit::default()) {
            Ok((_, targets)) => tally.count_moved(targets.iter().map(|queue| &queue.spec.name)),
            Err(BrokerError::NotRedrivable { why, .. }) => tally.count_kept(why),
            // Only an edit can be refused for anything else.
            Err(_) => {}
        }
    }
}
