//! HTTP long-polling: GET waits for packets, POST brings some.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::compression::Coding;
use super::session::{Session, Turn, Wait};
use super::{Answer, Engine, Refused, respond};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::metrics::CountedTask;
use crate::gateway::outbound::Polled;
use crate::wire::engine_io::{self, Packet, RequestError};

/// How long a poll waits while an upgrade is under way; the stock server looks as often.
const RELEASE_AFTER: Duration = Duration::from_millis(100);

const NOOP: &[u8] = b"6";

/// Answers a GET once there is something to send.
pub async fn poll(engine: &Engine, session: &Session, headers: &HeaderMap) -> Answer {
    let Some(turn) = session.begin_poll() else {
        // Two polls would split the order of packets.
        session.outbound.close(CloseReason::TransportError);
        return Err(Refused::Wordless);
    };
    let payload = next_payload(session, engine.options.limits.payload_bytes_max).await;
    let least = engine.options.compression_bytes_min;
    let coding = match least {
        Some(least) if payload.len() >= least => Coding::accepted(headers),
        _ => None,
    };
    let payload = match coding {
        Some(coding) => coding.compress(payload).await.map_err(|_| Refused::Unavailable)?,
        None => payload,
    };
    turn.answered();
    let mut response = respond(StatusCode::OK, "text/plain; charset=UTF-8", payload);
    if let Some(coding) = coding {
        let name = HeaderValue::from_static(coding.name());
        response.headers_mut().insert(CONTENT_ENCODING, name);
    }
    Ok(response)
}

async fn next_payload(session: &Session, payload_bytes_max: usize) -> Bytes {
    loop {
        match session.outbound.poll(payload_bytes_max) {
            Polled::Payload(payload) => return payload,
            Polled::Last(payload) => {
                session.part();
                return payload;
            }
            Polled::Nothing => {}
        }
        match session.poll_wait() {
            Wait::ForFrames => session.outbound.ready().await,
            Wait::NotAtAll => return Bytes::from_static(NOOP),
            Wait::Shortly => {
                if tokio::time::timeout(RELEASE_AFTER, session.outbound.ready()).await.is_err() {
                    return Bytes::from_static(NOOP);
                }
            }
        }
    }
}

/// Takes the packets of a POST, then answers `ok`.
pub async fn data<B>(engine: &Engine, request: &mut Request<B>, session: Arc<Session>) -> Answer
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let payload_bytes_max = engine.options.limits.payload_bytes_max;
    if session.outbound.close_reason().is_some() {
        return data_after_close(request, &session, payload_bytes_max).await;
    }
    let Some(turn) = session.turn() else {
        session.outbound.close(CloseReason::TransportError);
        return Err(Refused::Wordless);
    };
    // Dropped with the request when the client gives it up half-way: what it meant to say is lost.
    let given_up = CloseOnDrop(&session);
    if is_binary(request.headers()) {
        // Protocol 4 sends binary packets as base64 in text.
        return Err(Refused::Wordless);
    }
    let body = tokio::select! {
        body = collect(request.body_mut(), payload_bytes_max) => body,
        _ = session.outbound.closed() => return Err(RequestError::BadRequest.into()),
    };
    // The session ends when it was not read, as the stock server's does: what it meant to say is lost.
    let body = body?;
    // In a task of its own, so that a client that hangs up cannot stop an event half-way.
    let counted = engine.namespaces.metrics.task();
    let read = tokio::spawn(read_packets(turn, body, payload_bytes_max, counted));
    let outcome = read.await.unwrap_or(Err(CloseReason::TransportError));
    given_up.disarm();
    match outcome {
        Ok(()) => Ok(respond(StatusCode::OK, "text/html", "ok")),
        Err(reason) => {
            session.outbound.close(reason);
            // The stock server answers `ok` whatever the packets said; the session's end tells.
            Ok(respond(StatusCode::OK, "text/html", "ok"))
        }
    }
}

/// As the stock server: what a client says that does not know of its session's end yet is ignored. An
/// error would make it begin another session, though it may have been disconnected.
async fn data_after_close<B>(
    request: &mut Request<B>,
    session: &Session,
    payload_bytes_max: usize,
) -> Answer
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let body = collect(request.body_mut(), payload_bytes_max).await?;
    let says_goodbye = engine_io::packets(&body, payload_bytes_max)
        .is_ok_and(|mut packets| packets.any(|packet| matches!(packet, Ok(Packet::Close))));
    if says_goodbye {
        session.part();
    }
    Ok(respond(StatusCode::OK, "text/html", "ok"))
}

async fn read_packets(
    mut turn: Turn,
    body: Bytes,
    payload_bytes_max: usize,
    _counted: CountedTask,
) -> Result<(), CloseReason> {
    let packets =
        engine_io::packets(&body, payload_bytes_max).map_err(|_| CloseReason::UnreadablePayload)?;
    for packet in packets {
        turn.packet(packet.map_err(|_| CloseReason::UnreadablePayload)?).await?;
    }
    Ok(())
}

fn is_binary(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream")
}

enum Unread {
    TooLarge,
    Broken,
}

impl From<Unread> for Refused {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::BodyTooLarge,
            Unread::Broken => RequestError::BadRequest.into(),
        }
    }
}

async fn collect<B>(body: &mut B, bytes_max: usize) -> Result<Bytes, Unread>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Broken),
    }
}

/// Closes the session unless the request came to its end.
struct CloseOnDrop<'a>(&'a Session);

impl CloseOnDrop<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.outbound.close(CloseReason::TransportError);
    }
}
