//! One message between its admission and its confirm.
//!
//! No task is behind it: whoever waits for a flight moves it on, most often the publisher itself, so that a
//! message alone costs no more wake-ups than it does with lapin.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use lapin::types::ShortString;
use lapin::{Confirmation, ErrorKind, PublisherConfirm};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::refusal::{refusal, unreachable};
use crate::backend::BackendError;
use crate::broker::BrokerError;

pub(super) type Outcome = Result<(), BackendError>;

/// Hands a message to the server, and ends when it has been written.
pub(super) type Sending = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send>>;

/// What a message holds of the window until it is confirmed.
pub(super) type Share = OwnedSemaphorePermit;

/// Who may wait for a flight, at most one of each.
#[derive(Clone, Copy)]
pub(super) enum Waits {
    /// Whoever published the message.
    Publisher,
    /// The task that hands over what could not be handed over at once.
    Sender,
    /// The task that lands flights which nobody else waits for.
    Lander,
}

pub(super) struct Flight {
    stage: Mutex<Stage>,
    waiting: Arc<Waiting>,
}

enum Stage {
    Queued(Share),
    Sending(Held, Sending),
    Sent(Held, PublisherConfirm),
    Landed(Outcome),
}

/// What a message on its way keeps.
struct Held {
    _share: Share,
    /// The exchange, or with the default one the queue.
    about: ShortString,
}

impl Flight {
    pub fn new(share: Share) -> Arc<Self> {
        Arc::new(Self { stage: Mutex::new(Stage::Queued(share)), waiting: Arc::default() })
    }

    /// Begins to send, once; `about`: the exchange, or with the default one the queue. On return the message
    /// stands in its place before those that are sent after it.
    pub fn send(&self, about: ShortString, sending: Sending) {
        let mut stage = self.stage.lock();
        match std::mem::replace(&mut *stage, Stage::Landed(Ok(()))) {
            Stage::Queued(share) => {
                *stage = Stage::Sending(Held { _share: share, about }, sending);
            }
            other => *stage = other,
        }
        drop(stage);
        if self.is_landed() {
            self.waiting.wake_all();
        }
    }

    /// Resolves when it is known what became of the message.
    pub fn poll_landed(&self, who: Waits, context: &mut Context<'_>) -> Poll<Outcome> {
        self.waiting.add(who, context.waker());
        match &*self.advance() {
            Stage::Landed(outcome) => Poll::Ready(outcome.clone()),
            _ => Poll::Pending,
        }
    }

    /// Resolves when the message has been written, or never will be.
    pub fn poll_written(&self, who: Waits, context: &mut Context<'_>) -> Poll<()> {
        self.waiting.add(who, context.waker());
        match self.is_written() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub fn is_written(&self) -> bool {
        matches!(&*self.advance(), Stage::Sent(..) | Stage::Landed(_))
    }

    pub fn is_landed(&self) -> bool {
        matches!(&*self.advance(), Stage::Landed(_))
    }

    /// Ends it, unless it has ended.
    pub fn land(&self, outcome: Outcome) {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Landed(_)) {
            return;
        }
        let over = std::mem::replace(&mut *stage, Stage::Landed(outcome));
        drop(stage);
        // Its share goes back, which may wake others.
        drop(over);
        self.waiting.wake_all();
    }

    /// Moves on as far as the server's answers let it. What is to come wakes all who wait.
    fn advance(&self) -> parking_lot::MutexGuard<'_, Stage> {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Queued(_) | Stage::Landed(_)) {
            return stage;
        }
        let waker = Waker::from(self.waiting.clone());
        let mut context = Context::from_waker(&waker);
        if let Stage::Sending(held, sending) = &mut *stage
            && let Poll::Ready(sent) = sending.as_mut().poll(&mut context)
        {
            let sent = sent.map_err(|error| unsent(error, held.about.as_str()));
            *stage = match (std::mem::replace(&mut *stage, Stage::Landed(Ok(()))), sent) {
                (Stage::Sending(held, _), Ok(confirm)) => Stage::Sent(held, confirm),
                (_, sent) => Stage::Landed(sent.map(drop)),
            };
        }
        if let Stage::Sent(held, confirm) = &mut *stage
            && let Poll::Ready(confirmed) = Pin::new(confirm).poll(&mut context)
        {
            *stage = Stage::Landed(outcome(confirmed, held.about.as_str()));
        }
        stage
    }
}

/// A message in the queue: it lands when it is dropped there, as nobody else would tell its publisher.
pub(super) struct Ticket(pub Arc<Flight>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if matches!(*self.0.stage.lock(), Stage::Queued(_)) {
            self.0.land(Err(closed()));
        }
    }
}

/// Those who wait for one flight. Its lock is never held while anything else is called: lapin wakes under
/// locks of its own.
#[derive(Default)]
struct Waiting(Mutex<[Option<Waker>; 3]>);

impl Waiting {
    fn add(&self, who: Waits, waker: &Waker) {
        let waker = Some(waker.clone());
        let mut waiting = self.0.lock();
        let before = std::mem::replace(
            match (who, &mut *waiting) {
                (Waits::Publisher, [place, _, _])
                | (Waits::Sender, [_, place, _])
                | (Waits::Lander, [_, _, place]) => place,
            },
            waker,
        );
        drop(waiting);
        drop(before);
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

pub(super) fn closed() -> BackendError {
    unreachable("this end was closed")
}

pub(super) fn unconfirmed(why: impl std::fmt::Display) -> BackendError {
    unreachable(format!("not confirmed, it may have arrived or not: {why}"))
}

fn unsent(error: lapin::Error, about: &str) -> BackendError {
    match error.kind() {
        ErrorKind::SerialisationError(_) => refusal(error),
        _ => failed(error, about),
    }
}

fn outcome(confirmation: lapin::Result<Confirmation>, about: &str) -> Outcome {
    match confirmation {
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => Ok(()),
        Ok(Confirmation::Nack(_)) => {
            Err(BackendError::Broker(BrokerError::Nacked { name: about.to_owned() }))
        }
        Err(error) => Err(failed(error, about)),
    }
}

/// A refusal closes the channel, and ends everything in flight on it: it is the message's own only if it
/// says so.
fn failed(error: lapin::Error, about: &str) -> BackendError {
    match refusal(error) {
        BackendError::Broker(refused) if refused.to_string().contains(&format!("'{about}'")) => {
            BackendError::Broker(refused)
        }
        other => unconfirmed(other),
    }
}
