//! Deliveries that leave their consumers' hands: many of them in one visit.

use std::sync::Arc;

use super::dispatch::put_back;
use super::{ConsumerId, Effects, Held, Queue, Reason, Tag};
use crate::model::clock::UnixMs;

impl Queue {
    /// Takes a delivery out, to settle it. `None`: it is settled already, as by the queue's deletion.
    pub(in crate::broker) fn take_unacked(
        &self,
        tag: Tag,
        now_ms: UnixMs,
    ) -> Option<(Held, Effects)> {
        let mut state = self.state.lock();
        let held = state.take_unacked(tag)?;
        Some((held, self.dispatch(&mut state, now_ms)))
    }

    /// Whether it gave that delivery up while its consumer held it (consumer timeout). What a deleted queue
    /// held is settled with it.
    pub(in crate::broker) fn has_taken_back(&self, tag: Tag) -> bool {
        let state = self.state.lock();
        !state.deleted && !state.unacked.contains_key(&tag)
    }

    /// As [`Queue::take_unacked`], without those that are settled already.
    pub(in crate::broker) fn take_all_unacked(
        &self,
        tags: impl IntoIterator<Item = Tag>,
        now_ms: UnixMs,
    ) -> (Vec<Held>, Effects) {
        let mut state = self.state.lock();
        let held = tags.into_iter().filter_map(|tag| state.take_unacked(tag)).collect();
        (held, self.dispatch(&mut state, now_ms))
    }

    /// Deliveries have failed. Those that the retry policy tries again are the caller's, to give to
    /// [`Queue::delay`]; the others die. Nothing happens when all are settled already.
    pub(in crate::broker) fn fail(
        &self,
        tags: &[Tag],
        error: Option<&str>,
        now_ms: UnixMs,
    ) -> (Vec<Held>, Effects) {
        let mut state = self.state.lock();
        let settings = state.settings.clone();
        let (mut retried, mut dead) = (Vec::new(), Vec::new());
        for &tag in tags {
            let Some(mut held) = state.take_unacked(tag) else { continue };
            held.redelivered = true;
            match &settings.retry {
                Some(policy) => {
                    let failed = held.failed.get_or_insert_default();
                    failed.failures = failed.failures.saturating_add(1);
                    failed.error = error.map(Arc::from);
                    if failed.failures < policy.attempts_max {
                        retried.push(held);
                        continue;
                    }
                }
                None => {
                    if let Some(error) = error {
                        held.failed.get_or_insert_default().error = Some(Arc::from(error));
                    }
                }
            }
            dead.push(held);
        }
        if retried.is_empty() && dead.is_empty() {
            return (retried, Effects::default());
        }
        // What lay in the queue dies before what came out of it.
        let mut effects = self.dispatch(&mut state, now_ms);
        let are_others_at_it = state.in_hands && !effects.in_hands;
        for held in dead {
            if state.burying || are_others_at_it || effects.is_full() {
                effects.unfinished |= !state.burying && !state.in_hands;
                state.burying = true;
                state.dying.push_back((held, Reason::Rejected));
            } else {
                effects.bury(held, Reason::Rejected);
            }
        }
        if !are_others_at_it && !effects.dead.is_empty() {
            state.take_in_hands(&mut effects);
        }
        (retried, effects)
    }

    /// Holds failed deliveries until their times.
    ///
    /// # Errors
    /// The messages, when the queue was deleted in the meantime.
    pub(in crate::broker) fn delay(
        &self,
        delayed: Vec<(UnixMs, Held)>,
        now_ms: UnixMs,
    ) -> Result<Effects, Vec<Held>> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(delayed.into_iter().map(|(_, held)| held).collect());
        }
        for (due_ms, held) in delayed {
            state.delayed.insert((due_ms, held.position), held);
        }
        Ok(self.dispatch(&mut state, now_ms))
    }

    /// Returns deliveries to their old places, all before the next one is handed out. Of those that
    /// somebody has looked at (`true`), the return counts.
    pub(in crate::broker) fn requeue(
        &self,
        tags: impl IntoIterator<Item = (Tag, bool)>,
        now_ms: UnixMs,
    ) -> Effects {
        self.take_back(&[], tags, now_ms).0
    }

    /// Forgets consumers and returns `tags`, at once: nobody is served in between, also before those
    /// are asked for that `tags` gives late. Other deliveries of theirs stay unacknowledged until they
    /// are settled. Whether nothing uses the queue any more is apart: what dies goes first.
    pub(in crate::broker) fn take_back(
        &self,
        ids: &[ConsumerId],
        tags: impl IntoIterator<Item = (Tag, bool)>,
        now_ms: UnixMs,
    ) -> (Effects, Effects) {
        let mut state = self.state.lock();
        let had_any = !state.consumers.is_empty();
        for &id in ids {
            state.consumers.remove(id);
        }
        let unused = self.is_left_alone(&mut state, had_any, now_ms);
        for (tag, seen) in tags {
            if let Some(held) = state.take_unacked(tag) {
                put_back(&mut state, held, seen);
            }
        }
        (self.dispatch(&mut state, now_ms), Effects { unused, ..Effects::default() })
    }
}
