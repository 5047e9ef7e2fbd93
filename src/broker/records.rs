//! The records that the broker keeps in the journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::journal::{Kind, Payload, Position, encode_value};
use crate::model::clock::UnixMs;
use crate::model::message::{Headers, Message};
use crate::model::names::{ExchangeName, RoutingKey, UserName, VhostName};
use crate::model::topology::{ExchangeSpec, Policy, QueueSpec};
use crate::model::user::{PasswordHash, Permissions};

pub(super) const KIND_EXCHANGE: Kind = Kind(1);
pub(super) const KIND_QUEUE: Kind = Kind(2);
pub(super) const KIND_BINDING: Kind = Kind(3);
pub(super) const KIND_MESSAGE: Kind = Kind(4);
pub(super) const KIND_SETTLED: Kind = Kind(5);
pub(super) const KIND_RETRY: Kind = Kind(6);
pub(super) const KIND_VHOST: Kind = Kind(7);
pub(super) const KIND_POLICY: Kind = Kind(8);
pub(super) const KIND_DELIVERED: Kind = Kind(9);
pub(super) const KIND_CLOSED: Kind = Kind(10);
pub(super) const KIND_USER: Kind = Kind(11);
pub(super) const KIND_PERMISSIONS: Kind = Kind(12);

/// The format of every record below.
pub(super) const FORMAT_VERSION: u8 = 1;

/// A queue's incarnation: the log position of its declaration, so that a queue deleted and declared
/// again is another one, and a message of the first never appears in the second.
pub(super) type QueueId = Position;

#[derive(Serialize, Deserialize)]
pub(super) struct VhostRecord {
    pub name: VhostName,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyRecord {
    pub vhost: VhostName,
    pub policy: Policy,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ExchangeRecord {
    pub vhost: VhostName,
    pub spec: ExchangeSpec,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QueueRecord {
    pub vhost: VhostName,
    pub spec: QueueSpec,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BindingRecord {
    pub vhost: VhostName,
    pub source: ExchangeName,
    pub destination: DestinationRecord,
    pub key: RoutingKey,
    pub arguments: Headers,
}

#[derive(Serialize, Deserialize)]
pub(super) enum DestinationRecord {
    Queue(QueueId),
    Exchange(ExchangeName),
}

/// A message is settled in one of several queues that it reached.
#[derive(Serialize, Deserialize)]
pub(super) struct SettledRecord {
    pub message: Position,
    pub queue: QueueId,
}

/// A failed delivery waits for its next attempt.
#[derive(Serialize, Deserialize)]
pub(super) struct RetryRecord {
    pub message: Position,
    pub queue: QueueId,
    pub failures: u32,
    pub due_ms: UnixMs,
    pub error: String,
}

/// A message was handed to a consumer of the queue, so many times.
#[derive(Serialize, Deserialize)]
pub(super) struct DeliveredRecord {
    pub message: Position,
    pub queue: QueueId,
    pub deliveries: u32,
}

/// A user; without a password, one of a new broker's that was deleted.
#[derive(Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub name: UserName,
    pub password: Option<PasswordHash>,
}

/// What a user may do in a vhost.
#[derive(Serialize, Deserialize)]
pub(super) struct PermissionsRecord {
    pub vhost: VhostName,
    pub user: UserName,
    pub permissions: Permissions,
}

/// The broker was closed in order: what has no mark was not delivered.
#[derive(Serialize, Deserialize)]
pub(super) struct ClosedRecord {}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct MessageRecord {
    pub queues: Vec<QueueId>,
    pub published_ms: UnixMs,
    pub due_ms: Option<UnixMs>,
    pub message: Message,
}

/// What a start is told of a message in one durable queue, so that it can stay on the disk.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct MessageTag {
    pub queue: QueueId,
    pub priority: Option<u8>,
    pub body_bytes: u64,
    /// It expires or is delayed: its record is needed to know when.
    pub has_times: bool,
}

/// The format of [`SeveralTag`], by which a tag of it is told from a [`MessageTag`].
pub(super) const SEVERAL_TAG_VERSION: u8 = 2;

/// As [`MessageTag`], of a message in several durable queues.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct SeveralTag {
    /// The lowest queue, and from each to the next higher one; none, if they are too many for a tag.
    pub steps: Vec<u64>,
    pub priority: Option<u8>,
    pub body_bytes: u64,
    pub has_times: bool,
}

/// A small record, encoded when it is appended.
pub(super) fn record(value: &impl Serialize) -> Arc<dyn Payload> {
    let mut bytes = Vec::new();
    encode_value(FORMAT_VERSION, value, &mut bytes);
    Arc::new(bytes)
}
