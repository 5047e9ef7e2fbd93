//! Deadlines, and what the driver of active expiry asks of the keyspace.

use super::Keyspace;
use super::effects::{Fresh, Recorded};
use super::slot::{EXPIRY_BYTES, Expiry, SlotId};
use crate::cache::notifications::Events;
use crate::model::clock::UnixMs;

/// What the keyspace knows of the expiry driver.
pub(super) struct Driver {
    sleeps_until_ms: UnixMs,
    /// A deadline came up that is earlier.
    must_wake: bool,
}

impl Default for Driver {
    fn default() -> Self {
        Self { sleeps_until_ms: UnixMs::MAX, must_wake: false }
    }
}

impl Keyspace {
    /// Gives a key a deadline or takes it away. One that has passed removes the key. Whether the key
    /// was there.
    pub(in crate::cache) fn expire_at(&mut self, key: &[u8], at_ms: Option<UnixMs>) -> bool {
        let Some(id) = self.live(key) else { return false };
        match at_ms {
            Some(at_ms) => {
                let event = if at_ms <= self.now_ms { "del" } else { "expire" };
                self.touch(id);
                self.expire_slot(id, at_ms);
                self.notify(Events::GENERIC, event, key);
            }
            None => {
                if self.slot_at(id).is_some_and(|slot| slot.expiry.is_some()) {
                    self.notify(Events::GENERIC, "persist", key);
                }
                self.set_deadline(id, None);
            }
        }
        true
    }

    /// A deadline that has passed removes the key.
    pub(super) fn expire_slot(&mut self, id: SlotId, at_ms: UnixMs) {
        if at_ms <= self.now_ms {
            self.remove_slot(id);
        } else {
            self.set_deadline(id, Some(at_ms));
        }
    }

    pub(super) fn set_deadline(&mut self, id: SlotId, at_ms: Option<UnixMs>) {
        let Some(slot) = self.slot_mut(id) else { return };
        if slot.expires_at_ms() == at_ms {
            return;
        }
        if let Some(old) = slot.expiry.take() {
            self.deadlines.remove(&(old.at_ms, id));
            self.database_mut(id.db).expiring -= 1;
            self.effects.end(old.recorded);
            self.bytes -= EXPIRY_BYTES;
        }
        self.touch(id);
        if let Some(at_ms) = at_ms {
            self.place_deadline(id, at_ms, Recorded::New);
            self.effects.add(Fresh::Deadline(id));
        }
    }

    /// Gives a slot without a deadline one.
    pub(super) fn place_deadline(&mut self, id: SlotId, at_ms: UnixMs, recorded: Recorded) {
        if let Some(slot) = self.slot_mut(id) {
            slot.expiry = Some(Expiry { at_ms, recorded });
        }
        self.database_mut(id.db).expiring += 1;
        self.deadlines.insert((at_ms, id));
        self.bytes += EXPIRY_BYTES;
        self.driver.must_wake |= at_ms < self.driver.sleeps_until_ms;
    }

    /// Removes keys that are due, until about `ends_max` facts are ended. Returns the earliest
    /// deadline that is left, and takes it that the driver sleeps until then.
    pub(in crate::cache) fn expire_due(&mut self, ends_max: usize) -> Option<UnixMs> {
        while let Some(&(at_ms, id)) = self.deadlines.first()
            && at_ms <= self.now_ms
            && self.effects.count() < ends_max
        {
            self.remove_expired(id);
        }
        let earliest_ms = self.deadlines.first().map(|&(at_ms, _)| at_ms);
        self.driver =
            Driver { sleeps_until_ms: earliest_ms.unwrap_or(UnixMs::MAX), must_wake: false };
        earliest_ms
    }

    /// Whether a deadline has come up since that is earlier than the one the driver sleeps until.
    pub(in crate::cache) fn take_driver_must_wake(&mut self) -> bool {
        std::mem::take(&mut self.driver.must_wake)
    }
}
