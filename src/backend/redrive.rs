//! The workbench for dead letters, as the port has it: messages are named by opaque ids.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{BackendError, Broker};
use crate::broker;
use crate::journal::Position;
use crate::model::message::Message;
use crate::model::names::QueueName;

pub use crate::broker::{
    Death, DeathFilter, DeathGroups, Edit, Progress, Run, RunState, Stuck, Tally,
};

/// A message looked at without taking it.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Names the message to [`Broker::redrive`]; opaque, stable while the message stays in the queue.
    pub id: String,
    pub message: Message,
    pub redelivered: bool,
}

impl From<broker::Peeked> for Peeked {
    fn from(peeked: broker::Peeked) -> Self {
        let broker::Peeked { position, message, redelivered } = peeked;
        Self { id: position.0.to_string(), message, redelivered }
    }
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Ids(Vec<String>),
    Matching(DeathFilter),
}

impl Selection {
    /// An id that is none names no message, as does one whose message is gone.
    fn embedded(self) -> broker::Selection {
        match self {
            Self::Ids(ids) => {
                let none = Position(u64::MAX);
                let position = |id: String| position(&id).unwrap_or(none);
                broker::Selection::Ids(ids.into_iter().map(position).collect())
            }
            Self::Matching(filter) => broker::Selection::Matching(filter),
        }
    }
}

fn position(id: &str) -> Option<Position> {
    id.parse().ok().map(Position)
}

impl Broker {
    /// Ready messages from the head on, at most `count`.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn peek(&self, queue: &QueueName, count: usize) -> Result<Vec<Peeked>, BackendError> {
        match self {
            Self::Embedded(broker) => {
                Ok(broker.peek(queue, count)?.into_iter().map(Peeked::from).collect())
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.peek(queue, count).await,
        }
    }

    /// Ready messages behind the one that `after` names (gone by now or not), in the order in which they
    /// came, at most `count`.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn peek_after(
        &self,
        queue: &QueueName,
        after: &str,
        count: usize,
    ) -> Result<Vec<Peeked>, BackendError> {
        match self {
            Self::Embedded(broker) => {
                let peeked = broker.peek_after(queue, position(after), count)?;
                Ok(peeked.into_iter().map(Peeked::from).collect())
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.peek_after(queue, after, count).await,
        }
    }

    /// Takes the dead-lettered message `id` out of `queue` and puts it into the queue that it died in
    /// (its newest `x-death`), as it was or as `edit` has it, in one commit; resolves when that is
    /// durable, with the queues that it is in now. `None`: no such message is ready.
    ///
    /// # Errors
    /// An unknown queue; a message without a death, or whose queue is gone or full: it stays where it is.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        id: &str,
        edit: Edit,
    ) -> Result<Option<Vec<QueueName>>, BackendError> {
        match self {
            Self::Embedded(broker) => {
                let Some(position) = position(id) else { return Ok(None) };
                let Some(redriven) = broker.redrive(queue, position, edit)? else {
                    return Ok(None);
                };
                super::broker::committed(redriven.commit).await?;
                Ok(Some(redriven.queues))
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.redrive(queue, id, edit).await,
        }
    }

    /// Sends many dead letters back in a task of its own, at most `per_second` of them each second. What
    /// comes into the queue after the start is left alone; a target that is full is waited for. To be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// An unknown queue; one that is being redriven already.
    pub async fn start_redrive(
        &self,
        queue: &QueueName,
        selection: Selection,
        per_second: Option<NonZeroU32>,
    ) -> Result<Arc<Run>, BackendError> {
        match self {
            Self::Embedded(broker) => {
                let redrive = broker::Redrive { selection: selection.embedded(), per_second };
                let (run, work) = broker.start_redrive(queue, redrive)?;
                tokio::spawn(work);
                Ok(run)
            }
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.start_redrive(queue, selection, per_second).await,
        }
    }

    /// The run over `queue` that is under way, or else the last one that this process remembers.
    pub fn redrive_run(&self, queue: &QueueName) -> Option<Arc<Run>> {
        match self {
            Self::Embedded(broker) => broker.redrive_run(queue),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.redrive_run(queue),
        }
    }

    /// What a redrive would do now; it changes nothing. `false` beside it: the queue is so long that only
    /// its beginning was looked at.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn plan_redrive(
        &self,
        queue: &QueueName,
        selection: Selection,
    ) -> Result<(Tally, bool), BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.plan_redrive(queue, &selection.embedded()).await?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.plan_redrive(queue, selection).await,
        }
    }

    /// Removes the messages that are meant, and no other: how many those were, when no crash brings them
    /// back.
    ///
    /// # Errors
    /// An unknown queue; when the commit failed: whether they come back is unknown then.
    pub async fn discard(
        &self,
        queue: &QueueName,
        selection: Selection,
    ) -> Result<u64, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.discard(queue, &selection.embedded()).await?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.discard(queue, selection).await,
        }
    }

    /// The ready messages of `queue` by what killed them.
    ///
    /// # Errors
    /// An unknown queue.
    pub async fn dead_letter_groups(&self, queue: &QueueName) -> Result<DeathGroups, BackendError> {
        match self {
            Self::Embedded(broker) => Ok(broker.dead_letter_groups(queue).await?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.dead_letter_groups(queue).await,
        }
    }
}
