//! Looking at what a queue holds. To AMQP that is taking it and giving it back: the messages are flagged as
//! delivered, and consumers wait for them meanwhile.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Acker, Channel};

use super::RabbitMq;
use super::consuming::get;
use super::delivery::{read, settled};
use super::session::Session;
use crate::backend::{BackendError, DeathFilter, DeathGroups, Peeked, Selection};
use crate::broker::shared::GroupsFound;
use crate::journal::Position;
use crate::model::message::Message;
use crate::model::names::QueueName;

/// Messages that are taken out at once, to be looked at.
pub(super) const LOOKED_AT_MAX: usize = 10_000;

/// A queue that is being looked at. Whatever was not taken for good returns to its place when this ends.
pub(super) struct Look {
    session: Arc<Session>,
    channel: Channel,
    queue: QueueName,
    taken: usize,
}

pub(super) struct Seen {
    pub message: Message,
    redelivered: bool,
    session: Arc<Session>,
    acker: Acker,
}

impl Seen {
    /// The message's name: what it says. Two that say the same in every property are as good as one.
    pub fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.message.body.hash(&mut hasher);
        let (exchange, key) = (self.message.exchange.as_str(), self.message.routing_key.as_str());
        (exchange, key).hash(&mut hasher);
        let properties = &self.message.properties;
        (&properties.message_id, &properties.correlation_id, &properties.kind).hash(&mut hasher);
        (properties.timestamp_s, properties.priority).hash(&mut hasher);
        for (name, value) in properties.headers.iter() {
            // It rises with every look.
            if name != crate::broker::shared::X_DELIVERY_COUNT {
                (name, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Takes it out of the queue for good.
    ///
    /// # Errors
    /// A connection that ended: it is in its queue still.
    pub async fn take(&self) -> Result<(), BackendError> {
        let ack = self.acker.ack(BasicAckOptions::default());
        settled(self.session.answered(ack).await?)
    }

    fn peeked(self) -> Peeked {
        Peeked { id: self.id().to_string(), message: self.message, redelivered: self.redelivered }
    }
}

impl Look {
    pub async fn at(broker: &RabbitMq, queue: &QueueName) -> Result<Self, BackendError> {
        // An unknown one is refused here, where it costs no channel with deliveries.
        broker.queue(queue).await?;
        let session = broker.link.session().await?;
        let channel = session.working_channel().await?;
        Ok(Self { session, channel, queue: queue.clone(), taken: 0 })
    }

    /// The next message; `None`: there is none, or enough were looked at.
    pub async fn next(&mut self) -> Result<Option<Seen>, BackendError> {
        if self.is_cut() {
            return Ok(None);
        }
        let got = get(&self.session, &self.channel, &self.queue).await?;
        let Some(delivered) = got else { return Ok(None) };
        self.taken += 1;
        let (message, _) = read(&self.queue, &delivered);
        let redelivered = delivered.redelivered;
        let (session, acker) = (self.session.clone(), delivered.acker);
        Ok(Some(Seen { message, redelivered, session, acker }))
    }

    /// Whether there may be messages that were not looked at.
    pub fn is_cut(&self) -> bool {
        self.taken >= LOOKED_AT_MAX
    }

    /// Gives back whatever was not taken. Without this call the channel's end does so, a little later.
    pub async fn end(self) -> Result<(), BackendError> {
        if self.taken > 0 {
            let options = BasicNackOptions { multiple: true, requeue: true };
            self.session.answered(self.channel.basic_nack(0, options)).await?;
            // Until it is answered, a look that follows would find the queue without them.
            let options = lapin::options::BasicQosOptions::default();
            self.session.answered(self.channel.basic_qos(0, options)).await?;
        }
        self.session.give_back(self.channel);
        Ok(())
    }
}

/// Which messages are meant, by their names here.
pub(super) enum Meant {
    Ids(Vec<String>),
    Matching(DeathFilter),
}

impl From<Selection> for Meant {
    fn from(selection: Selection) -> Self {
        match selection {
            Selection::Ids(ids) => Self::Ids(ids),
            Selection::Matching(filter) => Self::Matching(filter),
        }
    }
}

impl Meant {
    /// An id means one message: the next one that is the same is another.
    pub fn take(&mut self, seen: &Seen) -> bool {
        match self {
            Self::Matching(filter) => filter.matches(&seen.message),
            Self::Ids(ids) => {
                let id = seen.id().to_string();
                let found = ids.iter().position(|wanted| *wanted == id);
                found.map(|at| ids.swap_remove(at)).is_some()
            }
        }
    }

    /// Ids that no message had.
    pub fn missing(&self) -> u64 {
        match self {
            Self::Ids(ids) => ids.len() as u64,
            Self::Matching(_) => 0,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Ids(ids) if ids.is_empty())
    }
}

impl RabbitMq {
    pub async fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BackendError> {
        let mut look = Look::at(self, queue).await?;
        let mut peeked = Vec::new();
        while peeked.len() < count {
            let Some(seen) = look.next().await? else { break };
            peeked.push(seen.peeked());
        }
        look.end().await?;
        Ok(peeked)
    }

    /// Nothing if `after` is gone: a server knows no place of a message that is not there.
    pub async fn peek_after(
        &self,
        queue: &QueueName,
        after: &str,
        count: usize,
    ) -> Result<Vec<Peeked>, BackendError> {
        let mut look = Look::at(self, queue).await?;
        let mut peeked = Vec::new();
        let mut is_behind = false;
        while peeked.len() < count {
            let Some(seen) = look.next().await? else { break };
            match is_behind {
                true => peeked.push(seen.peeked()),
                false => is_behind = seen.id().to_string() == after,
            }
        }
        look.end().await?;
        Ok(peeked)
    }

    pub async fn dead_letter_groups(&self, queue: &QueueName) -> Result<DeathGroups, BackendError> {
        let mut look = Look::at(self, queue).await?;
        let mut found = GroupsFound::default();
        while let Some(seen) = look.next().await? {
            found.look(&seen.message, Position(seen.id()));
        }
        found.cut = look.is_cut();
        look.end().await?;
        Ok(found.sorted())
    }

    /// `AMQP` confirms no acknowledgement: what is removed is when the server read that.
    pub async fn discard(
        &self,
        queue: &QueueName,
        selection: Selection,
    ) -> Result<u64, BackendError> {
        let mut meant = Meant::from(selection);
        let mut look = Look::at(self, queue).await?;
        let mut discarded = 0;
        while !meant.is_done() {
            let Some(seen) = look.next().await? else { break };
            if meant.take(&seen) {
                seen.take().await?;
                discarded += 1;
            }
        }
        look.end().await?;
        Ok(discarded)
    }
}
