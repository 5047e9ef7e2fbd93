//! An acknowledgement and what follows from it, in one group of the journal.
//!
//! Three steps, so that another engine's changes can come between them: [`Delivery::claim`] checks all
//! that can be refused and takes the delivery out of its queue, [`Claimed::append`] writes, and
//! [`Appended::enqueue`] shows the messages to their queues.

use std::any::Any;
use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use super::cause::set_cause;
use super::delivery::{Delivery, taken_back};
use super::error::BrokerError;
use super::publish::check_bounds;
use super::queue::{Effects, Held, Queue};
use super::records::{KIND_MESSAGE, QueueId};
use super::routing::Targets;
use super::stored::Stored;
use super::trace::What;
use super::{Broker, Inner};
use crate::journal::{Commit, Entry, Group, Position};
use crate::model::message::Message;
use crate::model::names::VhostName;

/// A delivery that is settled as soon as its group is appended. It must not be dropped before.
#[must_use]
pub struct Claimed {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    held: Held,
    effects: Effects,
    outputs: Vec<(Arc<Stored>, Targets)>,
}

/// What was written and is not yet to be seen.
#[must_use]
pub struct Appended {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    effects: Effects,
    outputs: Vec<(Arc<Stored>, Position, Targets)>,
    commit: Option<Commit>,
}

impl Delivery {
    /// Routes `outputs` in the vhost of the delivery's queue and takes the delivery out of it. An output
    /// that reaches no queue is dropped, as any message.
    ///
    /// # Errors
    /// The delivery is not its holder's any more; an unknown or internal exchange; a CC or BCC that is
    /// no list; a queue that is full and refuses what is new. Nothing was changed.
    pub fn claim(&mut self, outputs: Vec<Message>) -> Result<Claimed, BrokerError> {
        let (inner, queue) = (self.inner.clone(), self.queue.clone());
        let vhost = inner.vhosts.read().get(&queue.vhost).cloned();
        let vhost = vhost.ok_or_else(|| BrokerError::NoVhost(queue.vhost.clone()))?;
        let now_ms = inner.now_ms();
        let cause = self.id();
        // They are promised their places together.
        let mut promised: AHashMap<QueueId, (usize, u64)> = AHashMap::new();
        let mut has_room = |target: &Queue, body_bytes: u64| {
            let (more, more_bytes) = promised.entry(target.id).or_default();
            *more += 1;
            *more_bytes += body_bytes;
            !target.refuses(*more, *more_bytes)
        };
        let route = |mut message: Message| {
            set_cause(&mut message, &cause);
            check_bounds(&message)?;
            let body_bytes = message.body.len() as u64;
            let (stored, targets) = inner.route(&vhost, message, now_ms)?;
            if let Some(full) = targets.iter().find(|target| !has_room(target, body_bytes)) {
                return Err(BrokerError::Nacked { name: full.spec.name.to_string() });
            }
            Ok((stored, targets))
        };
        let outputs = outputs.into_iter().map(route).collect::<Result<Vec<_>, _>>()?;
        let tag = self.parcel.tag;
        let taken = if self.settled { None } else { queue.take_unacked(tag, now_ms) };
        let Some((held, effects)) = taken else {
            return Err(taken_back());
        };
        self.settled = true;
        Ok(Claimed { inner, queue, held, effects, outputs })
    }

    /// What [`Broker::set_companion`] set.
    pub fn companion<T: Any>(&self) -> Option<&T> {
        self.inner.companion.get()?.downcast_ref()
    }

    /// Waits until the journal takes `bytes` more. Not for memory: what is settled gives that back.
    ///
    /// # Errors
    /// A journal that failed or is closed.
    pub async fn admit(&self, bytes: usize) -> Result<(), BrokerError> {
        Ok(self.inner.journal.admit(bytes).await?)
    }

    /// A handle for the vhost `name`, as the process itself.
    ///
    /// # Errors
    /// An unknown vhost.
    pub fn broker_of(&self, name: &VhostName) -> Result<Broker, BrokerError> {
        self.inner.handle(name)
    }
}

impl Claimed {
    /// Appends the acknowledgement and the outputs with whatever `group` holds already, and gives the
    /// entries of the group's own facts back. Never fails: a failure shows in the commit.
    pub fn append(self, mut group: Group) -> (SmallVec<[Entry; 2]>, Appended) {
        let Self { inner, queue, held, effects, outputs } = self;
        let foreign = group.fact_count();
        // In their order, also to a queue that gets both kinds.
        let takes_places = outputs.iter().any(|(stored, _)| stored.is_durable());
        for (stored, _) in outputs.iter().filter(|_| takes_places) {
            match stored.is_durable() {
                true => group.fact(KIND_MESSAGE, stored.clone()),
                false => group.place(),
            };
        }
        let appended = held.stored.settle(&inner.journal, queue.id, held.retry_entry(), group);
        queue.counters.acked.increment(1);
        let acked = || What::Acked(queue.spec.name.clone());
        inner.trace.note_and_follow(&held.stored, held.position, inner.now_ms(), acked);
        let (mut entries, commit) = match appended {
            Some(appended) => (appended.entries, Some(appended.commit)),
            None => (SmallVec::new(), None),
        };
        let mut own = entries.iter().skip(foreign);
        let place = |(stored, targets): (Arc<Stored>, Targets)| {
            let position = match own.next().filter(|_| takes_places) {
                Some(&entry) if stored.is_durable() => inner.placed(&stored, Some(entry)),
                Some(entry) => entry.position,
                None => inner.placed(&stored, None),
            };
            (stored, position, targets)
        };
        let outputs = outputs.into_iter().map(place).collect();
        entries.truncate(foreign);
        (entries, Appended { inner, queue, effects, outputs, commit })
    }
}

impl Appended {
    /// Puts the outputs into their queues, and does what else follows. The future resolves when all of
    /// it is committed; `None`: there was nothing to write.
    pub fn enqueue(self) -> Option<Commit> {
        let Self { inner, queue, effects, outputs, commit } = self;
        inner.run(&queue, effects);
        let now_ms = inner.now_ms();
        for (stored, position, targets) in outputs {
            inner.trace_published(&stored, position, now_ms, &targets);
            for target in targets {
                let held = Held::new(stored.clone(), position);
                inner.enqueue_promised(&target, held, now_ms);
            }
        }
        commit
    }
}
