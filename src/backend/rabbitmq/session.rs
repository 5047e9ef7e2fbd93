//! Two connections that live and end together: one to publish on, one for everything else. A server that
//! is short of memory or disk reads nothing more from a connection that publishes, and acknowledgements
//! would have to wait there too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_core::Stream;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, Event};
use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Address;
use super::dial::dial;
use super::refusal::{refusal, unreachable};
use crate::backend::BackendError;

/// Channels that are kept open for the next call.
const CHANNELS_KEPT_MAX: usize = 16;
/// How often a connection is looked at that should have told of its end itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A call that has no answer after this time is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Session {
    /// Unique in this process.
    pub id: u64,
    publishing: Connection,
    working: Connection,
    calls: Pool,
    mandatory: Pool,
    /// Why the server takes no messages at the moment.
    blocked: watch::Sender<Option<String>>,
    /// Turns true when it has ended: lapin leaves some calls without an answer then.
    over: watch::Sender<bool>,
}

/// Open channels that nobody uses.
#[derive(Default)]
struct Pool(Mutex<Vec<Channel>>);

impl Pool {
    fn take(&self) -> Option<Channel> {
        let mut channels = self.0.lock();
        while let Some(channel) = channels.pop() {
            if channel.status().connected() {
                return Some(channel);
            }
        }
        None
    }

    /// One that a refusal closed, or that is one too many, ends here.
    fn keep(&self, channel: Channel) {
        let mut channels = self.0.lock();
        if channel.status().connected() && channels.len() < CHANNELS_KEPT_MAX {
            channels.push(channel);
        }
    }
}

impl Session {
    /// # Errors
    /// See [`dial`].
    pub async fn open(address: &Address) -> Result<Self, BackendError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let (publishing, working) =
            tokio::try_join!(dial(address, "publishing"), dial(address, "working"))?;
        Ok(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            publishing,
            working,
            calls: Pool::default(),
            mandatory: Pool::default(),
            blocked: watch::Sender::new(None),
            over: watch::Sender::new(false),
        })
    }

    /// Resolves with the reason when either connection has ended. To be called once: it is what hears of
    /// alarms too.
    pub async fn ended(&self) -> String {
        let reason = self.watch().await;
        // Nobody waits for the end of an alarm that will not be told any more.
        self.blocked.send_replace(None);
        self.over.send_replace(true);
        reason
    }

    async fn watch(&self) -> String {
        let mut publishing = Box::pin(self.publishing.events_listener());
        let mut working = Box::pin(self.working.events_listener());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let event = tokio::select! {
                event = next(&mut publishing) => event,
                event = next(&mut working) => event,
                _ = looks.tick() => None,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(reason, "RabbitMQ takes no messages");
                    gauge!("leveret_broker_blocked").set(1.0);
                    self.blocked.send_replace(Some(reason));
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes messages again");
                    gauge!("leveret_broker_blocked").set(0.0);
                    self.blocked.send_replace(None);
                }
                Some(Event::Error(error)) if !self.is_open() => return error.to_string(),
                _ if !self.is_open() => return "the connection ended".to_owned(),
                _ => {}
            }
        }
    }

    pub fn is_open(&self) -> bool {
        self.publishing.status().connected() && self.working.status().connected()
    }

    /// Why the server takes no messages at the moment.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Resolves when the server takes no messages, with the reason.
    pub async fn next_alarm(&self) -> String {
        let mut blocked = self.blocked.subscribe();
        let reason = blocked.wait_for(Option::is_some).await.map(|reason| reason.clone());
        // The sender lives as long as this.
        reason.ok().flatten().unwrap_or_default()
    }

    /// Resolves when the server takes messages, at once if it does now, or when the connection ended.
    pub async fn unblocked_or_ended(&self) {
        if self.blocked.borrow().is_none() {
            return;
        }
        // The sender lives as long as this.
        let _ = self.blocked.subscribe().wait_for(Option::is_none).await;
    }

    /// # Errors
    /// A connection that ended.
    pub async fn publishing_channel(&self) -> Result<Channel, BackendError> {
        let opened = async {
            let channel = self.publishing.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        self.answered(opened).await
    }

    /// A channel of its own, to consume or to get on: deliveries are settled where they came from.
    ///
    /// # Errors
    /// A connection that ended; too many channels.
    pub async fn working_channel(&self) -> Result<Channel, BackendError> {
        match self.calls.take() {
            Some(channel) => Ok(channel),
            None => self.answered(self.working.create_channel()).await,
        }
    }

    /// Takes back a channel that has neither consumers nor unsettled deliveries.
    pub fn give_back(&self, channel: Channel) {
        self.calls.keep(channel);
    }

    /// Ends a channel, so that what is not settled on it is delivered again. Its consumer opens another.
    pub fn close_channel(session: Arc<Self>, channel: Channel) {
        if !channel.status().connected() {
            return;
        }
        tokio::spawn(async move {
            let closed = channel.close(200, "a delivery could not be settled".into());
            // A session that ends says the same.
            let _ = session.while_it_lasts(closed).await;
        });
    }

    /// One call on a channel that nobody else uses meanwhile: a refusal closes it.
    ///
    /// # Errors
    /// The server's refusal; no answer.
    pub async fn call<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, BackendError>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let channel = self.working_channel().await?;
        let answer = self.answered(call(channel.clone())).await?;
        self.give_back(channel);
        Ok(answer)
    }

    /// As [`Session::call`], on a channel with confirms.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn publish_alone<T, F>(
        &self,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let channel = match self.mandatory.take() {
            Some(channel) => channel,
            None => self.publishing_channel().await?,
        };
        let answer = self.while_it_lasts(call(channel.clone())).await?;
        self.mandatory.keep(channel);
        answer.map_err(refusal)
    }

    /// Waits for an answer, but neither for ever nor for longer than the session lasts: whatever is said
    /// to the server goes through here or [`Session::while_it_lasts`].
    ///
    /// # Errors
    /// The server's refusal; no answer.
    pub async fn answered<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BackendError> {
        let silent = |_| unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()));
        let in_time = tokio::time::timeout(ANSWER_WITHIN, call);
        self.while_it_lasts(in_time).await?.map_err(silent)?.map_err(refusal)
    }

    /// # Errors
    /// The session ended before.
    pub async fn while_it_lasts<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, BackendError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.end() => Err(unreachable("the connection ended")),
        }
    }

    /// Resolves when the session has ended.
    pub fn end(&self) -> impl Future<Output = ()> + use<> {
        let mut over = self.over.subscribe();
        async move {
            // A sender that is gone says the same.
            let _ = over.wait_for(|over| *over).await;
        }
    }

    pub async fn close(&self) {
        for connection in [&self.publishing, &self.working] {
            // One that is gone already needs no goodbye.
            let closed = connection.close(200, "done".into());
            let _ = tokio::time::timeout(CLOSED_WITHIN, closed).await;
        }
        // Nobody else says so any more to those who wait.
        self.blocked.send_replace(None);
        self.over.send_replace(true);
    }
}

async fn next<S: Stream<Item = Event>>(events: &mut Pin<Box<S>>) -> Option<Event> {
    std::future::poll_fn(|context| events.as_mut().poll_next(context)).await
}
