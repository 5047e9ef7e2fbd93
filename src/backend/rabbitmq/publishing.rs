//! Messages on their way to the server.
//!
//! One task hands them over, in order, on one channel; another waits for the confirms. Between an
//! admission and its confirm a message takes a share of the window, so what this process holds is
//! bounded, and a server that stands still holds its publishers off.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::RabbitMq;
use super::delay::{DELAY_MS_MAX, Delay, rounded_ms};
use super::link::Link;
use super::refusal::{refusal, unreachable};
use super::session::Session;
use super::values::{precondition, properties, short};
use crate::backend::{Alarm, BackendError, PublishAllError, PublishedAll};
use crate::broker::BrokerError;
use crate::broker::shared::{X_DELAY, check_bounds, check_keys};
use crate::model::message::{Message, Value};
use crate::model::names::ExchangeName;

/// Messages, and units of their bodies, that may be without a confirm: 64 MiB in all.
const WINDOW_UNITS: u32 = 16_384;
const UNIT_BYTES: usize = 4_096;
/// How long a message waits here for a connection.
const WAITS_FOR_CONNECTION: Duration = Duration::from_secs(30);
/// Exchanges that are known to be there.
const KNOWN_MAX: usize = 4_096;

/// Resolves when the server has confirmed the message.
pub struct Confirm(State);

enum State {
    Awaited(oneshot::Receiver<Result<(), BackendError>>),
    Known(Result<(), BackendError>),
}

impl Confirm {
    pub(super) fn known(outcome: Result<(), BackendError>) -> Self {
        Self(State::Known(outcome))
    }

    /// Cancel safe; to be awaited to its end once.
    pub async fn confirmed(&mut self) -> Result<(), BackendError> {
        match &mut self.0 {
            State::Known(outcome) => outcome.clone(),
            State::Awaited(outcome) => outcome.await.unwrap_or_else(|_| Err(closed())),
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

fn closed() -> BackendError {
    unreachable("this end was closed")
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
    flight: Flight,
}

/// What a message holds until it is confirmed, and who waits for that.
struct Flight {
    done: oneshot::Sender<Result<(), BackendError>>,
    _share: OwnedSemaphorePermit,
}

impl Flight {
    fn land(self, outcome: Result<(), BackendError>) {
        // Who does not listen does not want to know.
        let _ = self.done.send(outcome);
    }
}

pub(super) struct Publisher {
    window: Arc<Semaphore>,
    queue: mpsc::Sender<Queued>,
    known: Mutex<AHashSet<ExchangeName>>,
    sender: AbortHandle,
}

impl Publisher {
    pub fn start(link: Arc<Link>) -> Self {
        let (queue, waiting) = mpsc::channel(WINDOW_UNITS as usize);
        let sender = tokio::spawn(send_all(link, waiting)).abort_handle();
        let window = Arc::new(Semaphore::new(WINDOW_UNITS as usize));
        Self { window, queue, known: Mutex::default(), sender }
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

    async fn admit(&self, body_bytes: usize) -> Result<OwnedSemaphorePermit, BackendError> {
        let share = self.window.clone().acquire_many_owned(Self::units(body_bytes)).await;
        share.map_err(|_| closed())
    }

    fn enqueue(&self, outgoing: Outgoing, share: OwnedSemaphorePermit) -> Confirm {
        let (done, outcome) = oneshot::channel();
        let flight = Flight { done, _share: share };
        let queued = Queued { outgoing, since: Instant::now(), flight };
        // There is a place for whoever has a share.
        match self.queue.try_send(queued) {
            Ok(()) => Confirm(State::Awaited(outcome)),
            Err(_) => Confirm::known(Err(closed())),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

/// Hands messages over, on one session after the other.
async fn send_all(link: Arc<Link>, mut waiting: mpsc::Receiver<Queued>) {
    let mut line: Option<Line> = None;
    while let Some(Queued { outgoing, since, flight }) = waiting.recv().await {
        let open = match line.take().filter(Line::is_open) {
            Some(open) => Ok(open),
            None => Line::open(&link, since + WAITS_FOR_CONNECTION).await,
        };
        match open {
            Ok(open) => {
                open.send(outgoing, flight).await;
                line = Some(open);
            }
            Err(error) => flight.land(Err(error)),
        }
    }
}

/// A channel with confirms, and who waits for them.
struct Line {
    session: Arc<Session>,
    channel: Channel,
    flights: mpsc::Sender<(PublisherConfirm, ShortString, Flight)>,
}

impl Line {
    async fn open(link: &Link, deadline: Instant) -> Result<Self, BackendError> {
        let session = link.session_until(deadline).await?;
        let channel = session.publishing_channel().await?;
        let (flights, in_flight) = mpsc::channel(WINDOW_UNITS as usize);
        tokio::spawn(land_all(in_flight, session.end()));
        Ok(Self { session, channel, flights })
    }

    fn is_open(&self) -> bool {
        self.channel.status().connected() && self.session.is_open()
    }

    async fn send(&self, outgoing: Outgoing, flight: Flight) {
        self.session.unblocked_or_ended().await;
        let Outgoing { exchange, key, properties, body } = outgoing;
        let about = if exchange.as_str().is_empty() { key.clone() } else { exchange.clone() };
        let options = BasicPublishOptions::default();
        let publish = self.channel.basic_publish(exchange, key, options, &body, properties);
        match self.session.while_it_lasts(publish).await {
            Ok(Ok(confirm)) => {
                let sent = self.flights.send((confirm, about, flight)).await;
                if let Err(mpsc::error::SendError((_, _, flight))) = sent {
                    flight.land(Err(closed()));
                }
            }
            Ok(Err(error)) => flight.land(Err(refusal(error))),
            Err(error) => flight.land(Err(error)),
        }
    }
}

/// Confirms come nearly in the order of the messages, so they are waited for in that order.
async fn land_all(
    mut flights: mpsc::Receiver<(PublisherConfirm, ShortString, Flight)>,
    end: impl Future<Output = ()>,
) {
    let mut end = std::pin::pin!(end);
    let mut is_over = false;
    while let Some((mut confirm, about, flight)) = flights.recv().await {
        let over = async {
            if !is_over {
                end.as_mut().await;
            }
        };
        let confirmed = tokio::select! {
            biased;
            confirmed = &mut confirm => Some(confirmed),
            () = over => None,
        };
        is_over |= confirmed.is_none();
        flight.land(match confirmed {
            Some(confirmed) => outcome(confirmed, about.as_str()),
            None => Err(unconfirmed("the connection ended")),
        });
    }
}

fn unconfirmed(why: impl std::fmt::Display) -> BackendError {
    unreachable(format!("not confirmed, it may have arrived or not: {why}"))
}

/// `about`: the exchange, or with the default one the queue.
fn outcome(confirmation: lapin::Result<Confirmation>, about: &str) -> Result<(), BackendError> {
    match confirmation {
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => Ok(()),
        Ok(Confirmation::Nack(_)) => {
            Err(BackendError::Broker(BrokerError::Nacked { name: about.to_owned() }))
        }
        // A refusal closes the channel, and ends everything in flight on it.
        Err(error) => match refusal(error) {
            BackendError::Broker(refused)
                if refused.to_string().contains(&format!("'{about}'")) =>
            {
                Err(BackendError::Broker(refused))
            }
            other => Err(unconfirmed(other)),
        },
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
        let units = Publisher::units(outgoing.body.len());
        let share = self.publisher.window.clone().try_acquire_many_owned(units);
        let share = share.map_err(|_| unreachable("too many messages are not confirmed yet"))?;
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
