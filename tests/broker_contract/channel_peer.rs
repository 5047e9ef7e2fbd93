//! A channel of whoever is asked: the embedded engine's own, or a real RabbitMQ's on the wire.

use leveret::backend::ConsumeOptions;
use leveret::broker::{BrokerError, Channel, ChannelDelivery, ChannelEvent, Connection};
use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;

use super::fixture::{SILENCE, key, name, patience, queue_name, text};
use super::peer::Peer;
use super::planted;
use super::rabbitmq::Wire;

pub const ACKED: ConsumeOptions =
    ConsumeOptions { prefetch: 0, no_ack: false, exclusive: false, priority: 0 };
pub const NO_ACK: ConsumeOptions = ConsumeOptions { no_ack: true, ..ACKED };

/// A message in the client's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub consumer_tag: String,
    pub delivery_tag: u64,
    pub redelivered: bool,
    pub body: String,
}

/// What comes to a client unasked.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Deliver(Delivered),
    Return { code: u16, text: String, body: String },
    Confirm { tag: u64, multiple: bool },
    Cancelled(String),
}

/// How a method was refused. The channel is of no use afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub text: String,
    pub closes_connection: bool,
}

/// A connection with one channel.
#[expect(clippy::large_enum_variant, reason = "a test holds few of them")]
pub enum PeerChannel {
    Embedded {
        connection: Connection,
        channel: Channel,
        /// Confirms and returns, as a listener would send them.
        told: Vec<Event>,
    },
    RabbitMq(Wire),
}

impl Peer {
    /// Opens a channel on a connection of its own.
    pub async fn channel(&self) -> PeerChannel {
        match self {
            Self::Embedded(f) => {
                let connection = f.engine.connect();
                let channel = connection.channel(Some("guest".to_owned()));
                PeerChannel::Embedded { connection, channel, told: Vec::new() }
            }
            // The port has no channels.
            Self::RabbitMq(_) | Self::Adapter(_) => PeerChannel::RabbitMq(Wire::open().await),
        }
    }
}

fn refused(error: BrokerError) -> Refused {
    let code = error.reply_code().expect("a code of AMQP's");
    Refused { code, text: error.reply_text(), closes_connection: error.closes_connection() }
}

fn delivered(consumer_tag: &str, delivery: &ChannelDelivery) -> Delivered {
    Delivered {
        consumer_tag: consumer_tag.to_owned(),
        delivery_tag: delivery.delivery_tag,
        redelivered: delivery.redelivered,
        body: text(delivery.message()),
    }
}

impl PeerChannel {
    pub async fn qos(&mut self, prefetch: u16, global: bool) {
        match self {
            Self::Embedded { channel, .. } => channel.qos(prefetch, global),
            Self::RabbitMq(wire) => wire.qos(prefetch, global).await.unwrap(),
        }
    }

    pub async fn try_consume(
        &mut self,
        queue: &str,
        tag: &str,
        options: ConsumeOptions,
    ) -> Result<String, Refused> {
        match self {
            Self::Embedded { channel, .. } => {
                let tag = channel.consume(&queue_name(queue), tag, options).map_err(refused)?;
                Ok(tag.to_string())
            }
            Self::RabbitMq(wire) => wire.consume(queue, tag, options).await,
        }
    }

    pub async fn consume(&mut self, queue: &str, tag: &str) {
        self.try_consume(queue, tag, ACKED).await.unwrap();
    }

    pub async fn cancel(&mut self, tag: &str) {
        match self {
            Self::Embedded { channel, .. } => channel.cancel(tag),
            Self::RabbitMq(wire) => wire.cancel(tag).await.unwrap(),
        }
    }

    pub async fn ack(&mut self, tag: u64, multiple: bool) -> Result<(), Refused> {
        match self {
            Self::Embedded { channel, .. } => {
                let acked = channel.ack(tag, planted::multiple(multiple));
                planted::tag_checked(acked.map_err(refused))
            }
            Self::RabbitMq(wire) => wire.ack(tag, multiple).await,
        }
    }

    pub async fn nack(&mut self, tag: u64, multiple: bool, requeue: bool) -> Result<(), Refused> {
        match self {
            Self::Embedded { channel, .. } => channel.nack(tag, multiple, requeue).map_err(refused),
            Self::RabbitMq(wire) => wire.nack(tag, multiple, requeue).await,
        }
    }

    pub async fn recover(&mut self, requeue: bool) -> Result<(), Refused> {
        match self {
            Self::Embedded { channel, .. } => channel.recover(requeue).map_err(refused),
            Self::RabbitMq(wire) => wire.recover(requeue).await,
        }
    }

    pub async fn get(
        &mut self,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<(Delivered, usize)>, Refused> {
        match self {
            Self::Embedded { channel, .. } => {
                let got = channel.get(&queue_name(queue), no_ack).map_err(refused)?;
                Ok(got.map(|(delivery, left)| (delivered("", &delivery), left)))
            }
            Self::RabbitMq(wire) => wire.get(queue, no_ack).await,
        }
    }

    pub async fn confirm_select(&mut self) {
        match self {
            Self::Embedded { channel, .. } => channel.confirm_select(),
            Self::RabbitMq(wire) => wire.confirm_select().await.unwrap(),
        }
    }

    /// The return, if there is one, and then the confirm are events.
    pub async fn try_publish(&mut self, message: Message, mandatory: bool) -> Result<(), Refused> {
        match self {
            Self::Embedded { channel, told, .. } => {
                let published = channel.publish(message, mandatory).map_err(refused)?;
                if let Some(message) = published.returned {
                    let (code, text) = (312, "NO_ROUTE".to_owned());
                    told.push(Event::Return { code, text, body: super::fixture::text(&message) });
                }
                published.confirm.await.map_err(refused)?;
                if let Some(tag) = published.sequence {
                    told.push(Event::Confirm { tag, multiple: false });
                }
                Ok(())
            }
            Self::RabbitMq(wire) => wire.publish(message, mandatory).await,
        }
    }

    pub async fn publish(&mut self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            let message = Message::new(name(""), key(queue), (*body).to_owned());
            self.try_publish(message, false).await.unwrap();
        }
    }

    pub async fn declare(&mut self, spec: QueueSpec) -> Result<(), Refused> {
        match self {
            Self::Embedded { connection, .. } => {
                connection.declare_queue(spec).map(drop).map_err(refused)
            }
            Self::RabbitMq(wire) => wire.declare(spec, false).await,
        }
    }

    /// A passive queue.declare.
    pub async fn look_at(&mut self, queue: &str) -> Result<(), Refused> {
        match self {
            Self::Embedded { connection, .. } => {
                connection.queue_status(&queue_name(queue)).map(drop).map_err(refused)
            }
            Self::RabbitMq(wire) => wire.declare(QueueSpec::durable(queue_name(queue)), true).await,
        }
    }

    pub async fn next(&mut self) -> Event {
        let next = async {
            match self {
                Self::Embedded { told, .. } if !told.is_empty() => told.remove(0),
                Self::Embedded { channel, .. } => match channel.next().await {
                    ChannelEvent::Deliver { consumer_tag, delivery } => {
                        Event::Deliver(delivered(&consumer_tag, &delivery))
                    }
                    ChannelEvent::Cancelled { consumer_tag, .. } => {
                        Event::Cancelled(consumer_tag.to_string())
                    }
                    ChannelEvent::Blocked { .. } | ChannelEvent::Unblocked => {
                        panic!("nothing is short")
                    }
                },
                Self::RabbitMq(wire) => wire.next().await,
            }
        };
        tokio::time::timeout(patience(), next).await.expect("an event in time")
    }

    /// Nothing more comes now.
    pub async fn nothing(&mut self) {
        let next = async {
            match self {
                Self::Embedded { told, .. } if !told.is_empty() => format!("{told:?}"),
                Self::Embedded { channel, .. } => match channel.next().await {
                    ChannelEvent::Deliver { delivery, .. } => text(delivery.message()),
                    _ => "an event".to_owned(),
                },
                Self::RabbitMq(wire) => format!("{:?}", wire.next().await),
            }
        };
        let silence = tokio::time::timeout(SILENCE, next).await;
        assert!(silence.is_err(), "nothing more may come now: {silence:?}");
    }

    /// So many deliveries come, and no more.
    pub async fn deliveries(&mut self, count: usize) -> Vec<Delivered> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await {
                Event::Deliver(delivered) => all.push(delivered),
                other => panic!("{other:?} comes instead of a delivery"),
            }
        }
        self.nothing().await;
        all
    }

    /// These bodies come, in this order, and no more.
    pub async fn brings(&mut self, expected: &[&str]) {
        let all = self.deliveries(expected.len()).await;
        let bodies: Vec<&str> = all.iter().map(|delivered| &*delivered.body).collect();
        assert_eq!(bodies, expected);
    }

    /// Closes the channel and its connection.
    pub async fn close(self) {
        match self {
            Self::Embedded { connection, channel, .. } => {
                drop(channel);
                drop(connection);
            }
            Self::RabbitMq(wire) => wire.close().await,
        }
    }
}
