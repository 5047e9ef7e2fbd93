//! The databases by their numbers.

use super::effects::{Fresh, Recorded};
use super::record::OrderFact;
use super::{DATABASES, Keyspace};
use crate::journal::Entry;

/// Which database has which number. The facts of keys name a database by its place, which it keeps, so
/// a swap of two numbers records this and not one of the keys.
pub(super) struct Order {
    places: [u8; DATABASES],
    pub(super) recorded: Recorded,
}

impl Default for Order {
    fn default() -> Self {
        Self { places: OrderFact::UNSWAPPED, recorded: Recorded::New }
    }
}

impl Order {
    /// What the journal has to keep: nothing while every database has its first number.
    pub(super) fn fact(&self) -> Option<OrderFact> {
        (self.places != OrderFact::UNSWAPPED).then_some(OrderFact { places: self.places })
    }
}

impl Keyspace {
    /// SELECT, until the pipeline ends. Whether there is such a database.
    pub(in crate::cache) fn select(&mut self, number: u8) -> bool {
        let place = self.order.places.get(usize::from(number)).copied();
        self.selected = place.unwrap_or(self.selected);
        place.is_some()
    }

    /// The number of the database that the commands work on.
    pub(in crate::cache) fn selected(&self) -> u8 {
        self.number_of(self.selected)
    }

    /// The number of the database at a place.
    pub(in crate::cache) fn number_of(&self, place: u8) -> u8 {
        let number = self.order.places.iter().position(|other| *other == place);
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
    }

    /// The place of the database with this number; without one, that of the selected.
    pub(in crate::cache) fn numbered(&self, number: Option<u8>) -> u8 {
        let place = number.and_then(|number| self.order.places.get(usize::from(number)));
        place.copied().unwrap_or(self.selected)
    }

    /// Whether the database at this place is the selected one.
    pub(in crate::cache) fn is_selected(&self, place: u8) -> bool {
        self.selected == place
    }

    /// SWAPDB, of numbers that there are. The selected number stays the same.
    pub(in crate::cache) fn swap(&mut self, one: u8, other: u8) {
        if one == other {
            return;
        }
        self.touch_swapped([one, other]);
        let number = self.selected();
        self.order.places.swap(usize::from(one) % DATABASES, usize::from(other) % DATABASES);
        self.select(number);
        self.waiters.databases_changed([one, other]);
        self.effects.end(std::mem::replace(&mut self.order.recorded, Recorded::New));
        self.effects.add(Fresh::Order);
    }

    pub(super) fn restore_order(&mut self, places: [u8; DATABASES], entry: Entry) {
        self.order = Order { places, recorded: Recorded::at(entry) };
        self.select(0);
    }
}
