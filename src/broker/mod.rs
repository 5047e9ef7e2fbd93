//! The embedded broker: RabbitMQ's semantics in process.
//!
//! Owns: vhosts, users and their permissions, exchanges, bindings, queues, policies, deliveries, retries,
//! dead letters, expiry, alarms, and what an AMQP channel is without its wire. May import: `model` and
//! `journal`. What always holds:
//! - a message is in the journal before it is in a queue, so its end is always later than itself;
//! - a queue's ready messages are sorted by log position, so a returned one finds its old place;
//! - leaving one queue and entering another (a dead letter, a redrive) is one journal group;
//! - of a long queue only the head has to be in memory: what is committed behind it may be on the disk
//!   alone, and is read back under the queue's lock, a bounded piece at a time;
//! - no lock is held across an await, and no queue's lock while another queue's is taken; the order
//!   of locks is vhosts, topology, queue, message, journal. Under a queue's also those of its channels'
//!   credit, ends and lines are taken, under which nothing is. Under that of the users only the journal
//!   is locked, under that of the trace nothing. A handle's last route is held while it sends, and only
//!   ever tried.

mod access;
mod alarm;
mod arguments;
mod backlog;
mod bodies;
mod cause;
mod channel;
mod confirm;
mod connection;
mod consumer;
mod dead_letter;
mod declare;
mod delete;
mod delivery;
mod equivalence;
mod error;
mod exchange;
mod explain;
mod journaled;
mod last_route;
mod memory;
mod metrics;
mod paging;
mod policy;
mod publish;
mod publish_all;
mod queue;
mod records;
mod recovery;
mod redrive;
mod routing;
mod spread;
mod stored;
mod timer;
mod topology;
mod trace;
mod transaction;
mod user;
mod versioned;
mod vhost;
mod written;

use std::any::Any;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use parking_lot::RwLock;

pub use alarm::Alarm;
pub use arguments::{
    QueueFlags, consumer_priority, exchange_arguments, parse_expiration_ms, queue_arguments,
};
pub use channel::{
    Channel, ChannelDelivery, ChannelEvent, ChannelPublished, ChannelPublishedAll, REPLY_TO,
};
pub use confirm::{Confirm, Confirms};
pub use connection::{Connection, ConnectionId};
pub use consumer::{ConsumeOptions, Consumer};
pub use delivery::Delivery;
pub use error::BrokerError;
pub use exchange::TopicTrie;
pub use explain::{Caused, Event, Explanation, Step};
pub use paging::BrokerOptions;
pub use publish::Published;
pub use publish_all::{PublishAllError, PublishedAll};
pub use queue::{ConsumerEnd, DeleteIf};
pub use recovery::Recovery;
pub use redrive::{
    Death, DeathFilter, DeathGroup, DeathGroups, Edit, Peeked, Progress, Redrive, Redriven, Run,
    RunState, Selection, Stuck, Tally,
};
pub use transaction::{Appended, Claimed};
pub use user::Identity;

/// What a broker on a server does as this one does it.
#[cfg(feature = "rabbitmq")]
pub(crate) mod shared {
    pub(crate) use super::dead_letter::{
        X_DEATH, X_DELIVERY_COUNT, X_LAST_ERROR, X_RETRY_COUNT, add_death, clear_deaths, death_text,
    };
    pub(crate) use super::delivery::DROPPED_ERROR;
    pub(crate) use super::publish::check_bounds;
    pub(crate) use super::redrive::{GroupsFound, Pace, Runs};
    pub(crate) use super::routing::{CC, check_keys};
}

use crate::journal::{Commit, Group, Journal, Urgency};
use crate::model::clock::{SharedClock, UnixMs};
use crate::model::names::{QueueName, UserName, VhostName};
use access::Access;
use connection::IN_PROCESS;
use last_route::LastRoute;
use memory::Memory;
use paging::Pager;
use queue::Queue;
use records::{ClosedRecord, KIND_CLOSED, record};
use redrive::Runs;
use spread::Spread;
use timer::Timers;
use trace::Trace;
use user::Users;
use vhost::Vhost;

/// A handle on the broker, for one vhost and one connection. Clones share the broker; it stops when
/// the last handle and consumer are gone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
    vhost: Arc<Vhost>,
    connection: ConnectionId,
    /// Whose permissions are asked; `None`: the process itself, which may do anything.
    user: Option<UserName>,
    last_route: LastRoute,
}

struct Inner {
    journal: Journal,
    pager: Arc<Pager>,
    clock: SharedClock,
    vhosts: RwLock<AHashMap<VhostName, Arc<Vhost>>>,
    timers: Arc<Timers>,
    memory: Arc<Memory>,
    spread: Arc<Spread>,
    trace: Trace,
    runs: Runs,
    next_connection: AtomicU64,
    users: RwLock<Users>,
    users_changed: AtomicU64,
    /// What stands beside the broker on its journal, for whoever put it there.
    companion: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A queue's counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    pub name: QueueName,
    pub ready: usize,
    /// Bytes of the ready messages' bodies.
    pub ready_bytes: u64,
    /// How many of the ready ones are not in memory.
    pub on_disk: usize,
    pub unacked: usize,
    /// Failed deliveries that wait for their next attempt, and messages whose delay has not passed.
    pub delayed: usize,
    pub consumers: usize,
    /// Messages since the process began: taken in, handed out, acknowledged.
    pub published: u64,
    pub delivered: u64,
    pub acked: u64,
}

impl Broker {
    /// A broker on `journal`, with what `recovery` collected while the journal was opened. The handle
    /// is one for the default vhost and for the process itself.
    pub fn new(journal: Journal, clock: SharedClock, recovery: Recovery) -> Self {
        Self::with_options(journal, clock, recovery, BrokerOptions::default())
    }

    /// As [`Broker::new`].
    pub fn with_options(
        journal: Journal,
        clock: SharedClock,
        recovery: Recovery,
        options: BrokerOptions,
    ) -> Self {
        let vhost = Vhost::new(VhostName::default_vhost(), None);
        let spread = recovery.spread();
        let memory = spread.memory.clone();
        let pager = Pager::new(journal.clone(), memory.clone(), spread.clone(), options);
        let inner = Inner {
            pager: Arc::new(pager),
            journal,
            clock,
            vhosts: RwLock::new(AHashMap::from_iter([(vhost.name.clone(), vhost.clone())])),
            timers: Arc::default(),
            memory,
            spread,
            trace: Trace::default(),
            runs: Runs::default(),
            next_connection: AtomicU64::new(IN_PROCESS.0 + 1),
            users: RwLock::new(Users::new()),
            users_changed: AtomicU64::new(0),
            companion: OnceLock::new(),
        };
        let broker = Self {
            inner: Arc::new(inner),
            vhost,
            connection: IN_PROCESS,
            user: None,
            last_route: LastRoute::default(),
        };
        recovery.restore(&broker.inner);
        broker
    }

    /// The counts of one queue.
    ///
    /// # Errors
    /// An unknown queue; an exclusive queue of another connection.
    pub fn queue(&self, name: &QueueName) -> Result<QueueStatus, BrokerError> {
        Ok(self.own_queue(name)?.status())
    }

    /// The counts of every queue of this vhost, sorted by name; those behind direct reply-to are
    /// nobody's to see.
    pub fn queues(&self) -> Vec<QueueStatus> {
        let queues: Vec<_> = self.vhost.topology.read().queues.values().cloned().collect();
        let shown = queues.iter().filter(|queue| !queue.is_for_replies);
        let mut status: Vec<_> = shown.map(|queue| queue.status()).collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// Ends every consumer of every vhost: its next call gives `None`, and what it did not take
    /// returns to the queue.
    pub fn cancel_consumers(&self) {
        let vhosts: Vec<_> = self.inner.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            let queues: Vec<_> = vhost.topology.read().queues.values().cloned().collect();
            for queue in queues {
                queue.cancel_all();
            }
        }
    }

    /// Says in the journal that this was a stop in order, after [`Broker::cancel_consumers`]: at the
    /// next start only messages that were delivered are flagged so. The future resolves when that is
    /// written, also under relaxed durability; the journal is closed after it.
    pub fn close(&self) -> Commit {
        self.inner.runs.cancel_all();
        let mut group = Group::new();
        group.fact(KIND_CLOSED, record(&ClosedRecord {}));
        drop(self.inner.journal.append(group, Urgency::Now));
        self.inner.journal.flush()
    }

    /// Lets a floor above find its own engine again from any delivery. Only the first call counts.
    pub fn set_companion(&self, companion: Box<dyn Any + Send + Sync>) {
        let _ = self.inner.companion.set(companion);
    }

    /// Resolves when everything that was done so far is on disk.
    pub fn flush(&self) -> Commit {
        self.inner.journal.flush()
    }

    /// Whether the broker takes durable messages now, and gives back those that it took.
    ///
    /// # Errors
    /// What stands in the way: the journal takes no writes, messages in it can't be read; the memory
    /// alarm.
    pub fn ready(&self) -> Result<(), BrokerError> {
        self.inner.journal.writable()?;
        self.inner.pager.readable()?;
        self.check_memory()
    }

    /// A queue that this handle's connection may use, to read from it.
    fn readable_queue(&self, name: &QueueName) -> Result<Arc<Queue>, BrokerError> {
        self.check_queue(Access::Read, name)?;
        self.own_queue(name)
    }

    /// A queue that this handle's connection may use.
    fn own_queue(&self, name: &QueueName) -> Result<Arc<Queue>, BrokerError> {
        let queue = self.vhost.topology.read().queue(name.as_str())?.clone();
        queue.check_owner(self.connection)?;
        Ok(queue)
    }
}

impl Inner {
    fn now_ms(&self) -> UnixMs {
        self.clock.now_ms()
    }
}
