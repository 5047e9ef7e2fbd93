//! Who is online, as the cache tells it: `presence:<userId>`, a JSON object {status, lastSeen} that lives
//! for 300 s and is renewed while the user has a socket.
//!
//! One task writes these keys, one at a time, and each time what the roster says at that moment. So
//! writes of one user cannot overtake each other, and a burst of changes is one write.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashSet;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::application::Application;
use crate::model::clock::UnixMs;
use crate::model::names::UserId;

/// How long a key outlives its last renewal.
pub const TTL: Duration = Duration::from_secs(300);

/// Between two renewals: two may fail before a user who is there seems gone.
const RENEWAL: Duration = Duration::from_secs(100);

/// How often the task looks whether its gateway is still there.
const LOOK: Duration = Duration::from_secs(60);

/// How soon it tries again what the cache did not take.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What the keys of users' presence begin with.
pub const KEY_PREFIX: &str = "presence:";

/// The cache's key of a user's presence.
pub fn key(user: &UserId) -> String {
    format!("{KEY_PREFIX}{user}")
}

/// The value of that key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    status: &'a str,
    /// Milliseconds since the Unix epoch.
    last_seen: UnixMs,
}

/// Times at which users are due, each user once.
#[derive(Default)]
struct Schedule {
    due: BTreeSet<(Instant, UserId)>,
    users: AHashSet<UserId>,
}

impl Schedule {
    /// Does nothing when the user is scheduled already.
    fn add(&mut self, user: &UserId, at: Instant) {
        if self.users.insert(user.clone()) {
            self.due.insert((at, user.clone()));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<UserId> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        let (_, user) = self.due.pop_first()?;
        self.users.remove(&user);
        Some(user)
    }
}

/// What the task has to look at; bounded by the users there are.
#[derive(Default)]
pub struct PresenceQueue {
    work: Mutex<Work>,
    wake: Notify,
}

#[derive(Default)]
struct Work {
    /// Users whose key is not what the roster says.
    changed: AHashSet<UserId>,
    /// Users without a socket, whose grace is running.
    absent: Schedule,
    flushes: Vec<oneshot::Sender<()>>,
}

impl PresenceQueue {
    /// The user came, went or changed its status.
    pub fn changed(&self, user: &UserId) {
        self.work.lock().changed.insert(user.clone());
        self.wake.notify_one();
    }

    /// As [`Self::changed`], but when something else is done.
    pub fn later(&self, user: &UserId) {
        self.work.lock().changed.insert(user.clone());
    }

    /// The user has no socket; asks at `at` whether it came back.
    pub fn absent_until(&self, user: &UserId, at: Instant) {
        self.work.lock().absent.add(user, at);
        self.wake.notify_one();
    }

    /// Waits until every change so far is written.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.work.lock().flushes.push(done);
        self.wake.notify_one();
        // The task only ends with its gateway.
        let _ = flushed.await;
    }
}

/// Keeps the keys until the application is dropped.
pub async fn keep(application: Weak<Application>, queue: Arc<PresenceQueue>) {
    let mut renewals = Schedule::default();
    loop {
        let now = Instant::now();
        let next = [renewals.next(), queue.work.lock().absent.next()].into_iter().flatten().min();
        let look = if queue.work.lock().changed.is_empty() { LOOK } else { LOOK_AGAIN };
        let until = next.unwrap_or(now + look).min(now + look);
        tokio::select! {
            () = queue.wake.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(application) = application.upgrade() else { return };
        let now = Instant::now();
        give_up_absent(&application, &queue, now);

        let (changed, flushes) = {
            let mut work = queue.work.lock();
            (std::mem::take(&mut work.changed), std::mem::take(&mut work.flushes))
        };
        for user in changed {
            if write(&application, &user).await {
                renewals.add(&user, now + RENEWAL);
            }
        }
        for flushed in flushes {
            let _ = flushed.send(());
        }
        while let Some(user) = renewals.pop_due(now) {
            // Of one that left since, that is said already.
            if application.status(&user).is_some() && write(&application, &user).await {
                renewals.add(&user, now + RENEWAL);
            }
        }
    }
}

fn give_up_absent(application: &Application, queue: &PresenceQueue, now: Instant) {
    loop {
        let Some(user) = queue.work.lock().absent.pop_due(now) else { return };
        if let Err(at) = application.give_up(&user, now) {
            queue.work.lock().absent.add(&user, at);
        }
    }
}

/// Makes the user's key say what the roster says; whether the user is there. A write that fails is
/// made up for by the next renewal.
async fn write(application: &Application, user: &UserId) -> bool {
    let key = key(user);
    let status = application.status(user);
    let is_there = status.is_some();
    if let Some(lease) = application.lease() {
        match lease.note(application, user, is_there).await {
            // It is there on another node, whose key it is.
            Ok(true) if !is_there => return false,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%user, %error, "presence was not noted");
                application.note_later(user);
                return is_there;
            }
        }
    }
    let written = match status {
        Some(status) => {
            let entry = Entry { status: &status, last_seen: application.clock.now_ms() };
            match serde_json::to_vec(&entry) {
                Ok(json) => application.cache.set(&key, json, Some(TTL)).await,
                Err(_) => return is_there,
            }
        }
        // It went in the step in which it was given up, and may be another node's by now.
        None if application.lease().is_some() => Ok(()),
        None => application.cache.delete(&key).await.map(|_| ()),
    };
    if let Err(error) = written {
        tracing::debug!(%user, %error, "presence was not written");
    }
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_scheduled_once_and_in_the_order_of_time() {
        let mut schedule = Schedule::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let (ada, bob) = (UserId::new("ada").unwrap(), UserId::new("bob").unwrap());
        schedule.add(&ada, now + 2 * second);
        schedule.add(&bob, now + second);
        schedule.add(&ada, now);
        assert_eq!(schedule.next(), Some(now + second));
        assert_eq!(schedule.pop_due(now), None);
        assert_eq!(schedule.pop_due(now + 3 * second), Some(bob));
        assert_eq!(schedule.pop_due(now + 3 * second), Some(ada.clone()));
        assert_eq!(schedule.pop_due(now + 3 * second), None);
        schedule.add(&ada, now);
        assert_eq!(schedule.next(), Some(now));
    }
}
