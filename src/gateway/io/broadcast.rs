//! Sending to many: who they are, and what is done with them.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashSet;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::acks::{AllReplies, PATIENCE_MAX, Replies};
use super::hub::{Hub, JoinError};
use super::nodes::{Gathered, Items, Nodes, Question, RemoteSocket, add_replies};
use super::outgoing::{Draft, Outgoing};
use super::recovery::{Audience, Target};
use super::socket::Socket;
use super::socket_id::SocketId;
use crate::backend::{BackendError, Saying, Sent};
use crate::gateway::error::GatewayError;
use crate::gateway::outbound::Flush;
use crate::wire::socket_io::ToArgs;
use crate::wire::socket_io::encode::EncodeError;

/// Chooses sockets of one namespace, all of them at first, and does something with them. A socket that
/// is in several of the rooms is chosen once. A room name that is a socket's id means that socket.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `emit` is called"]
pub struct Broadcast<'a> {
    hub: Arc<Hub>,
    to: SmallVec<[Target<'a>; 2]>,
    except_rooms: SmallVec<[Target<'a>; 2]>,
    except: Option<SocketId>,
    is_volatile: bool,
    is_logged: bool,
    is_local: bool,
}

impl<'a> Broadcast<'a> {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let (to, except_rooms) = (SmallVec::new(), SmallVec::new());
        Self {
            hub,
            to,
            except_rooms,
            except: None,
            is_volatile: false,
            is_logged: true,
            is_local: false,
        }
    }

    /// The members of this room too. Without any room everybody is chosen.
    pub fn to(mut self, room: &'a str) -> Self {
        self.to.push(Target::of(room));
        self
    }

    /// But not the members of this room.
    pub fn except(mut self, room: &'a str) -> Self {
        self.except_rooms.push(Target::of(room));
        self
    }

    pub(crate) fn except_socket(mut self, id: SocketId) -> Self {
        self.except = Some(id);
        self
    }

    /// Not to sockets that have something to read already: what is only worth having when it is new.
    /// A client that comes back later is not sent it.
    pub fn volatile(mut self) -> Self {
        self.is_volatile = true;
        self.is_logged = false;
        self
    }

    /// Not to who comes back later.
    pub(crate) fn unlogged(mut self) -> Self {
        self.is_logged = false;
        self
    }

    /// Only to sockets of this node, which are all there are where the cache is in this process.
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Sends an event, encoded once; how many sockets it was queued for, on other nodes not counted. Nobody is waited for: a socket
    /// that does not read fast enough is cut when its queue is full.
    ///
    /// # Errors
    /// [`EncodeError`] when the name is reserved or an argument has no JSON form.
    pub fn emit(&self, event: &str, args: impl ToArgs) -> Result<usize, EncodeError> {
        let draft = Draft::event(self.hub.name(), event, &args)?;
        Ok(self.send(&draft))
    }

    /// Sends an event of this namespace and waits until it is; to how many sockets, on other nodes not
    /// counted. Whoever is told that
    /// it was sent need not ask again. `None`: nobody gets it, as it could not be made durable.
    pub(crate) async fn send_durably(&self, draft: &Draft) -> Option<usize> {
        if let Some(nodes) = self.others() {
            return nodes.send_durably(self.audience(), draft).await.then(|| self.count());
        }
        let Some(recovery) = self.hub.recovery() else { return Some(self.push(&draft.finish())) };
        let (told, sent) = oneshot::channel();
        if !recovery.append(self.audience(), draft, Some(told)) {
            return None;
        }
        // The log only ends with its gateway.
        sent.await.ok()
    }

    /// Sends an event of this namespace; how many sockets it is for.
    pub(crate) fn send(&self, draft: &Draft) -> usize {
        if let Some(nodes) = self.others() {
            let is_sent = nodes.send(self.audience(), draft, self.is_logged, self.is_volatile);
            return if is_sent { self.count() } else { 0 };
        }
        match self.hub.recovery() {
            // What only this node sends has no place in the log of all.
            Some(recovery) if self.is_logged && self.hub.nodes().is_none() => {
                if recovery.append(self.audience(), draft, None) { self.count() } else { 0 }
            }
            Some(recovery) => recovery.send_transient(draft, |packet| self.push(packet)),
            None => self.push(&draft.finish()),
        }
    }

    /// As [`Self::send`], to be said to all nodes beside a change of the cache. `None`: this is the only one.
    pub(crate) fn saying(&self, draft: &Draft) -> Option<Saying> {
        let nodes = self.others()?;
        Some(nodes.saying(self.audience(), draft, self.is_logged, self.is_volatile))
    }

    /// Where other nodes have sockets that are chosen.
    fn others(&self) -> Option<&Nodes> {
        self.hub.nodes().filter(|_| !self.is_local)
    }

    /// Sends packets that are news or nothing; for how many here. Few are written to in place, so
    /// no lock may be held.
    pub(crate) fn tell(&self, row: &Outgoing) -> usize {
        match self.others() {
            Some(nodes) if nodes.tell(&self.audience(), row) => self.count(),
            Some(_) => 0,
            None => {
                let mut flush = Flush::default();
                let sockets = self.push_with(&mut flush, row);
                flush.write();
                sockets
            }
        }
    }

    pub(crate) fn audience(&self) -> Audience {
        let owned =
            |targets: &[Target<'_>]| targets.iter().cloned().map(Target::into_owned).collect();
        let (to, except_rooms) = (owned(&self.to), owned(&self.except_rooms));
        Audience { to, except_rooms, except: self.except }
    }

    pub(super) fn for_audience(self, audience: &'a Audience) -> Self {
        let to = audience.to.iter().map(Target::by_ref).collect();
        let except_rooms = audience.except_rooms.iter().map(Target::by_ref).collect();
        Self { to, except_rooms, except: audience.except, ..self }
    }

    /// How many are chosen. Where the choice is simple they are not visited.
    pub(crate) fn count(&self) -> usize {
        match (&self.to[..], &self.except_rooms[..], self.except) {
            ([], [], None) => self.hub.len(),
            ([Target::Room(room)], [], None) if let Some(room) = self.hub.room(room) => room.len(),
            _ => {
                let mut sockets = 0;
                self.each(|_| sockets += 1);
                sockets
            }
        }
    }

    /// Queues a packet, whatever the log of events says; for how many.
    pub(crate) fn push(&self, packet: &Outgoing) -> usize {
        self.push_with(&mut Flush::default(), packet)
    }

    fn push_with(&self, flush: &mut Flush, packet: &Outgoing) -> usize {
        let mut sockets = 0;
        self.each(|socket| {
            sockets += usize::from(socket.push_with(flush, packet, self.is_volatile));
        });
        sockets
    }

    /// Sends an event and waits for everybody's acknowledgement, at most for `timeout`, and never longer than
    /// a day. Who is not sent it, as one that has something to read already where it is
    /// [volatile](Self::volatile), is missing. The sockets of this node are sent it; for those of all nodes see
    /// [`Self::emit_with_all_acks`].
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub async fn emit_with_ack(
        &self,
        event: &str,
        args: impl ToArgs,
        timeout: Duration,
    ) -> Result<Replies, EncodeError> {
        let draft = Draft::event(self.hub.name(), event, &args)?;
        drop(args);
        Ok(self.collect_acks(&draft, timeout).await)
    }

    /// Sends an event to the sockets of all nodes and waits for everybody's acknowledgement, at most for
    /// `timeout` and for a day; a node has a second more to tell what came, and one that does not is counted as
    /// missing. On other nodes it may overtake what was emitted just before. Dropped, it is given up there too.
    ///
    /// # Errors
    /// As [`Self::emit`]; [`GatewayError::Backend`] as [`Self::fetch_all_sockets`]: then some may have been
    /// sent it.
    pub async fn emit_with_all_acks(
        &self,
        event: &str,
        args: impl ToArgs,
        timeout: Duration,
    ) -> Result<Gathered<AllReplies>, GatewayError> {
        let draft = Draft::event(self.hub.name(), event, &args)?;
        drop(args);
        let timeout = timeout.min(PATIENCE_MAX);
        let here = self.collect_acks(&draft, timeout);
        let Some(nodes) = self.others() else { return Ok(Gathered::alone(here.await.into())) };
        let there = nodes.ask_acks(self.audience(), &draft, self.is_volatile, timeout);
        let (here, there) = tokio::try_join!(async { Ok(here.await) }, there)?;
        Ok(there.map(|items| {
            let mut all = here.into();
            add_replies(&mut all, &items);
            all
        }))
    }

    /// Sends an event to the chosen sockets of this node, and waits for their acknowledgements.
    pub(super) async fn collect_acks(&self, draft: &Draft, timeout: Duration) -> Replies {
        let timeout = timeout.min(PATIENCE_MAX);
        let deadline = Instant::now() + timeout;
        let id = self.hub.next_ack();
        let packet = draft.with_ack(id);
        if let Some(recovery) = self.hub.recovery() {
            // What was emitted before comes before. Who is too late then has not acknowledged.
            let _ = tokio::time::timeout_at(deadline, recovery.caught_up()).await;
        }
        let (mut pending, mut replies) = (Vec::new(), Replies::default());
        self.each(|socket| match socket.expect_ack(id) {
            Some(ack) if socket.push(&packet, self.is_volatile) => pending.push(ack),
            _ => replies.missing.push(socket.clone()),
        });
        for ack in pending {
            let socket = ack.socket.clone();
            match ack.wait(timeout, deadline).await {
                Ok(reply) => replies.replies.push((socket, reply)),
                Err(_) => replies.missing.push(socket),
            }
        }
        replies
    }

    /// The chosen sockets that are connected to this process. For those of all nodes see
    /// [`Self::fetch_all_sockets`].
    pub fn fetch_sockets(&self) -> Vec<Socket> {
        let mut sockets = Vec::new();
        self.each(|socket| sockets.push(socket.clone()));
        sockets
    }

    /// The chosen sockets of all nodes, as each node tells of them. A node that does not answer within a
    /// second is counted as missing, and its sockets are not among them.
    ///
    /// # Errors
    /// [`GatewayError::Backend`]: the cache that the nodes share does not answer, or they answer too much.
    pub async fn fetch_all_sockets(&self) -> Result<Gathered<Vec<RemoteSocket>>, GatewayError> {
        let here: Vec<RemoteSocket> = self.fetch_sockets().iter().map(RemoteSocket::of).collect();
        let Some(nodes) = self.others() else { return Ok(Gathered::alone(here)) };
        let told = nodes.ask(self.audience(), Question::Sockets).await?;
        // Who moves from one node to another meanwhile is told of by both.
        let mut seen: AHashSet<SocketId> = here.iter().map(RemoteSocket::id).collect();
        Ok(told.map(|items| {
            let there = items.iter().filter_map(|item| RemoteSocket::read(&self.hub, item));
            here.into_iter().chain(there.filter(|socket| seen.insert(socket.id()))).collect()
        }))
    }

    /// How many sockets are chosen on all nodes.
    ///
    /// # Errors
    /// As [`Self::fetch_all_sockets`].
    pub async fn count_all_sockets(&self) -> Result<Gathered<usize>, GatewayError> {
        let here = self.count();
        let Some(nodes) = self.others() else { return Ok(Gathered::alone(here)) };
        let told = nodes.ask(self.audience(), Question::Count).await?;
        let there = |items: Items| -> usize {
            items.iter().filter_map(|item| item.get().parse::<usize>().ok()).sum()
        };
        Ok(told.map(|items| here + there(items)))
    }

    /// Makes them all join a room, on all nodes: those of other nodes between what was emitted before and what
    /// is emitted after it, those of this node at once.
    ///
    /// # Errors
    /// The first [`JoinError`] of a socket of this node in too many rooms; the others have joined. Another
    /// node logs its own.
    pub fn join(&self, room: &str) -> Result<(), JoinError> {
        if let Some(nodes) = self.others() {
            nodes.join(self.audience(), room);
        }
        let mut outcome = Ok(());
        for socket in self.fetch_sockets() {
            match socket.join(room) {
                // Gone in between.
                Ok(_) | Err(JoinError::Disconnected) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Makes them all leave a room, on all nodes: between what was emitted before and what is emitted after it.
    pub fn leave(&self, room: &str) {
        match self.others() {
            Some(nodes) => nodes.leave(&self.hub, self.audience(), room),
            None => self.leave_at_once(room),
        }
    }

    pub(super) fn leave_at_once(&self, room: &str) {
        for socket in self.fetch_sockets() {
            socket.leave(room);
        }
    }

    /// Disconnects them from the namespace, on all nodes.
    pub fn disconnect(&self) {
        match self.others() {
            Some(nodes) => nodes.disconnect(self.audience()),
            None => self.disconnect_in_place(),
        }
    }

    /// Ends their sessions, and every namespace with them, on all nodes.
    pub fn close(&self) {
        if let Err(error) = self.closing() {
            tracing::error!(%error, "sockets were not closed");
        }
    }

    /// As [`Self::close`]. What is given, if anything, says when the nodes know of it.
    ///
    /// # Errors
    /// Too much waits to be sent to them.
    pub(crate) fn closing(&self) -> Result<Option<Sent>, BackendError> {
        if let Some(nodes) = self.others() {
            return nodes.close(self.audience()).map(Some);
        }
        self.close_in_place();
        Ok(None)
    }

    /// Those of this node join a room as a node asks for it.
    pub(super) fn join_in_place(&self, room: String) {
        self.in_place(move |chosen| {
            if let Err(error) = chosen.join(&room) {
                tracing::warn!(room, %error, "a socket did not join, as a node asked for");
            }
        });
    }

    pub(super) fn leave_in_place(&self, room: String) {
        self.in_place(move |chosen| chosen.leave_at_once(&room));
    }

    pub(super) fn disconnect_in_place(&self) {
        self.in_place(|chosen| {
            chosen.fetch_sockets().iter().for_each(Socket::disconnect_at_once);
        });
    }

    pub(super) fn close_in_place(&self) {
        self.in_place(|chosen| chosen.fetch_sockets().iter().for_each(Socket::close_at_once));
    }

    /// Does something with those of this node that are chosen once what was emitted before is sent, which may
    /// be at once.
    pub(super) fn in_place(&self, act: impl FnOnce(Broadcast<'_>) + Send + 'static) {
        let (hub, audience) = (Arc::clone(&self.hub), self.audience());
        let act = move || act(hub.choose(&audience).local());
        match self.hub.recovery() {
            Some(recovery) => recovery.after_pending(0, act),
            None => act(),
        }
    }

    /// Visits each chosen socket once. The work grows with the rooms that are named, and no others.
    pub(super) fn each(&self, mut visit: impl FnMut(&Socket)) {
        let except = self.excepted();
        let is_chosen =
            |socket: &Socket| Some(socket.id()) != self.except && !except.contains(&socket.id());
        match &self.to[..] {
            [] => self.hub.each(|socket| {
                if is_chosen(socket) {
                    visit(socket);
                }
            }),
            [target] => self.members(target, |socket| {
                if is_chosen(socket) {
                    visit(socket);
                }
            }),
            targets => {
                let mut seen = AHashSet::new();
                for target in targets {
                    self.members(target, |socket| {
                        if is_chosen(socket) && seen.insert(socket.id()) {
                            visit(socket);
                        }
                    });
                }
            }
        }
    }

    fn excepted(&self) -> AHashSet<SocketId> {
        let mut ids = AHashSet::new();
        for target in &self.except_rooms {
            self.members(target, |socket| {
                ids.insert(socket.id());
            });
        }
        ids
    }

    fn members(&self, target: &Target<'_>, mut visit: impl FnMut(&Socket)) {
        match target {
            Target::Socket(id) => self.hub.find(*id).iter().for_each(visit),
            Target::Room(room) => self.hub.room(room).iter().for_each(|room| room.each(&mut visit)),
        }
    }
}
