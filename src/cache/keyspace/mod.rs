//! The keys: where they are, what they hold, when they expire, what of them is recorded.
//!
//! Owns the state that all data types share; what the commands of one type mean lies in that type's
//! file. May import: the types' values, `model`, `journal`. Time stands still in it until
//! [`Keyspace::begin`] moves it on.
//!
//! What always holds: `deadlines` has exactly the slots with an expiry; between two pipelines
//! everything is [`Recorded::At`] its entry, if there is a journal that keeps anything.

mod collection;
mod database;
mod databases;
mod effects;
mod eviction;
mod expiry;
mod lookups;
mod memory;
mod moving;
mod name;
mod parts;
mod random;
mod record;
mod recording;
mod recovery;
mod slot;
mod texts;
mod watching;

use std::collections::BTreeSet;

use ahash::RandomState;

pub(super) use collection::{Collection, Edit};
pub(super) use effects::{Effects, Recorded};
pub(super) use memory::{allocated, text_bytes};
pub(super) use name::Key;
pub(super) use parts::{PartRecord, Parts};
pub(super) use record::CollectionId;
pub use recovery::Recovery;
pub(super) use slot::{Slot, SlotId, Value, check_name, check_value, owned};
pub(super) use texts::Changed;
pub(super) use watching::{Mark, Place};

use super::blocking::Waiters;
use super::error::CacheError;
use super::notifications::{Events, Notifications};
use crate::model::clock::UnixMs;
use database::Database;
use effects::Fresh;
use eviction::Eviction;
pub(super) use lookups::Lookups;
use random::Random;

/// Databases that SELECT reaches: Redis's default.
pub(super) const DATABASES: usize = 16;

/// What a write does to the key's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ttl {
    Keep,
    None,
    Until(UnixMs),
}

pub(super) struct Keyspace {
    now_ms: UnixMs,
    /// The database that the commands work on, by its place in `databases`.
    selected: u8,
    databases: [Database; DATABASES],
    order: databases::Order,
    hasher: RandomState,
    deadlines: BTreeSet<(UnixMs, SlotId)>,
    driver: expiry::Driver,
    effects: Effects,
    /// Those of the script that runs, between two of its calls.
    parked: Effects,
    next_collection: CollectionId,
    bytes: usize,
    lookups: Lookups,
    notifications: Notifications,
    eviction: Eviction,
    /// Keys that were removed because their time was over.
    expired: u64,
    watched: watching::Watched,
    pub(super) waiters: Waiters,
    random: Random,
}

impl Keyspace {
    /// `is_recorded`: there is a journal that keeps what it hears.
    pub(super) fn new(lookups: Lookups, is_recorded: bool) -> Self {
        Self {
            now_ms: 0,
            selected: 0,
            databases: Default::default(),
            order: databases::Order::default(),
            hasher: RandomState::new(),
            deadlines: BTreeSet::new(),
            driver: expiry::Driver::default(),
            effects: Effects::new(is_recorded),
            parked: Effects::new(is_recorded),
            next_collection: CollectionId(1),
            bytes: 0,
            lookups,
            notifications: Notifications::default(),
            eviction: Eviction::default(),
            expired: 0,
            watched: watching::Watched::new(),
            waiters: Waiters::default(),
            random: Random::default(),
        }
    }

    /// A pipeline begins, on the first database: its time is `now_ms` throughout.
    pub(super) fn begin(&mut self, now_ms: UnixMs) {
        self.now_ms = now_ms;
        self.select(0);
    }

    pub(super) fn now_ms(&self) -> UnixMs {
        self.now_ms
    }

    /// Keys of the selected database. Those that have expired and are not yet taken back count, as in
    /// Redis.
    pub(super) fn len(&self) -> usize {
        self.database(self.selected).len()
    }

    /// Keys of all databases.
    pub(super) fn len_of_all(&self) -> usize {
        self.databases.iter().map(Database::len).sum()
    }

    /// Each database, its keys, and how many of them have a deadline.
    pub(super) fn key_counts(&self) -> impl Iterator<Item = (u8, usize, usize)> {
        (0..DATABASES as u8).map(|number| {
            let database = self.database(self.numbered(Some(number)));
            (number, database.len(), database.expiring)
        })
    }

    /// Bytes of memory that the keys take, estimated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keys that were removed because their time was over, and because memory ran out.
    pub(super) fn removals(&self) -> (u64, u64) {
        (self.expired, self.eviction.evicted)
    }

    pub(super) fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// Looks at a key.
    pub(super) fn slot(&self, key: &[u8]) -> Option<&Slot> {
        let database = self.database(self.selected);
        let slot = database.find(&self.hasher, key).and_then(|at| database.get(at))?;
        (!slot.is_due(self.now_ms)).then_some(slot)
    }

    pub(super) fn live_slots(&self) -> impl Iterator<Item = &Slot> {
        let slots = self.database(self.selected).slots();
        slots.map(|(_, slot)| slot).filter(|slot| !slot.is_due(self.now_ms))
    }

    /// The selected database's live keys from a place on, each with the place after it.
    pub(super) fn slots_from(&self, place: u64) -> impl Iterator<Item = (u64, Option<&Slot>)> {
        let database = self.database(self.selected);
        let places = place..database.places_end() as u64;
        let at = |place| u32::try_from(place).ok().and_then(|at| database.get(at));
        places.map(move |place| (place + 1, at(place).filter(|slot| !slot.is_due(self.now_ms))))
    }

    /// Some key of the selected database, unless it has expired.
    pub(super) fn random_live_slot(&self) -> Option<&Slot> {
        let database = self.database(self.selected);
        let at = database.random(|end| self.random_below(end))?;
        database.get(at).filter(|slot| !slot.is_due(self.now_ms))
    }

    /// Places of the selected database are below this.
    pub(super) fn places_end(&self) -> usize {
        self.database(self.selected).places_end()
    }

    /// Writes a key's value, whatever the key held before. A deadline that has passed removes the key.
    pub(super) fn put(&mut self, key: &[u8], value: Value, ttl: Ttl) -> Result<(), CacheError> {
        let id = match self.live(key) {
            Some(id) => {
                self.replace(id, value);
                id
            }
            None => self.insert(key, value)?,
        };
        match ttl {
            Ttl::Keep => {}
            Ttl::None => self.set_deadline(id, None),
            Ttl::Until(at_ms) => self.expire_slot(id, at_ms),
        }
        Ok(())
    }

    /// Whether the key was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(id) = self.live(key) else { return false };
        self.remove_slot(id);
        self.notify(Events::GENERIC, "del", key);
        true
    }

    /// Removes every key of the selected database. Takes time in proportion to what there is, as
    /// Redis's own does.
    pub(super) fn clear(&mut self) {
        let db = self.selected;
        self.touch_all(db);
        for (at, slot) in std::mem::take(self.database_mut(db)).slots() {
            self.bytes -= slot.bytes();
            self.effects.end(slot.value_recorded);
            slot.value.end_parts(&mut self.effects);
            if let Some(expiry) = slot.expiry {
                self.deadlines.remove(&(expiry.at_ms, SlotId { at, db }));
                self.effects.end(expiry.recorded);
            }
        }
    }

    /// Removes every key of every database.
    pub(super) fn clear_all(&mut self) {
        let selected = self.selected;
        for db in 0..DATABASES as u8 {
            self.selected = db;
            self.clear();
        }
        self.selected = selected;
    }

    fn database(&self, db: u8) -> &Database {
        // Whoever names a database has it from `selected` or from a slot's place.
        &self.databases[usize::from(db) % DATABASES]
    }

    fn database_mut(&mut self, db: u8) -> &mut Database {
        &mut self.databases[usize::from(db) % DATABASES]
    }

    fn slot_at(&self, id: SlotId) -> Option<&Slot> {
        self.database(id.db).get(id.at)
    }

    fn slot_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.database_mut(id.db).get_mut(id.at)
    }

    /// The key's slot; one that has expired is removed first.
    fn live(&mut self, key: &[u8]) -> Option<SlotId> {
        let db = self.selected;
        let at = self.database(db).find(&self.hasher, key)?;
        let id = SlotId { at, db };
        let slot = self.slot_at(id)?;
        if slot.is_due(self.now_ms) {
            self.remove_expired(id);
            return None;
        }
        self.use_slot(slot);
        Some(id)
    }

    fn replace(&mut self, id: SlotId, value: Value) {
        let database = &mut self.databases[usize::from(id.db) % DATABASES];
        let Some(slot) = database.get_mut(id.at) else { return };
        self.effects.end(slot.value_recorded);
        slot.value.end_parts(&mut self.effects);
        self.bytes = self.bytes - slot.value.bytes() + value.bytes();
        slot.value = value;
        slot.value_recorded = Recorded::New;
        self.effects.add(Fresh::Value(id));
        self.touch_value(id);
    }

    fn insert(&mut self, key_text: &[u8], value: Value) -> Result<SlotId, CacheError> {
        let key = slot::new_key(key_text)?;
        let id =
            self.place(self.selected, key, value, Recorded::New).ok_or(CacheError::OutOfMemory)?;
        self.effects.add(Fresh::Value(id));
        self.notify(Events::NEW, "new", key_text);
        self.touch_value(id);
        Ok(id)
    }

    /// Puts a key that is not there into a database; `None` when that has 2^32 keys already.
    fn place(
        &mut self,
        db: u8,
        key: Key,
        value: Value,
        value_recorded: Recorded,
    ) -> Option<SlotId> {
        let access = self.first_access().into();
        let slot = Slot { key, value, value_recorded, expiry: None, access };
        let bytes = slot.bytes();
        let at = self.databases[usize::from(db) % DATABASES].insert(&self.hasher, slot)?;
        self.bytes += bytes;
        Some(SlotId { at, db })
    }

    fn remove_expired(&mut self, id: SlotId) {
        if let Some(slot) = self.slot_at(id) {
            self.notify_of(id.db, Events::EXPIRED, "expired", &slot.key);
        }
        self.remove_slot(id);
        self.expired += 1;
    }

    fn remove_slot(&mut self, id: SlotId) {
        self.touch(id);
        self.set_deadline(id, None);
        let Some(slot) = self.databases[usize::from(id.db) % DATABASES].remove(&self.hasher, id.at)
        else {
            return;
        };
        self.bytes -= slot.bytes();
        self.effects.end(slot.value_recorded);
        slot.value.end_parts(&mut self.effects);
    }
}
