//! Who is there: the users, and how many sockets each has. Pure.
//!
//! A socket of a namespace beside the application's own is a guest: it makes nobody present, and counts
//! only for its user's bound.

use std::collections::BinaryHeap;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::Instant;

use super::directory::{Part, Presence};
use super::shrink;
use crate::model::clock::UnixMs;
use crate::model::names::UserId;

/// What others call a user that is there.
pub const ONLINE: &str = "online";
/// And one that is not.
pub const OFFLINE: &str = "offline";

/// A user with sockets, or one whose absence is not told yet.
struct User {
    sockets: usize,
    status: Box<str>,
    /// When it was last set, in milliseconds since the Unix epoch; 0: it was not.
    status_at_ms: UnixMs,
    /// The others were not told that it came.
    is_news: bool,
    /// Since when there is no socket.
    absent_since: Option<Instant>,
}

impl User {
    fn seen_as(&self, id: &UserId) -> Presence {
        let (status, status_at_ms) = (self.status.to_string(), self.status_at_ms);
        Presence { user: id.clone(), status, sockets: self.sockets, status_at_ms }
    }
}

#[derive(Default)]
pub struct Roster {
    users: AHashMap<UserId, User>,
    /// How many guests each user has; nobody has none.
    guests: AHashMap<UserId, usize>,
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
    pub fn arrive(&mut self, id: &UserId, user_sockets_max: usize) -> Arrival {
        if self.sockets(id) >= user_sockets_max {
            return Arrival::TooMany;
        }
        let Some(user) = self.users.get_mut(id) else {
            let user = User {
                sockets: 1,
                status: ONLINE.into(),
                status_at_ms: 0,
                is_news: true,
                absent_since: None,
            };
            self.users.insert(id.clone(), user);
            return Arrival::First;
        };
        user.absent_since = None;
        user.sockets += 1;
        Arrival::Another
    }

    /// Whether there was a place for one more guest, which it has then.
    pub fn arrive_as_guest(&mut self, id: &UserId, user_sockets_max: usize) -> bool {
        let has_place = self.sockets(id) < user_sockets_max;
        if has_place {
            *self.guests.entry(id.clone()).or_default() += 1;
        }
        has_place
    }

    pub fn depart_as_guest(&mut self, id: &UserId) {
        if let Some(guests) = self.guests.get_mut(id) {
            *guests -= 1;
            if *guests == 0 {
                self.guests.remove(id);
            }
        }
    }

    /// The user's sockets in all namespaces.
    fn sockets(&self, id: &UserId) -> usize {
        let guests = self.guests.get(id).copied().unwrap_or_default();
        self.users.get(id).map_or(0, |user| user.sockets) + guests
    }

    /// Whether the others are still to be told that the user came, which they are then.
    pub fn is_news(&mut self, id: &UserId) -> bool {
        self.users.get_mut(id).is_some_and(|user| std::mem::take(&mut user.is_news))
    }

    pub fn depart(&mut self, id: &UserId, grace: Duration, now: Instant) -> Departure {
        let Some(user) = self.users.get_mut(id) else { return Departure::OthersRemain };
        user.sockets = user.sockets.saturating_sub(1);
        if user.sockets > 0 {
            return Departure::OthersRemain;
        }
        if grace.is_zero() {
            self.take_off(id);
            return Departure::Gone;
        }
        user.absent_since = Some(now);
        Departure::Absent
    }

    /// Takes the user off when it has had no socket for the whole grace. `Err`: when to ask again.
    pub fn give_up(&mut self, id: &UserId, grace: Duration, now: Instant) -> Result<bool, Instant> {
        match self.users.get(id).and_then(|user| user.absent_since) {
            None => Ok(false),
            Some(since) if now >= since + grace => Ok(self.take_off(id)),
            Some(since) => Err(since + grace),
        }
    }

    fn take_off(&mut self, id: &UserId) -> bool {
        let was_there = self.users.remove(id).is_some();
        shrink::table(&mut self.users);
        was_there
    }

    /// The user's status; `None` when it is not there.
    pub fn status(&self, user: &UserId) -> Option<&str> {
        self.users.get(user).map(|user| &*user.status)
    }

    /// A user as the others see it; `None`: it is not there.
    pub fn presence(&self, id: &UserId) -> Option<Presence> {
        self.users.get(id).map(|user| user.seen_as(id))
    }

    /// Everybody who is there, in no order.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.users.keys()
    }

    /// Some of who is there, in the order of their ids. Only they are copied, however many there are.
    pub fn present(&self, Part { after, limit }: &Part) -> Vec<Presence> {
        let mut first: BinaryHeap<&UserId> = BinaryHeap::new();
        for id in self.users.keys().filter(|id| id.as_str() > after.as_str()) {
            if first.len() < *limit {
                first.push(id);
            } else if let Some(mut last) = first.peek_mut()
                && id < *last
            {
                *last = id;
            }
        }
        first.into_sorted_vec().into_iter().filter_map(|id| self.presence(id)).collect()
    }

    pub fn set_status(&mut self, user: &UserId, status: &str, now_ms: UnixMs) {
        if let Some(user) = self.users.get_mut(user) {
            user.status = status.into();
            user.status_at_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_user_comes_with_the_first_socket_and_goes_with_the_last() {
        let mut roster = Roster::default();
        let (ada, now) = (user("ada"), Instant::now());
        assert_eq!(roster.arrive(&ada, 2), Arrival::First);
        assert_eq!(roster.arrive(&ada, 2), Arrival::Another);
        assert_eq!(roster.arrive(&ada, 2), Arrival::TooMany);
        assert!(roster.is_news(&ada) && !roster.is_news(&ada));
        assert_eq!(roster.depart(&ada, Duration::ZERO, now), Departure::OthersRemain);
        assert_eq!(roster.status(&ada), Some(ONLINE));
        assert_eq!(roster.depart(&ada, Duration::ZERO, now), Departure::Gone);
        assert_eq!(roster.status(&ada), None);
        assert!(!roster.is_news(&ada));
    }

    #[test]
    fn a_guest_takes_a_place_and_makes_nobody_present() {
        let mut roster = Roster::default();
        let ada = user("ada");
        assert!(roster.arrive_as_guest(&ada, 2));
        assert_eq!((roster.status(&ada), roster.users().count()), (None, 0));
        assert_eq!(roster.arrive(&ada, 2), Arrival::First);
        assert_eq!(roster.arrive(&ada, 2), Arrival::TooMany);
        assert!(!roster.arrive_as_guest(&ada, 2));
        assert!(roster.arrive_as_guest(&user("bob"), 2));
        roster.depart_as_guest(&ada);
        assert_eq!(roster.arrive(&ada, 2), Arrival::Another);
        assert!(!roster.arrive_as_guest(&ada, 2) && !roster.guests.contains_key(&ada));
    }

    #[test]
    fn within_the_grace_a_user_that_returns_was_never_gone() {
        let mut roster = Roster::default();
        let (ada, now, grace) = (user("ada"), Instant::now(), Duration::from_secs(10));
        roster.arrive(&ada, 2);
        roster.set_status(&ada, "away", 7);
        assert_eq!(roster.depart(&ada, grace, now), Departure::Absent);
        assert_eq!(roster.give_up(&ada, grace, now), Err(now + grace));
        assert_eq!(roster.arrive(&ada, 2), Arrival::Another);
        assert_eq!(roster.status(&ada), Some("away"));
        assert_eq!(roster.give_up(&ada, grace, now + grace), Ok(false));

        assert_eq!(roster.depart(&ada, grace, now), Departure::Absent);
        assert_eq!(roster.give_up(&ada, grace, now + grace), Ok(true));
        assert_eq!(roster.arrive(&ada, 2), Arrival::First);
    }

    #[test]
    fn a_page_has_the_first_of_those_behind_a_name() {
        let mut roster = Roster::default();
        for name in ["eve", "bob", "dan", "ada", "cy"] {
            roster.arrive(&user(name), 1);
        }
        let page = |after: &str, limit| -> Vec<String> {
            let part = Part { after: after.to_owned(), limit };
            roster.present(&part).iter().map(|there| there.user.to_string()).collect()
        };
        assert_eq!(page("", 2), ["ada", "bob"]);
        assert_eq!(page("bob", 2), ["cy", "dan"]);
        assert_eq!(page("c", 9), ["cy", "dan", "eve"]);
        assert_eq!(page("", 0), Vec::<String>::new());
        assert_eq!(page("eve", 1), Vec::<String>::new());
    }
}
