//! Presence over several nodes: a user is there while any node has a socket of it, and in a room while any node
//! has one of it there; a node that stops renewing its lease has none.
//!
//! What always holds: that a user came or went is told in the same step in which the cache notes it, so once,
//! whichever answer is lost; nobody is taken for gone by a node that could not renew its own lease all the
//! while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::application::Application;
use super::presence;
use super::room::user_sayings;
use super::roster::{OFFLINE, ONLINE};
use super::shrink;
use crate::backend::{BackendError, Holding, Holds, Leases, Saying};
use crate::model::names::{RoomId, UserId};

/// Renewals in a lease: two may fail.
const RENEWALS: u32 = 3;

/// Before what could not be noted is noted again.
const NOTE_AGAIN: Duration = Duration::from_millis(100);

/// What is noted again in one go, and what of it may be unanswered at a time: the cache's outbox refuses what is
/// too much, and others send through it.
const NOTED_MAX: usize = 512;

/// The group of the users that are there, and what precedes a room in the name of the group of those in it.
const USERS: &str = "users";
const ROOM: &str = "room:";

/// This node's part.
pub struct NodeLease {
    leases: Leases,
    node: Arc<str>,
    lease: Duration,
    /// Users of whom the cache may not know whether they are in a room here, and what they are called.
    unsure: Mutex<AHashMap<(RoomId, UserId), Box<str>>>,
    /// One for each of them that is being noted again.
    places: Arc<Semaphore>,
    /// The node is shut down.
    is_over: AtomicBool,
    /// And the cache knows.
    has_ended: AtomicBool,
    /// The lease had ended when something was noted, so that everything is to be noted again.
    has_lapsed: AtomicBool,
    wake: Arc<Notify>,
}

impl NodeLease {
    pub fn new(leases: Leases, node: Arc<str>, lease: Duration) -> Self {
        let (unsure, is_over, has_ended, has_lapsed, wake) = Default::default();
        let places = Arc::new(Semaphore::new(NOTED_MAX));
        Self { leases, node, lease, unsure, places, is_over, has_ended, has_lapsed, wake }
    }

    /// Notes whether the user has a socket here, and tells everybody what that changes over all nodes.
    /// Whether the user is there, on whichever node.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn note(
        &self,
        application: &Application,
        user: &UserId,
        is_here: bool,
    ) -> Result<bool, BackendError> {
        let holding = present(user);
        if is_here {
            let says = application.presence_sayings(user, ONLINE);
            let held = self.leases.hold(&self.node, self.lease, &holding, &says)?.held().await?;
            if held.had_no_lease {
                application.note_all();
            }
            return Ok(true);
        }
        let says = gone_sayings(application, user);
        Ok(!self.leases.give_up(&self.node, &holding, &says)?.gone().await?)
    }

    /// The node is shut down: the others do not miss it. Said until it is known; what it gave up before is to be
    /// noted first.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn end(&self) -> Result<(), BackendError> {
        self.is_over.store(true, Ordering::Release);
        if !self.has_ended.load(Ordering::Acquire) {
            self.leases.end(&self.node).await?;
            self.has_ended.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The user has a socket in the room here; `says` is said if it had none on any node. `place` is kept until
    /// it is noted.
    pub fn attend(
        self: &Arc<Self>,
        room: &RoomId,
        user: &UserId,
        name: &str,
        says: &[Saying],
        place: Option<OwnedSemaphorePermit>,
    ) {
        let holding = attending(room, user, name);
        let holds = self.leases.hold(&self.node, self.lease, &holding, says);
        self.make_sure((room, user, name), holds, true, place);
    }

    /// The user has no socket in the room here any more; `says` is said if it has none on any node. For `place`
    /// see [`Self::attend`].
    pub fn part(
        self: &Arc<Self>,
        room: &RoomId,
        user: &UserId,
        name: &str,
        says: &[Saying],
        place: Option<OwnedSemaphorePermit>,
    ) {
        let holds = self.leases.give_up(&self.node, &attending(room, user, name), says);
        self.make_sure((room, user, name), holds, false, place);
    }

    /// Has it be noted again, some at a time, whether these users are in the room here.
    pub fn doubt<'a>(&self, room: &RoomId, users: impl Iterator<Item = (&'a UserId, &'a str)>) {
        let users = users.map(|(user, name)| ((room.clone(), user.clone()), name.into()));
        self.unsure.lock().extend(users);
        self.wake.notify_one();
    }

    /// Has a change be made again when it fails: it is what the room says by then.
    fn make_sure(
        self: &Arc<Self>,
        (room, user, name): (&RoomId, &UserId, &str),
        holds: Result<Holds, BackendError>,
        is_here: bool,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let (own, room, user) = (Arc::clone(self), room.clone(), user.clone());
        let name: Box<str> = name.into();
        tokio::spawn(async move {
            let _place = place;
            let noted = match holds {
                // Of a lease that had ended its next renewal would not know.
                Ok(holds) if is_here => holds.held().await.map(|held| !held.had_no_lease),
                Ok(holds) => holds.gone().await.map(|_| true),
                Err(error) => Err(error),
            };
            if let Err(error) = &noted {
                tracing::debug!(%room, %user, %error, "who is in a room was not noted");
            }
            match noted {
                Ok(true) => {}
                Ok(false) => {
                    own.has_lapsed.store(true, Ordering::Release);
                    own.wake.notify_one();
                }
                Err(_) => {
                    own.unsure.lock().insert((room, user), name);
                    own.wake.notify_one();
                }
            }
        });
    }
}

impl Application {
    /// Waits until the other nodes know who has left this one, which is shut down.
    pub async fn part_from_nodes(&self) {
        let Some(lease) = self.lease() else { return };
        // What was given up is on its way.
        let parted = async {
            self.cache.flush().await?;
            lease.end().await
        };
        if let Err(error) = parted.await {
            tracing::warn!(%error, "other nodes learn that this one is gone when its lease ends");
        }
    }

    /// As [`Self::part_from_nodes`], when there was no time for what comes before.
    pub async fn end_lease(&self) {
        let Some(lease) = self.lease() else { return };
        if let Err(error) = lease.end().await {
            tracing::warn!(%error, "this node is missed until its lease ends");
        }
    }
}

impl Drop for NodeLease {
    /// The task finds that its application is gone.
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

fn present(user: &UserId) -> Holding {
    Holding { group: USERS.to_owned(), member: user.to_string(), note: String::new() }
}

fn attending(room: &RoomId, user: &UserId, name: &str) -> Holding {
    Holding { group: format!("{ROOM}{room}"), member: user.to_string(), note: name.to_owned() }
}

/// That a user is gone, with its key.
fn gone_sayings(application: &Application, user: &UserId) -> Vec<Saying> {
    let mut says = application.presence_sayings(user, OFFLINE);
    says.push(Saying::Remove { key: presence::key(user) });
    says
}

/// Renews this node's lease and looks for others that did not, until the application is dropped.
pub async fn keep(application: Weak<Application>) {
    let mut renewals = {
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        interval((own.lease / RENEWALS).max(Duration::from_millis(1)))
    };
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut steady_since: Option<Instant> = None;
    loop {
        renewals.tick().await;
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        if own.is_over.load(Ordering::Acquire) {
            return;
        }
        match own.leases.renew(&own.node, own.lease).await {
            Ok(was_gone) => {
                if was_gone {
                    application.note_all();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "this node's lease was not renewed");
                steady_since = None;
                continue;
            }
        }
        // When the cache was away for all of them, the others get the time to renew theirs.
        let since = *steady_since.get_or_insert_with(Instant::now);
        if since.elapsed() < own.lease {
            continue;
        }
        if let Err(error) = take_over(&application, own).await {
            tracing::debug!(%error, "nodes that are gone were not looked for");
        }
    }
}

/// Tells who is gone with nodes that are gone. Several nodes may try: each user is told by one.
async fn take_over(application: &Application, own: &NodeLease) -> Result<(), BackendError> {
    loop {
        let lapsed = own.leases.lapsed().await?;
        if lapsed.is_empty() {
            return Ok(());
        }
        let mut taken = Vec::with_capacity(lapsed.len());
        for (node, holding) in lapsed {
            let says = lapsed_sayings(application, &holding).unwrap_or_default();
            taken.push(own.leases.take_over(&node, &holding, &says)?);
        }
        for taken in taken {
            taken.gone().await?;
        }
    }
}

/// `None`: nobody could be told of it.
fn lapsed_sayings(application: &Application, holding: &Holding) -> Option<Vec<Saying>> {
    let user = UserId::new(&*holding.member).ok()?;
    if holding.group == USERS {
        return Some(gone_sayings(application, &user));
    }
    let room = RoomId::new(holding.group.strip_prefix(ROOM)?).ok()?;
    Some(user_sayings(application.hub(), &room, "user:left", &user, &holding.note, None))
}

/// Has what could not be noted be noted again, until the application is dropped.
pub async fn note_again(application: Weak<Application>) {
    let wake = {
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        Arc::clone(&own.wake)
    };
    loop {
        wake.notified().await;
        sleep(NOTE_AGAIN).await;
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        if own.has_lapsed.swap(false, Ordering::AcqRel) {
            application.note_all();
        }
        let some: Vec<_> = {
            let mut unsure = own.unsure.lock();
            let some: Vec<_> = unsure.keys().take(NOTED_MAX).cloned().collect();
            let some = some.into_iter().filter_map(|key| unsure.remove_entry(&key)).collect();
            shrink::table(&mut unsure);
            some
        };
        for ((room, user), name) in some {
            let Ok(place) = Arc::clone(&own.places).acquire_owned().await else { return };
            if let Err((user, name)) = application.rooms.recount(&room, user, name, place).await {
                own.unsure.lock().insert((room, user), name);
            }
        }
        if !own.unsure.lock().is_empty() {
            wake.notify_one();
        }
    }
}
