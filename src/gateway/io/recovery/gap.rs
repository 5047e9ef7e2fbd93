//! A log that other nodes write too, of which something is missing.

use super::Recovery;
use super::session::Sessions;

impl Recovery {
    /// Forgets the log and its sessions, and goes on behind what is missing: none is resumed across it here,
    /// also by who has all that was sent here before.
    pub fn break_off(&self, epoch: u64, position: u64) {
        self.delivery.lock().sessions = Sessions::default();
        self.stand_at(epoch, position, Vec::new());
    }
}
