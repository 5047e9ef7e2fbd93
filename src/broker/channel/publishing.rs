//! Publishing on a channel: sequence numbers, returns, and direct reply-to.

use std::sync::Arc;

use super::super::access::Access;
use super::super::confirm::{Confirm, Confirms};
use super::super::declare::generated_name;
use super::super::error::BrokerError;
use super::super::publish_all::{PublishAllError, PublishedAll};
use super::super::queue::Queue;
use super::Channel;
use crate::model::message::Message;
use crate::model::names::ExchangeName;
use crate::model::topology::QueueSpec;

/// The name under which a client consumes replies and asks for them, without a queue of its own.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What became of a message.
pub struct ChannelPublished {
    /// Its number in the channel's confirms, when those were asked for.
    pub sequence: Option<u64>,
    /// The mandatory message that reached no queue: it goes back to the client before its confirm
    /// (basic.return, 312 NO_ROUTE).
    pub returned: Option<Message>,
    pub confirm: Confirm,
}

/// What became of messages that were published together.
pub struct ChannelPublishedAll {
    /// The first one's number in the channel's confirms, when those were asked for; they rise by one.
    pub first_sequence: Option<u64>,
    /// The mandatory messages that reached no queue, each with its place in the batch, rising: they go
    /// back to the client, each before its confirm.
    pub returned: Vec<(usize, Message)>,
    pub confirms: Confirms,
}

impl Channel {
    /// confirm.select: publishes are numbered from 1 on.
    pub fn confirm_select(&mut self) {
        self.confirm_sequence.get_or_insert(1);
    }

    /// basic.publish. Does not wait: [`super::Broker::admit`] is what a listener waits for before.
    ///
    /// # Errors
    /// An unknown or internal exchange; a `user_id` of another user; a CC or BCC that is no list; a
    /// reply asked for without a reply consumer; the disk alarm for a persistent message.
    pub fn publish(
        &mut self,
        mut message: Message,
        mandatory: bool,
    ) -> Result<ChannelPublished, BrokerError> {
        self.check(&mut message)?;
        let mut published = self.broker.try_publish_permitted(message)?;
        let sequence = self.confirm_sequence;
        self.confirm_sequence = sequence.map(|sequence| sequence + 1);
        let returned = if mandatory { published.take_unrouted() } else { None };
        Ok(ChannelPublished { sequence, returned, confirm: published.confirm })
    }

    /// As [`Channel::publish`] of each message in order, `true` beside it: it is mandatory. For what one
    /// read gave: the engine is asked once for many.
    ///
    /// # Errors
    /// The first message that [`Channel::publish`] refuses, with what became of those before it.
    pub fn publish_all(
        &mut self,
        messages: impl IntoIterator<Item = (Message, bool)>,
    ) -> Result<ChannelPublishedAll, Box<PublishAllError<ChannelPublishedAll>>> {
        let broker = self.broker.clone();
        let (mut mandatory, mut count) = (Vec::new(), 0);
        let messages = messages.into_iter().map(|(message, is_mandatory)| {
            if is_mandatory {
                mandatory.push(count);
            }
            count += 1;
            message
        });
        let outcome = broker.try_publish_checked(messages, |message| self.check(message));
        let mut number = |mut published: PublishedAll| {
            let first_sequence = self.confirm_sequence;
            let count = published.confirms.len() as u64;
            self.confirm_sequence = first_sequence.map(|sequence| sequence + count);
            let unrouted = published.take_unrouted();
            let returned = unrouted.filter(|(place, _)| mandatory.binary_search(place).is_ok());
            let returned = returned.collect();
            ChannelPublishedAll { first_sequence, returned, confirms: published.confirms }
        };
        match outcome {
            Ok(published) => Ok(number(published)),
            Err(failed) => Err(Box::new(failed.map(number, |error| error))),
        }
    }

    /// What holds for a message on this channel; a reply that it asks for comes to this channel.
    fn check(&mut self, message: &mut Message) -> Result<(), BrokerError> {
        self.check_permission(&message.exchange)?;
        self.check_user(message)?;
        if message.properties.reply_to.as_deref() == Some(REPLY_TO) {
            let Some((queue, _)) = &self.reply else {
                let text = "fast reply consumer does not exist";
                return Err(BrokerError::Precondition(text.to_owned()));
            };
            message.properties.reply_to = Some(queue.spec.name.to_string());
        }
        Ok(())
    }

    /// Most messages go where the one before went.
    fn check_permission(&mut self, exchange: &ExchangeName) -> Result<(), BrokerError> {
        if self.user.is_none() {
            return Ok(());
        }
        let generation = self.broker.users_generation();
        let is_known = self
            .permitted
            .as_ref()
            .is_some_and(|(permitted, at)| permitted == exchange && *at == generation);
        if !is_known {
            self.broker.check_exchange(Access::Write, exchange)?;
            self.permitted = Some((exchange.clone(), generation));
        }
        Ok(())
    }

    fn check_user(&self, message: &Message) -> Result<(), BrokerError> {
        match (&message.properties.user_id, &self.user) {
            (Some(claimed), Some(user)) if claimed != user => Err(BrokerError::Precondition(
                format!("user_id property set to '{claimed}' but authenticated user was '{user}'"),
            )),
            _ => Ok(()),
        }
    }

    /// The hidden queue behind direct reply-to: it goes with its one consumer.
    pub(super) fn reply_queue(&self, no_ack: bool) -> Result<Arc<Queue>, BrokerError> {
        let refuse = |text: &str| Err(BrokerError::Precondition(text.to_owned()));
        if self.reply.is_some() {
            return refuse("reply consumer already set");
        }
        if !no_ack {
            return refuse("reply consumer cannot acknowledge");
        }
        let name = generated_name(&format!("{REPLY_TO}."))?;
        let mut topology = self.broker.vhost.topology.write();
        let spec = QueueSpec::transient(name.clone()).exclusive().auto_delete();
        let _no_record = self.broker.add_queue(&mut topology, spec)?;
        topology.queue(name.as_str()).cloned()
    }
}
