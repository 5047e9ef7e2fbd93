//! One session: its queue, its connection, and who is reading for it at the moment.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::addresses::Place;
use super::heartbeat::Heard;
use crate::gateway::close_reason::CloseReason;
use crate::gateway::metrics::Metrics;
use crate::gateway::outbound::{Outbound, SessionWriter};
use crate::gateway::socket_io::Connection;
use crate::wire::engine_io::Packet;

pub struct Session {
    /// The `sid`: random, and known to its client alone.
    pub id: Uuid,
    pub outbound: Arc<Outbound>,
    heard: AtomicU8,
    state: Mutex<State>,
    /// Wakes the session's task, which waits until a closed session's client was told.
    parted: Notify,
    metrics: Arc<Metrics>,
    _place: Place,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.metrics.sessions.decrement(1.0);
    }
}

struct State {
    /// Absent while somebody reads messages; see [`Turn`].
    connection: Option<Box<Connection>>,
    /// Takes the WebSocket to the session's task; absent once there is one.
    upgrade: Option<oneshot::Sender<SessionWriter>>,
    probe: Probe,
    /// Of the WebSocket that is at it.
    look: Option<Arc<Look>>,
    polling: bool,
}

/// Has requests that come while a WebSocket takes over wait until that has read what came before them.
#[derive(Default)]
pub struct Look {
    asked: Notify,
    done: Notify,
}

impl Look {
    /// Waits until it is asked for. Cancel safe. For one waiter.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The WebSocket has nothing more to read now, or takes over no more.
    pub fn done(&self) {
        self.done.notify_waiters();
    }
}

/// By the time when the second of two timers fires that were set one after the other, the runtime has
/// heard from the system of everything that arrived before the first one was set.
const TICK: Duration = Duration::from_millis(1);

/// How far a WebSocket has got that wants to take the session over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    /// It is there, but has not said `2probe`.
    Connected,
    /// It was answered; a waiting poll is to be released at once, so that the client can go on.
    Answered,
    /// A poll was released. Another one may be on its way already, and is released after a while.
    Released,
}

/// What a poll that has nothing to send does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    ForFrames,
    /// An upgrade is under way: answer with a noop after a short while.
    Shortly,
    /// An upgrade is under way: answer with a noop.
    NotAtAll,
}

impl Session {
    pub fn new(
        outbound: Arc<Outbound>,
        connection: Connection,
        upgrade: Option<oneshot::Sender<SessionWriter>>,
        metrics: Arc<Metrics>,
        place: Place,
    ) -> Self {
        metrics.sessions.increment(1.0);
        let connection = Some(Box::new(connection));
        let state = State { connection, upgrade, probe: Probe::None, look: None, polling: false };
        Self {
            id: Uuid::new_v4(),
            outbound,
            heard: AtomicU8::new(0),
            state: Mutex::new(state),
            parted: Notify::new(),
            metrics,
            _place: place,
        }
    }

    /// The right to read messages; `None` while somebody else has it.
    pub fn turn(self: &Arc<Self>) -> Option<Turn> {
        let connection = self.state.lock().connection.take()?;
        Some(Turn { session: Arc::clone(self), connection: Some(connection) })
    }

    /// The connection of a session that is closed, unless somebody reads, who then ends it.
    pub fn take_connection(&self) -> Option<Box<Connection>> {
        self.state.lock().connection.take()
    }

    /// The right to wait for frames; `None` while another poll waits.
    pub fn begin_poll(&self) -> Option<PollTurn<'_>> {
        let mut state = self.state.lock();
        if state.polling {
            return None;
        }
        state.polling = true;
        Some(PollTurn { session: self, answered: false })
    }

    /// What an empty-handed poll does now.
    pub fn poll_wait(&self) -> Wait {
        let mut state = self.state.lock();
        match state.probe {
            Probe::None | Probe::Connected => Wait::ForFrames,
            Probe::Answered => {
                state.probe = Probe::Released;
                Wait::NotAtAll
            }
            Probe::Released => Wait::Shortly,
        }
    }

    /// Waits, if a WebSocket wants to take over, until it has read what its client sent before this: a
    /// request behind the client's upgrade is one too many, whichever of the two is read first here.
    /// Cancel safe.
    pub async fn probe_looked(&self) {
        let Some(look) = self.state.lock().look.clone() else { return };
        tokio::time::sleep(TICK).await;
        tokio::time::sleep(TICK).await;
        let done = look.done.notified();
        // The next WebSocket may be at it already, and nobody is told any more that this one ended.
        if !self.state.lock().look.as_ref().is_some_and(|now| Arc::ptr_eq(now, &look)) {
            return;
        }
        look.asked.notify_one();
        tokio::select! {
            () = done => {}
            _ = self.outbound.closed() => {}
        }
    }

    /// A WebSocket wants to take over. `None`: one is at it already, or has done it.
    pub fn begin_probe(&self) -> Option<Arc<Look>> {
        let mut state = self.state.lock();
        if state.upgrade.is_none() || state.probe != Probe::None {
            return None;
        }
        state.probe = Probe::Connected;
        Some(Arc::clone(state.look.insert(Arc::default())))
    }

    /// The probe was answered: releases a waiting poll.
    pub fn answer_probe(&self) {
        self.state.lock().probe = Probe::Answered;
        self.outbound.wake();
    }

    /// The WebSocket did not take over; polling goes on.
    pub fn abandon_probe(&self) {
        let mut state = self.state.lock();
        state.probe = Probe::None;
        let look = state.look.take();
        drop(state);
        look.iter().for_each(|look| look.done());
    }

    /// The WebSocket takes over: from here on only it drains the queue. Gives the right to read.
    /// `None`: a request's messages are still being read, so the client did not wait for its answer.
    pub fn upgrade(self: &Arc<Self>, writer: SessionWriter) -> Option<Turn> {
        let turn = self.turn()?;
        let mut state = self.state.lock();
        state.probe = Probe::None;
        let upgrade = state.upgrade.take()?;
        drop(state);
        self.outbound.switch_to_websocket();
        // The session's task takes it, or is ending and needs none.
        let _ = upgrade.send(writer);
        Some(turn)
    }

    /// Nothing is left to say to the client of this closed session, or nobody to say it to.
    pub fn part(&self) {
        self.parted.notify_one();
    }

    /// Waits for [`Self::part`], which may have come before. Cancel safe. For one waiter.
    pub async fn parted(&self) {
        self.parted.notified().await;
    }

    fn hear(&self, heard: Heard) {
        let level = match heard {
            Heard::Nothing => 0,
            Heard::Traffic => 1,
            Heard::Pong => 2,
        };
        self.heard.fetch_max(level, Ordering::Relaxed);
    }

    /// What came in since [`Self::forget_heard`]. A client whose messages wait for a room, and behind
    /// them its pong, is given the pong.
    pub fn heard(&self) -> Heard {
        if self.outbound.is_held() {
            return Heard::Pong;
        }
        match self.heard.load(Ordering::Relaxed) {
            0 => Heard::Nothing,
            1 => Heard::Traffic,
            _ => Heard::Pong,
        }
    }

    pub fn forget_heard(&self) {
        self.heard.store(0, Ordering::Relaxed);
    }
}

/// The right to read a session's messages, one at a time and in order. Dropped, it gives the connection
/// back, or ends it when the session was closed in the meantime.
pub struct Turn {
    session: Arc<Session>,
    connection: Option<Box<Connection>>,
}

impl Turn {
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Does what a packet of the client says.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub fn packet<'a>(&'a mut self, packet: Packet<'a>) -> Handling<'a> {
        if let Some(reason) = self.session.outbound.close_reason() {
            return Handling::Done(Err(reason));
        }
        let heard = if matches!(packet, Packet::Pong(_)) { Heard::Pong } else { Heard::Traffic };
        if heard == Heard::Pong {
            self.session.outbound.answered();
        }
        self.session.hear(heard);
        let Some(connection) = &mut self.connection else { return Handling::Done(Ok(())) };
        match packet {
            Packet::Message(text) => Handling::Message(Box::pin(connection.text(text))),
            Packet::Binary(bytes) => Handling::Message(Box::pin(connection.binary(bytes))),
            Packet::Close => Handling::Done(Err(CloseReason::TransportClose)),
            // Only the server pings.
            Packet::Ping(_) => Handling::Done(Err(CloseReason::TransportError)),
            // As the stock server, which knows them and has nothing to do for them here.
            Packet::Pong(_) | Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                Handling::Done(Ok(()))
            }
        }
    }

    /// The session is closed: leaves its rooms and so on.
    pub async fn end(mut self) {
        if let Some(mut connection) = self.connection.take() {
            Box::pin(connection.closed()).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let mut state = self.session.state.lock();
        if self.session.outbound.close_reason().is_none() {
            // If it is closed right now, its task finds the connection here.
            state.connection = Some(connection);
            return;
        }
        drop(state);
        // Without a runtime everything is ending, and nobody is left to be told.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let counted = self.session.metrics.task();
            runtime.spawn(async move {
                let _counted = counted;
                connection.closed().await;
            });
        }
    }
}

/// What a packet says is done by the end of it. A message is boxed, so that a reader that waits for one does
/// not hold the place to handle it: idle sockets are many, and this is most of what they would take.
pub enum Handling<'a> {
    Done(Result<(), CloseReason>),
    Message(Pin<Box<dyn Future<Output = Result<(), CloseReason>> + Send + 'a>>),
}

impl Future for Handling<'_> {
    type Output = Result<(), CloseReason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(outcome) => Poll::Ready(*outcome),
            Self::Message(handling) => handling.as_mut().poll(cx),
        }
    }
}

/// The right to wait for frames. Dropped unanswered, because the client gave its request up, it
/// closes the session, as the stock server does.
pub struct PollTurn<'a> {
    session: &'a Session,
    answered: bool,
}

impl PollTurn<'_> {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for PollTurn<'_> {
    fn drop(&mut self) {
        self.session.state.lock().polling = false;
        if !self.answered {
            self.session.outbound.close(CloseReason::TransportError);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;
    use crate::gateway::engine::addresses::Addresses;
    use crate::gateway::io::{Keeping, Namespaces};
    use crate::gateway::options::Limits;
    use crate::gateway::outbound::Transport;

    pub fn polling() -> Session {
        let (limits, metrics) = (Limits::default(), Arc::new(Metrics::new()));
        let place = Addresses::new(&limits).take(None).unwrap();
        let outbound = Arc::new(Outbound::new(Transport::Polling, 1 << 20));
        let namespaces = Namespaces::new(limits, Arc::clone(&metrics), Keeping::Off(None));
        let connection = Connection::new(Arc::new(namespaces), Arc::clone(&outbound));
        Session::new(outbound, connection, Some(oneshot::channel().0), metrics, place)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_meets_the_end_of_one_probe_does_not_wait_for_the_next() {
        let session = polling();
        session.begin_probe().unwrap();
        let mut request = pin!(session.probe_looked());
        assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        session.abandon_probe();
        let _next = session.begin_probe().unwrap();
        tokio::time::timeout(Duration::from_secs(1), request).await.expect("it goes on");
    }
}
