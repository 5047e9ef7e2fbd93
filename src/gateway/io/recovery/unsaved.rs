//! Sessions of which the server may hold another state than they have, as a change of one was not taken or not
//! answered. They are saved whole when there is room, so that none comes back with rooms that it left.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ahash::AHashSet;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::Hub;
use super::Recovery;
use super::noted::Noted;
use super::session::Pid;
use crate::backend::{BackendError, Sent};

/// Before they are saved, so that it is not tried all the time while the server is away.
const SAVE_AGAIN: Duration = Duration::from_millis(100);

/// Saved in one go, so that they do not fill what waits for the server.
const SAVED_MAX: usize = 512;

/// More are not remembered. What is kept of a session ends by itself, and is said again now and then.
const UNSAVED_MAX: usize = 200_000;

#[derive(Default)]
pub struct Unsaved {
    pids: Mutex<AHashSet<Pid>>,
    wake: Notify,
    /// Of who started it: a program may change its sockets from any thread.
    runtime: OnceLock<Handle>,
}

impl Unsaved {
    /// Needs a Tokio runtime.
    pub fn start(&self) {
        self.runtime.get_or_init(Handle::current);
    }

    fn add(&self, pid: Pid) {
        let mut pids = self.pids.lock();
        if pids.len() < UNSAVED_MAX {
            pids.insert(pid);
        }
        drop(pids);
        self.wake.notify_one();
    }

    /// Has a session be saved again if a change of it fails, on its way or at its end.
    pub fn watch(self: &Arc<Self>, pid: Pid, sent: Result<Sent, BackendError>) -> Noted {
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "a session's change has to wait");
                self.add(pid);
                return Noted::failed(error);
            }
        };
        // It is started before there are sockets.
        let Some(runtime) = self.runtime.get() else { return Noted::of(Ok(Some(sent))) };
        let (told, outcome) = oneshot::channel();
        let unsaved = Arc::clone(self);
        runtime.spawn(async move {
            let durable = sent.durable().await;
            if let Err(error) = &durable {
                tracing::debug!(%error, "a session's change is made again");
                unsaved.add(pid);
            }
            // Mostly nobody waits.
            let _ = told.send(durable);
        });
        Noted::watched(outcome)
    }

    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn take_some(&self) -> Vec<Pid> {
        let mut pids = self.pids.lock();
        let some: Vec<Pid> = pids.iter().copied().take(SAVED_MAX).collect();
        some.iter().for_each(|pid| _ = pids.remove(pid));
        some
    }
}

/// Saves what was not saved, for as long as there is the namespace.
pub async fn save_again(hub: Weak<Hub>, unsaved: Arc<Unsaved>) {
    loop {
        unsaved.wake.notified().await;
        sleep(SAVE_AGAIN).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(recovery) = hub.recovery() else { return };
        recovery.save_some(unsaved.take_some());
        if !unsaved.pids.lock().is_empty() {
            unsaved.wake();
        }
    }
}

impl Recovery {
    fn save_some(&self, pids: Vec<Pid>) {
        let Some(shared) = &self.store.shared else { return };
        // As they are now: nothing of them changes, or is sent, meanwhile.
        let delivery = self.delivery.lock();
        for pid in pids {
            let sent = match delivery.sessions.get(pid) {
                Some(session) => shared.save(pid, session, self.epoch()),
                // It ended, or is another node's, which this does not touch.
                None => shared.forget(pid),
            };
            drop(self.unsaved.watch(pid, sent));
        }
    }
}
