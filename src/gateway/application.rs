//! What all sockets share: the roster, the rooms, the cache, and the ways to reach them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::auth::Authenticator;
use super::directory::Presence;
use super::fanout;
use super::metrics::Metrics;
use super::options::{GatewayOptions, Limits};
use super::outbound::CloseReason;
use super::presence::{self, PresenceQueue};
use super::rooms::Rooms;
use super::roster::{Arrival, Departure, OFFLINE, ONLINE, Peer, Roster, SocketId};
use super::websocket::Frame;
use crate::backend::Cache;
use crate::model::clock::SharedClock;
use crate::model::names::{RoomId, UserId};
use crate::wire::socket_io::{Namespace, encode};

pub struct Application {
    pub authenticator: Authenticator,
    pub cache: Cache,
    pub clock: SharedClock,
    pub rooms: Arc<Rooms>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    roster: Mutex<Roster>,
    presence: Arc<PresenceQueue>,
    presence_grace: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PresenceChanged<'a> {
    user_id: &'a str,
    status: &'a str,
}

impl Application {
    /// Starts the task that keeps presence; needs a Tokio runtime.
    pub fn start(
        options: &GatewayOptions,
        cache: Cache,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let limits = options.limits.clone();
        let application = Arc::new(Self {
            authenticator: options.authenticator.clone(),
            rooms: Rooms::new(limits.rooms_max, cache.clone(), Arc::clone(&metrics)),
            cache,
            clock,
            metrics,
            limits,
            roster: Mutex::default(),
            presence: Arc::default(),
            presence_grace: options.presence_grace,
        });
        let queue = Arc::clone(&application.presence);
        tokio::spawn(presence::keep(Arc::downgrade(&application), queue));
        application
    }

    /// Adds a socket and sends it `greeting`, before anything that others send it. False: its user has
    /// too many.
    pub fn arrive(&self, peer: &Arc<Peer>, greeting: Frame) -> bool {
        let mut roster = self.roster.lock();
        let arrival = roster.arrive(Arc::clone(peer), self.limits.user_sockets_max);
        if arrival == Arrival::TooMany {
            return false;
        }
        peer.outbound.reply(greeting);
        self.metrics.websocket_connections.increment(1.0);
        if arrival == Arrival::First {
            self.tell_presence(&roster, &peer.user, ONLINE, Some(peer.id));
        }
        true
    }

    pub fn depart(&self, peer: &Peer) {
        let now = Instant::now();
        let mut roster = self.roster.lock();
        let departure = roster.depart(peer, self.presence_grace, now);
        self.metrics.websocket_connections.decrement(1.0);
        match departure {
            Departure::Gone => self.tell_presence(&roster, &peer.user, OFFLINE, None),
            Departure::Absent => self.presence.absent_until(&peer.user, now + self.presence_grace),
            Departure::OthersRemain => {}
        }
    }

    /// Tells the others that a user is offline whose grace has passed. `Err`: it has not, ask then.
    pub fn give_up(&self, user: &UserId, now: Instant) -> Result<(), Instant> {
        let mut roster = self.roster.lock();
        if roster.give_up(user, self.presence_grace, now)? {
            self.tell_presence(&roster, user, OFFLINE, None);
        }
        Ok(())
    }

    pub fn set_status(&self, peer: &Peer, status: &str) {
        let mut roster = self.roster.lock();
        roster.set_status(&peer.user, status);
        self.tell_presence(&roster, &peer.user, status, Some(peer.id));
    }

    /// Under the roster's lock, so that everybody sees one user's changes in the same order.
    fn tell_presence(
        &self,
        roster: &Roster,
        user: &UserId,
        status: &str,
        except: Option<SocketId>,
    ) {
        let changed = PresenceChanged { user_id: user.as_str(), status };
        let frame = fanout::own_event("presence:changed", &changed);
        for peer in roster.sockets().filter(|peer| Some(peer.id) != except) {
            peer.outbound.push(&frame);
        }
        self.presence.changed(user);
    }

    /// `None`: the user is not there.
    pub fn status(&self, user: &UserId) -> Option<String> {
        self.roster.lock().status(user).map(str::to_owned)
    }

    /// Whether a socket has this id. Rooms of sockets cannot be named.
    pub fn is_socket(&self, text: &str) -> bool {
        SocketId::parse(text).is_some_and(|id| self.roster.lock().contains(id))
    }

    pub fn connections(&self) -> usize {
        self.roster.lock().len()
    }

    /// How many sockets the event was queued for.
    pub fn emit_to_user(
        &self,
        user: &UserId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> usize {
        let Some(frame) = encoded(event, payload) else { return 0 };
        let roster = self.roster.lock();
        roster.sockets_of(user).inspect(|peer| peer.outbound.push(&frame)).count()
    }

    /// How many sockets the event was queued for.
    pub fn emit_to_all(&self, event: &str, payload: &(impl Serialize + ?Sized)) -> usize {
        let Some(frame) = encoded(event, payload) else { return 0 };
        let roster = self.roster.lock();
        roster.sockets().inspect(|peer| peer.outbound.push(&frame)).count()
    }

    pub async fn emit_to_room(
        &self,
        room: &RoomId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> usize {
        let Some(frame) = encoded(event, payload) else { return 0 };
        let Some(handle) = self.rooms.find(room) else { return 0 };
        // A room that ended in between had no members.
        handle.relay_counted(frame).await.unwrap_or(0)
    }

    /// As [`Self::emit_to_room`], but waits for a place in the room's order only.
    pub async fn queue_for_room(
        &self,
        room: &RoomId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) {
        let Some(frame) = encoded(event, payload) else { return };
        if let Some(handle) = self.rooms.find(room) {
            // A room that ended in between had no members.
            let _ = handle.relay(frame, None).await;
        }
    }

    /// A user's status and how many sockets it has; `None`: it is not there.
    pub fn presence_of(&self, user: &UserId) -> Option<(String, usize)> {
        let roster = self.roster.lock();
        let status = roster.status(user)?.to_owned();
        Some((status, roster.sockets_of(user).count()))
    }

    pub fn present(&self) -> Vec<Presence> {
        let roster = self.roster.lock();
        let presence = |(user, status, sockets): (&UserId, &str, usize)| Presence {
            user: user.clone(),
            status: status.to_owned(),
            sockets,
        };
        roster.users().map(presence).collect()
    }

    /// Each socket gets a DISCONNECT packet, and its connection a close; how many there were.
    pub fn disconnect_user(&self, user: &UserId) -> usize {
        let disconnect = fanout::packet(|out| encode::disconnect(out, Namespace::ROOT));
        let peers: Vec<_> =
            self.roster.lock().sockets_of(user).map(|peer| Arc::clone(&peer.outbound)).collect();
        for outbound in &peers {
            outbound.reply(disconnect.clone());
            outbound.close(CloseReason::ForcedClose);
        }
        peers.len()
    }

    /// Waits until presence is written as it is now.
    pub async fn flush_presence(&self) {
        self.presence.flush().await;
    }
}

/// `None`: the caller's own mistake, which no client sent and none is told of.
fn encoded(event: &str, payload: &(impl Serialize + ?Sized)) -> Option<Frame> {
    fanout::event(event, payload)
        .inspect_err(|error| tracing::error!(event, %error, "an event could not be encoded"))
        .ok()
}
