//! The sessions that are open, by their secret ids.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ahash::AHashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::session::Session;
use crate::gateway::close_reason::CloseReason;
use crate::gateway::shrink;
use crate::wire::engine_io::RequestError;

pub struct Sessions {
    open: Mutex<AHashSet<ById>>,
    sessions_max: usize,
    /// Wakes who waits for the last one to go.
    gone: Notify,
}

/// A session that is found by its id, which is not kept beside it once more: idle ones are many.
struct ById(Arc<Session>);

impl Borrow<Uuid> for ById {
    fn borrow(&self) -> &Uuid {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Sessions {
    pub fn new(sessions_max: usize) -> Self {
        Self { open: Mutex::default(), sessions_max, gone: Notify::new() }
    }

    /// False: there are as many as there may be.
    pub fn insert(&self, session: &Arc<Session>) -> bool {
        let mut open = self.open.lock();
        let has_place = open.len() < self.sessions_max;
        if has_place {
            open.insert(ById(Arc::clone(session)));
        }
        has_place
    }

    pub fn has_place(&self) -> bool {
        self.len() < self.sessions_max
    }

    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// # Errors
    /// [`RequestError::UnknownSession`], also of a session whose peer is gone and whose task clears up.
    pub fn find(&self, sid: &str) -> Result<Arc<Session>, RequestError> {
        let id = Uuid::try_parse(sid).map_err(|_| RequestError::UnknownSession)?;
        let session = self.open.lock().get(&id).map(|ById(session)| Arc::clone(session));
        session
            .filter(|session| {
                !session.outbound.close_reason().is_some_and(CloseReason::is_peer_gone)
            })
            .ok_or(RequestError::UnknownSession)
    }

    pub fn remove(&self, session: &Session) {
        let mut open = self.open.lock();
        open.remove(&session.id);
        shrink::set(&mut open);
        if open.is_empty() {
            self.gone.notify_waiters();
        }
    }

    pub fn close_all(&self, reason: CloseReason) {
        for session in self.all() {
            session.outbound.close(reason);
        }
    }

    /// Waits no longer for the polls of closed sessions' clients.
    pub fn part_all(&self) {
        for session in self.all() {
            session.part();
        }
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.open.lock().iter().map(|ById(session)| Arc::clone(session)).collect()
    }

    /// Waits until there is none.
    pub async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.open.lock().is_empty() {
                return;
            }
            gone.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::engine::session::tests::polling;

    #[test]
    fn who_closed_by_leaving_is_unknown_at_once_and_who_is_to_be_told_is_not() {
        for (reason, is_known) in
            [(CloseReason::TransportError, false), (CloseReason::ForcedClose, true)]
        {
            let (sessions, session) = (Sessions::new(1), Arc::new(polling()));
            assert!(sessions.insert(&session));
            let sid = session.id.to_string();
            assert!(sessions.find(&sid).is_ok());
            session.outbound.close(reason);
            assert_eq!(sessions.find(&sid).is_ok(), is_known, "{reason}");
        }
    }
}
