//! The sockets of a session, one a namespace: who is disconnected when the server ends the whole.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Outbound;
use crate::gateway::close_reason::CloseReason;

/// A socket, as its session knows it.
pub trait Member: Send + Sync {
    /// Disconnects it after what it was sent before, then does `then`.
    fn part(self: Arc<Self>, then: Box<dyn FnOnce() + Send>);
}

/// Most sessions have one.
#[derive(Default)]
pub struct Members(Mutex<SmallVec<[Weak<dyn Member>; 1]>>);

impl Outbound {
    /// A socket of this session is connected from now on.
    pub fn add_member(&self, member: Weak<dyn Member>) {
        self.members.0.lock().push(member);
    }

    /// And is not any more.
    pub fn remove_member<T>(&self, member: &Arc<T>) {
        let is_other =
            |it: &mut Weak<dyn Member>| !std::ptr::addr_eq(it.as_ptr(), Arc::as_ptr(member));
        self.members.0.lock().retain(is_other);
    }

    /// Disconnects the sockets that there are, then ends the session: a stock client comes back by itself to
    /// a namespace of which it was not told.
    pub fn end(self: &Arc<Self>) {
        let first = self.members.0.lock().pop();
        let Some(member) = first else { return self.close(CloseReason::ForcedClose) };
        let own = Arc::clone(self);
        match member.upgrade() {
            Some(member) => member.part(Box::new(move || own.end())),
            None => own.end(),
        }
    }
}
