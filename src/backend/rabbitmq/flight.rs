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
        drop(self.advance(None));
    }

    /// Resolves when it is known what became of the message.
    pub fn poll_landed(&self, who: Waits, context: &mut Context<'_>) -> Poll<Outcome> {
        self.waiting.add(who, context.waker());
        let outcome = match &*self.advance(Some(who)) {
            Stage::Landed(outcome) => outcome.clone(),
            _ => return Poll::Pending,
        };
        // A waker keeps its task in memory.
        let own = who.place(&mut self.waiting.0.lock()).take();
        drop(own);
        Poll::Ready(outcome)
    }

    /// Resolves when the message has been written, or never will be.
    pub fn poll_written(&self, who: Waits, context: &mut Context<'_>) -> Poll<()> {
        self.waiting.add(who, context.waker());
        match &*self.advance(Some(who)) {
            Stage::Sent(..) | Stage::Landed(_) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    pub fn is_written(&self) -> bool {
        matches!(&*self.advance(None), Stage::Sent(..) | Stage::Landed(_))
    }

    pub fn is_landed(&self) -> bool {
        matches!(&*self.advance(None), Stage::Landed(_))
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
        self.waiting.wake_others(None);
    }

    /// Moves on as far as the server's answers let it. What is to come wakes all who wait; what has come is told
    /// to the others than `who`: lapin has an answer ready before it wakes for it, and does not wake any more for
    /// one that was taken in between.
    fn advance(&self, who: Option<Waits>) -> parking_lot::MutexGuard<'_, Stage> {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Queued(_) | Stage::Landed(_)) {
            return stage;
        }
        let before = std::mem::discriminant(&*stage);
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
        if before != std::mem::discriminant(&*stage) {
            self.waiting.wake_others(who);
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
        let before = std::mem::replace(who.place(&mut self.0.lock()), waker);
        drop(before);
    }

    fn wake_others(&self, who: Option<Waits>) {
        let mut waiting = self.0.lock();
        let own = who.and_then(|who| who.place(&mut waiting).take());
        let others = std::mem::take(&mut *waiting);
        if let Some(who) = who {
            *who.place(&mut waiting) = own;
        }
        drop(waiting);
        others.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Waits {
    fn place(self, [publisher, sender, lander]: &mut [Option<Waker>; 3]) -> &mut Option<Waker> {
        match self {
            Self::Publisher => publisher,
            Self::Sender => sender,
            Self::Lander => lander,
        }
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_others(None);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_others(None);
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
        ErrorKind::InvalidChannelState(_, "basic.publish") => {
            unreachable("not sent: the channel is closed")
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// As lapin has an answer ready before it wakes for it.
    #[test]
    fn whoever_takes_an_answer_wakes_the_others() {
        let window = Arc::new(Semaphore::new(1));
        let flight = Flight::new(window.clone().try_acquire_owned().unwrap());
        let is_ready = Arc::new(AtomicBool::new(false));
        let answer = is_ready.clone();
        let sending = std::future::poll_fn(move |_| match answer.load(Ordering::SeqCst) {
            true => Poll::Ready(Err(ErrorKind::ChannelsLimitReached.into())),
            false => Poll::Pending,
        });
        flight.send("queue".into(), Box::pin(sending));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(flight.poll_landed(Waits::Publisher, &mut context).is_pending());
        assert!(flight.poll_written(Waits::Sender, &mut context).is_pending());
        is_ready.store(true, Ordering::SeqCst);
        assert!(flight.poll_written(Waits::Sender, &mut context).is_ready());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "the publisher, and not the sender itself");
        assert!(flight.poll_landed(Waits::Publisher, &mut context).is_ready());
        assert_eq!(window.available_permits(), 1);
    }
    #[test]
    fn a_flight_that_landed_keeps_no_task() {
        let window = Arc::new(Semaphore::new(1));
        let flight = Flight::new(window.try_acquire_owned().unwrap());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(flight.poll_landed(Waits::Publisher, &mut context).is_pending());
        flight.land(Ok(()));
        assert!(flight.poll_landed(Waits::Publisher, &mut context).is_ready());
        drop(waker);
        assert_eq!(Arc::strong_count(&woken), 1);
    }
}
