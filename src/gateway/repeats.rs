//! Messages that clients named themselves (`clientId`), so that one that is sent again is not stored
//! again. A client that waits too long for an acknowledgement cannot know whether it was heard.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::io::Ack;
use crate::model::names::{RoomId, UserId};

/// How long a message is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);

/// How many of one user are, so that nobody makes the server forget what others sent; the oldest go first.
const USER_MAX: usize = 1_000;

/// How many are in all.
const REMEMBERED_MAX: usize = 1_000_000;

/// Acknowledgements that wait for one message; the oldest go first, as their client has given them up.
const ACKS_MAX: usize = 16;

/// What a message is to its sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    pub user: UserId,
    pub room: RoomId,
    pub client_id: Box<str>,
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub id: Box<str>,
    /// Unknown for what was stored before the server started.
    pub offset: Option<Box<str>>,
}

enum Sent {
    Pending(Vec<Ack>),
    Stored(Receipt),
}

/// What is to be done with a message.
pub enum Seen {
    /// It is new: to be stored, and acknowledged with this.
    New(Ack),
    /// It was stored before: to be acknowledged with what the first one was.
    Again(Ack, Receipt),
    /// It is on its way: the first one's end is this one's.
    Waiting,
}

#[derive(Default)]
pub struct Repeats(Mutex<State>);

#[derive(Default)]
struct State {
    sent: AHashMap<Named, (Instant, Sent)>,
    /// Of each user by age, with those that are forgotten already.
    users: AHashMap<UserId, VecDeque<(Instant, Named)>>,
    /// By age: who has something that old.
    order: VecDeque<(Instant, UserId)>,
}

impl Repeats {
    pub fn knows(&self, named: &Named) -> bool {
        self.0.lock().sent.contains_key(named)
    }

    pub fn see(&self, named: &Named, ack: Ack, now: Instant) -> Seen {
        let mut state = self.0.lock();
        state.forget(now);
        match state.sent.get_mut(named) {
            Some((_, Sent::Stored(receipt))) => Seen::Again(ack, receipt.clone()),
            Some((_, Sent::Pending(acks))) => {
                if acks.len() >= ACKS_MAX {
                    acks.remove(0);
                }
                acks.push(ack);
                Seen::Waiting
            }
            None => {
                state.remember(named, Sent::Pending(Vec::new()), now);
                Seen::New(ack)
            }
        }
    }

    /// A message that was stored by an earlier run of the server.
    pub fn restore(&self, named: &Named, id: &str, now: Instant) {
        let mut state = self.0.lock();
        if !state.sent.contains_key(named) {
            let receipt = Receipt { id: id.into(), offset: None };
            state.remember(named, Sent::Stored(receipt), now);
        }
    }

    /// It is stored; the acknowledgements of its repeats.
    pub fn stored(&self, named: &Named, receipt: Receipt) -> Vec<Ack> {
        // One that was forgotten in between stays so.
        let mut state = self.0.lock();
        let Some((_, sent)) = state.sent.get_mut(named) else { return Vec::new() };
        match std::mem::replace(sent, Sent::Stored(receipt)) {
            Sent::Pending(acks) => acks,
            Sent::Stored(_) => Vec::new(),
        }
    }

    /// It is not stored, and may be sent again; the acknowledgements of its repeats.
    pub fn failed(&self, named: &Named) -> Vec<Ack> {
        match self.0.lock().sent.remove(named) {
            Some((_, Sent::Pending(acks))) => acks,
            _ => Vec::new(),
        }
    }
}

impl State {
    fn remember(&mut self, named: &Named, sent: Sent, now: Instant) {
        self.sent.insert(named.clone(), (now, sent));
        self.order.push_back((now, named.user.clone()));
        let own = self.users.entry(named.user.clone()).or_default();
        own.push_back((now, named.clone()));
        for _ in 0..own.len() {
            if own.len() <= USER_MAX {
                break;
            }
            forget_first(&mut self.sent, own);
        }
        while self.order.len() > REMEMBERED_MAX {
            let _ = self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            if let Some(user) = self.forget_oldest() {
                self.order.push_back((now, user));
            }
        }
    }

    /// Gives back the user when something so old is still awaited.
    fn forget_oldest(&mut self) -> Option<UserId> {
        let (until, user) = self.order.pop_front()?;
        let own = self.users.get_mut(&user)?;
        for _ in 0..own.len() {
            if own.front().is_none_or(|(at, _)| *at > until) {
                break;
            }
            forget_first(&mut self.sent, own);
        }
        let awaits = own.back().is_some_and(|(at, _)| *at <= until);
        if own.is_empty() {
            self.users.remove(&user);
        }
        awaits.then_some(user)
    }
}

/// But one whose end is awaited stays, as somebody may wait for its acknowledgement.
fn forget_first(sent: &mut AHashMap<Named, (Instant, Sent)>, own: &mut VecDeque<(Instant, Named)>) {
    let Some((at, named)) = own.pop_front() else { return };
    match sent.get(&named) {
        Some((since, Sent::Pending(_))) if *since == at => own.push_back((at, named)),
        Some((since, Sent::Stored(_))) if *since == at => {
            sent.remove(&named);
        }
        // It failed, and was perhaps sent again since.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(user: &str, id: usize) -> Named {
        Named {
            user: UserId::new(user).unwrap(),
            room: RoomId::new("general").unwrap(),
            client_id: id.to_string().into(),
        }
    }

    fn store(state: &mut State, named: &Named, now: Instant) {
        let receipt = Receipt { id: "m".into(), offset: None };
        state.remember(named, Sent::Stored(receipt), now);
    }

    #[test]
    fn one_user_makes_nobody_else_forgotten() {
        let (mut state, now) = (State::default(), Instant::now());
        let (first, pending) = (named("ada", 0), named("eve", 0));
        store(&mut state, &first, now);
        state.remember(&pending, Sent::Pending(Vec::new()), now);
        for id in 1..=3 * USER_MAX {
            store(&mut state, &named("eve", id), now);
        }
        assert!(state.sent.contains_key(&first) && state.sent.contains_key(&pending));
        assert!(!state.sent.contains_key(&named("eve", 1)));
        assert!(state.sent.len() <= USER_MAX + 2);
        state.forget(now + 2 * WINDOW);
        assert_eq!(state.sent.keys().collect::<Vec<_>>(), [&pending]);
        store(&mut state, &pending, now + 2 * WINDOW);
        state.forget(now + 4 * WINDOW);
        assert!(state.sent.is_empty() && state.users.is_empty() && state.order.is_empty());
    }

    #[test]
    fn a_name_that_failed_once_is_remembered_for_as_long_as_another() {
        let (mut state, now) = (State::default(), Instant::now());
        let name = named("ada", 0);
        state.remember(&name, Sent::Pending(Vec::new()), now);
        state.sent.remove(&name);
        store(&mut state, &name, now + WINDOW / 2);
        state.forget(now + WINDOW + WINDOW / 4);
        assert!(state.sent.contains_key(&name));
        state.forget(now + 2 * WINDOW);
        assert!(state.sent.is_empty() && state.users.is_empty());
    }
}
