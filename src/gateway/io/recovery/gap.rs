//! A log that other nodes write too, of which something is missing.

use super::Recovery;
use super::ring::Ring;

impl Recovery {
    /// Forgets the log: no session is resumed across what is missing.
    pub fn break_off(&self) {
        self.order.lock().ring = Ring::default();
    }
}
