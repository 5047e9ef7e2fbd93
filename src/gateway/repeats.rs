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
const WINDOW: Duration = Duration::from_secs(600);

/// How many are; the oldest go first.
const REMEMBERED_MAX: usize = 100_000;

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
    sent: AHashMap<Named, Sent>,
    /// By age, with those that are forgotten already.
    order: VecDeque<(Instant, Named)>,
}

impl Repeats {
    pub fn knows(&self, named: &Named) -> bool {
        self.0.lock().sent.contains_key(named)
    }

    pub fn see(&self, named: &Named, ack: Ack, now: Instant) -> Seen {
        let mut state = self.0.lock();
        state.forget(now);
        match state.sent.get_mut(named) {
            Some(Sent::Stored(receipt)) => Seen::Again(ack, receipt.clone()),
            Some(Sent::Pending(acks)) => {
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
        let Some(sent) = state.sent.get_mut(named) else { return Vec::new() };
        match std::mem::replace(sent, Sent::Stored(receipt)) {
            Sent::Pending(acks) => acks,
            Sent::Stored(_) => Vec::new(),
        }
    }

    /// It is not stored, and may be sent again; the acknowledgements of its repeats.
    pub fn failed(&self, named: &Named) -> Vec<Ack> {
        match self.0.lock().sent.remove(named) {
            Some(Sent::Pending(acks)) => acks,
            _ => Vec::new(),
        }
    }
}

impl State {
    fn remember(&mut self, named: &Named, sent: Sent, now: Instant) {
        self.sent.insert(named.clone(), sent);
        self.order.push_back((now, named.clone()));
        while self.order.len() > REMEMBERED_MAX {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, named)) = self.order.pop_front() {
            self.sent.remove(&named);
        }
    }
}
