//! Who is connected: sockets, and the users that they belong to. Pure.
//!
//! A user's sockets are the personal room `user:<id>`. It is found here by [`UserId`], never among the
//! rooms that clients name, so no text that a client sends can address it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use smallvec::SmallVec;
use tokio::time::Instant;
use uuid::Uuid;

use super::outbound::Outbound;
use crate::model::names::UserId;

/// A Socket.IO socket's public name. Not the Engine.IO session's id, which is a secret of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(Uuid);

impl SocketId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// `None`: the text is no socket's id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connected socket as the others know it.
pub struct Peer {
    pub id: SocketId,
    pub user: UserId,
    pub username: Box<str>,
    pub outbound: Arc<Outbound>,
}

/// What others call a user that is there.
pub const ONLINE: &str = "online";
/// And one that is not.
pub const OFFLINE: &str = "offline";

/// A user with sockets, or one whose absence is not told yet.
struct User {
    sockets: SmallVec<[Arc<Peer>; 1]>,
    status: Box<str>,
    /// Since when there is no socket.
    absent_since: Option<Instant>,
}

#[derive(Default)]
pub struct Roster {
    sockets: AHashMap<SocketId, Arc<Peer>>,
    users: AHashMap<UserId, User>,
}

/// What an arrival means to the others.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The user was not there.
    First,
    Another,
    /// The user has as many sockets as a user may have; nothing was added.
    TooMany,
}

/// What a departure means to the others.
#[derive(Debug, PartialEq, Eq)]
pub enum Departure {
    /// The user's last socket went, and the user with it.
    Gone,
    /// The user's last socket went; whether the user did shows after the grace.
    Absent,
    OthersRemain,
}

impl Roster {
    pub fn arrive(&mut self, peer: Arc<Peer>, user_sockets_max: usize) -> Arrival {
        let mut arrival = Arrival::Another;
        let user = self.users.entry(peer.user.clone()).or_insert_with(|| {
            arrival = Arrival::First;
            User { sockets: SmallVec::new(), status: ONLINE.into(), absent_since: None }
        });
        if user.sockets.len() >= user_sockets_max {
            return Arrival::TooMany;
        }
        user.absent_since = None;
        user.sockets.push(Arc::clone(&peer));
        self.sockets.insert(peer.id, peer);
        arrival
    }

    pub fn depart(&mut self, peer: &Peer, grace: Duration, now: Instant) -> Departure {
        self.sockets.remove(&peer.id);
        let Some(user) = self.users.get_mut(&peer.user) else {
            return Departure::OthersRemain;
        };
        user.sockets.retain(|other| other.id != peer.id);
        if !user.sockets.is_empty() {
            return Departure::OthersRemain;
        }
        if grace.is_zero() {
            self.users.remove(&peer.user);
            return Departure::Gone;
        }
        user.absent_since = Some(now);
        Departure::Absent
    }

    /// Takes the user off when it has had no socket for the whole grace. `Err`: when to ask again.
    pub fn give_up(&mut self, id: &UserId, grace: Duration, now: Instant) -> Result<bool, Instant> {
        match self.users.get(id).and_then(|user| user.absent_since) {
            None => Ok(false),
            Some(since) if now >= since + grace => Ok(self.users.remove(id).is_some()),
            Some(since) => Err(since + grace),
        }
    }

    /// The user's status; `None` when it is not there.
    pub fn status(&self, user: &UserId) -> Option<&str> {
        self.users.get(user).map(|user| &*user.status)
    }

    pub fn set_status(&mut self, user: &UserId, status: &str) {
        if let Some(user) = self.users.get_mut(user) {
            user.status = status.into();
        }
    }

    pub fn contains(&self, id: SocketId) -> bool {
        self.sockets.contains_key(&id)
    }

    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    pub fn sockets(&self) -> impl Iterator<Item = &Peer> {
        self.sockets.values().map(|peer| &**peer)
    }

    /// Each user that is there, its status, and how many sockets it has.
    pub fn users(&self) -> impl Iterator<Item = (&UserId, &str, usize)> {
        self.users.iter().map(|(id, user)| (id, &*user.status, user.sockets.len()))
    }

    pub fn sockets_of(&self, user: &UserId) -> impl Iterator<Item = &Peer> {
        self.users.get(user).into_iter().flat_map(|user| user.sockets.iter().map(|peer| &**peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::outbound::Transport;

    fn peer(user: &str) -> Arc<Peer> {
        Arc::new(Peer {
            id: SocketId::random(),
            user: UserId::new(user).unwrap(),
            username: user.into(),
            outbound: Arc::new(Outbound::new(Transport::Polling, 1_000)),
        })
    }

    #[test]
    fn a_user_comes_with_the_first_socket_and_goes_with_the_last() {
        let mut roster = Roster::default();
        let (one, two, now) = (peer("ada"), peer("ada"), Instant::now());
        assert_eq!(roster.arrive(Arc::clone(&one), 2), Arrival::First);
        assert_eq!(roster.arrive(Arc::clone(&two), 2), Arrival::Another);
        assert_eq!(roster.arrive(peer("ada"), 2), Arrival::TooMany);
        assert_eq!(roster.sockets_of(&one.user).count(), 2);
        assert_eq!(roster.depart(&one, Duration::ZERO, now), Departure::OthersRemain);
        assert_eq!(roster.status(&one.user), Some(ONLINE));
        assert_eq!(roster.depart(&two, Duration::ZERO, now), Departure::Gone);
        assert_eq!(roster.status(&one.user), None);
        assert_eq!(roster.len(), 0);
    }

    #[test]
    fn within_the_grace_a_user_that_returns_was_never_gone() {
        let mut roster = Roster::default();
        let (ada, now, grace) = (peer("ada"), Instant::now(), Duration::from_secs(10));
        roster.arrive(Arc::clone(&ada), 2);
        roster.set_status(&ada.user, "away");
        assert_eq!(roster.depart(&ada, grace, now), Departure::Absent);
        assert_eq!(roster.give_up(&ada.user, grace, now), Err(now + grace));
        let again = peer("ada");
        assert_eq!(roster.arrive(Arc::clone(&again), 2), Arrival::Another);
        assert_eq!(roster.status(&ada.user), Some("away"));
        assert_eq!(roster.give_up(&ada.user, grace, now + grace), Ok(false));

        assert_eq!(roster.depart(&again, grace, now), Departure::Absent);
        assert_eq!(roster.give_up(&ada.user, grace, now + grace), Ok(true));
        assert_eq!(roster.arrive(peer("ada"), 2), Arrival::First);
    }
}
