//! CLIENT PAUSE and DEBUG SLEEP: requests that wait until a time comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Which requests are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Those that may change something or that others may hear of.
    Writes,
    All,
}

/// What holds the requests of all clients.
#[derive(Default)]
pub(super) struct Pause {
    /// Looked at before each request, so that nobody takes the lock for nothing.
    is_on: AtomicBool,
    state: Mutex<State>,
    eased: Notify,
}

#[derive(Default)]
struct State {
    /// By CLIENT PAUSE.
    paused: Option<(Held, Instant)>,
    /// By DEBUG SLEEP.
    asleep_until: Option<Instant>,
}

/// A pause that is longer ends nevertheless.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time.min(LONGEST)).unwrap_or(now)
}

impl Pause {
    /// CLIENT PAUSE: takes the place of the one before.
    pub(super) fn begin(&self, held: Held, time: Duration) {
        self.state.lock().paused = Some((held, after(time)));
        self.is_on.store(true, Ordering::Relaxed);
        self.eased.notify_waiters();
    }

    /// CLIENT UNPAUSE.
    pub(super) fn end(&self) {
        self.state.lock().paused = None;
        self.eased.notify_waiters();
    }

    /// DEBUG SLEEP: nobody is answered until then, the one that asks included.
    pub(super) fn sleep(&self, time: Duration) -> Instant {
        let until = after(time);
        let mut state = self.state.lock();
        state.asleep_until = state.asleep_until.max(Some(until));
        self.is_on.store(true, Ordering::Relaxed);
        until
    }

    /// Whether anything may be held.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Until when a request is held, unless that is eased before.
    pub(super) fn holds(&self, writes: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.paused = state.paused.filter(|(_, until)| *until > now);
        state.asleep_until = state.asleep_until.filter(|until| *until > now);
        let is_held = |(held, _): &(Held, Instant)| writes || *held == Held::All;
        let paused_until = state.paused.filter(is_held).map(|(_, until)| until);
        if state.paused.is_none() && state.asleep_until.is_none() {
            self.is_on.store(false, Ordering::Relaxed);
        }
        paused_until.max(state.asleep_until)
    }

    /// Waits for as long as it holds such a request.
    pub(super) async fn wait(&self, writes: bool) {
        loop {
            // From here on nothing that eases it is missed.
            let eased = self.eased.notified();
            let Some(until) = self.holds(writes) else { return };
            // Either is a reason to look again.
            let _ = tokio::time::timeout_at(until, eased).await;
        }
    }
}
