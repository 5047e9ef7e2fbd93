//! A message in one queue.

use std::sync::Arc;

use super::run::{Paged, Times};
use crate::broker::records::QueueId;
use crate::broker::stored::{Outline, Stored};
use crate::journal::{Entry, Payload, Position};

/// A message in this queue. Small: there may be millions of them.
#[derive(Clone)]
pub(in crate::broker) struct Held {
    pub stored: Arc<Stored>,
    pub position: Position,
    /// How often it was delivered and came back (`x-delivery-count`).
    pub returns: u32,
    pub redelivered: bool,
    /// What the retry policy knows of it; most messages never fail.
    pub failed: Option<Box<Failed>>,
}

#[derive(Clone, Default)]
pub(in crate::broker) struct Failed {
    /// Failed deliveries so far.
    pub failures: u32,
    pub error: Option<Arc<str>>,
    /// The journal's record of the last failure.
    pub entry: Option<Entry>,
}

impl Held {
    pub(in crate::broker) fn new(stored: Arc<Stored>, position: Position) -> Self {
        Self { stored, position, returns: 0, redelivered: false, failed: None }
    }

    pub(in crate::broker) fn failures(&self) -> u32 {
        self.failed.as_ref().map_or(0, |failed| failed.failures)
    }

    /// The journal's record of the last failure, which ends with the message.
    pub(in crate::broker) fn retry_entry(&self) -> Option<Entry> {
        self.failed.as_ref()?.entry
    }

    /// Bytes of memory that it stands for, about.
    pub(super) fn weight(&self) -> u64 {
        const HELD_BYTES: u64 = 256;
        HELD_BYTES + u64::from(self.stored.weight())
    }

    pub(super) fn times(&self) -> Times {
        let expiration_ms = self.stored.message.properties.expiration_ms;
        Times { arrived_ms: self.stored.arrived_ms(), expiration_ms }
    }

    /// What is left of it in memory when it is on the disk alone. `None`: memory knows more of it, or
    /// somebody else uses it.
    pub(super) fn paged(&mut self, queue: QueueId) -> Option<Paged> {
        if self.returns > 0 || self.failed.is_some() {
            return None;
        }
        let (entry, queues) = self.stored.leaving(queue)?;
        let (body_bytes, times) = (self.body_bytes(), self.times());
        let expires = times.expiration_ms.is_some();
        let redelivered = self.redelivered;
        Some(Paged { entry, queues, body_bytes, times: Some(times), expires, redelivered })
    }

    /// What its way to another queue weighs in the journal, about.
    pub(super) fn journal_bytes(&self) -> usize {
        self.stored.weight() as usize
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.stored.message.body.len() as u64
    }
}

impl Paged {
    /// Of a message that was just written for one queue.
    pub(super) fn written(message: &Outline<'_>, position: Position) -> Self {
        let &Outline { queues, published_ms, due_ms, message: published } = message;
        let expiration_ms = published.properties.expiration_ms;
        let arrived_ms = due_ms.unwrap_or(published_ms);
        Self {
            entry: Entry { position, weight: message.weight() },
            queues: queues.len(),
            body_bytes: published.body.len() as u64,
            times: Some(Times { arrived_ms, expiration_ms }),
            expires: expiration_ms.is_some(),
            redelivered: false,
        }
    }
}

/// Why a message died, as `x-death` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    pub(in crate::broker) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}
