//! WebSocket: a session of its own, or the upgrade of one that began with polling.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::ReadHalf;

use super::addresses::Place;
use super::session::{Handling, Look, Session, Turn};
use super::{Answer, Engine, Refused, driver};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::metrics::CountedTask;
use crate::gateway::outbound::{Batch, Outbound, SessionWriter};
use crate::gateway::websocket::{self, Frame, Incoming, Reader, UpgradeError, WebSocketError};
use crate::wire::engine_io::{Packet, RequestError};

type SessionReader = Reader<ReadHalf<TokioIo<Upgraded>>>;

/// Begins a session on a WebSocket.
pub fn handshake<B>(engine: &Arc<Engine>, request: &mut Request<B>, place: Place) -> Answer {
    driver::check_open(engine)?;
    let (response, upgrade) = accept(request)?;
    let engine = Arc::clone(engine);
    let counted = engine.namespaces.metrics.task();
    tokio::spawn(async move {
        let Some((reader, writer)) = streams(&engine, upgrade).await else { return };
        // At the bound of sessions since the check above: the client sees the stream end.
        let Ok(turn) = driver::open_websocket(&engine, writer, place) else { return };
        // In a task of its own, which has no place for the handshake: idle sockets are many.
        tokio::spawn(read(turn, reader, counted));
    });
    Ok(response)
}

/// Lets a WebSocket take a polling session over.
pub fn upgrade<B>(engine: &Arc<Engine>, request: &mut Request<B>, session: Arc<Session>) -> Answer {
    let look = session.begin_probe().ok_or(RequestError::BadRequest)?;
    let probe = Probe { session, look };
    let (response, upgrade) = accept(request)?;
    let engine = Arc::clone(engine);
    let counted = engine.namespaces.metrics.task();
    tokio::spawn(async move {
        let Some((mut reader, writer)) = streams(&engine, upgrade).await else { return };
        let timeout = engine.options.upgrade_timeout;
        let probed = tokio::time::timeout(timeout, take_over(&probe, &mut reader, writer)).await;
        drop(probe);
        match probed {
            Ok(Probed::TakenOver(turn)) => {
                engine.namespaces.metrics.upgrades.increment(1);
                tokio::spawn(read(turn, reader, counted));
            }
            // After the probe, so that the client may begin the next one when it sees the end. The peer
            // may be gone already.
            Ok(Probed::Dismissed(mut writer)) => drop(writer.shutdown().await),
            Ok(Probed::Ended) | Err(_) => {}
        }
    });
    Ok(response)
}

/// How long a session that was closed during a probe waits for the client's upgrade.
const PARTING_MAX: Duration = Duration::from_secs(2);

/// How a probe ends.
enum Probed {
    TakenOver(Turn),
    /// The session stays with polling, and the WebSocket was told what the protocol wants said.
    Dismissed(SessionWriter),
    /// The session stays with polling.
    Ended,
}

/// A probe under way; however it ends, the next one may begin.
struct Probe {
    session: Arc<Session>,
    look: Arc<Look>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.session.abandon_probe();
    }
}

/// `2probe`, `3probe`, `5`: after that the session is the WebSocket's.
async fn take_over(
    Probe { session, look }: &Probe,
    reader: &mut SessionReader,
    mut writer: SessionWriter,
) -> Probed {
    let closed = session.outbound.closed();
    tokio::pin!(closed);
    let (mut is_answered, mut is_closed) = (false, false);
    loop {
        let next = reader.next();
        tokio::pin!(next);
        let incoming = loop {
            tokio::select! {
                // In this order, so that a poll that asks is told of what has come.
                biased;
                incoming = &mut next => break incoming,
                _ = &mut closed, if !is_closed => {
                    is_closed = true;
                    if !is_answered {
                        return Probed::Ended;
                    }
                    // A client that was answered polls no more: only what becomes of this WebSocket can tell
                    // it, and only once it has sent its upgrade.
                    match tokio::time::timeout(PARTING_MAX, next).await {
                        Ok(incoming) => break incoming,
                        Err(_) => return Probed::Ended,
                    }
                }
                () = look.asked() => look.done(),
            }
        };
        let (answer, goes_on) = match &incoming {
            Ok(Incoming::Text(text)) => match Packet::parse(text) {
                Ok(Packet::Ping("probe")) => (Some(Frame::text(b"3probe")), true),
                Ok(Packet::Upgrade) if is_closed || session.outbound.close_reason().is_some() => {
                    return part(session, writer).await;
                }
                Ok(Packet::Upgrade) => {
                    return session.upgrade(writer).map_or_else(
                        || {
                            session.outbound.close(CloseReason::TransportError);
                            Probed::Ended
                        },
                        Probed::TakenOver,
                    );
                }
                _ => return Probed::Ended,
            },
            Ok(Incoming::Binary(_)) => return Probed::Ended,
            Ok(control) => (control.answer(), !matches!(control, Incoming::Close { .. })),
            Err(error) => (error.close_frame(), false),
        };
        if let Some(answer) = answer
            && writer.write(&[answer]).await.is_err()
        {
            return Probed::Ended;
        }
        if !goes_on {
            return Probed::Dismissed(writer);
        }
        if matches!(incoming, Ok(Incoming::Text(_))) {
            session.answer_probe();
            is_answered = true;
        }
    }
}

/// Sends what the closed session still had to say.
async fn part(session: &Session, mut writer: SessionWriter) -> Probed {
    let mut last = Batch::new();
    session.outbound.take(&mut last);
    last.extend(session.outbound.close_reason().and_then(CloseReason::close_frame));
    let written = writer.write(&last).await;
    session.part();
    match written {
        Ok(_) => Probed::Dismissed(writer),
        Err(_) => Probed::Ended,
    }
}

fn accept<B>(request: &mut Request<B>) -> Result<(Response<Body>, OnUpgrade), Refused> {
    let response = websocket::accept(request).map_err(|error| {
        tracing::debug!(%error, "a WebSocket handshake was refused");
        match error {
            UpgradeError::Version => Refused::WebSocketVersion,
            _ => RequestError::BadRequest.into(),
        }
    })?;
    Ok((response.map(|()| Body::empty()), hyper::upgrade::on(request)))
}

async fn streams(engine: &Engine, upgrade: OnUpgrade) -> Option<(SessionReader, SessionWriter)> {
    // It fails when the client is gone before the answer is written.
    let io = TokioIo::new(upgrade.await.ok()?);
    let message_bytes_max = engine.options.limits.payload_bytes_max;
    Some(websocket::split(io, websocket::Limits { message_bytes_max }))
}

/// Reads the session's messages to its end.
#[expect(clippy::manual_async_fn, reason = "the future of one has each argument twice")]
fn read(
    mut turn: Turn,
    mut reader: SessionReader,
    counted: CountedTask,
) -> impl Future<Output = ()> {
    async move {
        let _counted = &counted;
        let session = Arc::clone(turn.session());
        let mut closed = pin!(session.outbound.closed());
        loop {
            // `next` is not cancel safe, but after the close nothing is read any more.
            let incoming = tokio::select! {
                biased;
                _ = &mut closed => break,
                incoming = reader.next() => incoming,
            };
            // One await for all of them: what lives across two has a place of its own in the future.
            if let Err(reason) = handling(&mut turn, &session.outbound, &incoming).await {
                session.outbound.close(reason);
                break;
            }
        }
        // The stream goes now; leaving the rooms may take longer.
        drop(reader);
        Box::pin(turn.end()).await;
    }
}

fn handling<'a>(
    turn: &'a mut Turn,
    outbound: &Outbound,
    incoming: &'a Result<Incoming, WebSocketError>,
) -> Handling<'a> {
    let incoming = match incoming {
        Ok(incoming) => incoming,
        Err(error) => return Handling::Done(Err(reason_of(error))),
    };
    match incoming {
        Incoming::Text(text) => match Packet::parse(text) {
            Ok(packet) => turn.packet(packet),
            Err(_) => Handling::Done(Err(CloseReason::ParseError)),
        },
        Incoming::Binary(bytes) => turn.packet(Packet::Binary(bytes.clone())),
        Incoming::Close { code, .. } => Handling::Done(Err(CloseReason::ClosedByClient(*code))),
        control @ (Incoming::Ping(_) | Incoming::Pong(_)) => {
            if let Some(answer) = control.answer() {
                // Pushed, not replied: a client that only pings and never reads is a slow consumer.
                outbound.push(&answer);
            }
            Handling::Done(Ok(()))
        }
    }
}

fn reason_of(error: &WebSocketError) -> CloseReason {
    match error.close_code() {
        Some(code) => CloseReason::Violation(code),
        None => match error {
            WebSocketError::Eof => CloseReason::TransportClose,
            _ => CloseReason::TransportError,
        },
    }
}
