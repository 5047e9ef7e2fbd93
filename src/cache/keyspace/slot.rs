//! A key and all that belongs to it.

use std::cell::Cell;

use bytes::Bytes;

use super::collection::Collection;
use super::effects::{Effects, Recorded};
use super::memory::text_bytes;
use super::name::Key;
use super::parts::PartRecord;
use super::record::{self, CollectionId};
use crate::cache::error::CacheError;
use crate::cache::hash::Hash;
use crate::cache::list::List;
use crate::cache::set::Set;
use crate::cache::sorted_set::SortedSet;
use crate::cache::string::Long;
use crate::journal::{Entry, Kind};
use crate::model::clock::UnixMs;

/// A key's place. Given to another key when this one is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::cache) struct SlotId {
    pub at: u32,
    pub db: u8,
}

/// What a key holds.
#[derive(Debug)]
pub(in crate::cache) enum Value {
    String(Bytes),
    /// A string, too.
    Long(Box<Long>),
    List(Box<List>),
    Hash(Box<Hash>),
    Set(Box<Set>),
    SortedSet(Box<SortedSet>),
}

/// Redis's `proto-max-bulk-len`: no value is longer.
const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// No key is longer. Redis takes twice that; but a key and its value have to fit into one record.
const KEY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Refuses a value that is too long to be kept.
pub(in crate::cache) fn check_value(bytes: usize) -> Result<(), CacheError> {
    if bytes > VALUE_BYTES_MAX { Err(CacheError::StringTooLong) } else { Ok(()) }
}

/// Refuses a field or a member that is too long to be kept with its value.
pub(in crate::cache) fn check_name(bytes: usize) -> Result<(), CacheError> {
    if bytes > KEY_BYTES_MAX { Err(CacheError::StringTooLong) } else { Ok(()) }
}

/// A new key, if it is not too long.
pub(super) fn new_key(key: &[u8]) -> Result<Key, CacheError> {
    check_name(key.len()).map(|()| Key::from(key))
}

/// A value as the keyspace keeps it. A small one that others hold too is copied: it may be a slice of
/// a reader's large buffer, which would live as long as the value does. A large one is kept as it
/// came; whoever reads such ones gives each a buffer of its own.
pub(in crate::cache) fn owned(value: Bytes) -> Bytes {
    const COPIED_BYTES_MAX: usize = 4_096;
    if value.len() > COPIED_BYTES_MAX || value.is_unique() {
        value
    } else {
        Bytes::copy_from_slice(&value)
    }
}

impl Value {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::String(value) => text_bytes(value.len()),
            Self::Long(long) => text_bytes(long.text().len()) + long.overhead_bytes(),
            Self::List(list) => list.bytes(),
            Self::Hash(hash) => hash.bytes(),
            Self::Set(set) => set.bytes(),
            Self::SortedSet(set) => set.bytes(),
        }
    }

    pub(in crate::cache) fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) | Self::Long(_) => "string",
            Self::List(_) => "list",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
            Self::SortedSet(_) => "zset",
        }
    }

    /// Ends the facts of what is in it; its own fact is the slot's.
    pub(super) fn end_parts(&self, effects: &mut Effects) {
        match self {
            Self::String(_) => {}
            Self::Long(long) => long.end_all(effects),
            Self::List(list) => list.end_all(effects),
            Self::Hash(hash) => hash.0.end_all(effects),
            Self::Set(set) => set.0.end_all(effects),
            Self::SortedSet(set) => set.end_all(effects),
        }
    }

    /// A string's bytes.
    pub(in crate::cache) fn text(&self) -> Option<&Bytes> {
        match self {
            Self::String(text) => Some(text),
            Self::Long(long) => Some(long.text()),
            _ => None,
        }
    }

    /// What is recorded at an index: of a list's element its value, of a long string's piece its bytes.
    pub(super) fn element(&self, index: i64) -> Option<(CollectionId, Bytes)> {
        match self {
            Self::List(list) => Some((list.id(), list.at(index)?.to_bytes())),
            Self::Long(long) => Some((long.id(), long.piece(index)?)),
            _ => None,
        }
    }

    pub(super) fn element_recorded_mut(&mut self, index: i64) -> Option<&mut Recorded> {
        match self {
            Self::List(list) => list.recorded_at(index),
            Self::Long(long) => long.recorded_at(index),
            _ => None,
        }
    }

    /// The kind of fact and the number of what is recorded in parts.
    pub(super) fn collection(&self) -> Option<(Kind, CollectionId)> {
        Some(match self {
            Self::String(_) => return None,
            Self::Long(long) => (record::LONG_STRING, long.id()),
            Self::List(list) => (record::LIST, list.id()),
            Self::Hash(hash) => (record::HASH, hash.0.id()),
            Self::Set(set) => (record::SET, set.0.id()),
            Self::SortedSet(set) => (record::SORTED_SET, set.id()),
        })
    }

    /// What the journal has to keep of the part of this name.
    pub(super) fn part(&self, name: &[u8]) -> Option<PartRecord> {
        match self {
            Self::String(_) | Self::Long(_) | Self::List(_) => None,
            Self::Hash(hash) => hash.0.record(name),
            Self::Set(set) => set.0.record(name),
            Self::SortedSet(set) => set.record(name),
        }
    }

    pub(super) fn part_recorded_mut(&mut self, name: &[u8]) -> Option<&mut Recorded> {
        match self {
            Self::String(_) | Self::Long(_) | Self::List(_) => None,
            Self::Hash(hash) => hash.0.recorded_mut(name),
            Self::Set(set) => set.0.recorded_mut(name),
            Self::SortedSet(set) => set.recorded_mut(name),
        }
    }

    /// Takes a part from the journal; `false` when the collection has none of its kind.
    pub(super) fn restore_part(&mut self, name: Key, record: PartRecord, entry: Entry) -> bool {
        match self {
            Self::String(_) | Self::Long(_) | Self::List(_) => false,
            Self::Hash(hash) => hash.0.restore(name, record, entry),
            Self::Set(set) => set.0.restore(name, record, entry),
            Self::SortedSet(set) => set.restore(name, record, entry),
        }
    }
}

#[derive(Debug)]
pub(in crate::cache) struct Slot {
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) value_recorded: Recorded,
    pub(super) expiry: Option<Expiry>,
    /// When it was used last, or how often; see `eviction`.
    pub(super) access: Cell<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub at_ms: UnixMs,
    pub recorded: Recorded,
}

/// What a key takes beside its texts: its slot and its place in the index.
const SLOT_BYTES: usize = size_of::<Slot>() + 12;
/// What a deadline takes in the order of deadlines.
pub(super) const EXPIRY_BYTES: usize = 32;

impl Slot {
    pub(in crate::cache) fn bytes(&self) -> usize {
        let expiry_bytes = if self.expiry.is_some() { EXPIRY_BYTES } else { 0 };
        SLOT_BYTES + self.key.heap_bytes() + self.value.bytes() + expiry_bytes
    }

    pub(super) fn is_due(&self, now_ms: UnixMs) -> bool {
        self.expiry.is_some_and(|expiry| expiry.at_ms <= now_ms)
    }

    pub(in crate::cache) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(in crate::cache) fn value(&self) -> &Value {
        &self.value
    }

    pub(in crate::cache) fn expires_at_ms(&self) -> Option<UnixMs> {
        self.expiry.map(|expiry| expiry.at_ms)
    }
}
