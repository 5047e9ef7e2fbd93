//! What is known of a client that may come back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::offset::Offset;
use crate::gateway::io::{Socket, SocketId};
use crate::gateway::shrink;
use crate::model::clock::UnixMs;

/// Of the form in which sessions are kept; another one is not read.
const VERSION: u8 = 2;

/// Entries of sessions that came back are cleared away when they are so many more than the others.
const STALE_MAX: usize = 64;

/// A session's private name: a secret of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid(Uuid);

impl Pid {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A room, and the log's position when it was joined.
pub struct Place {
    pub room: Arc<str>,
    pub since: u64,
}

pub struct Session {
    pub sid: SocketId,
    /// Who the application's middleware said that it is.
    pub who: Box<str>,
    /// The log's position when it connected.
    pub connect: u64,
    pub rooms: Vec<Place>,
    /// The application's, as a JSON text.
    pub data: Option<Box<str>>,
    /// The last entry that was sent to it; complete only once it is detached.
    pub last: Option<Offset>,
    /// The log's position when its socket went.
    pub detached: Option<u64>,
    /// Until when it may come back; absent while its socket is there.
    pub until_ms: Option<UnixMs>,
    pub socket: Option<Socket>,
    /// How often another node took it.
    pub takes: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u8,
    sid: String,
    who: Box<str>,
    connect: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<str>>,
    last: Option<String>,
    detached: Option<u64>,
    until_ms: Option<UnixMs>,
}

impl Session {
    /// Without its rooms, which are kept each for itself.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            v: VERSION,
            sid: self.sid.to_string(),
            who: self.who.clone(),
            connect: self.connect,
            data: self.data.clone(),
            last: self.last.map(|offset| offset.to_string()),
            detached: self.detached,
            until_ms: self.until_ms,
        };
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// `None`: it is none, or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        if stored.v != VERSION {
            return None;
        }
        let last = match stored.last {
            Some(text) => Some(Offset::parse(&text)?),
            None => None,
        };
        Some(Self {
            sid: SocketId::parse(&stored.sid)?,
            who: stored.who,
            connect: stored.connect,
            rooms: Vec::new(),
            data: stored.data,
            last,
            detached: stored.detached,
            until_ms: stored.until_ms,
            socket: None,
            takes: 0,
        })
    }

    /// Notes a room that is joined at `since`; again, if it was noted before.
    pub fn join(&mut self, room: &Arc<str>, since: u64) {
        match self.rooms.iter_mut().find(|place| place.room == *room) {
            Some(place) => place.since = since,
            None => self.rooms.push(Place { room: Arc::clone(room), since }),
        }
    }

    /// Whether it was noted.
    pub fn leave(&mut self, room: &str) -> bool {
        let at = self.rooms.iter().position(|place| &*place.room == room);
        at.map(|at| self.rooms.swap_remove(at)).is_some()
    }

    /// Up to where the log was sent to it, as far as that was for it. `None`: its process crashed while
    /// its socket was there, so nobody knows.
    pub fn sent_through(&self, delivered: u64) -> Option<u64> {
        if self.socket.is_some() { Some(delivered) } else { self.detached }
    }
}

/// The sessions of a namespace.
#[derive(Default)]
pub struct Sessions {
    all: AHashMap<Pid, Session>,
    /// How many have no socket.
    detached: usize,
    /// Those without a socket, the first to end first; some have one again.
    ending: VecDeque<(UnixMs, Pid)>,
}

/// What was first to end.
pub enum Ended {
    /// It is forgotten now.
    Session(Pid, Box<Session>),
    /// It has a socket again, or had one in between, and ends later.
    CameBack,
}

impl Sessions {
    pub fn get(&self, pid: Pid) -> Option<&Session> {
        self.all.get(&pid)
    }

    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut Session> {
        self.all.get_mut(&pid)
    }

    pub fn insert(&mut self, pid: Pid, session: Session) {
        let until_ms = session.until_ms;
        self.all.insert(pid, session);
        if let Some(until_ms) = until_ms {
            self.will_end(until_ms, pid);
        }
    }

    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.all.keys().copied()
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = (Pid, &mut Session)> {
        self.all.iter_mut().map(|(pid, session)| (*pid, session))
    }

    /// Forgets a session, whether it has a socket or not.
    pub fn discard(&mut self, pid: Pid) -> Option<Session> {
        self.will_stay(pid);
        self.remove(pid)
    }

    /// Forgets a session; one that has no socket is still counted among those.
    pub fn remove(&mut self, pid: Pid) -> Option<Session> {
        let session = self.all.remove(&pid);
        shrink::table(&mut self.all);
        session
    }

    /// The session is detached, and ends at `until_ms`, later than those before it.
    pub fn will_end(&mut self, until_ms: UnixMs, pid: Pid) {
        self.detached += 1;
        self.ending.push_back((until_ms, pid));
        if self.ending.len() > 2 * self.detached + STALE_MAX {
            let Self { all, ending, .. } = self;
            ending.retain(|&(until_ms, pid)| is_due(all, until_ms, pid));
            shrink::deque(ending);
        }
    }

    /// The session has a socket, and does not end before that is gone.
    pub fn will_stay(&mut self, pid: Pid) {
        let session = self.all.get_mut(&pid);
        if let Some(session) = session
            && session.until_ms.take().is_some()
        {
            session.detached = None;
            self.detached -= 1;
        }
    }

    /// When the next session may end.
    pub fn next_end(&self) -> Option<UnixMs> {
        self.ending.front().map(|(until_ms, _)| *until_ms)
    }

    /// Takes off a session whose time has passed, or the oldest when more than `detached_max` wait.
    pub fn pop_ended(&mut self, now_ms: UnixMs, detached_max: usize) -> Option<Ended> {
        let &(until_ms, pid) = self.ending.front()?;
        if until_ms > now_ms && self.detached <= detached_max {
            return None;
        }
        self.ending.pop_front();
        shrink::deque(&mut self.ending);
        if !is_due(&self.all, until_ms, pid) {
            return Some(Ended::CameBack);
        }
        let session = self.remove(pid)?;
        self.detached -= 1;
        Some(Ended::Session(pid, Box::new(session)))
    }
}

/// One that came back, and perhaps went again, has another entry or none.
fn is_due(all: &AHashMap<Pid, Session>, until_ms: UnixMs, pid: Pid) -> bool {
    all.get(&pid).is_some_and(|session| session.until_ms == Some(until_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(until_ms: Option<UnixMs>) -> Session {
        Session {
            sid: SocketId::random(),
            who: "".into(),
            connect: 0,
            rooms: Vec::new(),
            data: None,
            last: None,
            detached: None,
            until_ms,
            socket: None,
            takes: 0,
        }
    }

    fn ended(sessions: &mut Sessions, now_ms: UnixMs, detached_max: usize) -> Vec<Pid> {
        let pops = std::iter::from_fn(|| sessions.pop_ended(now_ms, detached_max));
        let pid = |ended| if let Ended::Session(pid, _) = ended { Some(pid) } else { None };
        pops.filter_map(pid).collect()
    }

    #[test]
    fn a_client_that_comes_and_goes_is_one_session_however_often() {
        let (quiet, flaps) = (Pid::random(), Pid::random());
        let mut sessions = Sessions::default();
        sessions.insert(quiet, session(Some(1_000)));
        sessions.insert(flaps, session(None));
        for until_ms in 1_001..2_001 {
            sessions.get_mut(flaps).unwrap().until_ms = Some(until_ms);
            sessions.will_end(until_ms, flaps);
            assert_eq!(ended(&mut sessions, 0, 2), []);
            sessions.will_stay(flaps);
        }
        assert!(sessions.ending.len() <= 2 * 2 + STALE_MAX, "{}", sessions.ending.len());
        assert_eq!(ended(&mut sessions, 5_000, 2), [quiet]);
        assert!(sessions.get(flaps).is_some());
    }

    #[test]
    fn a_storm_that_is_over_leaves_no_room_behind() {
        let mut sessions = Sessions::default();
        for until_ms in 0..10_000 {
            sessions.insert(Pid::random(), session(Some(until_ms)));
        }
        let stays = Pid::random();
        sessions.insert(stays, session(None));
        assert_eq!(ended(&mut sessions, 10_000, 0).len(), 10_000);
        assert!(sessions.all.capacity() < 256 && sessions.ending.capacity() < 256);
        assert!(sessions.get(stays).is_some());
        let connected: Vec<Pid> = (0..10_000).map(|_| Pid::random()).collect();
        connected.iter().for_each(|pid| sessions.insert(*pid, session(None)));
        connected.iter().for_each(|pid| drop(sessions.remove(*pid)));
        assert!(sessions.all.capacity() < 256);
    }

    #[test]
    fn the_oldest_end_first_in_time_or_when_they_are_too_many() {
        let mut sessions = Sessions::default();
        let pids = [10, 20, 30].map(|until_ms| {
            let pid = Pid::random();
            sessions.insert(pid, session(Some(until_ms)));
            pid
        });
        assert_eq!(ended(&mut sessions, 9, 3), []);
        assert_eq!(ended(&mut sessions, 9, 2), pids[..1]);
        assert_eq!(ended(&mut sessions, 20, 3), pids[1..2]);
        assert_eq!(sessions.next_end(), Some(30));
    }
}
