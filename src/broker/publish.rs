//! The way of a message from a publisher into its queues.

use std::sync::Arc;

use super::access::Access;
use super::cause::is_followed;
use super::confirm::Confirm;
use super::error::BrokerError;
use super::memory::Counted;
use super::queue::{Effects, Held, Queue, Reason, Refusal};
use super::records::KIND_MESSAGE;
use super::routing::{BCC, Targets};
use super::stored::{self, Durable, MARK_WITHIN, Stored};
use super::trace::What;
use super::vhost::Vhost;
use super::{Broker, Inner};
use crate::journal::{Commit, Entry, Group, Position, Urgency};
use crate::model::clock::UnixMs;
use crate::model::message::{Message, Value, X_DELAY};

/// What became of a published message.
pub struct Published {
    /// It reached a queue; if not, it was dropped (AMQP's basic.return 312 when mandatory), or went
    /// directly to who waits for a reply: as in RabbitMQ, that is no queue.
    pub routed: bool,
    pub confirm: Confirm,
    unrouted: Option<Arc<Stored>>,
}

impl Published {
    /// The message, if it reached no queue.
    pub(super) fn take_unrouted(&mut self) -> Option<Message> {
        self.unrouted.take().map(|stored| stored.message.clone())
    }
}

/// How deep lists and tables may lie within each other in a message's headers: they are encoded,
/// decoded and counted with the stack.
const HEADER_LEVELS_MAX: usize = 32;

/// RabbitMQ's default `max_message_size`, of a body.
const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What any message has to keep to.
pub(crate) fn check_bounds(message: &Message) -> Result<(), BrokerError> {
    let bytes = message.body.len();
    if bytes > BODY_BYTES_MAX {
        let reason =
            format!("message size {bytes} is larger than configured max size {BODY_BYTES_MAX}");
        return Err(BrokerError::Precondition(reason));
    }
    if message.properties.headers.is_deeper_than(HEADER_LEVELS_MAX) {
        let reason = format!("the headers are nested more than {HEADER_LEVELS_MAX} levels deep");
        return Err(BrokerError::Precondition(reason));
    }
    Ok(())
}

impl Broker {
    /// What a listener waits for before it publishes: the end of the memory alarm, and, for `bytes` of
    /// persistent messages, until the journal takes so much more. 0 is for a transient message.
    ///
    /// # Errors
    /// A journal that failed or is closed, or a disk that has no room for so much.
    pub async fn admit(&self, bytes: usize) -> Result<(), BrokerError> {
        self.inner.memory.admit().await;
        if bytes > 0 {
            self.inner.journal.admit(bytes).await?;
        }
        Ok(())
    }

    /// Whether [`Broker::admit`] would return at once: nearly always, and to ask is cheaper than to wait.
    fn is_open(&self, bytes: usize) -> Result<bool, BrokerError> {
        Ok(!self.inner.memory.is_alarmed() && (bytes == 0 || self.inner.journal.is_open(bytes)?))
    }

    /// Routes a message. Waits only for admission: every message while the messages take too much
    /// memory, persistent ones also while too much is uncommitted or the disk is nearly full.
    ///
    /// # Errors
    /// An unknown or internal exchange; a CC or BCC header that is no list; a journal that failed or
    /// is closed; a disk that has no room for it.
    pub async fn publish(&self, message: Message) -> Result<Published, BrokerError> {
        check_bounds(&message)?;
        self.check_exchange(Access::Write, &message.exchange)?;
        let bytes = if message.properties.persistent { message.weight() } else { 0 };
        if !self.is_open(bytes)? {
            self.admit(bytes).await?;
        }
        self.publish_admitted(message)
    }

    /// As [`Broker::publish`], without waiting: the caller answers for how much is in flight.
    ///
    /// # Errors
    /// As [`Broker::publish`]; the memory alarm, and the disk alarm for a persistent message.
    pub fn try_publish(&self, message: Message) -> Result<Published, BrokerError> {
        self.check_exchange(Access::Write, &message.exchange)?;
        self.try_publish_permitted(message)
    }

    /// As [`Broker::try_publish`], by one who knows that the user may.
    pub(super) fn try_publish_permitted(&self, message: Message) -> Result<Published, BrokerError> {
        check_bounds(&message)?;
        self.check_memory()?;
        if message.properties.persistent {
            self.inner.journal.writable()?;
        }
        self.publish_admitted(message)
    }

    /// Route, take a log position and append, enqueue and hand to consumers: all in the caller. The
    /// message keeps its bounds.
    fn publish_admitted(&self, message: Message) -> Result<Published, BrokerError> {
        let publish = |message, targets: &_| self.inner.publish(message, targets);
        self.last_route.send(&self.vhost, message, publish)
    }
}

impl Inner {
    fn publish(&self, message: Message, targets: &Targets) -> Published {
        // Read once: to a publisher its message arrives everywhere at one time.
        let now_ms = match has_times(&message) || targets.iter().any(|queue| queue.limits_time()) {
            true => self.clock.now_ms(),
            false => self.clock.recent_ms(),
        };
        if let Some(commits) = self.write_behind(std::slice::from_ref(&message), now_ms, targets) {
            let confirm = Confirm::new(None, Some(commits.into_next()));
            return Published { routed: true, confirm, unrouted: None };
        }
        let count = |bytes| self.memory.count(bytes);
        let stored = self.store_published(message, now_ms, targets, count);
        let (position, commit) = if stored.is_durable() {
            let commit = stored::append(&self.journal, &stored);
            let position = commit.position();
            self.trace_published(&stored, position, now_ms, targets);
            (position, Some(commit))
        } else {
            (self.journal.next_position(), None)
        };
        let routed = targets.iter().any(|queue| !queue.is_for_replies);
        let unrouted = (!routed).then(|| stored.clone());
        let refused_by = self.enqueue_all(stored, position, targets, now_ms);
        Published { routed, confirm: Confirm::new(refused_by, commit), unrouted }
    }

    /// Where a client's message goes, and what is kept of it in memory until it is there.
    pub(super) fn route(
        &self,
        vhost: &Vhost,
        message: Message,
        now_ms: UnixMs,
    ) -> Result<(Arc<Stored>, Targets), BrokerError> {
        let targets = vhost.topology.read().route_published(&message)?.targets;
        let count = |bytes| self.memory.count(bytes);
        Ok((self.store_published(message, now_ms, &targets, count), targets))
    }

    /// What is kept in memory of a client's message that goes to `targets`; `count` counts its bytes.
    pub(super) fn store_published(
        &self,
        mut message: Message,
        now_ms: UnixMs,
        targets: &Targets,
        count: impl FnOnce(usize) -> Counted,
    ) -> Arc<Stored> {
        message.properties.headers.remove(BCC);
        let due_ms = delay_ms(&message).map(|delay_ms| now_ms.saturating_add(delay_ms));
        self.store(message, now_ms, due_ms, targets, count)
    }

    /// The message's place among all: that of its fact, which is `entry`, or the next.
    pub(super) fn placed(&self, stored: &Stored, entry: Option<Entry>) -> Position {
        match entry {
            Some(entry) => {
                stored.set_entry(entry);
                entry.position
            }
            None => self.journal.next_position(),
        }
    }

    pub(super) fn trace_published(
        &self,
        stored: &Stored,
        position: Position,
        now_ms: UnixMs,
        targets: &Targets,
    ) {
        if stored.is_traced() {
            self.trace.published(&stored.message, position, now_ms, targets.iter());
        }
    }

    /// The name of a queue that refused the message, if one did.
    fn enqueue_all(
        &self,
        stored: Arc<Stored>,
        position: Position,
        targets: &Targets,
        now_ms: UnixMs,
    ) -> Option<String> {
        let mut refused_by = None;
        let mut enqueue = |queue: &Arc<Queue>, stored| {
            let held = std::iter::once(Held::new(stored, position));
            self.enqueue_run(queue, held, now_ms, |_| {
                refused_by = Some(queue.spec.name.to_string());
            });
        };
        // The last one gets the message, the others a handle on it.
        let (last, others) = targets.split_last()?;
        others.iter().for_each(|queue| enqueue(queue, stored.clone()));
        enqueue(last, stored);
        refused_by
    }

    /// Puts messages that follow each other into a queue. They are in the journal already, or never will
    /// be. `refused` is told the place among them of each that the queue refused.
    pub(super) fn enqueue_run(
        &self,
        queue: &Arc<Queue>,
        run: impl Iterator<Item = Held>,
        now_ms: UnixMs,
        mut refused: impl FnMut(usize),
    ) {
        let (mut run, mut done) = (run, 0);
        while let Some(held) = run.next() {
            let mut effects = Effects::default();
            let count = match queue.enqueue(held, &mut run, now_ms, &mut effects) {
                Ok(count) => count,
                Err(refusal) => {
                    if !self.refused(queue, refusal, &mut effects) {
                        refused(done);
                    }
                    1
                }
            };
            done += count;
            if !effects.are_none() {
                self.run(queue, effects);
            }
        }
    }

    /// The message is in the journal already, or never will be. `false`: the queue refused it.
    fn enqueue(&self, queue: &Arc<Queue>, held: Held, now_ms: UnixMs) -> (Effects, bool) {
        let mut effects = Effects::default();
        let taken = match queue.enqueue(held, &mut std::iter::empty(), now_ms, &mut effects) {
            Ok(_) => true,
            Err(refusal) => self.refused(queue, refusal, &mut effects),
        };
        (effects, taken)
    }

    /// Puts a promised message into a queue: a length that was reached meanwhile holds nothing off.
    pub(super) fn enqueue_promised(&self, queue: &Arc<Queue>, held: Held, now_ms: UnixMs) {
        let mut effects = Effects::default();
        match queue.enqueue_promised(held, now_ms) {
            Ok(asked) => effects = asked,
            Err(deleted) => {
                self.refused(queue, Refusal::Deleted(deleted), &mut effects);
            }
        }
        self.run(queue, effects);
    }

    /// A queue that was deleted in the meantime took nothing and refuses nothing: its part of the
    /// message is settled. So is that of a full queue, unless what it refuses is dead-lettered.
    fn refused(&self, queue: &Arc<Queue>, refusal: Refusal, effects: &mut Effects) -> bool {
        let (held, taken) = match refusal {
            Refusal::Deleted(held) => (held, true),
            Refusal::Full { held, dead_letter: true } => {
                effects.dead.push((held, Reason::MaxLength));
                return false;
            }
            Refusal::Full { held, dead_letter: false } => (held, false),
        };
        let (stored, retry) = (&held.stored, held.retry_entry());
        let _appended = stored.settle(&self.journal, queue.id, retry, Group::new());
        taken
    }

    /// Takes a message out of `queue` and puts `message` into `targets`, in one group: after a crash
    /// it is in one place or in the other. `why` is what the trace says, with the new message's place.
    pub(super) fn transfer(
        &self,
        queue: &Queue,
        held: Held,
        message: Message,
        targets: Targets,
        why: impl FnOnce(Position) -> What,
    ) -> Vec<(Arc<Queue>, Effects)> {
        let (moved, _commit) = self.leave(queue, held, message, &targets, why);
        let now_ms = self.now_ms();
        let enqueue = |target: Arc<Queue>| {
            let (effects, _taken) = self.enqueue(&target, moved.clone(), now_ms);
            (target, effects)
        };
        targets.into_iter().map(enqueue).collect()
    }

    /// The journal's part of a transfer: what the targets are to take, and when no crash undoes it.
    pub(super) fn leave(
        &self,
        queue: &Queue,
        held: Held,
        message: Message,
        targets: &Targets,
        why: impl FnOnce(Position) -> What,
    ) -> (Held, Option<Commit>) {
        let now_ms = self.now_ms();
        let moved = self.store(message, now_ms, None, targets, |bytes| self.memory.count(bytes));
        let mut group = Group::new();
        if moved.is_durable() {
            group.fact(KIND_MESSAGE, moved.clone());
        }
        let appended = held.stored.settle(&self.journal, queue.id, held.retry_entry(), group);
        let (entries, commit) =
            appended.map(|appended| (appended.entries, appended.commit)).unzip();
        let entry = entries.and_then(|entries| entries.first().copied());
        let position = self.placed(&moved, entry.filter(|_| moved.is_durable()));
        self.trace.note_and_follow(&held.stored, held.position, now_ms, || why(position));
        moved.follow();
        self.trace_published(&moved, position, now_ms, targets);
        (Held::new(moved, position), commit)
    }

    /// The message in memory, written for the durable ones among its queues if it is persistent.
    pub(super) fn store(
        &self,
        message: Message,
        now_ms: UnixMs,
        due_ms: Option<UnixMs>,
        targets: &Targets,
        count: impl FnOnce(usize) -> Counted,
    ) -> Arc<Stored> {
        let persistent = message.properties.persistent;
        let durable = targets.iter().filter(|queue| persistent && queue.is_durable());
        let durable = Durable::new(durable.map(|queue| queue.id), &self.spread);
        let counted = count(message.weight());
        Arc::new(Stored::new(message, now_ms, due_ms, durable, counted))
    }

    /// Runs what a queue asked for. A dead letter may kill another message in turn, so this is a
    /// loop over work, not a recursion. What a queue did not finish is left to the timers.
    pub(super) fn run(&self, queue: &Arc<Queue>, effects: Effects) {
        if effects.are_none() {
            return;
        }
        let mut work = Work::default();
        self.collect(queue, effects, &mut work);
        loop {
            while let Some((queue, held, reason)) = work.dead.pop() {
                for (target, effects) in self.dead_letter(&queue, held, reason) {
                    self.collect(&target, effects, &mut work);
                }
            }
            let Some((queue, was_full)) = work.in_hands.pop() else { return };
            let effects = queue.buried(self.now_ms(), !was_full);
            self.collect(&queue, effects, &mut work);
        }
    }

    fn collect(&self, queue: &Arc<Queue>, effects: Effects, work: &mut Work) {
        if effects.in_hands {
            work.in_hands.push((queue.clone(), effects.is_full()));
        }
        if effects.unfinished {
            self.timers.go_on_with(queue);
        }
        if let Some(wake_ms) = effects.wake_ms {
            self.timers.arm(queue, wake_ms);
        }
        let urgency = match effects.marks_count {
            true => Urgency::Now,
            false => Urgency::Within(MARK_WITHIN),
        };
        for (stored, deliveries) in effects.delivered {
            let mark = (deliveries, urgency);
            if let Some(position) = stored.mark(&self.journal, queue.id, mark)
                && stored.is_traced()
            {
                let queue = queue.spec.name.clone();
                let delivered = || What::Delivered { queue, deliveries };
                self.trace.note(&stored, position, self.now_ms(), delivered);
            }
        }
        // Taken from the back, so that the oldest is dead-lettered first.
        work.dead.extend(
            effects.dead.into_iter().rev().map(|(held, reason)| (queue.clone(), held, reason)),
        );
        if effects.unused {
            self.delete_unused(queue);
        }
    }
}

/// What the effects of a step lead to.
#[derive(Default)]
struct Work {
    dead: Vec<(Arc<Queue>, Held, Reason)>,
    /// The queues that wait for theirs to be placed, and whether a step took as many as it may.
    in_hands: Vec<(Arc<Queue>, bool)>,
}

/// Whether something of the message itself hangs on when it is published.
pub(super) fn has_times(message: &Message) -> bool {
    let properties = &message.properties;
    properties.expiration_ms.is_some() || !properties.headers.is_empty() || is_followed(message)
}

/// The delay that a message asks for. A negative one is what a delayed message carries after its
/// delay, so that passing it on does not delay it again.
fn delay_ms(message: &Message) -> Option<u64> {
    let delay_ms = message.properties.headers.get(X_DELAY).and_then(Value::as_int)?;
    u64::try_from(delay_ms).ok().filter(|&delay_ms| delay_ms > 0)
}
