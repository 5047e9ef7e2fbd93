//! Dead letters that nobody wants back.

use std::sync::Arc;

use super::super::Broker;
use super::super::error::BrokerError;
use super::super::queue::{Held, Queue};
use super::{PAGE_MESSAGES, Pages, Selection};
use crate::journal::{Commit, Group};
use crate::model::names::QueueName;

impl Broker {
    /// Removes the messages that are meant: how many those were, when no crash brings them back. What
    /// comes into the queue after the start is left alone.
    ///
    /// # Errors
    /// An unknown queue; messages that can't be read from the disk, when the others are removed; when the commit failed: whether they come back is unknown then.
    pub async fn discard(
        &self,
        queue: &QueueName,
        selection: &Selection,
    ) -> Result<u64, BrokerError> {
        let queue = self.readable_queue(queue)?;
        let mut discarded = Discarded::default();
        match selection {
            Selection::Ids(ids) => {
                for page in ids.chunks(PAGE_MESSAGES) {
                    for held in page.iter().filter_map(|&id| queue.ready_at(id)) {
                        self.discard_one(&queue, &held, &mut discarded);
                    }
                    tokio::task::yield_now().await;
                }
            }
            Selection::Matching(filter) => {
                let mut pages = Pages::up_to(self.inner.journal.next_position());
                while let Some(page) = pages.next(&queue) {
                    for held in page.iter().filter(|held| filter.matches(&held.stored.message)) {
                        self.discard_one(&queue, held, &mut discarded);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        // What can't be read was passed over.
        self.inner.pager.readable()?;
        // Commits are in order: when the last is on disk, all are.
        if let Some(commit) = discarded.last_commit {
            commit.await?;
        }
        Ok(discarded.count)
    }

    fn discard_one(&self, queue: &Arc<Queue>, seen: &Held, discarded: &mut Discarded) {
        let Some((held, effects)) = queue.take_ready(seen) else { return };
        self.inner.run(queue, effects);
        let retry = held.retry_entry();
        let settled = held.stored.settle(&self.inner.journal, queue.id, retry, Group::new());
        discarded.count += 1;
        if let Some(settled) = settled {
            discarded.last_commit = Some(settled.commit);
        }
    }
}

#[derive(Default)]
struct Discarded {
    count: u64,
    last_commit: Option<Commit>,
}
