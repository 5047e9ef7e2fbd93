//! How the server ends a socket, alone or with its client's session.

use std::sync::Arc;

use super::{Inner, Socket};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::io::outgoing::Outgoing;
use crate::gateway::io::reason::DisconnectReason;
use crate::gateway::outbound::Member;
use crate::wire::socket_io::encode;

impl Socket {
    /// Disconnects it from its namespace; the client's other namespaces stay. The stock client does not
    /// come back by itself.
    pub fn disconnect(&self) {
        let socket = self.clone();
        self.after_pending(move || socket.disconnect_at_once());
    }

    /// Disconnects the client from every namespace and ends its session, after what is queued. The stock
    /// client does not come back by itself.
    pub fn close(&self) {
        let outbound = Arc::clone(&self.0.outbound);
        Arc::clone(&self.0).part(Box::new(move || outbound.end()));
    }

    pub(crate) fn close_at_once(&self) {
        self.disconnect_at_once();
        self.0.outbound.end();
    }

    /// What was emitted before comes before.
    fn after_pending(&self, act: impl FnOnce() + Send + 'static) {
        match self.hub().recovery() {
            Some(recovery) if self.is_connected() => recovery.after_pending(0, act),
            _ => act(),
        }
    }

    pub(crate) fn disconnect_at_once(&self) {
        if !self.is_connected() {
            return;
        }
        let name = self.hub().name();
        self.answer(&Outgoing::packet(|out| encode::disconnect(out, name)));
        if let Some(told) = self.depart(DisconnectReason::ServerNamespace) {
            self.hub().spawn(told);
        }
    }

    /// Closes the client's connection, as if its network had failed: the stock client comes back by itself.
    pub fn cut(&self) {
        self.close_for(CloseReason::ForcedClose);
    }

    pub(crate) fn close_for(&self, reason: CloseReason) {
        self.0.outbound.close(reason);
    }
}

impl Member for Inner {
    fn part(self: Arc<Self>, then: Box<dyn FnOnce() + Send>) {
        let socket = Socket(self);
        let parting = socket.clone();
        socket.after_pending(move || {
            parting.disconnect_at_once();
            then();
        });
    }
}
