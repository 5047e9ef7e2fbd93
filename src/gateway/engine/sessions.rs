//! The sessions that are open, by their secret ids.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::session::Session;
use crate::gateway::close_reason::CloseReason;
use crate::gateway::shrink;
use crate::wire::engine_io::RequestError;

pub struct Sessions {
    open: Mutex<AHashMap<Uuid, Arc<Session>>>,
    sessions_max: usize,
    /// Wakes who waits for the last one to go.
    gone: Notify,
}

impl Sessions {
    pub fn new(sessions_max: usize) -> Self {
        Self { open: Mutex::default(), sessions_max, gone: Notify::new() }
    }

    /// False: there are as many as there may be.
    pub fn insert(&self, session: &Arc<Session>) -> bool {
        let mut open = self.open.lock();
        let has_place = open.len() < self.sessions_max;
        if has_place {
            open.insert(session.id, Arc::clone(session));
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
    /// [`RequestError::UnknownSession`].
    pub fn find(&self, sid: &str) -> Result<Arc<Session>, RequestError> {
        let id = Uuid::try_parse(sid).map_err(|_| RequestError::UnknownSession)?;
        self.open.lock().get(&id).cloned().ok_or(RequestError::UnknownSession)
    }

    pub fn remove(&self, session: &Session) {
        let mut open = self.open.lock();
        open.remove(&session.id);
        shrink::table(&mut open);
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
        self.open.lock().values().cloned().collect()
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
