//! The task that sends the events of a log, one after another, each when it is durable.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::entry::Entry;
use super::session::Ended;
use super::{DETACHED_MAX, PENDING_BYTES_MAX, Pending, Recovery, Told};
use crate::gateway::io::Hub;

/// How often sessions are looked at when nothing else happens.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// While events come without a pause, sessions are looked at after so many.
const LOOK_EVENTS: usize = 256;

/// Sessions that are let go of while nothing is delivered.
const ENDED_MAX: usize = 256;

/// Runs until the namespace is gone.
pub async fn run(hub: Weak<Hub>, wake: Arc<Notify>) {
    loop {
        let sleep = {
            let Some(hub) = hub.upgrade() else { return };
            let Some(recovery) = hub.recovery() else { return };
            let mut events = 0;
            while recovery.deliver_first(&hub).await {
                events += 1;
                if events % LOOK_EVENTS == 0 {
                    let _ = recovery.end_sessions();
                }
                // Commits may all be resolved already; the sockets' writers need the thread too.
                tokio::task::consume_budget().await;
            }
            recovery.end_sessions()
        };
        let Some(sleep) = sleep else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

impl Recovery {
    /// Waits for the first pending event's commit and sends it. False: there is none.
    async fn deliver_first(&self, hub: &Arc<Hub>) -> bool {
        // It stays in front meanwhile, for who waits until the log has caught up.
        let sent = match self.order.lock().pending.front_mut() {
            Some(first) => first.sent.take(),
            None => return false,
        };
        let outcome = match sent {
            Some(sent) => sent.durable().await,
            None => Ok(()),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "an event was not logged, and not sent");
        }
        self.deliver(hub, outcome.is_ok());
        let (first, has_room) = {
            let mut order = self.order.lock();
            let was_full = order.pending_bytes > PENDING_BYTES_MAX;
            let Some(first) = order.take_first() else { return false };
            (first, was_full && order.pending_bytes <= PENDING_BYTES_MAX)
        };
        let Pending { told, after, .. } = first;
        // Whoever asked may have gone.
        match told {
            Told::Nobody => {}
            // Without a count it was not sent.
            Told::Count(told, sockets) if outcome.is_ok() => drop(told.send(sockets)),
            Told::Count(..) => {}
            Told::Outcome(told, sockets) => drop(told.send(outcome.map(|()| sockets))),
        }
        after.into_iter().for_each(|act| act());
        self.eased.notify_waiters();
        if has_room {
            self.has_room.notify_waiters();
        }
        true
    }

    /// Sends the first pending event. It stays in front, so that what is not pending has been sent.
    fn deliver(&self, hub: &Arc<Hub>, is_durable: bool) {
        let mut delivery = self.delivery.lock();
        let mut order = self.order.lock();
        let Some(Pending { entry, is_logged, .. }) = order.pending.front() else { return };
        let (entry, is_logged) = (Arc::clone(entry), *is_logged);
        if !is_durable {
            order.is_broken = true;
            order.ring.forget_through(entry.offset.position);
        }
        let is_in_ring = order.ring.contains(entry.offset);
        // Who had nothing to wait for relied on a removal of the log that may have failed since.
        let is_sent = is_durable && (is_logged || !order.is_broken);
        drop(order);
        if is_sent && is_in_ring {
            delivery.offset = entry.offset;
        }
        let sockets = if is_sent { send(hub, &entry) } else { 0 };
        delivery.position = entry.offset.position;
        self.delivered.store(entry.offset.position, Ordering::Release);
        let mut order = self.order.lock();
        if let Some(first) = order.pending.front_mut() {
            first.told.count(sockets);
        }
        // A burst was more than is kept.
        order.ring.trim(0, self.store.options.bytes_max, entry.offset.position);
    }

    /// Forgets sessions whose time has passed; how long to wait until the next may end. `None`: there
    /// are more.
    fn end_sessions(&self) -> Option<Duration> {
        let now_ms = self.store.clock.now_ms();
        let mut delivery = self.delivery.lock();
        for _ in 0..ENDED_MAX {
            match delivery.sessions.pop_ended(now_ms, DETACHED_MAX) {
                Some(Ended::Session(pid)) => drop(self.forget(pid)),
                Some(Ended::CameBack) => {}
                None => {
                    let left_ms =
                        delivery.sessions.next_end().map(|end| end.saturating_sub(now_ms));
                    let until = left_ms.map(|left_ms| Duration::from_millis(left_ms.max(1)));
                    return Some(until.unwrap_or(LOOK_MAX).min(LOOK_MAX));
                }
            }
        }
        None
    }
}

fn send(hub: &Arc<Hub>, entry: &Entry) -> usize {
    let mut sockets = 0;
    hub.choose(&entry.audience).each(|socket| {
        sockets += usize::from(socket.push_logged(&entry.packet, entry.offset.position));
    });
    sockets
}
