//! How a socket comes, comes back, and goes.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::Entry;
use super::offset::Offset;
use super::session::{Pid, Place, Session};
use super::{Delivery, REPLAY_SHARE, Recovery};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::io::socket::greeting;
use crate::gateway::io::{DisconnectReason, Hub, Socket};

/// How long the client of a session that another connection claims may take to show that it is there.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What a client shows that wants to come back.
pub struct Claim {
    pub(super) pid: Pid,
    /// What it holds for the offset of the last event it got, if it holds any.
    offset: Option<String>,
}

impl Claim {
    /// `None`: it does not want to, or its words for it are none.
    pub fn of(auth: Option<&RawValue>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Words<'a> {
            pid: Option<&'a str>,
            offset: Option<String>,
        }
        let words: Words<'_> = serde_json::from_str(auth?.get()).ok()?;
        Some(Self { pid: Pid::parse(words.pid?)?, offset: words.offset })
    }

    /// The last position that its client or its session knows of a log.
    pub(super) fn newest(&self, session: &Session, epoch: u64) -> u64 {
        let held = self.offset.as_deref().and_then(Offset::parse);
        let offsets = [held, session.last].into_iter().flatten();
        let offsets = offsets.filter(|offset| offset.epoch == epoch).map(|offset| offset.position);
        let places = session.rooms.iter().map(|place| place.since);
        let own = [session.connect, session.detached.unwrap_or_default()];
        own.into_iter().chain(offsets).chain(places).max().unwrap_or_default()
    }
}

pub struct Admitted {
    /// The socket that is connected now, which is another one than asked.
    pub socket: Socket,
    /// The socket that it takes the place of, which had not gone yet.
    pub replaced: Option<Socket>,
}

/// What a session missed.
pub(super) struct Missed {
    entries: Vec<Arc<Entry>>,
    last: Option<Offset>,
}

impl Recovery {
    /// Asks the client that holds the claimed session whether it is there, if one does: of a connection
    /// that was lost unnoticed the server does not know. Who has an answer keeps its session, and a copy of
    /// its claim is nothing. Gives who was asked. Cancel safe.
    pub async fn ask_holder(&self, claim: &Claim) -> Option<Socket> {
        self.ask_client(claim.pid).await
    }

    /// As [`Self::ask_holder`], by the session's name.
    pub async fn ask_client(&self, pid: Pid) -> Option<Socket> {
        let holder = self.delivery.lock().sessions.get(pid).and_then(|it| it.socket.clone());
        if let Some(holder) = holder.as_ref().filter(|holder| !holder.is_deserted()) {
            holder.ask(ANSWER_MAX).await;
        }
        holder
    }

    /// Lets a socket in, as the session that it claims, or as a new one. Whoever took the session after
    /// `asked` was asked for it is asked as well: its client may be gone by now too. Cancel safe.
    pub async fn admit(
        &self,
        hub: &Hub,
        socket: &Socket,
        claim: Option<&Claim>,
        mut asked: Option<Socket>,
    ) -> Admitted {
        self.stands().await;
        let claim = match claim {
            Some(claim) if self.fetch(hub, socket, claim).await => Some(claim),
            _ => None,
        };
        loop {
            match self.try_admit(hub, socket, claim, asked.as_ref()) {
                Ok(admitted) => return admitted,
                Err(holder) => {
                    holder.ask(ANSWER_MAX).await;
                    asked = Some(holder);
                }
            }
        }
    }

    /// # Errors
    /// Who holds the session, is there as far as the server knows, and was not asked.
    pub fn try_admit(
        &self,
        hub: &Hub,
        socket: &Socket,
        claim: Option<&Claim>,
        asked: Option<&Socket>,
    ) -> Result<Admitted, Socket> {
        let mut delivery = self.delivery.lock();
        if let Some(claim) = claim {
            let holder = delivery.sessions.get(claim.pid).and_then(|it| it.socket.as_ref());
            if let Some(holder) = holder.filter(|it| !it.is_deserted() && Some(*it) != asked) {
                return Err(holder.clone());
            }
            match self.resume(&mut delivery, hub, socket, claim) {
                Ok(admitted) => return Ok(admitted),
                Err(reason) => tracing::debug!(reason, "a session was not resumed"),
            }
        }
        let pid = Pid::random();
        let position = delivery.position;
        let rooms = socket.rooms().into_iter().map(|room| Place { room, since: position });
        let session = Session {
            sid: socket.id(),
            who: socket.who(),
            connect: position,
            rooms: rooms.collect(),
            data: socket.data_text(),
            last: None,
            detached: None,
            until_ms: None,
            socket: Some(socket.clone()),
            takes: 0,
        };
        socket.set_pid(pid);
        drop(self.save(pid, &session));
        delivery.sessions.insert(pid, session);
        socket.admit(&greeting(hub.name(), socket.id(), Some(pid)));
        Ok(Admitted { socket: socket.clone(), replaced: None })
    }

    /// # Errors
    /// Why the client gets a new session.
    fn resume(
        &self,
        delivery: &mut Delivery,
        hub: &Hub,
        socket: &Socket,
        claim: &Claim,
    ) -> Result<Admitted, &'static str> {
        let now_ms = self.store.clock.now_ms();
        let session = delivery.sessions.get(claim.pid).ok_or("it is not known")?;
        if session.who != socket.who() {
            return Err("it is another's");
        }
        if session.socket.as_ref().is_some_and(|holder| !holder.is_deserted()) {
            return Err("its client is there");
        }
        if session.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return Err("it is too late");
        }
        if !session.rooms.iter().all(|place| socket.may_return_to(&place.room)) {
            return Err("it is not allowed all its rooms any more");
        }
        let Missed { entries, last } = self.missed(delivery, session, claim)?;

        let position = delivery.position;
        delivery.sessions.will_stay(claim.pid);
        let session = delivery.sessions.get_mut(claim.pid).ok_or("it is not known")?;
        let replaced = session.socket.take();
        if let Some(replaced) = &replaced {
            replaced.make_way();
        }
        let given = socket.rooms();
        let rooms = session.rooms.iter().map(|place| Arc::clone(&place.room));
        let data = session.data.clone();
        let resumed = socket.come_back_as(session.sid, claim.pid, rooms, data);
        // What its middleware gave it now comes back the next time too.
        for room in given {
            if !session.rooms.iter().any(|place| place.room == room) {
                session.rooms.push(Place { room, since: position });
            }
        }
        session.data = resumed.data_text();
        session.socket = Some(resumed.clone());
        session.last = last;
        drop(self.save(claim.pid, session));
        resumed.admit(&greeting(hub.name(), resumed.id(), Some(claim.pid)));
        for entry in &entries {
            // A clone, as in `send`: the entry keeps no other form than the one that is counted.
            resumed.answer(&entry.packet.clone());
        }
        Ok(Admitted { socket: resumed, replaced })
    }

    /// # Errors
    /// Why it cannot be told.
    pub(super) fn missed(
        &self,
        delivery: &Delivery,
        session: &Session,
        claim: &Claim,
    ) -> Result<Missed, &'static str> {
        let order = self.order.lock();
        let last = session.last_sent(self.epoch());
        let mut start = match claim.offset.as_deref().map(Offset::parse) {
            None => session.connect,
            Some(None) => return Err("its offset is none"),
            // From a session before this one.
            Some(Some(offset)) if offset.position <= session.connect => session.connect,
            Some(Some(offset)) => {
                let is_own = offset.epoch == self.epoch() && offset.position <= delivery.position;
                if !is_own && last != Some(offset) && !order.ring.contains(offset) {
                    return Err("its offset is not known");
                }
                offset.position
            }
        };
        // It has the last that was sent to it, so it has all that it was to be sent until then.
        if let Some(sent) = session.sent_through(delivery.position)
            && last.is_none_or(|last| last.position <= start)
        {
            start = start.max(sent);
        }
        let first = order.ring.first().unwrap_or(order.position + 1);
        if start + 1 < first && start < delivery.position {
            return Err("what it missed is not kept any more");
        }
        let rooms: AHashMap<&str, u64> =
            session.rooms.iter().map(|place| (&*place.room, place.since)).collect();
        let bytes_max = self.store.queue_bytes_max / REPLAY_SHARE;
        let places = rooms.iter().map(|(room, since)| (*room, *since));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in order.ring.addressed(session.sid, places, start, delivery.position) {
            let position = entry.offset.position;
            if entry.audience.includes(session.sid, &rooms, position) {
                bytes += entry.bytes();
                if bytes > bytes_max {
                    return Err("it missed too much");
                }
                entries.push(Arc::clone(entry));
            }
        }
        let last = entries.last().map_or(last, |entry| Some(entry.offset));
        Ok(Missed { entries, last })
    }

    /// The socket of the session under this secret whose client is not there any more, so that the next
    /// one who claims the session takes its place.
    pub fn deserted(&self, pid: &str) -> Option<Socket> {
        let pid = Pid::parse(pid)?;
        let socket = self.delivery.lock().sessions.get(pid)?.socket.clone();
        socket.filter(Socket::is_deserted)
    }

    /// Whether the client of a socket that went may still come back, or is back.
    pub fn awaits(&self, socket: &Socket) -> bool {
        let session_of = |pid| self.delivery.lock().sessions.get(pid).is_some();
        socket.pid().is_some_and(session_of)
    }

    /// The socket goes, for this reason. Its session stays for a while if its client did not end it.
    pub fn detach(&self, delivery: &mut Delivery, socket: &Socket, reason: DisconnectReason) {
        let Some(pid) = socket.pid() else { return };
        let (position, epoch) = (delivery.position, self.epoch());
        let Some(session) = delivery.sessions.get_mut(pid) else { return };
        if session.socket.as_ref() != Some(socket) {
            return;
        }
        if !may_come_back(reason) {
            if let Some(session) = delivery.sessions.remove(pid) {
                drop(self.forget(pid, &session));
            }
            return;
        }
        session.last = session.last_sent(epoch);
        session.socket = None;
        session.detached = Some(position);
        let until_ms = self.store.clock.now_ms().saturating_add(self.window_ms());
        session.until_ms = Some(until_ms);
        drop(self.save(pid, session));
        delivery.sessions.will_end(until_ms, pid);
        self.wake.notify_one();
    }
}

impl Session {
    /// The last entry that was sent to it.
    fn last_sent(&self, epoch: u64) -> Option<Offset> {
        let position = self.socket.as_ref().map_or(0, Socket::last_logged);
        // What was replayed to it is noted, and may be of an earlier process.
        if self.last.is_none_or(|last| last.position < position) && position > 0 {
            return Some(Offset { epoch, position });
        }
        self.last
    }
}

/// As the stock server has it, and a consumer that was cut too.
fn may_come_back(reason: DisconnectReason) -> bool {
    match reason {
        DisconnectReason::ClientNamespace | DisconnectReason::ServerNamespace => false,
        DisconnectReason::Session(
            CloseReason::ParseError | CloseReason::UnreadablePayload | CloseReason::Violation(_),
        ) => false,
        DisconnectReason::Session(_) | DisconnectReason::Resumed | DisconnectReason::Moved => true,
    }
}
