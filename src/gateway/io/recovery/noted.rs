//! Changes of a session, on their way to where sessions are kept.
//!
//! A session is a field of its own, and so is each of its rooms: what is written for a join or a leave
//! is one short field, however many rooms there are; the session's own is written with all of them. A field that is written again takes the place of
//! the one before, in the journal too, and what is removed is nowhere once its row goes: nothing piles up
//! that would have to be put together at times.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::session::{Pid, Place, Session};
use super::{Delivery, Recovery};
use crate::backend::{BackendError, Sent};
use crate::gateway::io::Socket;

/// A change of a session, on its way to where sessions are kept.
#[must_use = "after a crash the session may be as it was before"]
pub struct Noted(Result<Way, BackendError>);

enum Way {
    Nothing,
    Sent(Sent),
    /// Somebody else waits for it, and tells.
    Watched(oneshot::Receiver<Result<(), BackendError>>),
}

impl Noted {
    /// There was nothing to note.
    pub fn nothing() -> Self {
        Self(Ok(Way::Nothing))
    }

    pub(super) fn failed(error: BackendError) -> Self {
        Self(Err(error))
    }

    pub(super) fn watched(outcome: oneshot::Receiver<Result<(), BackendError>>) -> Self {
        Self(Ok(Way::Watched(outcome)))
    }

    pub(super) fn of(sent: Result<Option<Sent>, BackendError>) -> Self {
        Self(sent.map(|sent| sent.map_or(Way::Nothing, Way::Sent)))
    }

    /// # Errors
    /// It may have been kept as it was before.
    pub async fn durable(self) -> Result<(), BackendError> {
        match self.0? {
            Way::Nothing => Ok(()),
            Way::Sent(sent) => sent.durable().await,
            // Its task only ends with the program.
            Way::Watched(outcome) => outcome.await.unwrap_or(Ok(())),
        }
    }
}

impl Recovery {
    /// The socket joins a room, which is noted before anything is sent to it there.
    pub fn joined(&self, delivery: &mut Delivery, socket: &Socket, room: &Arc<str>) -> Noted {
        let since = delivery.position;
        let Some((pid, session)) = delivery.session_of(socket) else { return Noted::nothing() };
        session.join(room, since);
        let place = Place { room: Arc::clone(room), since };
        if let Some(shared) = &self.store.shared {
            return self.unsaved.watch(pid, shared.join(pid, session, &place));
        }
        let sent = self.send([place_field(pid, &place)]);
        Noted::of(self.or_forget(pid, session, sent))
    }

    pub fn left(&self, delivery: &mut Delivery, socket: &Socket, room: &str) -> Noted {
        let Some((pid, session)) = delivery.session_of(socket) else { return Noted::nothing() };
        if !session.leave(room) {
            return Noted::nothing();
        }
        if let Some(shared) = &self.store.shared {
            return self.unsaved.watch(pid, shared.leave(pid, room));
        }
        let Some(cache) = &self.store.cache else { return Noted::nothing() };
        let sent = cache.send_field_removal(&self.sessions_key, &[place_name(pid, room)]);
        Noted::of(self.or_forget(pid, session, sent.map(Some)))
    }

    pub fn has_data(&self, delivery: &mut Delivery, socket: &Socket, data: Box<str>) {
        let Some((pid, session)) = delivery.session_of(socket) else { return };
        session.data = Some(data);
        drop(self.save(pid, session));
    }

    /// Notes a room that the socket is about to join; waits until that is durable.
    ///
    /// # Errors
    /// The session would come back without the room after a restart.
    pub async fn will_join(&self, socket: &Socket, room: &str) -> Result<(), BackendError> {
        let noted = self.joined(&mut self.delivery.lock(), socket, &Arc::from(room));
        noted.durable().await
    }

    /// The room was not joined after all.
    pub fn will_not_join(&self, socket: &Socket, room: &str) {
        drop(self.left(&mut self.delivery.lock(), socket, room));
    }

    /// Keeps a session as it is now, with all its rooms: what was kept of them before may be gone, as
    /// keys go, and a session is never there without them.
    pub(super) fn save(&self, pid: Pid, session: &Session) -> Noted {
        if let Some(shared) = &self.store.shared {
            return self.unsaved.watch(pid, shared.save(pid, session, self.epoch()));
        }
        let own = std::iter::once((pid.to_string(), session.encode()));
        let places = session.rooms.iter().map(|place| place_field(pid, place));
        Noted::of(self.or_forget(pid, session, self.send(own.chain(places))))
    }

    fn send(
        &self,
        fields: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Option<Sent>, BackendError> {
        let Some(cache) = &self.store.cache else { return Ok(None) };
        cache.send_fields(&self.sessions_key, fields).map(Some)
    }

    /// A session that cannot be kept as it is now is not kept as it was either, unless that fails too.
    fn or_forget(
        &self,
        pid: Pid,
        session: &Session,
        sent: Result<Option<Sent>, BackendError>,
    ) -> Result<Option<Sent>, BackendError> {
        sent.or_else(|error| {
            tracing::debug!(%error, "a session was not kept");
            self.forget(pid, session).map(|()| None)
        })
    }

    pub(super) fn forget(&self, pid: Pid, session: &Session) -> Result<(), BackendError> {
        let told = |error: &BackendError| tracing::debug!(%error, "a session was not removed");
        if let Some(shared) = &self.store.shared {
            drop(self.unsaved.watch(pid, shared.forget(pid)));
            return Ok(());
        }
        let Some(cache) = &self.store.cache else { return Ok(()) };
        let places = session.rooms.iter().map(|place| place_name(pid, &place.room));
        let fields: Vec<String> = std::iter::once(pid.to_string()).chain(places).collect();
        cache.send_field_removal(&self.sessions_key, &fields).map(drop).inspect_err(told)
    }
}

impl Delivery {
    /// The socket's session, unless that has another one now.
    fn session_of(&mut self, socket: &Socket) -> Option<(Pid, &mut Session)> {
        let pid = socket.pid()?;
        let session = self.sessions.get_mut(pid)?;
        (session.socket.as_ref() == Some(socket)).then_some((pid, session))
    }
}

/// A room of a session's, as it is kept: `<pid> <room>`, and the position in the log.
fn place_field(pid: Pid, place: &Place) -> (String, Vec<u8>) {
    (place_name(pid, &place.room), place.since.to_string().into_bytes())
}

fn place_name(pid: Pid, room: &str) -> String {
    format!("{pid} {room}")
}

/// What a kept field is of: a session, or one of its rooms. `None`: it is neither.
pub(super) fn parse_name(field: &str) -> Option<(Pid, Option<&str>)> {
    match field.split_once(' ') {
        Some((pid, room)) => Some((Pid::parse(pid)?, Some(room))),
        None => Some((Pid::parse(field)?, None)),
    }
}
