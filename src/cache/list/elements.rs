//! A list's elements and their places in the journal.

use std::collections::VecDeque;
use std::ops::Range;

use crate::cache::keyspace::{
    Collection, CollectionId, Edit, Effects, Recorded, Value, allocated, owned, text_bytes,
};

use super::End;
use crate::model::text::Text;

/// A list. An element has an index of its own, which it keeps while it lives: a push to the left takes
/// the number below the lowest. So a push records one element and moves none.
#[derive(Debug)]
pub(in crate::cache) struct List {
    id: CollectionId,
    /// The index of the leftmost element.
    first: i64,
    elements: VecDeque<Element>,
    /// What the values take.
    bytes: usize,
}

#[derive(Debug)]
pub(in crate::cache) struct Element {
    pub value: Text,
    pub recorded: Recorded,
}

impl Element {
    fn heap_bytes(&self) -> usize {
        match self.value.len() {
            ..=Text::SHORT_BYTES_MAX => 0,
            len => text_bytes(len),
        }
    }
}

/// A value as a list keeps it: with no larger buffer of a reader's.
fn kept(value: Text) -> Text {
    match value.len() {
        ..=Text::SHORT_BYTES_MAX => value,
        _ => owned(value.into_bytes()).into(),
    }
}

impl List {
    /// A list as the journal had it, its elements without gaps from index `first` on.
    pub(in crate::cache) fn recovered(
        id: CollectionId,
        first: i64,
        elements: VecDeque<Element>,
    ) -> Self {
        let bytes = elements.iter().map(Element::heap_bytes).sum();
        Self { id, first, elements, bytes }
    }

    pub(in crate::cache) fn id(&self) -> CollectionId {
        self.id
    }

    pub(in crate::cache) fn len(&self) -> usize {
        self.elements.len()
    }

    /// The value at an offset from the left.
    pub(super) fn nth(&self, offset: usize) -> Option<&Text> {
        self.elements.get(offset).map(|element| &element.value)
    }

    /// All values, from left to right.
    pub(in crate::cache) fn values(
        &self,
    ) -> impl DoubleEndedIterator<Item = &Text> + ExactSizeIterator {
        self.elements.iter().map(|element| &element.value)
    }

    /// The values at these offsets from the left, which lie inside the list.
    pub(super) fn range(&self, offsets: Range<usize>) -> impl ExactSizeIterator<Item = &Text> {
        self.elements.range(offsets).map(|element| &element.value)
    }

    /// The value of the element with this index.
    pub(in crate::cache) fn at(&self, index: i64) -> Option<&Text> {
        self.nth(self.offset(index)?)
    }

    pub(in crate::cache) fn recorded_at(&mut self, index: i64) -> Option<&mut Recorded> {
        let offset = self.offset(index)?;
        self.elements.get_mut(offset).map(|element| &mut element.recorded)
    }

    pub(in crate::cache) fn end_all(&self, effects: &mut Effects) {
        for element in &self.elements {
            effects.end(element.recorded);
        }
    }

    /// Gives back the room of many elements that have gone.
    fn shrink(&mut self) {
        const CAPACITY_KEPT: usize = 64;
        // No more than twice what is counted of it.
        let counted = self.elements.len().next_power_of_two();
        if self.elements.capacity() > CAPACITY_KEPT.max(2 * counted) {
            self.elements.shrink_to(counted);
        }
    }

    fn offset(&self, index: i64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }
}

impl Collection for List {
    fn new(id: CollectionId) -> Self {
        Self::recovered(id, 0, VecDeque::new())
    }

    fn of(value: &Value) -> Option<&Self> {
        if let Value::List(list) = value { Some(list) } else { None }
    }

    fn of_mut(value: &mut Value) -> Option<&mut Self> {
        if let Value::List(list) = value { Some(list) } else { None }
    }

    fn into_value(self) -> Value {
        Value::List(Box::new(self))
    }

    fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// As much as one takes that has only grown: its room doubles.
    fn bytes(&self) -> usize {
        const ROOM_MIN: usize = 4;
        let room = self.elements.len().next_power_of_two().max(ROOM_MIN);
        allocated(size_of::<Self>()) + allocated(room * size_of::<Element>()) + self.bytes
    }
}

impl Edit<'_, List> {
    pub(super) fn len(&self) -> usize {
        self.collection.len()
    }

    pub(super) fn push(&mut self, end: End, value: Text) {
        let element = Element { value: kept(value), recorded: Recorded::New };
        self.collection.bytes += element.heap_bytes();
        // No list lives to see 2^63 pushes to one side.
        let index = match end {
            End::Left => {
                self.collection.first -= 1;
                self.collection.elements.push_front(element);
                self.collection.first
            }
            End::Right => {
                self.collection.elements.push_back(element);
                self.collection.first + self.collection.elements.len() as i64 - 1
            }
        };
        self.notes.add_element(index);
    }

    pub(super) fn pop(&mut self, end: End) -> Option<Text> {
        let element = match end {
            End::Left => {
                let element = self.collection.elements.pop_front()?;
                self.collection.first += 1;
                element
            }
            End::Right => self.collection.elements.pop_back()?,
        };
        self.collection.bytes -= element.heap_bytes();
        self.collection.shrink();
        self.notes.end(element.recorded);
        Some(element.value)
    }

    /// Puts a value before the element at an offset, which lies inside the list. The side with fewer
    /// elements makes room: they get new indexes.
    pub(super) fn insert(&mut self, offset: usize, value: Text) {
        let list = &mut *self.collection;
        let element = Element { value: kept(value), recorded: Recorded::New };
        list.bytes += element.heap_bytes();
        let is_left = offset < list.len() - offset;
        list.elements.insert(offset, element);
        if is_left {
            list.first -= 1;
            self.record_again(0..offset);
        } else {
            self.record_again(offset + 1..self.len());
        }
        self.notes.add_element(self.collection.first + offset as i64);
    }

    /// Gives the element at an offset another value. Whether there is one.
    pub(super) fn replace(&mut self, offset: usize, value: Text) -> bool {
        let list = &mut *self.collection;
        let Some(element) = list.elements.get_mut(offset) else { return false };
        list.bytes -= element.heap_bytes();
        element.value = kept(value);
        list.bytes += element.heap_bytes();
        self.record_again(offset..offset + 1);
        true
    }

    /// Removes the elements at these offsets, which rise and lie inside the list. What lay between them
    /// closes up, and the side with fewer elements with it: they get new indexes.
    pub(super) fn remove(&mut self, offsets: &[usize]) {
        let (Some(&lowest), Some(&highest)) = (offsets.first(), offsets.last()) else { return };
        let list = &mut *self.collection;
        let (before, after) = (lowest, list.len() - 1 - highest);
        let mut at = 0;
        let mut removed = offsets.iter().peekable();
        let notes = &mut self.notes;
        let bytes = &mut list.bytes;
        list.elements.retain(|element| {
            let is_removed = removed.next_if_eq(&&at).is_some();
            at += 1;
            if is_removed {
                *bytes -= element.heap_bytes();
                notes.end(element.recorded);
            }
            !is_removed
        });
        list.shrink();
        if before < after {
            list.first += offsets.len() as i64;
            self.record_again(0..highest + 1 - offsets.len());
        } else {
            self.record_again(lowest..self.len());
        }
    }

    /// The elements at these offsets have another index or another value than was recorded.
    fn record_again(&mut self, offsets: Range<usize>) {
        let first = self.collection.first;
        for (element, offset) in self.collection.elements.range_mut(offsets.clone()).zip(offsets) {
            self.notes.end(std::mem::replace(&mut element.recorded, Recorded::New));
            self.notes.add_element(first + offset as i64);
        }
    }

    /// Removes all but these offsets, which lie inside the list.
    pub(super) fn keep(&mut self, offsets: Range<usize>) {
        for _ in offsets.end..self.len() {
            self.pop(End::Right);
        }
        for _ in 0..offsets.start {
            self.pop(End::Left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::keyspace::{Keyspace, Lookups};

    fn capacity(keyspace: &Keyspace) -> usize {
        keyspace.collection::<List>(b"l").unwrap().unwrap().elements.capacity()
    }

    #[test]
    fn a_list_gives_back_the_room_of_what_has_gone() {
        const LEN: usize = 10_000;
        const LEFT: usize = 100;
        let gone = LEN - LEFT;
        type Remove = fn(&mut Keyspace, usize);
        let ways: [Remove; 3] = [
            |keyspace, gone| {
                keyspace.pop(End::Left, b"l", gone).unwrap();
            },
            |keyspace, gone| keyspace.trim(b"l", gone as i64, -1).unwrap(),
            |keyspace, gone| {
                keyspace.list_remove(b"l", gone as i64, b"v").unwrap();
            },
        ];
        for remove in ways {
            let lookups = Lookups::unwatched();
            let mut keyspace = Keyspace::new(lookups, false);
            let values = std::iter::repeat_n(Text::from("v"), LEN);
            keyspace.push(End::Right, b"l", values).unwrap();
            assert!(capacity(&keyspace) >= LEN);
            remove(&mut keyspace, gone);
            let of_few = capacity(&keyspace);
            assert!((LEFT..=4 * LEFT).contains(&of_few), "{of_few}");
            remove(&mut keyspace, LEFT - 1);
            assert!(capacity(&keyspace) <= 64, "{}", capacity(&keyspace));
        }
    }
}
