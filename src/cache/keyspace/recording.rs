//! The end of a pipeline: its changes become one group of the journal.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Keyspace;
use super::effects::{Fresh, Recorded};
use super::record::{
    DEADLINE, DeadlineFact, ELEMENT, ElementFact, LIST, ListFact, STRING, StringFact,
};
use super::slot::{SlotId, Value};
use crate::journal::{Commit, Entry, Group, Journal, Kind, Payload, Urgency};

/// Where one fact belongs.
#[derive(Debug, Clone, Copy)]
enum Place {
    Value(SlotId),
    Deadline(SlotId),
    Element(SlotId, i64),
}

impl Keyspace {
    /// Hands the pipeline's changes over; `None` when there are none.
    pub(in crate::cache) fn record(
        &mut self,
        journal: &Journal,
        urgency: Urgency,
    ) -> Option<Commit> {
        if self.effects.is_empty() {
            return None;
        }
        let (group, places) = self.gather();
        if group.is_empty() {
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
        let (group, places) = self.gather();
        let (entries, result) = append(group);
        self.recorded_as(places, entries);
        result
    }

    /// The changes as one group, and where each of its facts belongs.
    fn gather(&mut self) -> (Group, Vec<Place>) {
        let mut group = Group::new();
        for entry in self.effects.ends.drain(..) {
            group.end(entry);
        }
        let mut places: Vec<Place> = Vec::new();
        let mut queue = |keyspace: &mut Self, place: Place| {
            if let Some((kind, payload)) = keyspace.queue(place) {
                group.fact(kind, payload);
                places.push(place);
            }
        };
        for fresh in std::mem::take(&mut self.effects.fresh) {
            match fresh {
                Fresh::Value(id) => queue(self, Place::Value(id)),
                Fresh::Deadline(id) => queue(self, Place::Deadline(id)),
                Fresh::Elements(id, indexes) => {
                    for index in indexes {
                        queue(self, Place::Element(id, index));
                    }
                }
            }
        }
        (group, places)
    }

    fn recorded_as(&mut self, places: Vec<Place>, entries: impl IntoIterator<Item = Entry>) {
        for (place, entry) in places.into_iter().zip(entries) {
            if let Some(recorded) = self.recorded(place) {
                *recorded = Recorded::At(entry);
            }
        }
    }

    /// The fact of what is at `place`; `None` when it is gone again, recorded, or queued already.
    fn queue(&mut self, place: Place) -> Option<(Kind, Arc<dyn Payload>)> {
        self.recorded(place)?.queue()?;
        let slot = self.slots.get(place.slot())?;
        let key = Arc::clone(&slot.key);
        Some(match (place, &slot.value) {
            (Place::Value(_), Value::String(value)) => {
                (STRING, Arc::new(StringFact { key, value: value.clone() }))
            }
            (Place::Value(_), Value::List(list)) => {
                (LIST, Arc::new(ListFact { key, list: list.id() }))
            }
            (Place::Deadline(_), _) => {
                (DEADLINE, Arc::new(DeadlineFact { key, at_ms: slot.expires_at_ms()? }))
            }
            (Place::Element(_, index), Value::List(list)) => {
                let value = list.at(index)?.clone();
                (ELEMENT, Arc::new(ElementFact { list: list.id(), index, value }))
            }
            (Place::Element(..), Value::String(_)) => return None,
        })
    }

    fn recorded(&mut self, place: Place) -> Option<&mut Recorded> {
        let slot = self.slots.get_mut(place.slot())?;
        match (place, &mut slot.value) {
            (Place::Value(_), _) => Some(&mut slot.value_recorded),
            (Place::Deadline(_), _) => slot.expiry.as_mut().map(|expiry| &mut expiry.recorded),
            (Place::Element(_, index), Value::List(list)) => list.recorded_at(index),
            (Place::Element(..), Value::String(_)) => None,
        }
    }
}

impl Place {
    fn slot(self) -> SlotId {
        match self {
            Self::Value(id) | Self::Deadline(id) | Self::Element(id, _) => id,
        }
    }
}
