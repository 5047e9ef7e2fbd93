//! Who owns exclusive queues.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use super::Broker;
use crate::model::names::UserName;

/// Names a connection for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) u64);

/// The process itself, which calls the broker without a connection.
pub(super) const IN_PROCESS: ConnectionId = ConnectionId(0);

/// A client's connection: it owns the exclusive queues that are declared through it, and takes them
/// with it when it is dropped. Everything a [`Broker`] can do, it can.
pub struct Connection {
    broker: Broker,
}

impl Broker {
    /// Opens a connection to this handle's vhost.
    pub fn connect(&self) -> Connection {
        self.connect_for(self.user.clone())
    }

    pub(super) fn connect_for(&self, user: Option<UserName>) -> Connection {
        let id = ConnectionId(self.inner.next_connection.fetch_add(1, Ordering::Relaxed));
        Connection { broker: self.for_connection(id, user) }
    }

    /// The connection that this handle acts for.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection
    }
}

impl Deref for Connection {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.broker.delete_exclusive_queues();
    }
}
