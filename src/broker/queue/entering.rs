//! Messages that enter a queue.

use std::sync::atomic::Ordering;

use super::run::Paged;
use super::{Effects, Held, Queue, Refusal};
use crate::broker::stored::Outline;
use crate::journal::Commits;
use crate::model::clock::UnixMs;

impl Queue {
    /// Takes a message in, and of those that follow it as many as can be seen together: all, where
    /// nothing of what becomes of one depends on whether it came before the next or with it. How many it
    /// took.
    ///
    /// # Errors
    /// The message, when the queue takes none.
    pub(in crate::broker) fn enqueue(
        &self,
        held: Held,
        more: &mut impl Iterator<Item = Held>,
        now_ms: UnixMs,
        effects: &mut Effects,
    ) -> Result<usize, Refusal> {
        let mut state = self.state.lock();
        self.counters.published.increment_alone(1);
        if state.deleted {
            return Err(Refusal::Deleted(held));
        }
        if let Some(dead_letter) = state.refuses(1, held.body_bytes()) {
            return Err(Refusal::Full { held, dead_letter });
        }
        state.admit(held, now_ms);
        let mut count = 1;
        if state.takes_runs() {
            for held in more {
                state.admit(held, now_ms);
                count += 1;
            }
            if count > 1 {
                self.counters.published.increment_alone(count as u64 - 1);
            }
        }
        self.dispatch_into(effects, &mut state, now_ms);
        Ok(count)
    }

    /// Whether it was long when it was last looked at, so that [`Queue::write_behind`] is worth trying.
    pub(in crate::broker) fn is_long(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    /// Takes messages in that are on the disk alone: behind a long backlog, where they would not stay in
    /// memory. `append` writes them, under the lock, so that they come in the order of the log; the places
    /// that it gives follow each other. `None`: they have to enter as others do.
    pub(in crate::broker) fn write_behind<'a>(
        &self,
        messages: impl Iterator<Item = Outline<'a>>,
        append: impl FnOnce() -> Option<Commits>,
    ) -> Option<Commits> {
        let mut state = self.state.lock();
        if !state.takes_paged() {
            return None;
        }
        let commits = append()?;
        self.counters.published.increment_alone(commits.len() as u64);
        for (message, position) in messages.zip(commits.positions()) {
            state.ready.push_paged(&Paged::written(&message, position));
        }
        Some(commits)
    }

    /// Whether `more` messages with so many bytes are too many for its maximum length, and it refuses what
    /// is new.
    pub(in crate::broker) fn refuses(&self, more: usize, more_bytes: u64) -> bool {
        self.state.lock().refuses(more, more_bytes).is_some()
    }

    /// As [`Queue::enqueue`], whatever the length: the message was promised when there was room.
    ///
    /// # Errors
    /// The message, when the queue was deleted in the meantime.
    pub(in crate::broker) fn enqueue_promised(
        &self,
        held: Held,
        now_ms: UnixMs,
    ) -> Result<Effects, Held> {
        let mut state = self.state.lock();
        self.counters.published.increment_alone(1);
        if state.deleted {
            return Err(held);
        }
        state.admit(held, now_ms);
        Ok(self.dispatch(&mut state, now_ms))
    }
}
