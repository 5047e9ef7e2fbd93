//! A session's own task: it pings, notices what did not happen in time, writes to the WebSocket once
//! there is one, and clears up at the end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::addresses::Place;
use super::heartbeat::{Beat, Heartbeat, Periods};
use super::session::{Session, Turn};
use super::{Engine, Refused};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::metrics::CountedTask;
use crate::gateway::outbound::{Batch, Outbound, SessionWriter, Transport};
use crate::gateway::socket_io::Connection;
use crate::gateway::websocket::Frame;
use crate::wire::engine_io::{Handshake, Packet};

/// How long a closed session may take to write what it still has.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// How long a closed session waits for its client's next polls, as long as the stock server's does; a
/// client whose pong would have been missed by then is not waited for so long.
const LAST_POLL_MAX: Duration = Duration::from_secs(30);

/// Whether another session may begin.
///
/// # Errors
/// [`Refused::Unavailable`] at the end of the gateway, and at the bound of sessions.
pub fn check_open(engine: &Engine) -> Result<(), Refused> {
    let is_open = !engine.is_shutting_down() && engine.sessions.has_place();
    if is_open {
        return Ok(());
    }
    engine.namespaces.metrics.session_refused("unavailable");
    Err(Refused::Unavailable)
}

/// Begins a session with polling.
///
/// # Errors
/// [`Refused::Unavailable`].
pub fn open_polling(engine: &Arc<Engine>, place: Place) -> Result<Arc<Session>, Refused> {
    let (upgrade, upgraded) = oneshot::channel();
    let session = open(engine, Transport::Polling, Some(upgrade), place)?;
    let task = Driver::new(engine, &session);
    tokio::spawn(task.run_polling(upgraded));
    Ok(session)
}

/// Begins a session on a WebSocket.
///
/// # Errors
/// [`Refused::Unavailable`].
pub fn open_websocket(
    engine: &Arc<Engine>,
    writer: SessionWriter,
    place: Place,
) -> Result<Turn, Refused> {
    let session = open(engine, Transport::WebSocket, None, place)?;
    let turn = session.turn().ok_or(Refused::Unavailable)?;
    let task = Driver::new(engine, &session);
    tokio::spawn(task.run_websocket(writer));
    Ok(turn)
}

fn open(
    engine: &Arc<Engine>,
    transport: Transport,
    upgrade: Option<oneshot::Sender<SessionWriter>>,
    place: Place,
) -> Result<Arc<Session>, Refused> {
    check_open(engine)?;
    let limits = &engine.options.limits;
    let outbound = Arc::new(Outbound::new(transport, limits.queue_bytes_max));
    let connection = Connection::new(Arc::clone(&engine.namespaces), Arc::clone(&outbound));
    let metrics = Arc::clone(&engine.namespaces.metrics);
    let session = Arc::new(Session::new(outbound, connection, upgrade, metrics, place));
    if !engine.sessions.insert(&session) {
        return Err(Refused::Unavailable);
    }
    let sid = session.id.to_string();
    let handshake = Handshake {
        sid: &sid,
        upgrades: if transport == Transport::Polling { &["websocket"] } else { &[] },
        ping_interval: engine.options.ping_interval,
        ping_timeout: engine.options.ping_timeout,
        payload_bytes_max: limits.payload_bytes_max,
    };
    let mut packet = Vec::with_capacity(128);
    handshake.encode(&mut packet);
    session.outbound.reply(Frame::text(&packet));
    engine.namespaces.metrics.session_opened(transport);
    Ok(session)
}

struct Driver {
    engine: Arc<Engine>,
    session: Arc<Session>,
    watch: Watch,
    _counted: CountedTask,
}

impl Driver {
    fn new(engine: &Arc<Engine>, session: &Arc<Session>) -> Self {
        let now = Instant::now();
        let options = &engine.options;
        let heartbeat = Heartbeat::new(now, periods(engine));
        let watch = Watch { heartbeat, join_by: now.checked_add(options.connect_timeout) };
        let _counted = engine.namespaces.metrics.task();
        Self { engine: Arc::clone(engine), session: Arc::clone(session), watch, _counted }
    }

    async fn run_polling(mut self, mut upgraded: oneshot::Receiver<SessionWriter>) {
        let writer = loop {
            tokio::select! {
                biased;
                // First, since a WebSocket that took over can still tell of the close.
                Ok(writer) = &mut upgraded => break Some(writer),
                _ = self.session.outbound.closed() => break None,
                () = tokio::time::sleep_until(self.watch.due()) => self.watch.look(&self.session, periods(&self.engine)),
            }
        };
        match writer {
            // Boxed, so that a session that stays with polling does not hold the place to write.
            Some(writer) => Box::pin(self.run_websocket(writer)).await,
            None => self.end_polling(upgraded).await,
        }
    }

    /// What is queued, and the close packet, go with the client's next polls.
    async fn end_polling(self, upgraded: oneshot::Receiver<SessionWriter>) {
        let reason = self.leave().await;
        if !reason.is_peer_gone() {
            let parting = async {
                tokio::select! {
                    // The upgrade came just before the close.
                    Ok(mut writer) = upgraded => self.part_by(&mut writer, reason).await,
                    () = self.session.parted() => {}
                }
            };
            let options = &self.engine.options;
            let alive_for = options.ping_interval.saturating_add(options.ping_timeout);
            if tokio::time::timeout(LAST_POLL_MAX.min(alive_for), parting).await.is_err() {
                tracing::debug!(session = %self.session.id, "a closed session was not polled any more");
            }
        }
        self.engine.sessions.remove(&self.session);
    }

    /// What only a session's end needs is boxed: idle sockets are many.
    #[expect(clippy::manual_async_fn, reason = "the future of one has each argument twice")]
    fn run_websocket(mut self, writer: SessionWriter) -> impl Future<Output = ()> + Send {
        async move {
            let writer = self.write_until_closed(writer).await;
            if let (Some(mut writer), Some(reason)) = (writer, self.session.outbound.close_reason())
            {
                Box::pin(self.part_by(&mut writer, reason)).await;
            }
            Box::pin(self.leave()).await;
            self.engine.sessions.remove(&self.session);
        }
    }

    async fn part_by(&self, writer: &mut SessionWriter, reason: CloseReason) {
        let Some(close) = reason.close_frame() else { return };
        let farewell = Box::pin(farewell(&self.session.outbound, writer, close));
        if tokio::time::timeout(FAREWELL_MAX, farewell).await.is_err() {
            tracing::debug!("a closed session did not take its last frames");
        }
    }

    /// Writes what is queued until the session is closed. `None`: the last frame may be cut.
    #[expect(clippy::manual_async_fn, reason = "the future of one has each argument twice")]
    fn write_until_closed(
        &mut self,
        mut writer: SessionWriter,
    ) -> impl Future<Output = Option<SessionWriter>> + Send {
        async move {
            let mut batch = Batch::new();
            // Kept while frames come and go: entering and leaving the timer's wheel takes its lock.
            let mut alarm = pin!(tokio::time::sleep_until(self.watch.due()));
            while self.session.outbound.close_reason().is_none() {
                self.session.outbound.take(&mut batch);
                if batch.is_empty() {
                    self.session.outbound.lay_down(writer);
                    writer = loop {
                        tokio::select! {
                            biased;
                            writer = self.session.outbound.pick_up() => break writer?,
                            () = &mut alarm => self.look(&mut alarm),
                        }
                    };
                    continue;
                }
                if !self.write(&mut writer, &batch, &mut alarm).await {
                    return None;
                }
                self.session.outbound.written(&mut batch);
            }
            Some(writer)
        }
    }

    /// Writes one batch, and keeps watching meanwhile. False: it was not written to its end.
    #[expect(clippy::manual_async_fn, reason = "the future of one has each argument twice")]
    fn write<'a>(
        &'a mut self,
        writer: &'a mut SessionWriter,
        batch: &'a [Frame],
        alarm: &'a mut Pin<&mut Sleep>,
    ) -> impl Future<Output = bool> + Send {
        async move {
            let mut write = pin!(writer.write(batch));
            loop {
                tokio::select! {
                    biased;
                    written = &mut write => {
                        if written.is_err() {
                            self.session.outbound.close(CloseReason::TransportError);
                        }
                        return written.is_ok();
                    }
                    reason = self.session.outbound.closed() => {
                        // A client that reads gets the rest, and a close frame after it.
                        let has_farewell = reason.close_frame().is_some();
                        let patience = if has_farewell { FAREWELL_MAX } else { Duration::ZERO };
                        let rest = Box::pin(tokio::time::timeout(patience, &mut write));
                        return matches!(rest.await, Ok(Ok(())));
                    }
                    () = alarm.as_mut() => self.look(alarm),
                }
            }
        }
    }

    fn look(&mut self, alarm: &mut Pin<&mut Sleep>) {
        self.watch.look(&self.session, periods(&self.engine));
        alarm.as_mut().reset(self.watch.due());
    }

    /// Waits for the close, and leaves the rooms and so on.
    async fn leave(&self) -> CloseReason {
        let reason = self.session.outbound.closed().await;
        tracing::debug!(session = %self.session.id, %reason, "session closed");
        self.engine.namespaces.metrics.session_closed(reason);
        if let Some(mut connection) = self.session.take_connection() {
            Box::pin(connection.closed()).await;
        }
        reason
    }
}

/// Writes what was queued before the close, then the close frame.
async fn farewell(outbound: &Outbound, writer: &mut SessionWriter, close: Frame) {
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    batch.push(close);
    if writer.write(&batch).await.is_ok() {
        // A client that closed first is gone by now, and that is fine.
        let _ = writer.shutdown().await;
    }
}

fn periods(engine: &Engine) -> Periods {
    Periods { interval: engine.options.ping_interval, timeout: engine.options.ping_timeout }
}

/// What has to happen in time.
struct Watch {
    heartbeat: Heartbeat,
    /// A namespace has to be joined by then.
    join_by: Option<Instant>,
}

impl Watch {
    fn due(&self) -> Instant {
        let heartbeat = self.heartbeat.due();
        self.join_by.map_or(heartbeat, |join_by| join_by.min(heartbeat))
    }

    fn look(&mut self, session: &Session, periods: Periods) {
        let now = Instant::now();
        if self.join_by.is_some_and(|join_by| now >= join_by) {
            self.join_by = None;
            if !session.outbound.is_joined() {
                session.outbound.close(CloseReason::ConnectTimeout);
                return;
            }
        }
        match self.heartbeat.beat(now, session.heard(), periods) {
            Beat::Ping => {
                session.forget_heard();
                let mut ping = Vec::with_capacity(1);
                Packet::Ping("").encode(&mut ping);
                session.outbound.push(&Frame::text(&ping));
            }
            Beat::Wait => {}
            Beat::TimedOut => session.outbound.close(CloseReason::PingTimeout),
        }
    }
}
