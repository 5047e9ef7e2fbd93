//! A channel with confirms, and the flights on it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::Channel;
use lapin::options::BasicPublishOptions;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::flight::{Flight, Waits, unconfirmed};
use super::link::Link;
use super::publishing::{Outgoing, WINDOW_UNITS};
use super::session::Session;
use crate::backend::BackendError;

pub(super) struct Line {
    session: Arc<Session>,
    channel: Arc<Channel>,
    flights: Arc<Flights>,
}

impl Line {
    /// `starving`: how many wait for a share of the window.
    ///
    /// # Errors
    /// No connection by the deadline; a connection that ended.
    pub async fn open(
        link: &Link,
        deadline: Instant,
        starving: Arc<AtomicUsize>,
    ) -> Result<Self, BackendError> {
        let session = link.session_until(deadline).await?;
        let channel = Arc::new(session.publishing_channel().await?);
        let flights = Arc::new(Flights { list: Mutex::default(), starving, wanted: Notify::new() });
        tokio::spawn(land_all(Ends(flights.clone()), session.end()));
        Ok(Self { session, channel, flights })
    }

    pub fn is_open(&self) -> bool {
        self.channel.status().connected() && self.session.is_open()
    }

    /// Whether a message may be sent at once. What lapin has not written yet is one message at most: it would
    /// write more of them to a channel that the server has closed, and that ends the connection.
    pub fn is_free(&self) -> bool {
        self.is_open()
            && self.session.blocked().is_none()
            && self.flights.last().is_none_or(|last| last.is_written())
    }

    /// Resolves when a message may be sent, or can't be.
    pub async fn free_or_ended(&self) {
        self.session.unblocked_or_ended().await;
        if let Some(last) = self.flights.last() {
            poll_fn(|context| last.poll_written(Waits::Sender, context)).await;
        }
    }

    /// Messages are sent one after the other: lapin numbers them before it puts them in line.
    pub fn send(&self, outgoing: Outgoing, flight: Arc<Flight>) {
        let Outgoing { exchange, key, properties, body } = outgoing;
        let about = if exchange.as_str().is_empty() { key.clone() } else { exchange.clone() };
        let (channel, options) = (self.channel.clone(), BasicPublishOptions::default());
        let sending = Box::pin(async move {
            channel.basic_publish(exchange, key, options, &body, properties).await
        });
        flight.send(about, sending);
        self.flights.add(flight);
    }

    /// Gives back the shares of what is confirmed, up to the first that is not.
    pub fn reap(&self) {
        self.flights.list.lock().reap();
    }

    /// To be called by who begins to wait for a share.
    pub fn wake_lander(&self) {
        self.flights.wanted.notify_one();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.flights.list.lock().is_closed = true;
        self.flights.wanted.notify_one();
    }
}

/// Flights in the order of their messages.
struct Flights {
    list: Mutex<List>,
    starving: Arc<AtomicUsize>,
    wanted: Notify,
}

#[derive(Default)]
struct List {
    in_order: VecDeque<Arc<Flight>>,
    /// No message is sent any more; those that were may still be confirmed.
    is_closed: bool,
    /// Nor will those be.
    is_over: bool,
}

impl List {
    fn reap(&mut self) {
        while self.in_order.front().is_some_and(|front| front.is_landed()) {
            self.in_order.pop_front();
        }
    }
}

impl Flights {
    fn last(&self) -> Option<Arc<Flight>> {
        self.list.lock().in_order.back().cloned()
    }

    fn add(&self, flight: Arc<Flight>) {
        let mut list = self.list.lock();
        if list.is_over {
            return flight.land(Err(ended()));
        }
        list.reap();
        // Behind one that the server does not confirm, what is confirmed must not pile up: at most half of
        // them are in flight.
        if list.in_order.len() >= 2 * WINDOW_UNITS as usize {
            list.in_order.retain(|flight| !flight.is_landed());
        }
        list.in_order.push_back(flight);
        drop(list);
        if self.starving.load(Ordering::SeqCst) > 0 {
            self.wanted.notify_one();
        }
    }

    /// What the lander has to do: a flight whose publisher does not wait for it gives its share back late, so
    /// somebody has to wait when shares are short.
    fn next(&self) -> Next {
        let mut list = self.list.lock();
        list.reap();
        let is_wanted = list.is_closed || self.starving.load(Ordering::SeqCst) > 0;
        match list.in_order.front().filter(|_| is_wanted) {
            Some(front) => Next::Land(front.clone()),
            None if list.is_closed => Next::End,
            None => Next::Rest,
        }
    }

    async fn land(&self) {
        loop {
            match self.next() {
                Next::Land(flight) => {
                    // Its publisher is told what became of it.
                    let _ = poll_fn(|context| flight.poll_landed(Waits::Lander, context)).await;
                }
                Next::Rest => self.wanted.notified().await,
                Next::End => return,
            }
        }
    }

    fn end(&self) {
        let mut list = self.list.lock();
        list.is_over = true;
        let left = std::mem::take(&mut list.in_order);
        drop(list);
        for flight in left {
            if !flight.is_landed() {
                flight.land(Err(ended()));
            }
        }
    }
}

enum Next {
    Land(Arc<Flight>),
    Rest,
    End,
}

fn ended() -> BackendError {
    unconfirmed("the connection ended")
}

/// Nothing waits any more once the task is over, or dropped with its runtime.
struct Ends(Arc<Flights>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Until the channel is done with, or the session has ended: lapin leaves some without an answer then.
async fn land_all(flights: Ends, end: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = end => {}
        () = flights.0.land() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn what_is_in_flight_lands_when_the_runtime_of_the_session_ends() {
        let starving = Arc::default();
        let flights = Arc::new(Flights { list: Mutex::default(), starving, wanted: Notify::new() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.spawn(land_all(Ends(flights.clone()), std::future::pending()));
        let share = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let flight = Flight::new(share);
        flight.send("queue".into(), Box::pin(std::future::pending()));
        flights.add(flight.clone());
        let mut context = Context::from_waker(Waker::noop());
        assert!(flight.poll_landed(Waits::Publisher, &mut context).is_pending());
        drop(runtime);
        let Poll::Ready(outcome) = flight.poll_landed(Waits::Publisher, &mut context) else {
            panic!("nobody lands it");
        };
        assert!(outcome.unwrap_err().to_string().contains("it may have arrived or not"));
    }
}
