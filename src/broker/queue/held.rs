//! A message in one queue.

use std::sync::Arc;

use super::super::stored::Stored;
use crate::journal::{Entry, Position};

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

    pub(super) fn body_bytes(&self) -> u64 {
        self.stored.message.body.len() as u64
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
