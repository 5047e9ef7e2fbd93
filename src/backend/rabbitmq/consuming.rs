//! Consumers that outlive a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use lapin::Channel;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
};
use tokio::sync::watch;

use super::RabbitMq;
use super::delivery::{Delivery, Hold};
use super::session::Session;
use super::values::{short, table};
use crate::backend::{BackendError, ConsumeOptions, ConsumerEnd};
use crate::broker::BrokerError;
use crate::model::message::Headers;
use crate::model::names::QueueName;

/// Unsettled deliveries of a consumer that sets no bound: as many as AMQP can say.
const PREFETCH_MAX: u16 = u16::MAX;
/// Deliveries that wait for a consumer that settles none.
const UNTAKEN_MAX: u16 = 1_024;
/// Before a queue is asked for again that can't be consumed at the moment.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes deliveries. Dropping it cancels the consumer; what it did not take goes back to the queue.
pub struct Consumer {
    broker: RabbitMq,
    queue: QueueName,
    options: ConsumeOptions,
    line: Option<Line>,
    ended: Option<ConsumerEnd>,
    cancelled: watch::Receiver<bool>,
}

struct Line {
    session: Arc<Session>,
    channel: Channel,
    consumer: lapin::Consumer,
}

impl Line {
    async fn open(
        session: Arc<Session>,
        queue: &QueueName,
        options: ConsumeOptions,
    ) -> Result<Self, BackendError> {
        let channel = session.working_channel().await?;
        let prefetch = match options.prefetch {
            _ if options.no_ack => UNTAKEN_MAX,
            0 => PREFETCH_MAX,
            prefetch => prefetch,
        };
        session.answered(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let mut arguments = Headers::default();
        if options.priority != 0 {
            arguments.set("x-priority", options.priority);
        }
        // Without acknowledgements the server would send without a bound: they are sent here.
        let flags = BasicConsumeOptions { exclusive: options.exclusive, ..Default::default() };
        let (name, arguments) = (short(queue.as_str())?, table(&arguments)?);
        let consume = channel.basic_consume(name, "".into(), flags, arguments);
        let consumer = session.answered(consume).await?;
        Ok(Self { session, channel, consumer })
    }

    /// Ends the consumer, and gives back what nobody took. Deliveries that are out hold the channel.
    async fn cancel(mut self) {
        let tag = self.consumer.tag();
        let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
        if self.session.answered(cancel).await.is_err() {
            return;
        }
        while let Ok(Some(Ok(delivery))) =
            self.session.while_it_lasts(next(&mut self.consumer)).await
        {
            let options = BasicNackOptions { requeue: true, ..Default::default() };
            if self.session.answered(delivery.acker.nack(options)).await.is_err() {
                return;
            }
        }
    }
}

async fn next(consumer: &mut lapin::Consumer) -> Option<lapin::Result<lapin::message::Delivery>> {
    std::future::poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await
}

impl Consumer {
    /// The next delivery; after a lost connection, from the next one. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.ended.is_some() {
                return None;
            }
            let mut cancelled = self.cancelled.clone();
            let delivered = tokio::select! {
                _ = cancelled.wait_for(|cancelled| *cancelled) => {
                    self.end(ConsumerEnd::Cancelled);
                    return None;
                }
                delivered = self.delivered() => delivered,
            };
            let Some((delivered, hold)) = delivered else { continue };
            self.broker.counters.delivered(&self.queue);
            let (broker, queue) = (self.broker.clone(), self.queue.clone());
            let delivery = Delivery::new(broker, queue, delivered, hold);
            return Some(match self.options.no_ack {
                true => delivery.taken().await,
                false => delivery,
            });
        }
    }

    /// `None`: there was a change to be looked at.
    async fn delivered(&mut self) -> Option<(lapin::message::Delivery, Hold)> {
        match &mut self.line {
            Some(line) => match next(&mut line.consumer).await {
                Some(Ok(delivered)) => {
                    let (session, channel) = (line.session.clone(), line.channel.clone());
                    Some((delivered, Hold { session, channel, is_lent: false }))
                }
                Some(Err(_)) | None => {
                    self.line = None;
                    None
                }
            },
            None => {
                self.resume().await;
                None
            }
        }
    }

    async fn resume(&mut self) {
        let Some(session) = self.broker.link.session_at_last().await else {
            self.ended = Some(ConsumerEnd::Cancelled);
            return;
        };
        match Line::open(session.clone(), &self.queue, self.options).await {
            Ok(line) => self.line = Some(line),
            Err(BackendError::Broker(BrokerError::NotFound { .. })) => {
                // A connection that was lost on this side alone kept an exclusive queue from being declared
                // again, until the server noticed its end too and took the queue along.
                match self.broker.declared.restore_exclusive(&session, &self.queue).await {
                    Ok(true) => {}
                    Ok(false) => self.ended = Some(ConsumerEnd::QueueDeleted),
                    Err(error) => self.pause(&error).await,
                }
            }
            // An exclusive consumer's old connection may not have been noticed as gone yet.
            Err(error) => self.pause(&error).await,
        }
    }

    async fn pause(&self, error: &BackendError) {
        tracing::debug!(queue = %self.queue, %error, "not consuming again yet");
        tokio::time::sleep(PAUSE).await;
    }

    pub fn ended(&self) -> Option<ConsumerEnd> {
        self.ended
    }

    fn end(&mut self, why: ConsumerEnd) {
        self.ended = Some(why);
        self.leave();
    }

    fn leave(&mut self) {
        if let Some(line) = self.line.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(line.cancel());
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.leave();
    }
}

impl RabbitMq {
    pub async fn consume(
        &self,
        queue: &QueueName,
        options: ConsumeOptions,
    ) -> Result<Consumer, BackendError> {
        let session = self.link.session().await?;
        let line = Line::open(session, queue, options).await?;
        Ok(Consumer {
            broker: self.clone(),
            queue: queue.clone(),
            options,
            line: Some(line),
            ended: None,
            cancelled: self.cancelled.subscribe(),
        })
    }

    pub async fn get(&self, queue: &QueueName) -> Result<Option<Delivery>, BackendError> {
        let session = self.link.session().await?;
        let channel = session.working_channel().await?;
        let got = get(&session, &channel, queue).await?;
        let Some(delivered) = got else {
            session.give_back(channel);
            return Ok(None);
        };
        self.counters.delivered(queue);
        let hold = Hold { session, channel, is_lent: true };
        Ok(Some(Delivery::new(self.clone(), queue.clone(), delivered, hold)))
    }
}

pub(super) async fn get(
    session: &Session,
    channel: &Channel,
    queue: &QueueName,
) -> Result<Option<lapin::message::Delivery>, BackendError> {
    let options = BasicGetOptions { no_ack: false };
    let got = session.answered(channel.basic_get(short(queue.as_str())?, options)).await?;
    Ok(got.map(|got| got.delivery))
}
