//! A log that other nodes write too, of which something is missing.

use super::Recovery;
use super::ring::Ring;
use super::session::Sessions;

impl Recovery {
    /// Forgets the log and its sessions: none is resumed across what is missing, also by who has all that
    /// was sent here before.
    pub fn break_off(&self) {
        let mut delivery = self.delivery.lock();
        delivery.sessions = Sessions::default();
        self.order.lock().ring = Ring::default();
    }
}
