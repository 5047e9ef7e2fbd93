//! What is known of a client that may come back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::offset::Offset;
use crate::gateway::io::{Socket, SocketId};
use crate::model::clock::UnixMs;

const VERSION: u8 = 1;

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
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u8,
    sid: String,
    who: Box<str>,
    connect: u64,
    rooms: Vec<(String, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<str>>,
    last: Option<String>,
    detached: Option<u64>,
    until_ms: Option<UnixMs>,
}

impl Session {
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            v: VERSION,
            sid: self.sid.to_string(),
            who: self.who.clone(),
            connect: self.connect,
            rooms: self.rooms.iter().map(|place| (place.room.to_string(), place.since)).collect(),
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
        let place = |(room, since): (String, u64)| Place { room: room.into(), since };
        Some(Self {
            sid: SocketId::parse(&stored.sid)?,
            who: stored.who,
            connect: stored.connect,
            rooms: stored.rooms.into_iter().map(place).collect(),
            data: stored.data,
            last,
            detached: stored.detached,
            until_ms: stored.until_ms,
            socket: None,
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
    /// Those without a socket, the first to end first; some have one again.
    ending: VecDeque<(UnixMs, Pid)>,
}

impl Sessions {
    pub fn get(&self, pid: Pid) -> Option<&Session> {
        self.all.get(&pid)
    }

    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut Session> {
        self.all.get_mut(&pid)
    }

    pub fn insert(&mut self, pid: Pid, session: Session) {
        if let Some(until_ms) = session.until_ms {
            self.will_end(until_ms, pid);
        }
        self.all.insert(pid, session);
    }

    pub fn remove(&mut self, pid: Pid) -> bool {
        self.all.remove(&pid).is_some()
    }

    /// The session is detached, and ends at `until_ms`.
    pub fn will_end(&mut self, until_ms: UnixMs, pid: Pid) {
        self.ending.push_back((until_ms, pid));
    }

    /// When the next session may end.
    pub fn next_end(&self) -> Option<UnixMs> {
        self.ending.front().map(|(until_ms, _)| *until_ms)
    }

    /// Takes off a session whose time has passed, or the oldest when more than `detached_max` wait.
    pub fn pop_ended(&mut self, now_ms: UnixMs, detached_max: usize) -> Option<Pid> {
        while let Some(&(until_ms, pid)) = self.ending.front() {
            if until_ms > now_ms && self.ending.len() <= detached_max {
                return None;
            }
            self.ending.pop_front();
            // One that came back, and perhaps went again, has another entry or none.
            let is_due =
                self.all.get(&pid).is_some_and(|session| session.until_ms == Some(until_ms));
            if is_due {
                self.all.remove(&pid);
                return Some(pid);
            }
        }
        None
    }
}
