//! Dead letters that nobody wants back.

use std::sync::Arc;

use super::super::Broker;
use super::super::error::BrokerError;
use super::super::queue::Queue;
use super::{PAGE_MESSAGES, Selection};
use crate::journal::{Commit, Group, Position};
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
                    page.iter().for_each(|&id| self.discard_one(&queue, id, &mut discarded));
                    tokio::task::yield_now().await;
                }
            }
            Selection::Matching(filter) => {
                let end = self.inner.journal.next_position();
                let mut after: Option<Position> = None;
                loop {
                    let page = queue.ready_after(after, PAGE_MESSAGES);
                    let before_end = page.iter().take_while(|held| held.position < end);
                    for held in before_end.filter(|held| filter.matches(&held.stored.message)) {
                        self.discard_one(&queue, held.position, &mut discarded);
                    }
                    match page.last() {
                        Some(last) if last.position < end => after = Some(last.position),
                        _ => break,
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

    fn discard_one(&self, queue: &Arc<Queue>, id: Position, discarded: &mut Discarded) {
        let Some((held, effects)) = queue.take_ready(id) else { return };
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
