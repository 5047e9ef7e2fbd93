//! Many messages at once: what a listener, a bridge or an importer has from one read.

use std::sync::Arc;

use super::access::Access;
use super::confirm::Confirms;
use super::error::BrokerError;
use super::publish::check_bounds;
use super::queue::{Held, Queue};
use super::records::KIND_MESSAGE;
use super::routing::{Route, may_have_more_keys};
use super::stored::Stored;
use super::vhost::Vhost;
use super::{Broker, Inner};
use crate::journal::{Entry, Payload, Position, Urgency};
use crate::model::message::Message;
use crate::model::names::ExchangeName;

/// A batch goes in pieces: others get the locks between them, and admission knows what it lets in.
const PIECE_MESSAGES_MAX: usize = 256;
const PIECE_BYTES_MAX: usize = 256 * 1024;

/// What became of messages that were published together, each known by its place in the batch.
#[derive(Default)]
pub struct PublishedAll {
    /// One for each message, in their order.
    pub confirms: Confirms,
    unrouted: Vec<usize>,
    /// The messages themselves, for who gives them back to the client. They count as memory, which
    /// nobody can wait for who holds them.
    returned: Option<Vec<Arc<Stored>>>,
}

impl PublishedAll {
    /// The places of the messages that reached no queue, rising: see [`super::Published::routed`].
    pub fn unrouted(&self) -> impl Iterator<Item = usize> {
        self.unrouted.iter().copied()
    }

    /// Of [`Broker::try_publish_checked`]: the messages that reached no queue, each with its place.
    pub(super) fn take_unrouted(&mut self) -> impl Iterator<Item = (usize, Message)> + use<> {
        let unrouted = std::mem::take(&mut self.unrouted).into_iter();
        let returned = self.returned.take().unwrap_or_default();
        unrouted.zip(returned).map(|(place, stored)| (place, stored.message.clone()))
    }
}

/// One message of a batch can't be published. Those before it are, and those behind it are not.
#[derive(thiserror::Error)]
#[error("message {place} of the batch was not published")]
pub struct PublishAllError<P = PublishedAll, E = BrokerError>
where
    E: std::error::Error + 'static,
{
    /// Its place in the batch, from 0 on.
    pub place: usize,
    #[source]
    pub error: E,
    /// What became of the messages before it.
    pub published: P,
}

impl<P, E: std::error::Error> PublishAllError<P, E> {
    /// The same in the words of a floor above.
    pub fn map<Q, F: std::error::Error>(
        self,
        published: impl FnOnce(P) -> Q,
        error: impl FnOnce(E) -> F,
    ) -> PublishAllError<Q, F> {
        let (error, published) = (error(self.error), published(self.published));
        PublishAllError { place: self.place, error, published }
    }
}

impl<P, E: std::error::Error> std::fmt::Debug for PublishAllError<P, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, error, .. } = self;
        f.debug_struct("PublishAllError").field("place", place).field("error", error).finish()
    }
}

/// Messages that pass admission and the locks together.
#[derive(Default)]
struct Piece {
    messages: Vec<Message>,
    /// What the persistent ones weigh.
    journal_bytes: usize,
    bytes: usize,
    /// Why the message behind them is refused.
    refused: Option<BrokerError>,
}

impl Piece {
    /// Takes the next messages, as far as they pass `check`. `false`: there are none.
    fn fill(
        &mut self,
        messages: &mut impl Iterator<Item = Message>,
        check: &mut impl FnMut(&mut Message) -> Result<(), BrokerError>,
    ) -> bool {
        (self.journal_bytes, self.bytes) = (0, 0);
        while self.messages.len() < PIECE_MESSAGES_MAX && self.bytes < PIECE_BYTES_MAX {
            let Some(mut message) = messages.next() else { break };
            if let Err(error) = check(&mut message).and_then(|()| check_bounds(&message)) {
                self.refused = Some(error);
                break;
            }
            let bytes = message.weight();
            self.bytes += bytes;
            self.journal_bytes += if message.properties.persistent { bytes } else { 0 };
            self.messages.push(message);
        }
        !self.messages.is_empty() || self.refused.is_some()
    }

    /// The journal takes nothing: what comes before the first message that needs it goes on.
    fn keep_transient(&mut self, error: BrokerError) {
        let is_persistent = |message: &Message| message.properties.persistent;
        if let Some(first) = self.messages.iter().position(is_persistent) {
            self.refuse_from(first, error);
        }
    }

    fn refuse_from(&mut self, at: usize, error: BrokerError) {
        self.messages.truncate(at);
        self.refused = Some(error);
    }
}

impl Broker {
    /// Publishes messages in their order, each as [`Broker::publish`] does, at a lower price: clock,
    /// topology, queues and journal are looked at once for many. Waits only for admission, which is asked
    /// for a few hundred messages at a time: a transient one waits with the persistent ones beside it. A caller
    /// that is cancelled there has published those before.
    ///
    /// One thing differs: up to 256 messages take their places in the log before the first of them enters
    /// a queue. What they displace there, or what a full queue refuses, is dead-lettered after that, with
    /// a place behind theirs: it stands behind those of them that go to its dead-letter queue directly.
    ///
    /// # Errors
    /// The first message that [`Broker::publish`] refuses, with what became of those before it.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        let mut messages = messages.into_iter();
        let (mut piece, mut all) = (Piece::default(), PublishedAll::default());
        let mut permitted = None;
        let mut check = |message: &mut Message| self.check_written(&mut permitted, message);
        while piece.fill(&mut messages, &mut check) {
            if let Err(error) = self.admit(piece.journal_bytes).await {
                piece.keep_transient(error);
            }
            all = self.inner.publish_piece(&self.vhost, &mut piece, all)?;
        }
        Ok(all)
    }

    /// As [`Broker::publish_all`], without waiting: the caller answers for how much is in flight.
    ///
    /// # Errors
    /// As [`Broker::publish_all`]; the memory alarm, and the disk alarm for a persistent message.
    pub fn try_publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        let mut permitted = None;
        self.try_publish_checked(messages, |message| self.check_written(&mut permitted, message))
    }

    /// As [`Broker::try_publish_all`], by one who says of each message whether the user may.
    pub(super) fn try_publish_checked(
        &self,
        messages: impl IntoIterator<Item = Message>,
        mut check: impl FnMut(&mut Message) -> Result<(), BrokerError>,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        let mut messages = messages.into_iter();
        let (mut piece, mut all) = (
            Piece::default(),
            PublishedAll { returned: Some(Vec::new()), ..PublishedAll::default() },
        );
        while piece.fill(&mut messages, &mut check) {
            if let Err(error) = self.check_memory() {
                piece.refuse_from(0, error);
            }
            if piece.journal_bytes > 0
                && let Err(error) = self.inner.journal.writable()
            {
                piece.keep_transient(error.into());
            }
            all = self.inner.publish_piece(&self.vhost, &mut piece, all)?;
        }
        Ok(all)
    }

    /// Most messages go where the one before went, which was `permitted`.
    fn check_written(
        &self,
        permitted: &mut Option<(ExchangeName, u64)>,
        message: &Message,
    ) -> Result<(), BrokerError> {
        if self.user.is_none() {
            return Ok(());
        }
        // Permissions may be taken while a batch waits.
        let users = self.users_generation();
        if !matches!(permitted, Some((exchange, of)) if *exchange == message.exchange && *of == users)
        {
            self.check_exchange(Access::Write, &message.exchange)?;
            *permitted = Some((message.exchange.clone(), users));
        }
        Ok(())
    }
}

impl PublishedAll {
    fn unless(self, refused: Option<BrokerError>) -> Result<Self, Box<PublishAllError>> {
        let Some(error) = refused else { return Ok(self) };
        Err(Box::new(PublishAllError { place: self.confirms.count(), error, published: self }))
    }
}

/// Messages that follow each other and go to the same queues.
struct Run {
    route: Route,
    count: usize,
}

impl Inner {
    /// The way of [`Inner::publish`], a step for all messages before the next step. Leaves an empty piece.
    fn publish_piece(
        &self,
        vhost: &Vhost,
        piece: &mut Piece,
        mut all: PublishedAll,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        let now_ms = self.now_ms();
        let (runs, refused) = route_all(vhost, &piece.messages);
        let refused = refused.or(piece.refused.take());
        let written = match runs.as_slice() {
            [Run { route, count }] => {
                let messages = piece.messages.get(..*count).unwrap_or_default();
                self.write_behind(messages, now_ms, &route.targets)
            }
            _ => None,
        };
        if let Some(commits) = written {
            piece.messages.clear();
            all.confirms.add_committing(commits);
            return all.unless(refused);
        }
        let mut messages = piece.messages.drain(..);
        let mut stored: Vec<Arc<Stored>> = Vec::with_capacity(messages.len());
        let mut memory_bytes = 0;
        let mut count_bytes = |bytes| {
            memory_bytes += bytes;
            self.memory.taken(bytes)
        };
        for Run { route, count } in &runs {
            for message in messages.by_ref().take(*count) {
                let targets = &route.targets;
                stored.push(self.store_published(message, now_ms, targets, &mut count_bytes));
            }
        }
        self.memory.take(memory_bytes);
        // Those behind the one that is refused.
        drop(messages);
        let first_place = all.confirms.count();
        let mut placed = self.append_all(stored, &mut all.confirms).into_iter();
        let mut place = first_place;
        for Run { route, count } in runs {
            let run = &placed.as_slice()[..count];
            for held in run {
                self.trace_published(&held.stored, held.position, now_ms, &route.targets);
            }
            if route.targets.iter().all(|queue| queue.is_for_replies) {
                all.unrouted.extend(place..place + count);
                if let Some(returned) = &mut all.returned {
                    returned.extend(run.iter().map(|held| held.stored.clone()));
                }
            }
            let mut refuse = |queue: &Queue, at: usize| {
                all.confirms.refuse(place + at, queue.spec.name.to_string());
            };
            if let Some((last, others)) = route.targets.split_last() {
                for queue in others {
                    let handles = run.iter().cloned();
                    self.enqueue_run(queue, handles, now_ms, |at| refuse(queue, at));
                }
                let run = placed.by_ref().take(count);
                self.enqueue_run(last, run, now_ms, |at| refuse(last, at));
            } else {
                placed.by_ref().take(count).for_each(drop);
            }
            place += count;
        }
        all.unless(refused)
    }

    /// Gives each message its place in the log, with its record if it is durable.
    fn append_all(&self, stored: Vec<Arc<Stored>>, confirms: &mut Confirms) -> Vec<Held> {
        let mut positions: Vec<Position> = Vec::with_capacity(stored.len());
        for run in stored.chunk_by(|a, b| a.is_durable() == b.is_durable()) {
            if !run.first().is_some_and(|stored| stored.is_durable()) {
                positions.extend(run.iter().map(|_| self.journal.next_position()));
                confirms.add_done(run.len());
                continue;
            }
            let commits = self.journal.append_facts(KIND_MESSAGE, run, Urgency::Now);
            for (stored, position) in run.iter().zip(commits.positions()) {
                // Nobody settles them before: they are in no queue yet.
                stored.set_entry(Entry { position, weight: stored.weight() });
            }
            positions.extend(commits.positions());
            confirms.add_committing(commits);
        }
        let placed = stored.into_iter().zip(positions);
        placed.map(|(stored, position)| Held::new(stored, position)).collect()
    }
}

/// Where each message goes, up to the first that goes nowhere because it is refused, and why.
fn route_all(vhost: &Vhost, messages: &[Message]) -> (Vec<Run>, Option<BrokerError>) {
    let topology = vhost.topology.read();
    let mut runs: Vec<Run> = Vec::new();
    let mut before: Option<&Message> = None;
    for message in messages {
        let is_alike = before.is_some_and(|before| {
            before.routing_key == message.routing_key && before.exchange == message.exchange
        });
        before = Some(message);
        match runs.last_mut() {
            Some(run) if is_alike && !run.route.by_headers && !may_have_more_keys(message) => {
                run.count += 1;
            }
            _ => match topology.route_published(message) {
                Ok(route) => runs.push(Run { route, count: 1 }),
                Err(error) => return (runs, Some(error)),
            },
        }
    }
    (runs, None)
}
