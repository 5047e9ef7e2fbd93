//! Sessions that all nodes know, so that a client may come back on another one than it was on.
//!
//! One node owns a session: the one that its client was on last. Who is to take it asks there whether that
//! client answers; if none does, it takes the session and has everybody told in one step, and its owner lets it
//! go.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::resume::Claim;
use super::session::{Pid, Place, Session};
use super::{Hub, Order, Recent, Recovery, UNKNOWN_EPOCH};
use crate::backend::{BackendError, Owned, OwnedHashes, Saying, Sent};
use crate::gateway::io::{DisconnectReason, Socket};
use tokio::time::timeout;

/// How long who comes back from another node waits until this one has sent as much as that had.
const REACH_MAX: Duration = Duration::from_secs(5);

/// How long a session with a socket is known if its node does not say again that it is.
const LIVE: Duration = Duration::from_secs(3_600);

/// How often it does.
const SAID_EVERY: Duration = Duration::from_secs(1_200);

/// Sessions that are said to be there in one go.
const SAID_MAX: usize = 256;

/// The fields of a session: itself, its log's epoch, and each of its rooms with where it was joined.
const SESSION: &str = "s";
const EPOCH: &str = "e";
const ROOM: &str = "r";

/// Where the nodes keep their sessions.
#[derive(Clone)]
pub struct SharedSessions {
    hashes: OwnedHashes,
    node: Arc<str>,
    window: Duration,
}

/// A session as it was found.
pub struct Found {
    pub session: Session,
    pub epoch: u64,
    owned: Owned,
}

impl SharedSessions {
    pub fn new(hashes: OwnedHashes, node: Arc<str>, window: Duration) -> Self {
        Self { hashes, node, window }
    }

    fn ttl(&self, session: &Session) -> Duration {
        if session.until_ms.is_some() { self.window } else { LIVE + self.window }
    }

    /// With all its rooms, and none that it left.
    pub fn save(&self, pid: Pid, session: &Session, epoch: u64) -> Result<Sent, BackendError> {
        let own = [
            (SESSION.to_owned(), session.encode()),
            (EPOCH.to_owned(), format!("{epoch:016x}").into_bytes()),
        ];
        let rooms = session.rooms.iter().map(room_field);
        let fields = own.into_iter().chain(rooms).collect();
        self.hashes.replace(&pid.to_string(), fields, self.ttl(session))
    }

    pub fn join(&self, pid: Pid, session: &Session, place: &Place) -> Result<Sent, BackendError> {
        self.hashes.put(&pid.to_string(), vec![room_field(place)], self.ttl(session))
    }

    pub fn leave(&self, pid: Pid, room: &str) -> Result<Sent, BackendError> {
        self.hashes.remove_field(&pid.to_string(), format!("{ROOM}{room}"))
    }

    pub fn forget(&self, pid: Pid) -> Result<Sent, BackendError> {
        self.hashes.remove(&pid.to_string())
    }

    async fn find(&self, pid: Pid) -> Result<Option<Found>, BackendError> {
        let found = self.hashes.find(&pid.to_string()).await?;
        Ok(found.and_then(Found::of))
    }

    /// Whether it is this node's and was not another's since it was taken so often.
    fn is_own(&self, found: &Found, takes: u64) -> bool {
        *found.owned.owner == *self.node && found.owned.takes == takes
    }

    /// `None`: another node was before. `says` tells its owner, though the answer be lost.
    async fn take(
        &self,
        pid: Pid,
        found: &Found,
        says: &[Saying],
    ) -> Result<Option<Found>, BackendError> {
        let ttl = LIVE + self.window;
        let taken = self.hashes.take(&pid.to_string(), &found.owned, ttl, says).await?;
        Ok(taken.and_then(Found::of))
    }
}

fn room_field(place: &Place) -> (String, Vec<u8>) {
    (format!("{ROOM}{}", place.room), place.since.to_string().into_bytes())
}

impl Found {
    /// `None`: it is of a form that this version does not read.
    fn of(owned: Owned) -> Option<Self> {
        let (mut session, mut epoch, mut rooms) = (None, None, Vec::new());
        for (field, value) in &owned.fields {
            let (field, text) = (str::from_utf8(field).ok()?, str::from_utf8(value).ok());
            match field {
                SESSION => session = Session::decode(value),
                EPOCH => epoch = u64::from_str_radix(text?, 16).ok(),
                field => {
                    let room = field.strip_prefix(ROOM)?.into();
                    rooms.push(Place { room, since: text?.parse().ok()? });
                }
            }
        }
        let session = Session { rooms, takes: owned.takes, ..session? };
        Some(Self { session, epoch: epoch?, owned })
    }
}

impl Recovery {
    /// Has the claimed session be one of this node, if another one has it and it may be this socket's;
    /// whether it is this node's then. What keeps it from that is told to nobody: the client gets a new
    /// session. Cancel safe.
    pub(super) async fn fetch(&self, hub: &Hub, socket: &Socket, claim: &Claim) -> bool {
        let (Some(shared), Some(nodes)) = (&self.store.shared, hub.nodes()) else { return true };
        let pid = claim.pid;
        let found = match shared.find(pid).await {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, "a session was not looked for");
                return false;
            }
        };
        let known = self.delivery.lock().sessions.get(pid).map(|session| session.takes);
        if known.is_some_and(|takes| shared.is_own(&found, takes)) {
            return true;
        }
        if found.epoch != self.epoch()
            || found.session.who != socket.who()
            || !found.session.rooms.iter().all(|place| socket.may_return_to(&place.room))
            || !self.reaches(claim.newest(&found.session, found.epoch)).await
        {
            return false;
        }
        // Who would not be resumed here leaves its node nothing to let go of.
        let missed = self.missed(&self.delivery.lock(), &found.session, claim).map(drop);
        if let Err(reason) = missed {
            tracing::debug!(reason, "a session was not taken over");
            return false;
        }
        // Who answers there keeps it, and a copy of its claim is nothing.
        let owner = &found.owned.owner;
        if **owner != *shared.node {
            match nodes.has_client(owner, pid).await {
                Ok(false) => {}
                Ok(true) => return false,
                Err(error) => {
                    tracing::warn!(%error, "a session's node was not asked for its client");
                    return false;
                }
            }
        }
        let taken = nodes.taken_saying(pid, found.owned.takes + 1);
        let session = match shared.take(pid, &found, &[taken]).await {
            Ok(Some(taken)) => taken.session,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, "a session was not taken over");
                return false;
            }
        };
        // A copy from before it was another node's is of no more use.
        self.let_go(pid, session.takes);
        let until_ms = self.store.clock.now_ms().saturating_add(self.window_ms());
        let session = Session { until_ms: Some(until_ms), ..session };
        self.delivery.lock().sessions.insert(pid, session);
        self.wake.notify_one();
        true
    }

    /// Whether the log finds its client: it is there, may come back, or is on another node by now, under the
    /// same id.
    pub fn may_reach(&self, socket: &Socket) -> bool {
        socket.is_connected() || self.store.shared.is_some() || self.awaits(socket)
    }

    /// Another node took a session, as one that was taken so often: it is not this node's any more.
    pub fn let_go(&self, pid: Pid, takes: u64) {
        let mut delivery = self.delivery.lock();
        if delivery.sessions.get(pid).is_none_or(|session| session.takes >= takes) {
            return;
        }
        let socket = delivery.sessions.discard(pid).and_then(|session| session.socket);
        drop(delivery);
        if let Some(socket) = socket {
            socket.make_way();
            let hub = Arc::clone(socket.hub());
            hub.spawn(async move { socket.tell_gone(DisconnectReason::Moved).await });
        }
    }

    /// The log is another one from here on, or begins here: `recent` is what there was of it.
    pub fn stand_at(&self, epoch: u64, position: u64, recent: Vec<Recent>) {
        let mut delivery = self.delivery.lock();
        let mut order = self.order.lock();
        self.epoch.store(epoch, Ordering::Release);
        order.stand_at(epoch, position, recent);
        drop(order);
        delivery.stand_at(epoch, position);
        self.delivered.store(position, Ordering::Release);
        // Who came before the log was there was sent nothing of it.
        for (pid, session) in delivery.sessions.all_mut() {
            session.connect = position;
            session.rooms.iter_mut().for_each(|place| place.since = position);
            drop(self.save(pid, session));
        }
        drop(delivery);
        self.eased.notify_waiters();
    }

    /// Waits until it is known where the log stands, though not for long: of what is said before that,
    /// nothing is sent here. Cancel safe.
    pub(super) async fn stands(&self) {
        let stands = |_: &Order| self.store.shared.is_none() || self.epoch() != UNKNOWN_EPOCH;
        let _ = timeout(REACH_MAX, self.until(&self.eased, stands)).await;
    }

    /// Waits until so much was delivered, though not for long. Cancel safe.
    async fn reaches(&self, position: u64) -> bool {
        let reached = |_: &Order| self.delivered.load(Ordering::Acquire) >= position;
        timeout(REACH_MAX, self.until(&self.eased, reached)).await.is_ok()
    }

    /// Says of some sessions with a socket that they are there. Whether there are more.
    fn say_again(&self, pids: &mut Vec<Pid>) -> bool {
        let delivery = self.delivery.lock();
        for pid in pids.split_off(pids.len().saturating_sub(SAID_MAX)) {
            if let Some(session) = delivery.sessions.get(pid).filter(|it| it.socket.is_some()) {
                drop(self.save(pid, session));
            }
        }
        !pids.is_empty()
    }
}

/// Says again and again which sessions are there, for as long as there is the namespace.
pub async fn say_always(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(SAID_EVERY).await;
        let mut pids = {
            let Some(hub) = hub.upgrade() else { return };
            let Some(recovery) = hub.recovery() else { return };
            let pids: Vec<Pid> = recovery.delivery().sessions.pids().collect();
            pids
        };
        loop {
            {
                let Some(hub) = hub.upgrade() else { return };
                let Some(recovery) = hub.recovery() else { return };
                if !recovery.say_again(&mut pids) {
                    break;
                }
            }
            // So many that they do not fill what waits for the server.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
