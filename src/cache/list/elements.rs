//! A list's elements and their places in the journal.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::cache::keyspace::{
    Collection, CollectionId, Edit, Effects, Recorded, TEXT_BYTES, Value, owned,
};

use super::End;

/// A list. An element has an index of its own, which it keeps while it lives: a push to the left takes
/// the number below the lowest. So a push records one element and moves none.
#[derive(Debug)]
pub(in crate::cache) struct List {
    id: CollectionId,
    /// The index of the leftmost element.
    first: i64,
    elements: VecDeque<Element>,
    bytes: usize,
}

#[derive(Debug)]
pub(in crate::cache) struct Element {
    pub value: Bytes,
    pub recorded: Recorded,
}

impl Element {
    fn bytes(&self) -> usize {
        size_of::<Self>() + TEXT_BYTES + self.value.len()
    }
}

impl List {
    /// A list as the journal had it, its elements without gaps from index `first` on.
    pub(in crate::cache) fn recovered(
        id: CollectionId,
        first: i64,
        elements: VecDeque<Element>,
    ) -> Self {
        let bytes = elements.iter().map(Element::bytes).sum();
        Self { id, first, elements, bytes }
    }

    pub(in crate::cache) fn id(&self) -> CollectionId {
        self.id
    }

    pub(in crate::cache) fn len(&self) -> usize {
        self.elements.len()
    }

    /// The value at an offset from the left.
    pub(super) fn nth(&self, offset: usize) -> Option<&Bytes> {
        self.elements.get(offset).map(|element| &element.value)
    }

    /// The values at these offsets from the left, which lie inside the list.
    pub(super) fn range(&self, offsets: Range<usize>) -> impl Iterator<Item = &Bytes> {
        self.elements.range(offsets).map(|element| &element.value)
    }

    /// All values, from left to right.
    pub(in crate::cache) fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.elements.iter().map(|element| &element.value)
    }

    /// The value of the element with this index.
    pub(in crate::cache) fn at(&self, index: i64) -> Option<&Bytes> {
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

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Edit<'_, List> {
    pub(super) fn len(&self) -> usize {
        self.collection.len()
    }

    pub(super) fn push(&mut self, end: End, value: Bytes) {
        let element = Element { value: owned(value), recorded: Recorded::New };
        self.collection.bytes += element.bytes();
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

    pub(super) fn pop(&mut self, end: End) -> Option<Bytes> {
        let element = match end {
            End::Left => {
                let element = self.collection.elements.pop_front()?;
                self.collection.first += 1;
                element
            }
            End::Right => self.collection.elements.pop_back()?,
        };
        self.collection.bytes -= element.bytes();
        self.notes.end(element.recorded);
        Some(element.value)
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
