//! The application: who may connect, and what all its sockets share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::auth::{Authenticator, Claims};
use super::channels::Channels;
use super::directory::{self, Part, Presence};
use super::events;
use super::expiry::{self, Expiries};
use super::guard::Caller;
use super::io::{Broadcast, ConnectError, DisconnectReason, Draft, Hub, Namespace, Socket};
use super::leases::{self, NodeLease};
use super::member::{Member, Peer};
use super::metrics::Metrics;
use super::options::{GatewayOptions, Limits};
use super::presence::{self, PresenceQueue};
use super::rooms::Rooms;
use super::roster::{Arrival, Departure, OFFLINE, ONLINE, Roster};
use crate::backend::{Audience, BackendError, Cache, Saying};
use crate::model::clock::SharedClock;
use crate::model::names::{RoomId, UserId};
use crate::wire::socket_io::ToArgs;

/// How long the sockets of a client that came back on another node count here too, so that it is never away in
/// between.
const MOVING: Duration = Duration::from_secs(1);

/// The text that a client finds in `connect_error` when its token is missing or not valid.
pub const AUTHENTICATION_FAILED: &str = "Authentication failed";

pub struct Application {
    pub authenticator: Option<Authenticator>,
    pub cache: Cache,
    pub clock: SharedClock,
    pub rooms: Arc<Rooms>,
    pub metrics: Arc<Metrics>,
    pub channels: Channels,
    pub limits: Limits,
    hub: Arc<Hub>,
    pub roster: Mutex<Roster>,
    presence: Arc<PresenceQueue>,
    pub expiries: Arc<Expiries>,
    /// The namespaces whose sockets have tokens that end.
    pub watched: RwLock<Vec<Arc<Hub>>>,
    presence_grace: Duration,
    /// Absent where this process is the only node.
    lease: Option<Arc<NodeLease>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PresenceChanged<'a> {
    user_id: &'a str,
    status: &'a str,
}

impl Application {
    /// Puts the application's handlers into a namespace, and starts the task that keeps presence; needs
    /// a Tokio runtime.
    pub fn start(
        options: &GatewayOptions,
        cache: Cache,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        namespace: &Namespace,
    ) -> Arc<Self> {
        let limits = options.limits.clone();
        let hub = Arc::clone(namespace.hub());
        let lease = cache.leases().zip(hub.nodes()).map(|(leases, nodes)| {
            Arc::new(NodeLease::new(leases, Arc::clone(nodes.node()), options.lease))
        });
        let rooms = Rooms::new(
            limits.rooms_max,
            cache.clone(),
            Arc::clone(&metrics),
            Arc::clone(&hub),
            lease.clone(),
        );
        let watched = RwLock::new(vec![Arc::clone(&hub)]);
        let application = Arc::new(Self {
            authenticator: options.authenticator.clone(),
            rooms,
            channels: Channels::new(lease.is_some()),
            cache,
            clock,
            metrics,
            limits,
            hub,
            roster: Mutex::default(),
            presence: Arc::default(),
            expiries: Arc::default(),
            watched,
            presence_grace: options.presence_grace,
            lease,
        });
        let queue = Arc::clone(&application.presence);
        tokio::spawn(presence::keep(Arc::downgrade(&application), queue));
        tokio::spawn(leases::keep(Arc::downgrade(&application)));
        tokio::spawn(leases::note_again(Arc::downgrade(&application)));
        let expiries = Arc::clone(&application.expiries);
        let clock = Arc::clone(&application.clock);
        tokio::spawn(expiry::keep(Arc::downgrade(&application), expiries, clock));

        directory::answer(&application);
        let admitting = Arc::clone(&application);
        let arriving = Arc::clone(&application);
        let departing = Arc::clone(&application);
        namespace
            .middleware(move |socket: Socket, auth: Value| {
                std::future::ready(admitting.admit(&socket, &auth))
            })
            .on_connect(move |socket| {
                arriving.arrived(&socket);
                let application = Arc::clone(&arriving);
                async move { application.counted_in(socket).await }
            })
            .on_disconnect(move |socket, reason| {
                let application = Arc::clone(&departing);
                async move { application.depart(socket, reason).await }
            });
        events::register(namespace, &application);
        application
    }

    /// Looks at the token, and counts the socket as its user's.
    fn admit(self: &Arc<Self>, socket: &Socket, auth: &Value) -> Result<(), ConnectError> {
        let token = auth.get("token").and_then(Value::as_str);
        let Some(claims) = token.and_then(|token| self.verify(token)) else {
            return Err(ConnectError::new(AUTHENTICATION_FAILED));
        };
        let sockets_max = self.sockets_max(socket, auth, &claims);
        let arrival = self.roster.lock().arrive(&claims.user, sockets_max);
        if arrival == Arrival::TooMany {
            return Err(ConnectError::new("Too many connections"));
        }
        socket.join_own(&personal_room(&claims.user));
        let member = Arc::new(Member::new(self, claims));
        let allowing = Arc::clone(&member);
        socket.resume_as(member.user.as_str(), move |room| allowing.may_return_to(room));
        socket.insert_shared(member);
        Ok(())
    }

    /// How many sockets the user may have with this one. One whose place it is about to take is not
    /// another one: its client claims a session that is there still, as after a cut that the server has not
    /// noticed.
    pub fn sockets_max(&self, socket: &Socket, auth: &Value, claims: &Claims) -> usize {
        let pid = auth.get("pid").and_then(Value::as_str);
        let deserted = pid.zip(socket.hub().recovery()).and_then(|(pid, kept)| kept.deserted(pid));
        let caller = deserted.as_ref().and_then(Caller::of);
        let takes_over = caller.is_some_and(|caller| caller.user == claims.user);
        self.limits.user_sockets_max.saturating_add(takes_over.into())
    }

    fn arrived(&self, socket: &Socket) {
        let Some(peer) = Peer::of(socket.clone()) else { return };
        self.expiries.add(peer.member.expires_at_s(), peer.id());
        let mut roster = self.roster.lock();
        if roster.is_news(peer.user()) {
            if self.lease.is_some() {
                // It may be there already, on another node.
                return self.presence.changed(peer.user());
            }
            self.tell_presence(&roster, peer.user(), ONLINE, Some(&peer.socket));
        }
    }

    /// A socket that came back is in its rooms already; they only count it.
    async fn counted_in(&self, socket: Socket) {
        if socket.recovered()
            && let Some(peer) = Peer::of(socket)
        {
            peer.rejoin(self).await;
        }
    }

    async fn depart(self: &Arc<Self>, socket: Socket, reason: DisconnectReason) {
        let Some(peer) = Peer::of(socket) else { return };
        self.expiries.remove(peer.member.expires_at_s(), peer.id());
        let may_return = matches!(reason, DisconnectReason::Session(_));
        match reason {
            // Its rooms are those of the socket that took its place.
            DisconnectReason::Resumed => {}
            DisconnectReason::Moved => {
                let application = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(MOVING).await;
                    peer.leave_all().await;
                    application.count_out(&peer);
                });
                return;
            }
            _ if may_return && self.hub.recovery().is_some() && !self.presence_grace.is_zero() => {
                let (grace, peer) = (self.presence_grace, peer.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(grace).await;
                    // A room that it came back to does not know it any more.
                    peer.leave_all().await;
                });
            }
            _ => peer.leave_all().await,
        }
        self.count_out(&peer);
    }

    fn count_out(&self, peer: &Peer) {
        if peer.member.begin_to_depart() {
            self.vacate(peer.user());
        }
    }

    /// A user has a socket less.
    pub fn vacate(&self, user: &UserId) {
        let now = Instant::now();
        let mut roster = self.roster.lock();
        match roster.depart(user, self.presence_grace, now) {
            Departure::Gone if self.lease.is_some() => self.presence.changed(user),
            Departure::Gone => self.tell_presence(&roster, user, OFFLINE, None),
            Departure::Absent => self.presence.absent_until(user, now + self.presence_grace),
            Departure::OthersRemain => {}
        }
    }

    /// Tells the others that a user is offline whose grace has passed. `Err`: it has not, ask then.
    pub fn give_up(&self, user: &UserId, now: Instant) -> Result<(), Instant> {
        let mut roster = self.roster.lock();
        if roster.give_up(user, self.presence_grace, now)? {
            if self.lease.is_some() {
                self.presence.changed(user);
                return Ok(());
            }
            self.tell_presence(&roster, user, OFFLINE, None);
        }
        Ok(())
    }

    pub fn set_status(&self, peer: &Peer, status: &str) {
        let mut roster = self.roster.lock();
        roster.set_status(peer.user(), status, self.clock.now_ms());
        self.tell_presence(&roster, peer.user(), status, Some(&peer.socket));
    }

    /// Under the roster's lock, so that everybody sees one user's changes in the same order.
    fn tell_presence(&self, _: &Roster, user: &UserId, status: &str, except: Option<&Socket>) {
        let others = except.map_or_else(|| self.everybody(), Socket::broadcast);
        emit_presence(others, user, status);
        self.channels.presence(user, status);
        self.presence.changed(user);
    }

    /// That a user's presence changed, for all nodes and the channel.
    pub fn presence_sayings(&self, user: &UserId, status: &str) -> Vec<Saying> {
        let own = personal_room(user);
        let others = self.everybody().except(&own).unlogged();
        let changed = PresenceChanged { user_id: user.as_str(), status };
        let event = Draft::event(self.hub.name(), "presence:changed", &&changed);
        let told = event.ok().and_then(|event| others.saying(&event));
        told.into_iter().chain(self.channels.presence_saying(user, status)).collect()
    }

    pub fn lease(&self) -> Option<&NodeLease> {
        self.lease.as_deref()
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Notes a user again whose presence could not be noted.
    pub fn note_later(&self, user: &UserId) {
        self.presence.later(user);
    }

    /// Notes all users again that have a socket here, and in which rooms.
    pub fn note_all(&self) {
        self.roster.lock().users().for_each(|user| self.presence.changed(user));
        let rooms = Arc::clone(&self.rooms);
        tokio::spawn(async move { rooms.recount_all().await });
    }

    /// Tells everybody of a user that is somewhere else.
    pub fn pass_on_presence(&self, user: &UserId, status: &str) {
        // The other nodes hear of it themselves.
        emit_presence(self.everybody().local(), user, status);
    }

    /// Sends an event to sockets of this node only: one that every node gets by itself.
    pub fn emit_here(&self, to: &Audience, event: &str, args: impl ToArgs) -> usize {
        let everybody = self.everybody().local();
        let outcome = match to {
            Audience::Room(room) => everybody.to(room.as_str()).emit(event, args),
            Audience::User(user) => everybody.to(&personal_room(user)).emit(event, args),
            Audience::All => everybody.emit(event, args),
        };
        sent(event, outcome)
    }

    /// Whether what is sent here reaches the sockets of other nodes.
    pub fn is_among_nodes(&self) -> bool {
        self.hub.nodes().is_some()
    }

    /// `None`: the user is not there.
    pub fn status(&self, user: &UserId) -> Option<String> {
        self.roster.lock().status(user).map(str::to_owned)
    }

    pub fn connections(&self) -> usize {
        self.hub.len()
    }

    fn everybody<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(Arc::clone(&self.hub))
    }

    /// How many sockets the event was queued for.
    pub fn emit_to_user(&self, user: &UserId, event: &str, args: impl ToArgs) -> usize {
        let room = personal_room(user);
        sent(event, self.everybody().to(&room).emit(event, args))
    }

    /// How many sockets the event was queued for.
    pub fn emit_to_all(&self, event: &str, args: impl ToArgs) -> usize {
        sent(event, self.everybody().emit(event, args))
    }

    /// Waits for a place in the room's order. Once it is sent, the answer says to how many.
    pub async fn emit_to_room(
        &self,
        room: &RoomId,
        event: &str,
        args: impl ToArgs,
    ) -> Option<oneshot::Receiver<usize>> {
        let draft = Draft::event(self.hub.name(), event, &args);
        drop(args);
        let draft = match draft {
            Ok(draft) => draft,
            Err(error) => {
                sent(event, Err(error));
                return None;
            }
        };
        let (done, sent) = oneshot::channel();
        if self.hub.nodes().is_some() {
            // Nobody may be in the room here.
            let _ = done.send(self.everybody().to(room.as_str()).send(&draft));
            return Some(sent);
        }
        if let Some(recovery) = self.hub.recovery() {
            // Its order is the room's; and members may be away at this moment, all of them.
            recovery.has_room().await;
            recovery.append(self.everybody().to(room.as_str()).audience(), &draft, Some(done));
            return Some(sent);
        }
        let handle = self.rooms.find(room)?;
        // A room that ended in between had no members.
        handle.relay(draft.finish(), None, Some(done)).await.ok()?;
        Some(sent)
    }

    /// Sends an event and waits until it is sent; to how many sockets. `None`: to nobody, as it could not
    /// be made durable.
    pub async fn emit(&self, to: &Audience, event: &str, payload: &RawValue) -> Option<usize> {
        if let (Audience::Room(room), None, false) =
            (to, self.hub.recovery(), self.is_among_nodes())
        {
            let sent = self.emit_to_room(room, event, payload).await;
            // A room that is not there, or ended in between, had no members.
            return Some(match sent {
                Some(sent) => sent.await.unwrap_or_default(),
                None => 0,
            });
        }
        self.log_has_room().await;
        let draft = match Draft::event(self.hub.name(), event, &payload) {
            Ok(draft) => draft,
            Err(error) => return Some(sent(event, Err(error))),
        };
        match to {
            Audience::Room(room) => self.everybody().to(room.as_str()).send_durably(&draft).await,
            Audience::User(user) => {
                self.everybody().to(&personal_room(user)).send_durably(&draft).await
            }
            Audience::All => self.everybody().send_durably(&draft).await,
        }
    }

    /// A user as the others see it; `None`: it is not there.
    pub fn presence_of(&self, user: &UserId) -> Option<Presence> {
        self.roster.lock().presence(user)
    }

    /// See [`Roster::present`].
    pub fn present(&self, part: &Part) -> Vec<Presence> {
        self.roster.lock().present(part)
    }

    /// The sockets in a room.
    pub fn members(&self, room: &RoomId) -> Vec<Peer> {
        let sockets = self.everybody().to(room.as_str()).fetch_sockets();
        sockets.into_iter().filter_map(Peer::of).collect()
    }

    /// Ends the sessions of a user's sockets, in every namespace that takes tokens and on all nodes; how
    /// many sockets there were here.
    pub fn disconnect_user(&self, user: &UserId) -> usize {
        let room = personal_room(user);
        let hubs = self.watched.read().clone();
        let sockets = || hubs.iter().map(|hub| Broadcast::new(Arc::clone(hub)).to(&room));
        // All are counted first: a session that ends takes its sockets of the other namespaces along.
        let here = sockets().map(|sockets| sockets.count()).sum();
        sockets().for_each(|sockets| sockets.close());
        here
    }

    /// As [`Self::disconnect_user`], and waits until the nodes know of it.
    ///
    /// # Errors
    /// The cache that they share does not answer: whether all of them will know is unknown.
    pub async fn disconnect_user_surely(&self, user: &UserId) -> Result<usize, BackendError> {
        let room = personal_room(user);
        let hubs = self.watched.read().clone();
        let sockets = || hubs.iter().map(|hub| Broadcast::new(Arc::clone(hub)).to(&room));
        let here = sockets().map(|sockets| sockets.count()).sum();
        let closing: Vec<_> = sockets().map(|sockets| sockets.closing()).collect();
        for closing in closing {
            if let Some(sent) = closing? {
                sent.durable().await?;
            }
        }
        Ok(here)
    }

    /// Waits until presence is written as it is now.
    pub async fn flush_presence(&self) {
        self.presence.flush().await;
    }

    /// Waits while the log of events is behind.
    pub async fn log_has_room(&self) {
        if let Some(recovery) = self.hub.recovery() {
            recovery.has_room().await;
        }
    }

    /// Waits until everything that was said in rooms before is sent.
    pub async fn flush_rooms(&self) {
        self.rooms.flush().await;
        if let Some(recovery) = self.hub.recovery() {
            recovery.caught_up().await;
        }
    }
}

/// Not to who comes back later: it would be told what is not so any more.
fn emit_presence(to: Broadcast<'_>, user: &UserId, status: &str) {
    let changed = PresenceChanged { user_id: user.as_str(), status };
    sent("presence:changed", to.unlogged().emit("presence:changed", &changed));
}

/// The room of a user's sockets. The application lets no client name it.
pub fn personal_room(user: &UserId) -> String {
    format!("{}{user}", events::PERSONAL_PREFIX)
}

/// To how many an event went. One that could not be encoded is the caller's own mistake, which no
/// client sent and none is told of.
fn sent(event: &str, outcome: Result<usize, crate::wire::socket_io::encode::EncodeError>) -> usize {
    outcome
        .inspect_err(|error| tracing::error!(event, %error, "an event could not be encoded"))
        .unwrap_or_default()
}
