//! Sockets whose token ends: each is closed then, unless its client has shown a fresh one.
//!
//! One task looks after all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::application::Application;
use super::io::SocketId;

/// How often the task looks whether its gateway is still there.
const LOOK: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Expiries {
    due: Mutex<BTreeSet<(Instant, SocketId)>>,
    wake: Notify,
}

impl Expiries {
    pub fn add(&self, at: Instant, socket: SocketId) {
        let mut due = self.due.lock();
        due.insert((at, socket));
        let is_next = due.first().is_some_and(|(first, _)| *first == at);
        drop(due);
        if is_next {
            self.wake.notify_one();
        }
    }

    pub fn remove(&self, at: Instant, socket: SocketId) {
        self.due.lock().remove(&(at, socket));
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().first().map(|(at, _)| *at)
    }

    fn pop_due(&self, now: Instant) -> Option<SocketId> {
        let mut due = self.due.lock();
        due.first().filter(|(at, _)| *at <= now)?;
        due.pop_first().map(|(_, socket)| socket)
    }
}

/// Closes sockets in time until the application is dropped.
pub async fn keep(application: Weak<Application>, expiries: Arc<Expiries>) {
    loop {
        let now = Instant::now();
        let until = expiries.next().unwrap_or(now + LOOK).min(now + LOOK);
        tokio::select! {
            () = expiries.wake.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(application) = application.upgrade() else { return };
        while let Some(socket) = expiries.pop_due(Instant::now()) {
            application.expire(socket);
        }
    }
}
