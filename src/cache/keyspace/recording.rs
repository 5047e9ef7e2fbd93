//! The end of a pipeline: its changes become one group of the journal.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Keyspace;
use super::effects::{Effects, Fresh, Recorded};
use super::name::Key;
use super::record::{
    CollectionFact, DEADLINE, DeadlineFact, ELEMENT, ElementFact, ORDER, PART, PartFact, STRING,
    StringFact,
};
use super::slot::{SlotId, Value};
use crate::journal::{Commit, Entry, Group, Journal, Kind, Payload, SMALL_WEIGHT_MAX, Urgency};

/// Where one fact belongs.
#[derive(Debug, Clone)]
enum Place {
    Value(SlotId),
    Deadline(SlotId),
    Element(SlotId, i64),
    Part(SlotId, Key),
    Order,
}

impl Keyspace {
    /// Hands the pipeline's changes over; `None` when there are none.
    pub(in crate::cache) fn record(
        &mut self,
        journal: &Journal,
        urgency: Urgency,
    ) -> Option<Commit> {
        if self.effects.take_count() == 0 {
            return None;
        }
        self.unpark();
        let (group, places) = self.gather();
        // What was made and removed again by one pipeline leaves nothing for a journal that keeps.
        if group.is_empty() && self.effects.are_kept {
            return None;
        }
        let appended = journal.append(group, urgency);
        self.recorded_as(places, appended.entries);
        Some(appended.commit)
    }

    /// Hands the pipeline's changes to `append`, also when there are none. It gives back an entry for
    /// each fact of the group, in order; more may follow.
    pub(in crate::cache) fn record_in<T>(
        &mut self,
        append: impl FnOnce(Group) -> (SmallVec<[Entry; 2]>, T),
    ) -> T {
        if self.effects.take_count() > 0 {
            self.unpark();
        }
        let (group, places) = self.gather();
        let (entries, result) = append(group);
        self.recorded_as(places, entries);
        result
    }

    /// Whether anything was changed that is not yet handed over.
    pub(in crate::cache) fn has_changes(&self) -> bool {
        self.effects.count() > 0
    }

    /// A script's call begins or ends: its changes are kept apart until the script has ended.
    pub(in crate::cache) fn switch_parked(&mut self) {
        std::mem::swap(&mut self.effects, &mut self.parked);
    }

    /// Whoever changes something between two calls of a script takes along what the script has changed
    /// by then. Else the journal could hear of a key's new state and not, or only later, that the one
    /// before it is gone.
    fn unpark(&mut self) {
        self.switch_parked();
        let later = std::mem::replace(&mut self.parked, Effects::new(self.effects.are_kept));
        self.effects.append(later);
        self.effects.take_count();
    }

    /// The changes as one group, and where each of its facts belongs.
    fn gather(&mut self) -> (Group, Vec<Place>) {
        let mut group = Group::new();
        for entry in self.effects.ends.drain(..) {
            group.end(entry);
        }
        let mut fresh = self.effects.take_fresh();
        group.reserve_facts(fresh.len());
        let mut places: Vec<Place> = Vec::with_capacity(fresh.len());
        let mut queue = |keyspace: &mut Self, place: Place| {
            if keyspace.queue(&place, &mut group).is_some() {
                places.push(place);
            }
        };
        for fresh in fresh.drain(..) {
            match fresh {
                Fresh::Value(id) => queue(self, Place::Value(id)),
                Fresh::Deadline(id) => queue(self, Place::Deadline(id)),
                Fresh::Part(id, name) => queue(self, Place::Part(id, name)),
                Fresh::Moved { .. } => {}
                Fresh::Order => queue(self, Place::Order),
                Fresh::Elements(id, indexes) => {
                    for index in indexes {
                        queue(self, Place::Element(id, index));
                    }
                }
            }
        }
        if !group.is_empty() {
            group.in_order();
        }
        self.effects.reuse(fresh);
        (group, places)
    }

    fn recorded_as(&mut self, places: Vec<Place>, entries: impl IntoIterator<Item = Entry>) {
        for (place, entry) in places.into_iter().zip(entries) {
            if let Some(recorded) = self.recorded(&place) {
                *recorded = Recorded::at(entry);
            }
        }
    }

    /// Adds the fact of what is at `place`; `None` when it is gone again, recorded, or queued already.
    fn queue(&mut self, place: &Place, group: &mut Group) -> Option<()> {
        self.recorded(place)?.queue()?;
        let Some(id) = place.slot() else {
            add(group, ORDER, self.order.fact()?);
            return Some(());
        };
        let db = id.db;
        let slot = self.slot_at(id)?;
        let key = || slot.key.clone();
        match (place, &slot.value) {
            (Place::Value(_), Value::String(value)) => {
                let weight = StringFact::weight_of(&slot.key, value);
                if weight <= SMALL_WEIGHT_MAX {
                    // The most frequent one, without a handle on its key and its value.
                    let encode =
                        |out: &mut Vec<u8>| StringFact::encode_of(db, &slot.key, value, out);
                    group.small_fact(STRING, weight, encode);
                } else {
                    add(group, STRING, StringFact { db, key: key(), value: value.clone() });
                }
            }
            (Place::Value(_), value) => {
                let (kind, collection) = value.collection()?;
                add(group, kind, CollectionFact { db, key: key(), collection });
            }
            (Place::Deadline(_), _) => {
                add(group, DEADLINE, DeadlineFact { db, key: key(), at_ms: slot.expires_at_ms()? });
            }
            (Place::Element(_, index), value) => {
                let (list, value) = value.element(*index)?;
                add(group, ELEMENT, ElementFact { list, index: *index, value });
            }
            (Place::Order, _) => return None,
            (Place::Part(_, name), value) => {
                let ((_, collection), value) = (value.collection()?, value.part(name)?);
                add(group, PART, PartFact { collection, name: name.clone(), value });
            }
        }
        Some(())
    }

    fn recorded(&mut self, place: &Place) -> Option<&mut Recorded> {
        let Some(id) = place.slot() else { return Some(&mut self.order.recorded) };
        let slot = self.slot_mut(id)?;
        match (place, &mut slot.value) {
            (Place::Value(_), _) => Some(&mut slot.value_recorded),
            (Place::Deadline(_), _) => slot.expiry.as_mut().map(|expiry| &mut expiry.recorded),
            (Place::Element(_, index), value) => value.element_recorded_mut(*index),
            (Place::Order, _) => None,
            (Place::Part(_, name), value) => value.part_recorded_mut(name),
        }
    }
}

/// Adds a fact; a small one without an allocation of its own.
fn add(group: &mut Group, kind: Kind, fact: impl Payload + 'static) {
    match fact.weight() {
        weight @ 0..=SMALL_WEIGHT_MAX => group.small_fact(kind, weight, |out| fact.encode(out)),
        _ => group.fact(kind, Arc::new(fact)),
    };
}

impl Place {
    fn slot(&self) -> Option<SlotId> {
        match self {
            Self::Value(id) | Self::Deadline(id) | Self::Element(id, _) | Self::Part(id, _) => {
                Some(*id)
            }
            Self::Order => None,
        }
    }
}
