//! The way of a message from a publisher into its queues.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::BrokerError;
use super::queue::{Effects, Held, Queue, Reason};
use super::routing::Targets;
use super::stored::{self, KIND_MESSAGE, Stored};
use super::{Broker, Inner};
use crate::journal::{Commit, Group, JournalError, Position};
use crate::model::message::Message;

/// What became of a published message.
pub struct Published {
    /// It reached a queue; if not, it was dropped (AMQP's basic.return 312 when mandatory).
    pub routed: bool,
    pub confirm: Confirm,
}

/// Resolves when every queue that the message reached holds it as durably as it promised: a
/// persistent message in a durable queue once it is committed, any other at once.
pub struct Confirm(Option<Commit>);

impl Future for Confirm {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(())),
            Some(commit) => Pin::new(commit).poll(context).map_ok(|_| ()),
        }
    }
}

impl Broker {
    /// Routes a message. Waits only for admission: while too much is uncommitted or the disk is
    /// nearly full, persistent messages wait here.
    ///
    /// # Errors
    /// An unknown exchange; a journal that failed or is closed.
    pub async fn publish(&self, message: Message) -> Result<Published, BrokerError> {
        if message.properties.persistent {
            self.inner.journal.admit(message.weight()).await?;
        }
        self.inner.publish(message)
    }

    /// As [`Broker::publish`], without waiting: the caller answers for how much is in flight.
    ///
    /// # Errors
    /// As [`Broker::publish`], and the disk alarm for a persistent message.
    pub fn try_publish(&self, message: Message) -> Result<Published, BrokerError> {
        if message.properties.persistent {
            self.inner.journal.writable()?;
        }
        self.inner.publish(message)
    }
}

impl Inner {
    /// Route, take a log position and append, enqueue and hand to consumers: all in the caller.
    fn publish(&self, message: Message) -> Result<Published, BrokerError> {
        let targets = self.topology.read().route(&message.exchange, &message.routing_key)?;
        let stored = self.store(message, &targets);
        let (position, commit) = if stored.is_durable() {
            let commit = stored::append(&self.journal, &stored);
            (commit.position(), Some(commit))
        } else {
            (self.journal.next_position(), None)
        };
        let routed = !targets.is_empty();
        self.enqueue_all(stored, position, targets);
        Ok(Published { routed, confirm: Confirm(commit) })
    }

    fn store(&self, message: Message, targets: &Targets) -> Arc<Stored> {
        let durable =
            targets.iter().filter(|queue| message.properties.persistent && queue.spec.durable);
        let durable = durable.map(|queue| queue.id).collect();
        Arc::new(Stored::new(message, self.now_ms(), durable))
    }

    fn enqueue_all(&self, stored: Arc<Stored>, position: Position, targets: Targets) {
        for queue in targets {
            let effects = self.enqueue(&queue, stored.clone(), position);
            self.run(&queue, effects);
        }
    }

    /// The message is in the journal already, or never will be.
    fn enqueue(&self, queue: &Arc<Queue>, stored: Arc<Stored>, position: Position) -> Effects {
        let held = Held {
            expires_ms: queue.expires_ms(&stored),
            stored,
            position,
            failures: 0,
            last_error: None,
            retry: None,
            redelivered: false,
        };
        queue.counters.published.increment(1);
        self.or_settle(queue, queue.enqueue(held, self.now_ms()))
    }

    /// Takes a message out of `queue` and puts `message` into `targets`, in one group: after a crash
    /// it is in one place or in the other.
    pub(super) fn transfer(
        &self,
        queue: &Queue,
        held: Held,
        message: Message,
        targets: Targets,
    ) -> Vec<(Arc<Queue>, Effects)> {
        let moved = self.store(message, &targets);
        let mut group = Group::new();
        if moved.is_durable() {
            group.fact(KIND_MESSAGE, moved.clone());
        }
        let appended = held.stored.settle(&self.journal, queue.id, held.retry, group);
        let position = match appended.and_then(|appended| appended.entries.first().copied()) {
            Some(entry) if moved.is_durable() => {
                moved.set_entry(entry);
                entry.position
            }
            _ => self.journal.next_position(),
        };
        let enqueue = |target: Arc<Queue>| {
            let effects = self.enqueue(&target, moved.clone(), position);
            (target, effects)
        };
        targets.into_iter().map(enqueue).collect()
    }

    /// A queue that was deleted in the meantime took nothing: its part of the message is settled.
    pub(super) fn or_settle(&self, queue: &Arc<Queue>, outcome: Result<Effects, Held>) -> Effects {
        outcome.unwrap_or_else(|held| {
            let _appended = held.stored.settle(&self.journal, queue.id, held.retry, Group::new());
            Effects::default()
        })
    }

    /// Runs what a queue asked for. A dead letter may kill another message in turn, so this is a
    /// loop over work, not a recursion.
    pub(super) fn run(&self, queue: &Arc<Queue>, effects: Effects) {
        let mut work: Vec<(Arc<Queue>, Held, Reason)> = Vec::new();
        self.collect(queue, effects, &mut work);
        while let Some((queue, held, reason)) = work.pop() {
            for (target, effects) in self.dead_letter(&queue, held, reason) {
                self.collect(&target, effects, &mut work);
            }
        }
    }

    fn collect(
        &self,
        queue: &Arc<Queue>,
        effects: Effects,
        work: &mut Vec<(Arc<Queue>, Held, Reason)>,
    ) {
        if let Some(wake_ms) = effects.wake_ms {
            self.timers.arm(queue, wake_ms);
        }
        // Taken from the back, so that the oldest is dead-lettered first.
        work.extend(
            effects.dead.into_iter().rev().map(|(held, reason)| (queue.clone(), held, reason)),
        );
    }
}
