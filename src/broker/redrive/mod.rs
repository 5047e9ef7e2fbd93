//! The workbench for dead letters: look, group, mend, send back.
//!
//! Owns: reading a message's death ([`Death`]), the way of one message back to where it died, and runs
//! over many ([`Run`]). May import: the queue, the routing, the journal. What always holds: looking
//! changes neither order nor flags; a message leaves the dead-letter queue and enters its target in one
//! journal group; one that can't go stays where it is, with the reason.

mod death;
mod discard;
mod groups;
mod plan;
mod run;
mod selection;

use std::sync::Arc;

use bytes::Bytes;

use super::dead_letter::clear_deaths;
use super::error::BrokerError;
use super::publish::check_bounds;
use super::queue::{Held, Queue, Room};
use super::routing::Targets;
use super::trace::What;
use super::{Broker, Inner};
use crate::journal::{Commit, Position};
use crate::model::message::{Headers, Message};
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

pub use death::Death;
pub use groups::{DeathGroup, DeathGroups};
pub use run::{Progress, Redrive, Run, RunState};
pub use selection::{DeathFilter, Selection, Tally};

pub(crate) use run::Runs;
#[cfg(feature = "rabbitmq")]
pub(crate) use {groups::GroupsFound, run::Pace};

/// Messages that are looked at under one hold of the queue's lock.
const PAGE_MESSAGES: usize = 128;
/// Messages that one call looks through at most, when it only looks.
const LOOKED_AT_MAX: u64 = 100_000;

/// Goes through what is in a queue at the start, page by page.
struct Pages {
    after: Option<Position>,
    end: Position,
    ended: bool,
}

impl Pages {
    fn up_to(end: Position) -> Self {
        Self { after: None, end, ended: false }
    }

    fn next(&mut self, queue: &Queue) -> Option<Vec<Held>> {
        if self.ended {
            return None;
        }
        let mut page = queue.ready_after(self.after, PAGE_MESSAGES);
        self.after = page.last().map(|last| last.position);
        self.ended = self.after.is_none_or(|last| last >= self.end);
        page.retain(|held| held.position < self.end);
        Some(page)
    }
}

/// A ready message, looked at without being taken.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Names the message as long as it stays in the queue.
    pub position: Position,
    pub message: Message,
    pub redelivered: bool,
}

impl From<Held> for Peeked {
    fn from(held: Held) -> Self {
        Self {
            position: held.position,
            message: held.stored.message.clone(),
            redelivered: held.redelivered,
        }
    }
}

/// What a dead letter is changed in before it goes back; `None` leaves it as it was.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    pub body: Option<Bytes>,
    /// All of the headers; what they say of deaths is taken off.
    pub headers: Option<Headers>,
    /// With another key the message is routed by its first exchange again, instead of going to the queue
    /// in which it died.
    pub routing_key: Option<RoutingKey>,
}

/// Why a message can't be redriven. It stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Stuck {
    #[error("it has no x-death")]
    NotDead,
    #[error("the queue '{0}' that it died in is gone")]
    QueueGone(String),
    /// It goes on when somebody takes messages out there.
    #[error("the queue '{0}' is full")]
    QueueFull(String),
    #[error("it is larger than all that the queue '{0}' may hold")]
    NeverFits(String),
    #[error("the exchange '{exchange}' takes '{key}' to no queue")]
    Unroutable { exchange: String, key: String },
}

/// A message is back.
pub struct Redriven {
    /// The queues that it is in now.
    pub queues: Vec<QueueName>,
    /// Resolves when no crash puts it back; `None` for a transient message.
    pub commit: Option<Commit>,
}

impl Broker {
    /// Ready messages from the head on, at most `count`.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BrokerError> {
        let held = self.readable_queue(queue)?.peek(count);
        Ok(held.into_iter().map(Peeked::from).collect())
    }

    /// Ready messages behind the position `after` in the order of the log, at most `count`: to go through
    /// a queue page by page, whatever is taken out of it meanwhile.
    ///
    /// # Errors
    /// An unknown queue.
    pub fn peek_after(
        &self,
        queue: &QueueName,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<Peeked>, BrokerError> {
        let held = self.readable_queue(queue)?.ready_after(after, count);
        Ok(held.into_iter().map(Peeked::from).collect())
    }

    /// Takes a dead-lettered message out of `queue` and puts it into the queue in which it died last,
    /// as it was first published there or as `edit` has it, in one commit. `None`: no such message is
    /// ready.
    ///
    /// # Errors
    /// An unknown queue; [`BrokerError::NotRedrivable`]; a journal that takes no writes; headers that
    /// nest too deep. The message stays where it is.
    pub fn redrive(
        &self,
        queue: &QueueName,
        position: Position,
        edit: Edit,
    ) -> Result<Option<Redriven>, BrokerError> {
        let queue = self.readable_queue(queue)?;
        match queue.ready_at(position) {
            Some(held) => self.move_back(&queue, &held, edit),
            None => Ok(None),
        }
    }

    /// `seen` was looked at first: one that can't go never leaves its place.
    fn move_back(
        &self,
        queue: &Arc<Queue>,
        seen: &Held,
        edit: Edit,
    ) -> Result<Option<Redriven>, BrokerError> {
        let message = &seen.stored.message;
        if message.properties.persistent {
            self.inner.journal.writable()?;
        }
        let (message, targets) = self.revived(queue, message, edit)?;
        let Some((held, effects)) = queue.take_ready(seen) else { return Ok(None) };
        self.inner.run(queue, effects);
        Ok(Some(self.inner.move_into(queue, held, message, targets)))
    }

    /// The message as it was before it died, with the edit, and the queues that it goes to.
    fn revived(
        &self,
        queue: &Queue,
        dead: &Message,
        edit: Edit,
    ) -> Result<(Message, Targets), BrokerError> {
        let stuck = |why| BrokerError::NotRedrivable { queue: queue.spec.name.to_string(), why };
        let death = Death::newest(dead).ok_or_else(|| stuck(Stuck::NotDead))?;
        let mut message = dead.clone();
        if let Ok(exchange) = ExchangeName::new(death.exchange) {
            message.exchange = exchange;
        }
        if let Some(key) = death.routing_key.and_then(|key| RoutingKey::new(key).ok()) {
            message.routing_key = key;
        }
        if let Some(headers) = edit.headers {
            message.properties.headers = headers;
        }
        clear_deaths(&mut message.properties.headers);
        if let Some(body) = edit.body {
            message.body = body;
        }
        check_bounds(&message)?;
        let targets = match edit.routing_key {
            Some(key) => {
                message.routing_key = key;
                self.routed_anew(&message).map_err(stuck)?
            }
            None => self.died_in(&death).map_err(stuck)?,
        };
        for target in &targets {
            let name = || target.spec.name.to_string();
            match target.room_for(message.body.len() as u64) {
                Room::Free => {}
                Room::Full => return Err(stuck(Stuck::QueueFull(name()))),
                Room::Never => return Err(stuck(Stuck::NeverFits(name()))),
            }
        }
        Ok((message, targets))
    }

    fn died_in(&self, death: &Death<'_>) -> Result<Targets, Stuck> {
        let source = self.vhost.topology.read().queue(death.queue).cloned();
        match source {
            Ok(source) => Ok(Targets::from_elem(source, 1)),
            Err(_) => Err(Stuck::QueueGone(death.queue.to_owned())),
        }
    }

    fn routed_anew(&self, message: &Message) -> Result<Targets, Stuck> {
        match self.vhost.topology.read().route_published(message) {
            Ok(route) if !route.targets.is_empty() => Ok(route.targets),
            // An exchange that is gone takes it nowhere either.
            Ok(_) | Err(_) => Err(Stuck::Unroutable {
                exchange: message.exchange.to_string(),
                key: message.routing_key.to_string(),
            }),
        }
    }
}

impl Inner {
    /// No length holds the message off now: it has left its old queue, and a target that was filled in
    /// this moment must not lose it.
    fn move_into(&self, queue: &Queue, held: Held, message: Message, targets: Targets) -> Redriven {
        let why = |to| What::Redriven { queue: queue.spec.name.clone(), to };
        let (moved, commit) = self.leave(queue, held, message, &targets, why);
        queue.counters.redriven.increment(1);
        let queues = targets.iter().map(|target| target.spec.name.clone()).collect();
        for target in targets {
            self.enqueue_promised(&target, moved.clone(), self.now_ms());
        }
        Redriven { queues, commit }
    }
}
