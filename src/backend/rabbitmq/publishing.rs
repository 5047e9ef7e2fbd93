//! Messages on their way to the server.
//!
//! A publisher hands its message over itself, if nothing stands before it; otherwise it goes through a
//! queue, which one task empties in order. Between an admission and its confirm a message takes a share of
//! the window, so what this process holds is bounded, and a server that stands still holds its publishers off.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::RabbitMq;
use super::delay::{DELAY_MS_MAX, Delay, rounded_ms};
use super::flight::{Flight, Outcome, Share, Ticket, Waits, closed};
use super::line::Line;
use super::link::Link;
use super::refusal::unreachable;
use super::session::Session;
use super::values::{precondition, properties, short};
use crate::backend::{Alarm, BackendError, PublishAllError, PublishedAll};
use crate::broker::BrokerError;
use crate::broker::shared::{check_bounds, check_keys};
use crate::model::message::{Message, Value, X_DELAY};
use crate::model::names::ExchangeName;

/// A larger body is copied by the task that empties the queue, where nobody waits for a lock meanwhile.
const DIRECT_BYTES_MAX: usize = 64 * 1024;

/// Messages, and units of their bodies, that may be without a confirm: 64 MiB in all.
pub(super) const WINDOW_UNITS: u32 = 16_384;
const UNIT_BYTES: usize = 4_096;
/// How long a message waits here for a connection.
const WAITS_FOR_CONNECTION: Duration = Duration::from_secs(30);
/// Exchanges that are known to be there.
const KNOWN_MAX: usize = 4_096;

/// Resolves when the server has confirmed the message.
pub struct Confirm(State);

enum State {
    Awaited(Arc<Flight>),
    Known(Outcome),
}

impl Confirm {
    pub(super) fn known(outcome: Outcome) -> Self {
        Self(State::Known(outcome))
    }

    /// Cancel safe.
    pub async fn confirmed(&mut self) -> Outcome {
        match &self.0 {
            State::Known(outcome) => outcome.clone(),
            State::Awaited(flight) => {
                poll_fn(|context| flight.poll_landed(Waits::Publisher, context)).await
            }
        }
    }
}

/// The confirms of messages that were published together, in their order.
#[derive(Default)]
pub struct Confirms(std::collections::VecDeque<Confirm>);

impl Confirms {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub async fn next(&mut self) -> Option<Result<(), BackendError>> {
        let outcome = self.0.front_mut()?.confirmed().await;
        self.0.pop_front();
        Some(outcome)
    }

    pub async fn all(&mut self) -> Vec<(usize, BackendError)> {
        let mut failed = Vec::new();
        let mut place = 0;
        while let Some(outcome) = self.next().await {
            failed.extend(outcome.err().map(|error| (place, error)));
            place += 1;
        }
        failed
    }
}

/// A message as lapin takes it.
pub(super) struct Outgoing {
    pub exchange: ShortString,
    pub key: ShortString,
    pub properties: BasicProperties,
    pub body: Bytes,
}

impl Outgoing {
    pub fn new(message: &Message) -> Result<Self, BackendError> {
        Ok(Self {
            exchange: short(message.exchange.as_str())?,
            key: short(message.routing_key.as_str())?,
            properties: properties(&message.properties)?,
            body: message.body.clone(),
        })
    }
}

struct Queued {
    outgoing: Outgoing,
    since: Instant,
    ticket: Ticket,
}

pub(super) struct Publisher {
    way: Arc<Way>,
    queue: mpsc::Sender<Queued>,
    known: Mutex<AHashSet<ExchangeName>>,
    sender: AbortHandle,
}

/// What the publishers and the task that empties the queue share.
struct Way {
    window: Arc<Semaphore>,
    /// How many wait for a share of the window.
    starving: Arc<AtomicUsize>,
    /// Held while a message is handed over, so that messages are in one order.
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    line: Option<Arc<Line>>,
    /// Messages in the queue, and the one that was taken from it but is not sent yet.
    queued: usize,
}

impl Publisher {
    pub fn start(link: Arc<Link>) -> Self {
        let (queue, waiting) = mpsc::channel(WINDOW_UNITS as usize);
        let way = Arc::new(Way {
            window: Arc::new(Semaphore::new(WINDOW_UNITS as usize)),
            starving: Arc::default(),
            now: Mutex::default(),
        });
        let sender = tokio::spawn(send_all(link, way.clone(), waiting)).abort_handle();
        Self { way, queue, known: Mutex::default(), sender }
    }

    pub fn forget_exchange(&self, name: &ExchangeName) {
        self.known.lock().remove(name);
    }

    fn knows(&self, exchange: &ExchangeName) -> bool {
        exchange.as_str().is_empty() || self.known.lock().contains(exchange)
    }

    fn learn(&self, exchange: ExchangeName) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(exchange);
    }

    fn units(body_bytes: usize) -> u32 {
        let units = u32::try_from(body_bytes / UNIT_BYTES + 1).unwrap_or(WINDOW_UNITS);
        units.min(WINDOW_UNITS)
    }

    async fn admit(&self, body_bytes: usize) -> Result<Share, BackendError> {
        if let Some(share) = self.try_admit(body_bytes) {
            return Ok(share);
        }
        let _starving = Starving::new(&self.way.starving);
        if let Some(line) = &self.way.now.lock().line {
            line.wake_lander();
        }
        let share = self.way.window.clone().acquire_many_owned(Self::units(body_bytes)).await;
        share.map_err(|_| closed())
    }

    fn try_admit(&self, body_bytes: usize) -> Option<Share> {
        let share = || self.way.window.clone().try_acquire_many_owned(Self::units(body_bytes)).ok();
        share().or_else(|| {
            if let Some(line) = &self.way.now.lock().line {
                line.reap();
            }
            share()
        })
    }

    fn enqueue(&self, outgoing: Outgoing, share: Share) -> Confirm {
        let flight = Flight::new(share);
        let confirm = Confirm(State::Awaited(flight.clone()));
        let mut now = self.way.now.lock();
        if now.queued == 0
            && outgoing.body.len() <= DIRECT_BYTES_MAX
            && let Some(line) = now.line.as_ref().filter(|line| line.is_free())
        {
            line.send(outgoing, flight);
            return confirm;
        }
        let queued = Queued { outgoing, since: Instant::now(), ticket: Ticket(flight) };
        // There is a place for whoever has a share; a ticket that is turned away says so itself.
        if self.queue.try_send(queued).is_ok() {
            now.queued += 1;
        }
        confirm
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

/// One who waits for a share.
struct Starving<'a>(&'a AtomicUsize);

impl<'a> Starving<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Hands over what is queued, on one session after the other. Nobody else sends meanwhile, so no lock is held
/// while lapin copies a body.
async fn send_all(link: Arc<Link>, way: Arc<Way>, mut waiting: mpsc::Receiver<Queued>) {
    while let Some(Queued { outgoing, since, ticket }) = waiting.recv().await {
        match way.free_line(&link, since + WAITS_FOR_CONNECTION).await {
            Ok(line) => line.send(outgoing, ticket.0.clone()),
            Err(error) => ticket.0.land(Err(error)),
        }
        way.now.lock().queued -= 1;
    }
}

impl Way {
    /// A line that takes a message now; a session that ends before is followed by the next one.
    async fn free_line(&self, link: &Link, deadline: Instant) -> Result<Arc<Line>, BackendError> {
        loop {
            let line = self.line(link, deadline).await?;
            line.free_or_ended().await;
            if line.is_open() {
                return Ok(line);
            }
        }
    }

    /// The line, opened anew if it is closed; for the one task that empties the queue.
    async fn line(&self, link: &Link, deadline: Instant) -> Result<Arc<Line>, BackendError> {
        let last = self.now.lock().line.clone();
        if let Some(open) = last.filter(|line| line.is_open()) {
            return Ok(open);
        }
        let line = Arc::new(Line::open(link, deadline, self.starving.clone()).await?);
        self.now.lock().line = Some(line.clone());
        Ok(line)
    }
}

impl RabbitMq {
    /// Waits for a share of the window, and no longer; the confirm says what became of the message.
    pub async fn publish(&self, message: Message) -> Result<Confirm, BackendError> {
        let outgoing = self.prepare(message).await?;
        let share = self.publisher.admit(outgoing.body.len()).await?;
        Ok(self.publisher.enqueue(outgoing, share))
    }

    /// Which of them reached no queue is not told: the server would have to be asked one by one.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<PublishedAll, Box<PublishAllError>> {
        let mut confirms = Confirms::default();
        for (place, message) in messages.into_iter().enumerate() {
            let published = self.publish(message).await;
            match published {
                Ok(confirm) => confirms.0.push_back(confirm),
                Err(error) => {
                    let published = published_all(confirms);
                    return Err(Box::new(PublishAllError { place, error, published }));
                }
            }
        }
        Ok(published_all(confirms))
    }

    /// As [`RabbitMq::publish_mandatory`], but where that would wait for the server it is refused.
    pub async fn try_publish_mandatory(
        &self,
        message: Message,
    ) -> Result<(Confirm, bool), BackendError> {
        self.check_open()?;
        self.publish_mandatory(message).await
    }

    fn check_open(&self) -> Result<(), BackendError> {
        let session = self.link.session_now()?;
        if !session.is_open() {
            return Err(unreachable("the connection ended"));
        }
        match session.blocked() {
            Some(reason) => Err(BackendError::Broker(BrokerError::Alarm(Alarm::Blocked(reason)))),
            None => Ok(()),
        }
    }

    /// As [`RabbitMq::publish`], but where that would wait it is refused.
    pub async fn try_publish(&self, message: Message) -> Result<Confirm, BackendError> {
        self.check_open()?;
        let outgoing = self.prepare(message).await?;
        let share = self.publisher.try_admit(outgoing.body.len());
        let share = share.ok_or_else(|| unreachable("too many messages are not confirmed yet"))?;
        Ok(self.publisher.enqueue(outgoing, share))
    }

    /// `false`: the message reached no queue. Known only with the confirm, so that is waited for. Each
    /// has a channel of its own meanwhile: which message came back is certain then.
    pub async fn publish_mandatory(
        &self,
        message: Message,
    ) -> Result<(Confirm, bool), BackendError> {
        let outgoing = self.prepare(message).await?;
        let _share = self.publisher.admit(outgoing.body.len()).await?;
        let session = self.link.session().await?;
        session.unblocked_or_ended().await;
        match publish_alone(&session, outgoing).await {
            Ok(routed) => Ok((Confirm::known(Ok(())), routed)),
            Err(BackendError::Broker(refused @ BrokerError::Nacked { .. })) => {
                Ok((Confirm::known(Err(BackendError::Broker(refused))), true))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks a message here, where a refusal is its own alone: the server would close the channel over
    /// it. One with `x-delay` is led through the queue of its delay.
    async fn prepare(&self, mut message: Message) -> Result<Outgoing, BackendError> {
        check_bounds(&message)?;
        check_keys(&message)?;
        if let Some(claimed) = &message.properties.user_id
            && claimed != self.address.user()
        {
            let user = self.address.user();
            return Err(precondition(format!(
                "user_id property set to '{claimed}' but authenticated user was '{user}'"
            )));
        }
        if !self.publisher.knows(&message.exchange) {
            self.check_exchange(&message.exchange).await?;
            self.publisher.learn(message.exchange.clone());
        }
        let delay_ms = message.properties.headers.get(X_DELAY).and_then(Value::as_int);
        if let Some(delay_ms @ 1..) = delay_ms {
            self.lead_through_delay(&mut message, delay_ms as u64).await?;
        }
        Outgoing::new(&message)
    }

    async fn lead_through_delay(
        &self,
        message: &mut Message,
        delay_ms: u64,
    ) -> Result<(), BackendError> {
        if delay_ms > DELAY_MS_MAX {
            return Err(precondition(format!(
                "x-delay of {delay_ms} ms is longer than RabbitMQ keeps time, {DELAY_MS_MAX} ms"
            )));
        }
        if message.properties.expiration_ms.is_some() {
            return Err(super::refusal::unsupported(
                "a message with x-delay and an expiration",
                "its time to live would begin before its delay ends",
            ));
        }
        let ms = rounded_ms(delay_ms).min(DELAY_MS_MAX);
        let delay = Delay { ms, to: message.exchange.clone() };
        let session = self.link.session().await?;
        self.delays.declare(&session, &delay).await?;
        message.exchange = ExchangeName::new(delay.name()).map_err(BrokerError::from)?;
        // What is dead-lettered must not be delayed again.
        message.properties.headers.remove(X_DELAY);
        Ok(())
    }
}

fn published_all(confirms: Confirms) -> PublishedAll {
    PublishedAll { confirms: crate::backend::Confirms::RabbitMq(confirms), unrouted: Vec::new() }
}

/// Publishes with `mandatory` and waits for the confirm; `false`: the message came back.
///
/// # Errors
/// A refusal of the server's; a full queue's nack; a connection that ended: then it may have arrived.
pub(super) async fn publish_alone(
    session: &Session,
    outgoing: Outgoing,
) -> Result<bool, BackendError> {
    let Outgoing { exchange, key, properties, body } = outgoing;
    let name = key.to_string();
    let confirmation = session
        .publish_alone(move |channel| async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            channel.basic_publish(exchange, key, options, &body, properties).await?.await
        })
        .await?;
    match confirmation {
        Confirmation::Nack(_) => Err(BackendError::Broker(BrokerError::Nacked { name })),
        other => Ok(other.take_message().is_none()),
    }
}
