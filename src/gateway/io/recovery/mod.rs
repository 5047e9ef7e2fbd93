//! Connection state recovery: a client that comes back in time gets what it missed.
//!
//! Source: <https://socket.io/docs/v4/connection-state-recovery>. The events of a namespace are one log,
//! kept in the cache and, as far back as a client may come from, in memory. An event's place in it goes
//! to the clients as its last argument, where the stock client looks for it.
//!
//! What always holds: no socket is sent an event before the event is durable; events are sent in the
//! order of the log; what a session may have missed is either sent to it whole, or it is not resumed:
//! an event that the log does not take is only sent once the log before it is durably removed.
//! Locks are taken in this order: delivery, hub, room, socket; the log's own comes last.

mod entry;
mod gap;
mod kept;
mod noted;
mod offset;
mod resume;
mod ring;
mod sequence;
mod session;
mod shared;
mod unsaved;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

pub use entry::{Audience, Target};
pub use kept::{Keeping, Store, forget};
pub use noted::Noted;
pub use offset::Offset;
pub use resume::Claim;
pub use session::Pid;
pub use shared::SharedSessions;

use self::entry::Entry;
use self::kept::{keys, load_ring, load_sessions};
use self::ring::Ring;
use self::session::Sessions;
use self::unsaved::Unsaved;
use super::outgoing::{Draft, Outgoing};
use super::{Hub, SocketId};
use crate::backend::{BackendError, Push, Sent};
use crate::gateway::shrink;
use crate::model::clock::UnixMs;

/// Events that may wait for their commit before clients are not listened to.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Counted for what is done after an event, beside its bytes.
const ACT_OVERHEAD_BYTES: usize = 128;

/// Sessions without a socket that are kept; the oldest go first.
const DETACHED_MAX: usize = 100_000;

/// Of a log that others write too, before it is known where it stands.
const UNKNOWN_EPOCH: u64 = 0;

/// What a resume may send: so much of what may wait for a socket at all.
const REPLAY_SHARE: usize = 2;

/// The log of one namespace, and its sessions.
pub struct Recovery {
    store: Store,
    log_key: String,
    sessions_key: String,
    /// Changes where the log is of several nodes.
    epoch: AtomicU64,
    /// Of the sessions that several nodes know.
    unsaved: Arc<Unsaved>,
    order: Mutex<Order>,
    delivery: Mutex<Delivery>,
    /// As in [`Delivery`], for who need not be exact.
    delivered: AtomicU64,
    /// Wakes the task that delivers.
    wake: Arc<Notify>,
    /// Something was delivered.
    eased: Notify,
    /// What waits is not too much any more.
    has_room: Notify,
}

/// The order of the log.
struct Order {
    /// The last that was given.
    position: u64,
    ring: Ring,
    /// What is not delivered yet.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// The last event was not taken.
    is_refused: bool,
    /// A commit failed, so that nobody can tell what the kept log holds.
    is_broken: bool,
}

struct Pending {
    entry: Arc<Entry>,
    is_logged: bool,
    /// The change to the log that it waits for: its entry, or the removal of those before it. Absent when
    /// there is nothing to wait for.
    sent: Option<Sent>,
    told: Told,
    /// What is done when it is sent.
    after: Vec<Act>,
    after_bytes: usize,
}

type Act = Box<dyn FnOnce() + Send>;

/// Who hears to how many sockets an event was sent.
enum Told {
    Nobody,
    Count(oneshot::Sender<usize>, usize),
    /// Nobody is sent the event if its commit fails.
    Outcome(oneshot::Sender<Result<usize, BackendError>>, usize),
}

/// How far the log was delivered. Nothing of it is while this is locked, and nobody connects, joins,
/// leaves or goes.
pub struct Delivery {
    /// The last position that was sent to whom it concerned.
    pub position: u64,
    /// The last offset that clients were given.
    offset: Offset,
    sessions: Sessions,
}

/// An event that was there before the log was read.
pub struct Recent {
    pub position: u64,
    pub time_ms: UnixMs,
    pub audience: Audience,
    pub draft: Draft,
}

/// An event that was appended.
pub struct Appended {
    pub position: u64,
    /// Of the change to the cache.
    pub offset: String,
    /// To how many sockets it was sent, once it was; or why it was not.
    pub told: oneshot::Receiver<Result<usize, BackendError>>,
}

impl Recovery {
    /// What was kept of a namespace, or nothing when that cannot be read.
    pub fn load(namespace: &str, store: Store) -> Self {
        let [log_key, sessions_key] = keys(namespace);
        let now_ms = store.clock.now_ms();
        let ring = load_ring(&store, &log_key, now_ms).unwrap_or_default();
        // 64 random bits: no two processes on one folder have the same.
        let epoch = match store.shared {
            Some(_) => UNKNOWN_EPOCH,
            None => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let last = ring.last();
        let sessions = load_sessions(&store, &sessions_key, last, now_ms);
        let last = last.unwrap_or(Offset { epoch, position: 0 });
        let position = last.position;
        Self {
            store,
            log_key,
            sessions_key,
            epoch: AtomicU64::new(epoch),
            unsaved: Arc::default(),
            order: Mutex::new(Order {
                position,
                ring,
                pending: VecDeque::new(),
                pending_bytes: 0,
                is_refused: false,
                is_broken: false,
            }),
            delivery: Mutex::new(Delivery { position, offset: last, sessions }),
            delivered: AtomicU64::new(position),
            wake: Arc::default(),
            eased: Notify::new(),
            has_room: Notify::new(),
        }
    }

    /// Starts to deliver. Needs a Tokio runtime.
    pub fn start(&self, hub: &Arc<Hub>) {
        // A kept log that is empty is one that was taken away; this entry, for nobody, tells it from one
        // to which nothing was said yet.
        if self.store.cache.is_some()
            && self.order.lock().ring.last().is_none()
            && let Ok(draft) = Draft::event(hub.name(), "start", &())
        {
            self.append(Audience::socket(SocketId::random()), &draft, None);
        }
        tokio::spawn(sequence::run(Arc::downgrade(hub), Arc::clone(&self.wake)));
        if self.store.shared.is_some() {
            tokio::spawn(shared::say_always(Arc::downgrade(hub)));
            self.unsaved.start();
            let unsaved = Arc::clone(&self.unsaved);
            tokio::spawn(unsaved::save_again(Arc::downgrade(hub), unsaved));
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Appends entries for nobody until the log has so many: others of it were no events.
    pub fn fill_through(&self, hub: &Hub, position: u64) {
        while self.order.lock().position < position {
            let (audience, draft) = Self::nothing(hub);
            self.append(audience, &draft, None);
        }
    }

    /// An event for nobody.
    pub fn nothing(hub: &Hub) -> (Audience, Draft) {
        let draft = Draft::event(hub.name(), "nothing", &());
        // A name that is not reserved and no arguments always have a packet.
        let Ok(draft) = draft else { unreachable!("an event without arguments can be encoded") };
        (Audience::socket(SocketId::random()), draft)
    }

    /// How long events are kept, and how much of them.
    pub fn kept(&self) -> crate::gateway::options::Recovery {
        self.store.options.clone()
    }

    pub fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock()
    }

    /// Appends an event; it is sent once it is durable. One that the log does not take, as on a full
    /// disk, is sent in its place once the log before it is removed, so that no session is resumed across
    /// it. False: not even that can be made durable, and nobody is sent the event. `told` hears to how
    /// many it was sent.
    pub fn append(
        &self,
        audience: Audience,
        draft: &Draft,
        told: Option<oneshot::Sender<usize>>,
    ) -> bool {
        let told = told.map_or(Told::Nobody, |told| Told::Count(told, 0));
        let mut order = self.order.lock();
        match self.log(&mut order, audience.clone(), draft, None) {
            Ok((logged, _)) => {
                order.is_refused = false;
                order.wait(Pending { told, ..logged });
            }
            Err(error) => {
                // Told once, not for every event of a full disk.
                let is_news = !std::mem::replace(&mut order.is_refused, true);
                let Some(unlogged) = self.unlogged(&mut order, audience, draft) else {
                    if is_news {
                        tracing::error!(%error, "events are not sent, as nothing can be logged");
                    }
                    return false;
                };
                if is_news {
                    tracing::warn!(%error, "events are sent without being logged");
                }
                order.wait(Pending { told, ..unlogged });
            }
        }
        drop(order);
        self.wake.notify_one();
        true
    }

    /// Appends an event, with `beside` in the same step, and tells when it is sent. Nobody gets it if it
    /// is not logged.
    ///
    /// # Errors
    /// When the log takes nothing.
    pub fn append_told(
        &self,
        audience: Audience,
        draft: &Draft,
        beside: Option<Push>,
    ) -> Result<Appended, BackendError> {
        let (done, told) = oneshot::channel();
        let mut order = self.order.lock();
        let (logged, offset) = self.log(&mut order, audience, draft, beside)?;
        order.wait(Pending { told: Told::Outcome(done, 0), ..logged });
        let position = order.position;
        drop(order);
        self.wake.notify_one();
        Ok(Appended { position, offset, told })
    }

    fn log(
        &self,
        order: &mut Order,
        audience: Audience,
        draft: &Draft,
        beside: Option<Push>,
    ) -> Result<(Pending, String), BackendError> {
        let now_ms = self.store.clock.now_ms();
        let offset = Offset { epoch: self.epoch(), position: order.position + 1 };
        let packet = draft.with_offset(&offset);
        let entry = Arc::new(Entry { offset, time_ms: now_ms, audience, packet });
        let since_ms = now_ms.saturating_sub(self.window_ms());
        let delivered = self.delivered.load(Ordering::Acquire);
        order.ring.trim(since_ms, self.store.options.bytes_max, delivered);
        let sent = match &self.store.cache {
            Some(cache) => {
                let push = Push {
                    key: self.log_key.clone().into(),
                    value: entry.encode(),
                    keep: order.ring.len() + 1,
                };
                Some(cache.send_pushes(beside.into_iter().chain([push]))?)
            }
            None => None,
        };
        let place = sent.as_ref().and_then(Sent::offset);
        let change = place.map_or_else(|| offset.to_string(), str::to_owned);
        order.position = offset.position;
        order.ring.push(Arc::clone(&entry));
        Ok((Pending::new(entry, sent), change))
    }

    /// Leaves a hole in the log: its place is taken, and what is before it is forgotten. `None`: it
    /// can't be.
    fn unlogged(&self, order: &mut Order, audience: Audience, draft: &Draft) -> Option<Pending> {
        if order.is_broken {
            return None;
        }
        let removal = self.store.cache.as_ref().map(|cache| cache.send_removal(&[&self.log_key]));
        let removal = removal.transpose().ok()?;
        order.position += 1;
        order.ring = Ring::default();
        let offset = Offset { epoch: self.epoch(), position: order.position };
        let (time_ms, packet) = (self.store.clock.now_ms(), draft.finish());
        let entry = Arc::new(Entry { offset, time_ms, audience, packet });
        Some(Pending { is_logged: false, ..Pending::new(entry, removal) })
    }

    /// Sends an event that is not logged: with the offset of the moment behind it if a client would else
    /// take its own last argument for one.
    pub fn send_transient<T>(&self, draft: &Draft, send: impl FnOnce(&Outgoing) -> T) -> T {
        if !draft.ends_in_text() {
            return send(&draft.finish());
        }
        let delivery = self.delivery.lock();
        send(&draft.with_offset(&delivery.offset))
    }

    /// Does something of so many bytes when what was appended before is sent, which may be at once.
    pub fn after_pending(&self, bytes: usize, act: impl FnOnce() + Send + 'static) {
        let mut order = self.order.lock();
        let Some(last) = order.pending.back_mut() else {
            drop(order);
            return act();
        };
        last.after.push(Box::new(act));
        last.after_bytes += bytes + ACT_OVERHEAD_BYTES;
        order.pending_bytes += bytes + ACT_OVERHEAD_BYTES;
    }

    /// Waits until the log has not too much to deliver. Cancel safe.
    pub async fn has_room(&self) {
        self.until(&self.has_room, |order| order.pending_bytes <= PENDING_BYTES_MAX).await;
    }

    /// Waits until what was appended before is sent. Cancel safe.
    pub async fn caught_up(&self) {
        self.sent_through(self.appended()).await;
    }

    /// The position of the last event that was appended.
    pub fn appended(&self) -> u64 {
        self.order.lock().position
    }

    /// Waits until the events up to a position are sent. Cancel safe.
    pub async fn sent_through(&self, position: u64) {
        let holds = |order: &Order| {
            order.pending.front().is_none_or(|first| first.entry.offset.position > position)
        };
        self.until(&self.eased, holds).await;
    }

    async fn until(&self, changes: &Notify, holds: impl Fn(&Order) -> bool) {
        loop {
            // Made before the look, so that a change in between is not missed.
            let change = changes.notified();
            if holds(&self.order.lock()) {
                return;
            }
            change.await;
        }
    }

    fn window_ms(&self) -> u64 {
        u64::try_from(self.store.options.window.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Pending {
    fn new(entry: Arc<Entry>, sent: Option<Sent>) -> Self {
        Self { entry, is_logged: true, sent, told: Told::Nobody, after: Vec::new(), after_bytes: 0 }
    }
}

impl Told {
    fn count(&mut self, count: usize) {
        if let Self::Count(_, sockets) | Self::Outcome(_, sockets) = self {
            *sockets = count;
        }
    }
}

impl Order {
    fn stand_at(&mut self, epoch: u64, position: u64, recent: Vec<Recent>) {
        let entry = |Recent { position, time_ms, audience, draft }| {
            let offset = Offset { epoch, position };
            let packet = draft.with_offset(&offset);
            Entry { offset, time_ms, audience, packet }
        };
        self.ring = Ring::of(recent.into_iter().map(entry));
        self.position = position;
    }

    fn wait(&mut self, pending: Pending) {
        self.pending_bytes += pending.entry.bytes();
        self.pending.push_back(pending);
    }

    fn take_first(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        shrink::deque(&mut self.pending);
        self.pending_bytes -= first.entry.bytes() + first.after_bytes;
        Some(first)
    }
}

impl Delivery {
    fn stand_at(&mut self, epoch: u64, position: u64) {
        self.position = position;
        self.offset = Offset { epoch, position };
    }
}

impl Drop for Recovery {
    /// The task finds that its namespace is gone.
    fn drop(&mut self) {
        self.wake.notify_one();
        self.unsaved.wake();
    }
}
