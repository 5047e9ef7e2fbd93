//! An AMQP channel without its wire: delivery tags, consumer tags, confirms, one line of events.
//!
//! Owns what is a channel's own; everything else it asks of the [`Broker`] that it was opened on. What
//! always holds: a delivery is in the channel's buffer, unsettled under one delivery tag, or back in
//! its queue; a channel that is dropped returns all of it.

mod consuming;
mod publishing;
mod settling;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::AHashMap;

pub use consuming::{ChannelDelivery, ChannelEvent};
pub use publishing::{ChannelPublished, ChannelPublishedAll, REPLY_TO};

use super::Broker;
use super::alarm::Watch;
use super::consumer::BUFFERED_MAX;
use super::queue::{ConsumerId, Credit, Ends, Parcel, Queue, Tag};
use crate::model::names::ExchangeName;
use settling::Returned;

/// Consumers of one channel at most.
const CONSUMERS_MAX: usize = 65_535;

/// One channel of a connection (AMQP 0-9-1, section 2.2.5). Only one task uses it.
pub struct Channel {
    broker: Broker,
    /// Who is logged in: what a message's `user_id` has to say, if it says something.
    user: Option<String>,
    /// The exchange that the user may publish to, as was found at that generation of the users.
    permitted: Option<(ExchangeName, u64)>,
    /// The next publish's sequence number, once confirms were asked for.
    confirm_sequence: Option<u64>,
    next_delivery_tag: u64,
    unsettled: BTreeMap<u64, Unsettled>,
    consumers: AHashMap<u32, ChannelConsumer>,
    keys: AHashMap<Arc<str>, u32>,
    next_key: u32,
    /// basic.qos for the consumers that start from now on; 0 is unlimited.
    prefetch: u16,
    /// basic.qos for the channel as a whole.
    credit: Arc<Credit>,
    is_credit_limited: bool,
    outlet: flume::Sender<Parcel>,
    parcels: flume::Receiver<Parcel>,
    /// Parcels that were taken from the line already; they come first.
    buffered: VecDeque<Parcel>,
    ends: Arc<Ends>,
    ended: VecDeque<ChannelEvent>,
    alarms: Watch,
    /// The hidden queue behind direct reply-to, and its consumer's key.
    reply: Option<(Arc<Queue>, u32)>,
}

/// A delivery that its receiver has to settle.
struct Unsettled {
    queue: Arc<Queue>,
    tag: Tag,
}

struct ChannelConsumer {
    tag: Arc<str>,
    queue: Arc<Queue>,
    id: ConsumerId,
    no_ack: bool,
}

impl Broker {
    /// Opens a channel for `user` (or else the connection's own), on this handle's vhost and connection.
    pub fn channel(&self, user: Option<String>) -> Channel {
        let (outlet, parcels) = flume::bounded(BUFFERED_MAX);
        Channel {
            broker: self.clone(),
            user: user.or_else(|| self.user.as_ref().map(ToString::to_string)),
            permitted: None,
            confirm_sequence: None,
            next_delivery_tag: 1,
            unsettled: BTreeMap::new(),
            consumers: AHashMap::new(),
            keys: AHashMap::new(),
            next_key: 0,
            prefetch: 0,
            credit: Arc::default(),
            is_credit_limited: false,
            outlet,
            parcels,
            buffered: VecDeque::new(),
            ends: Arc::default(),
            ended: VecDeque::new(),
            alarms: self.watch_alarms(),
            reply: None,
        }
    }
}

impl Channel {
    /// The handle that it was opened on, for everything that is not a channel's own.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Deliveries that wait to be settled.
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let keys: Vec<u32> = self.consumers.keys().copied().collect();
        let unsettled = std::mem::take(&mut self.unsettled).into_values();
        self.remove_consumers(keys, Returned::seen(unsettled));
    }
}
