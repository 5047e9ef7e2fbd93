//! Tokens, and the sockets whose token ends: each is closed then, unless its client has shown a fresh one.
//!
//! One task looks after all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::application::Application;
use super::auth::Claims;
use super::close_reason::CloseReason;
use super::error::Refusal;
use super::io::{Hub, Outgoing, SocketId};
use super::member::Peer;
use crate::model::clock::{SharedClock, UnixMs};
use crate::model::names::UserId;

/// How often the task looks whether its gateway is still there.
const LOOK: Duration = Duration::from_secs(60);

/// By the second since the Unix epoch at which the token ends, as its `exp`.
#[derive(Default)]
pub struct Expiries {
    due: Mutex<BTreeSet<(u64, SocketId)>>,
    wake: Notify,
}

impl Expiries {
    pub fn add(&self, at_s: u64, socket: SocketId) {
        let mut due = self.due.lock();
        let is_sooner = due.first().is_none_or(|(next_s, _)| at_s < *next_s);
        due.insert((at_s, socket));
        drop(due);
        if is_sooner {
            self.wake.notify_one();
        }
    }

    pub fn remove(&self, at_s: u64, socket: SocketId) {
        self.due.lock().remove(&(at_s, socket));
    }

    /// Another token took the place of the one that ends at `before_s`.
    pub fn replace(&self, before_s: u64, at_s: u64, socket: SocketId) {
        self.remove(before_s, socket);
        self.add(at_s, socket);
    }

    /// How long until the next one is due; at most [`LOOK`].
    fn wait(&self, now_ms: UnixMs) -> Duration {
        let next_ms =
            self.due.lock().first().map_or(u64::MAX, |(at_s, _)| at_s.saturating_mul(1000));
        Duration::from_millis(next_ms.saturating_sub(now_ms)).min(LOOK)
    }

    fn pop_due(&self, now_ms: UnixMs) -> Option<SocketId> {
        let mut due = self.due.lock();
        due.first().filter(|(at_s, _)| at_s.saturating_mul(1000) <= now_ms)?;
        due.pop_first().map(|(_, socket)| socket)
    }
}

impl Application {
    /// What a token says; `None`: it is not valid, which is counted.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        let verified = self.authenticator.as_ref().map(|keys| keys.verify(token));
        if let Some(Err(error)) = &verified {
            tracing::debug!(%error, "a token is not valid");
        }
        let claims = verified.and_then(Result::ok);
        if claims.is_none() {
            self.metrics.authentication_failures.increment(1);
        }
        claims
    }

    /// What a fresh token of a user says.
    ///
    /// # Errors
    /// [`Refusal::Token`], [`Refusal::AnotherUser`].
    pub fn verify_of(&self, user: &UserId, token: &str) -> Result<Claims, Refusal> {
        let claims = self.verify(token).ok_or(Refusal::Token)?;
        if claims.user == *user { Ok(claims) } else { Err(Refusal::AnotherUser) }
    }

    /// Puts a fresh token of the same user in the place of a socket's own; the second at which it ends.
    ///
    /// # Errors
    /// As [`Self::verify_of`].
    pub async fn refresh(&self, peer: &Peer, token: &str) -> Result<u64, Refusal> {
        let claims = self.verify_of(peer.user(), token)?;
        let expires_at_s = claims.expires_at_s;
        let before_s = peer.renew(claims).await;
        self.expiries.replace(before_s, expires_at_s, peer.id());
        Ok(expires_at_s)
    }

    /// Has the sockets of one more namespace be closed when their tokens end.
    pub fn watch(&self, hub: &Arc<Hub>) {
        self.watched.write().push(Arc::clone(hub));
    }

    /// A socket's token has ended. Its session is closed, not disconnected, so that the stock client
    /// comes back, with whatever token its `auth` gives then. Beside the application's own namespace the
    /// socket alone ends: the session may have others, whose tokens are good.
    fn expire(&self, id: SocketId) {
        let found = self.watched.read().iter().find_map(|hub| hub.find(id));
        let Some(socket) = found else { return };
        // Not emitted: nobody is told of it later.
        let name = socket.hub().name();
        let told = Outgoing::event(name, "error", None, &json!({ "message": "Token expired" }));
        if let Ok(event) = told {
            socket.answer(&event);
        }
        match Peer::of(socket.clone()) {
            Some(_) => socket.close_for(CloseReason::TokenExpired),
            None => socket.disconnect_at_once(),
        }
    }
}

/// Closes sockets in time until the application is dropped.
pub async fn keep(application: Weak<Application>, expiries: Arc<Expiries>, clock: SharedClock) {
    loop {
        tokio::select! {
            () = expiries.wake.notified() => {}
            () = tokio::time::sleep(expiries.wait(clock.now_ms())) => {}
        }
        let Some(application) = application.upgrade() else { return };
        while let Some(socket) = expiries.pop_due(clock.now_ms()) {
            application.expire(socket);
        }
    }
}
