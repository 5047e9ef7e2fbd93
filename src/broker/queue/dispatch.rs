//! Handing messages out, and taking back what came to its end in a queue.

use std::sync::atomic::Ordering;

use super::consumers::{ConsumerEnd, ConsumerId};
use super::held::{Held, Reason};
use super::ready::Left;
use super::state::{State, Unacked};
use super::{Effects, Parcel, Queue, Tag};
use crate::model::clock::UnixMs;
use crate::model::topology::{Overflow, QueueSettings};

impl Queue {
    /// Hands ready messages to the consumers whose turn it is, expires at the head, and drops what is
    /// over the maximum length. A message whose time ends this very millisecond (TTL 0) is still
    /// delivered if somebody can take it.
    ///
    /// What is dead goes a step at a time, so that it can wait for the journal: whoever finds more than
    /// a step leaves the rest to [`Queue::proceed`].
    pub(super) fn dispatch(&self, state: &mut State, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        self.dispatch_into(&mut effects, state, now_ms);
        effects
    }

    /// As [`Queue::dispatch`], to where the effects are looked for: it is a large structure, and a message
    /// that comes in mostly has none.
    pub(super) fn dispatch_into(&self, effects: &mut Effects, state: &mut State, now_ms: UnixMs) {
        let (is_left_to_others, are_in_hands) = (state.burying, state.in_hands);
        // What is too much goes with what came: every publisher takes its own out.
        let may_bury = |effects: &Effects, reason| {
            let waits = are_in_hands && reason != Reason::MaxLength;
            !is_left_to_others && !waits && !effects.is_full()
        };
        let mut in_order = false;
        while let Some(&(_, reason)) = state.dying.front()
            && may_bury(effects, reason)
            && let Some((held, reason)) = state.dying.pop_front()
        {
            in_order = true;
            effects.bury(held, reason);
        }
        let drops_head = matches!(state.settings.overflow, None | Some(Overflow::DropHead));
        let mut front_expires_ms = None;
        while state.ready.len() > 0 {
            front_expires_ms = state.front_expires_ms();
            let expires_ms = front_expires_ms.unwrap_or(UnixMs::MAX);
            let nobody = !state.consumers.anyone_waits();
            let reason = if expires_ms < now_ms || (expires_ms == now_ms && nobody) {
                Reason::Expired
            } else if !nobody {
                // What can't be read takes nobody's turn.
                if !state.ready.fill() {
                    break;
                }
                let Some(id) = state.consumers.next_turn() else { break };
                self.deliver_head(state, id, effects, now_ms);
                continue;
            } else if drops_head && state.is_over_length(0, 0) {
                // What lay behind it may have expired, so the head is looked at again.
                Reason::MaxLength
            } else {
                break;
            };
            if !may_bury(effects, reason) {
                effects.front_is_dead = true;
                break;
            }
            let Some(held) = state.ready.pop_front() else {
                // It can't be read, so its time is up for good.
                front_expires_ms = Some(now_ms.saturating_add(READ_AGAIN_AFTER_MS));
                break;
            };
            in_order |= reason != Reason::MaxLength;
            effects.bury(held, reason);
        }
        state.burying = effects.front_is_dead || !state.dying.is_empty();
        effects.unfinished = state.burying && !is_left_to_others && !are_in_hands;
        if in_order {
            state.take_in_hands(effects);
        }
        if state.ready.is_crowded() {
            page_out(state, now_ms, PAGE_LOOKS_MAX);
        }
        if state.ready.len() == 0 {
            front_expires_ms = None;
        }
        self.is_long.store(state.ready.is_long(), Ordering::Relaxed);
        arm_for(state, front_expires_ms, effects);
    }

    /// As [`Queue::dispatch`], and leaves what is dead to [`Queue::proceed`].
    pub(super) fn dispatch_living(&self, state: &mut State, now_ms: UnixMs) -> Effects {
        let was_burying = std::mem::replace(&mut state.burying, true);
        let mut effects = self.dispatch(state, now_ms);
        effects.unfinished = state.burying && !was_burying && !state.in_hands;
        effects
    }

    /// Consumers left: disuse begins with the last one, and an auto-delete queue goes with it.
    pub(super) fn is_left_alone(&self, state: &mut State, had_any: bool, now_ms: UnixMs) -> bool {
        let left_alone = had_any && state.consumers.is_empty() && !state.deleted;
        if left_alone {
            state.used_ms = now_ms;
        }
        left_alone && self.spec.auto_delete
    }

    fn deliver_head(
        &self,
        state: &mut State,
        id: ConsumerId,
        effects: &mut Effects,
        now_ms: UnixMs,
    ) {
        let State { consumers, ready, next_tag, settings, .. } = &mut *state;
        let Some(slot) = consumers.get_mut(id) else { return };
        slot.waits_its_turn = false;
        let credit = slot.credit.clone();
        if credit.as_ref().is_some_and(|credit| !credit.take_or_wait(slot.key)) {
            return;
        }
        let Some(held) = ready.pop_front() else { return };
        let tag = *next_tag;
        if !slot.send(Parcel::new(&held, slot.key, tag)) {
            // The channel is full or its owner went away: the message stays here, and the owner
            // resumes or removes the consumer. So it does with one that found no credit.
            if let Some(credit) = credit {
                credit.give_back();
            }
            ready.insert(held);
            return;
        }
        *next_tag += 1;
        slot.in_flight += 1;
        // Without acknowledgements a delivery is settled when it is taken: a mark would say nothing.
        let since_ms = match slot.no_ack {
            true => UnixMs::MAX,
            false => {
                self.mark_delivered(&held, settings, effects);
                now_ms
            }
        };
        consumers.offer_turn(id);
        self.handed_out(state, now_ms);
        let unacked = Unacked { held, consumer: Some(id), credit, since_ms };
        state.unacked.insert(tag, unacked);
    }

    pub(super) fn mark_delivered(
        &self,
        held: &Held,
        settings: &QueueSettings,
        effects: &mut Effects,
    ) {
        if held.stored.is_durable_in(self.id) {
            effects.marks_count |= settings.delivery_limit.is_some();
            effects.delivered.push((held.stored.clone(), held.returns.saturating_add(1)));
        }
    }

    pub(super) fn handed_out(&self, state: &mut State, now_ms: UnixMs) {
        self.counters.delivered.increment_alone(1);
        if let Some(timeout_ms) = state.settings.consumer_timeout_ms
            && state.timeout_check_ms.is_none()
        {
            state.timeout_check_ms = Some(now_ms.saturating_add(timeout_ms));
        }
    }
}

/// Until what is dead and can't be read is looked at again.
const READ_AGAIN_AFTER_MS: u64 = 1_000;

/// So many messages a publisher looks at for room in memory, more than came since it last did: the queue is
/// locked meanwhile, and the disk has nothing to do once it has what came before.
const PAGE_LOOKS_MAX: usize = 512;
/// So many a timer looks at, which comes back soon for the others.
pub(super) const PAGE_LOOKS_MAX_OF_TICK: usize = 4_096;

/// Takes out of memory what can be read back, and comes back to what is left.
pub(super) fn page_out(state: &mut State, now_ms: UnixMs, looks_max: usize) {
    const CHECK_AFTER_MS: u64 = 100;
    let after_ms = match state.ready.page_out(looks_max) {
        Left::Nothing => None,
        Left::More if looks_max == PAGE_LOOKS_MAX_OF_TICK => Some(1),
        Left::More | Left::Uncommitted => Some(CHECK_AFTER_MS),
    };
    state.page_check_ms = after_ms.map(|after_ms| now_ms.saturating_add(after_ms));
}

/// Asks for a look at the queue when something is due, if no earlier one is coming.
pub(super) fn arm(state: &mut State, effects: &mut Effects) {
    let front_expires_ms = if state.burying { None } else { state.front_expires_ms() };
    arm_for(state, front_expires_ms, effects);
}

/// As [`arm`], by who knows when the next message expires.
fn arm_for(state: &mut State, front_expires_ms: Option<UnixMs>, effects: &mut Effects) {
    if let Some(due_ms) = state.next_due_ms(front_expires_ms)
        && state.armed_ms.is_none_or(|armed_ms| due_ms < armed_ms)
    {
        state.armed_ms = Some(due_ms);
        effects.wake_ms = Some(due_ms);
    }
}

/// Returns a delivery to its old place; one that came back once too often dies.
pub(super) fn put_back(state: &mut State, mut held: Held, seen: bool) {
    if seen {
        held.redelivered = true;
        held.returns = held.returns.saturating_add(1);
        if state.is_over_delivery_limit(&held) {
            return state.dying.push_back((held, Reason::DeliveryLimit));
        }
    }
    state.ready.insert(held);
}

/// Ends the consumers that hold a delivery longer than the timeout, and takes all of theirs back.
pub(super) fn time_out(state: &mut State, now_ms: UnixMs) {
    if state.timeout_check_ms.is_none_or(|check_ms| check_ms > now_ms) {
        return;
    }
    state.timeout_check_ms = None;
    let Some(timeout_ms) = state.settings.consumer_timeout_ms else { return };
    let due_ms = |unacked: &Unacked| unacked.since_ms.saturating_add(timeout_ms);
    let late: Vec<(Tag, Option<ConsumerId>)> = state
        .unacked
        .iter()
        .filter(|(_, unacked)| due_ms(unacked) <= now_ms)
        .map(|(tag, unacked)| (*tag, unacked.consumer))
        .collect();
    let mut tags: Vec<Tag> = late.iter().map(|(tag, _)| *tag).collect();
    for id in late.into_iter().filter_map(|(_, consumer)| consumer) {
        if state.consumers.get_mut(id).is_some() {
            state.consumers.end(id, ConsumerEnd::TimedOut);
            let theirs = state.unacked.iter().filter(|(_, unacked)| unacked.consumer == Some(id));
            tags.extend(theirs.map(|(tag, _)| *tag));
        }
    }
    // In the order in which they were delivered: those that came back too often die in it.
    tags.sort_unstable();
    for tag in tags {
        if let Some(held) = state.take_unacked(tag) {
            put_back(state, held, true);
        }
    }
    let next_ms = state.unacked.values().map(due_ms).min();
    state.timeout_check_ms = next_ms.filter(|&next_ms| next_ms < UnixMs::MAX);
}
