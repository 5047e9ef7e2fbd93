//! The way to the server, kept open: whoever needs it waits here while it is made anew.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Address;
use super::declared::Declared;
use super::refusal::unreachable;
use super::session::Session;
use crate::backend::BackendError;

/// Between attempts to connect: doubled each time, and half of it left to chance, so that the nodes of a
/// cluster don't come back all at once.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the first connection may take, against a server that starts at the same time.
const START_WITHIN: Duration = Duration::from_secs(5);
/// How long a call waits for a connection that was lost.
const CALL_WAITS: Duration = Duration::from_secs(10);

pub(super) struct Link {
    state: watch::Receiver<State>,
    keeper: AbortHandle,
}

#[derive(Clone)]
enum State {
    Up(Arc<Session>),
    Down(Arc<str>),
}

impl Link {
    /// # Errors
    /// The server's refusal at once; one that can't be reached after [`START_WITHIN`].
    pub async fn start(address: Address, declared: Arc<Declared>) -> Result<Self, BackendError> {
        let deadline = Instant::now() + START_WITHIN;
        let mut pauses = Pauses::default();
        let session = loop {
            match Session::open(&address).await {
                Ok(session) => break Arc::new(session),
                Err(error) => {
                    let next = Instant::now() + pauses.next();
                    if !error.is_retryable() || next > deadline {
                        return Err(error);
                    }
                    tokio::time::sleep_until(next).await;
                }
            }
        };
        gauge!("leveret_broker_connected").set(1.0);
        gauge!("leveret_broker_blocked").set(0.0);
        let (sender, state) = watch::channel(State::Up(session.clone()));
        let keeper = Keeper { address, declared, state: sender };
        let keeper = tokio::spawn(keeper.keep(session)).abort_handle();
        Ok(Self { state, keeper })
    }

    /// The session, if there is one now.
    ///
    /// # Errors
    /// Why there is none.
    pub fn session_now(&self) -> Result<Arc<Session>, BackendError> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(session.clone()),
            State::Down(reason) => Err(unreachable(reason.as_ref())),
        }
    }

    /// The session, waited for.
    ///
    /// # Errors
    /// Why there is none, after ten seconds.
    pub async fn session(&self) -> Result<Arc<Session>, BackendError> {
        self.session_until(Instant::now() + CALL_WAITS).await
    }

    pub async fn session_until(&self, deadline: Instant) -> Result<Arc<Session>, BackendError> {
        match self.session_now() {
            Ok(session) if session.is_open() => return Ok(session),
            _ => {}
        }
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(up) if up.is_open()));
        match tokio::time::timeout_at(deadline, up).await {
            Ok(Ok(up)) => match &*up {
                State::Up(session) => Ok(session.clone()),
                State::Down(reason) => Err(unreachable(reason.as_ref())),
            },
            // The keeper is gone, or the time is up: what stands there says why.
            _ => match self.session_now() {
                Ok(_) => Err(unreachable("the connection ended")),
                Err(error) => Err(error),
            },
        }
    }

    /// Waits for as long as it takes; `None`: this end was closed.
    pub async fn session_at_last(&self) -> Option<Arc<Session>> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(up) if up.is_open())).await;
        match &*up.ok()? {
            State::Up(session) => Some(session.clone()),
            State::Down(_) => None,
        }
    }

    pub async fn close(&self) {
        self.keeper.abort();
        if let Ok(session) = self.session_now() {
            session.close().await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Makes a session anew whenever one ends.
struct Keeper {
    address: Address,
    declared: Arc<Declared>,
    state: watch::Sender<State>,
}

impl Keeper {
    async fn keep(self, mut session: Arc<Session>) {
        loop {
            let reason = session.ended().await;
            tracing::warn!(server = %self.address, reason, "the connection to RabbitMQ is lost");
            gauge!("leveret_broker_connected").set(0.0);
            self.state.send_replace(State::Down(reason.into()));
            // Whatever of it still lives must not outlast it: consumers would be there twice.
            session.close().await;
            session = self.reconnect().await;
            counter!("leveret_broker_reconnections_total").increment(1);
            gauge!("leveret_broker_connected").set(1.0);
            gauge!("leveret_broker_blocked").set(0.0);
            tracing::info!(server = %self.address, "connected to RabbitMQ again");
            self.state.send_replace(State::Up(session.clone()));
        }
    }

    async fn reconnect(&self) -> Arc<Session> {
        let mut pauses = Pauses::default();
        loop {
            tokio::time::sleep(pauses.next()).await;
            let opened = async {
                let session = Session::open(&self.address).await?;
                self.declared.restore(&session).await?;
                Ok::<_, BackendError>(session)
            };
            match opened.await {
                Ok(session) => return Arc::new(session),
                Err(error) => {
                    tracing::debug!(server = %self.address, %error, "no connection yet");
                    self.state.send_replace(State::Down(error.to_string().into()));
                }
            }
        }
    }
}

#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    fn next(&mut self) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << self.0.min(16)).min(PAUSE_MAX);
        self.0 = self.0.saturating_add(1);
        longest.mul_f64(0.5 + 0.5 * super::delay::chance())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut pauses = Pauses::default();
        let mut taken: Vec<Duration> = (0..40).map(|_| pauses.next()).collect();
        assert!(taken[0] <= PAUSE_FIRST && taken[0] >= PAUSE_FIRST / 2);
        assert!(taken[30..].iter().all(|pause| *pause <= PAUSE_MAX && *pause >= PAUSE_MAX / 2));
        taken.dedup();
        assert!(taken.len() > 30, "they differ: {taken:?}");
    }
}
