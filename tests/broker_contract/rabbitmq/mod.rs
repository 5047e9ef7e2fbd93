//! A real RabbitMQ, through lapin.

mod values;
mod wire;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};
use leveret::backend::{ConsumeOptions, DeleteIf};
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, RoutingKey};
use leveret::model::topology::{AppliesTo, Binding, Destination, ExchangeSpec, Policy, QueueSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, MutexGuard};

pub use wire::Wire;

use values::{definition, properties, queue_arguments, received, table};

/// One case at a time: they all use the same names in the same vhost.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What the running case declared, and what one that failed has left.
static DECLARED: std::sync::Mutex<Declared> = std::sync::Mutex::new(Declared {
    queues: Vec::new(),
    exchanges: Vec::new(),
    policies: Vec::new(),
});

pub struct RabbitMq {
    connection: Connection,
    channel: Mutex<Channel>,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct Declared {
    queues: Vec<String>,
    exchanges: Vec<String>,
    policies: Vec<String>,
}

pub struct Sent {
    pub acked: bool,
    pub returned: bool,
}

pub struct Taken {
    pub message: Message,
    pub redelivered: bool,
    acker: lapin::Acker,
    /// Kept, so that the channel stays open as long as the delivery.
    _channel: Option<Channel>,
}

pub struct Consumer {
    channel: Channel,
    consumer: lapin::Consumer,
}

type Answer<T> = Result<T, String>;

fn short(text: &str) -> ShortString {
    text.into()
}

/// The server's own words.
fn refusal(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        other => panic!("expected the server's refusal, got {other:?}"),
    }
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ answers")
}

impl RabbitMq {
    /// `None`: the suite does not run beside one.
    pub async fn connect() -> Option<Self> {
        let url = std::env::var("LEVERET_RABBITMQ").ok()?;
        let alone = ALONE.lock().await;
        let connection = connect(&url).await;
        let channel = Mutex::new(Self::open(&connection).await);
        let server = Self { connection, channel, _alone: alone };
        server.clean().await;
        Some(server)
    }

    async fn open(connection: &Connection) -> Channel {
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channel
    }

    /// Remembers what somebody else declared here.
    pub fn was_declared_queue(&self, queue: String) {
        DECLARED.lock().unwrap().queues.push(queue);
    }

    pub fn was_declared_exchange(&self, exchange: String) {
        DECLARED.lock().unwrap().exchanges.push(exchange);
    }

    /// Deletes whatever the case declared.
    pub async fn forget(self) {
        self.clean().await;
        self.connection.close(200, short("done")).await.expect("closed");
    }

    async fn clean(&self) {
        let declared = std::mem::take(&mut *DECLARED.lock().unwrap());
        for policy in &declared.policies {
            self.clear_policy(policy).await;
        }
        let channel = self.connection.create_channel().await.expect("a channel");
        for queue in &declared.queues {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(short(queue), options).await.expect("deleted");
        }
        for exchange in declared.exchanges.iter().filter(|name| !name.starts_with("amq.")) {
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(short(exchange), options).await.expect("deleted");
        }
        channel.close(200, short("done")).await.expect("closed");
    }

    /// Asks on the common channel; a refusal closes it, so another one takes its place.
    async fn ask<T>(&self, ask: impl AsyncFnOnce(Channel) -> lapin::Result<T>) -> Answer<T> {
        let mut channel = self.channel.lock().await;
        let answer = ask(channel.clone()).await;
        answer.map_err({
            if !channel.status().connected() {
                *channel = Self::open(&self.connection).await;
            }
            |error| refusal(&error)
        })
    }

    pub async fn declare_queue(&self, spec: QueueSpec) -> Answer<()> {
        let options = QueueDeclareOptions {
            durable: spec.durable,
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            ..Default::default()
        };
        let name = spec.name.to_string();
        self.ask(async |channel| {
            channel.queue_declare(short(&name), options, queue_arguments(&spec)).await
        })
        .await?;
        DECLARED.lock().unwrap().queues.push(name);
        Ok(())
    }

    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Answer<()> {
        let options = ExchangeDeclareOptions {
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            ..Default::default()
        };
        let mut arguments = FieldTable::default();
        if let Some(alternate) = &spec.alternate {
            let alternate = AMQPValue::LongString(alternate.as_str().into());
            arguments.insert(short("alternate-exchange"), alternate);
        }
        let name = spec.name.to_string();
        let kind = lapin::ExchangeKind::Custom(spec.kind.as_str().to_owned());
        self.ask(async |channel| {
            channel.exchange_declare(short(&name), kind, options, arguments).await
        })
        .await?;
        DECLARED.lock().unwrap().exchanges.push(name);
        Ok(())
    }

    pub async fn delete_exchange(&self, exchange: &str, if_unused: bool) -> Answer<()> {
        let options = ExchangeDeleteOptions { if_unused, ..Default::default() };
        self.ask(async |channel| channel.exchange_delete(short(exchange), options).await).await
    }

    pub async fn delete_queue(&self, queue: &str, only: DeleteIf) -> Answer<usize> {
        let options = QueueDeleteOptions {
            if_unused: only.unused,
            if_empty: only.empty,
            ..Default::default()
        };
        let count =
            self.ask(async |channel| channel.queue_delete(short(queue), options).await).await?;
        Ok(usize::try_from(count).unwrap())
    }

    pub async fn purge(&self, queue: &str) -> Answer<usize> {
        let options = QueuePurgeOptions::default();
        let count =
            self.ask(async |channel| channel.queue_purge(short(queue), options).await).await?;
        Ok(usize::try_from(count).unwrap())
    }

    pub async fn bind(&self, binding: Binding) -> Answer<()> {
        let (source, key) = (short(binding.source.as_str()), short(binding.key.as_str()));
        let arguments = table(binding.arguments.iter());
        self.ask(async |channel| match &binding.destination {
            Destination::Queue(queue) => {
                let options = QueueBindOptions::default();
                channel.queue_bind(short(queue.as_str()), source, key, options, arguments).await
            }
            Destination::Exchange(name) => {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(short(name.as_str()), source, key, options, arguments).await
            }
        })
        .await
    }

    pub async fn unbind(&self, binding: Binding) -> Answer<()> {
        let (source, key) = (short(binding.source.as_str()), short(binding.key.as_str()));
        let arguments = table(binding.arguments.iter());
        self.ask(async |channel| match &binding.destination {
            Destination::Queue(queue) => {
                channel.queue_unbind(short(queue.as_str()), source, key, arguments).await
            }
            Destination::Exchange(name) => {
                let options = ExchangeUnbindOptions::default();
                channel.exchange_unbind(short(name.as_str()), source, key, options, arguments).await
            }
        })
        .await
    }

    pub async fn publish(&self, message: Message, mandatory: bool) -> Answer<Sent> {
        let (exchange, key) =
            (short(message.exchange.as_str()), short(message.routing_key.as_str()));
        let options = BasicPublishOptions { mandatory, ..Default::default() };
        let properties = properties(&message.properties);
        let confirmation = self
            .ask(async |channel| {
                let published =
                    channel.basic_publish(exchange, key, options, &message.body, properties);
                published.await?.await
            })
            .await?;
        let acked = matches!(confirmation, Confirmation::Ack(_));
        Ok(Sent { acked, returned: confirmation.take_message().is_some() })
    }

    pub async fn post(&self, message: Message) -> lapin::PublisherConfirm {
        let (exchange, key) =
            (short(message.exchange.as_str()), short(message.routing_key.as_str()));
        let (options, properties) =
            (BasicPublishOptions::default(), properties(&message.properties));
        let channel = self.channel.lock().await.clone();
        let published = channel.basic_publish(exchange, key, options, &message.body, properties);
        published.await.expect("published")
    }

    /// How many messages are ready.
    pub async fn ready(&self, queue: &str) -> Answer<usize> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self
            .ask(async |channel| {
                channel.queue_declare(short(queue), options, FieldTable::default()).await
            })
            .await?;
        Ok(usize::try_from(queue.message_count()).unwrap())
    }

    pub async fn has_exchange(&self, exchange: &str) -> bool {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = lapin::ExchangeKind::Direct;
        self.ask(async |channel| {
            channel.exchange_declare(short(exchange), kind, options, FieldTable::default()).await
        })
        .await
        .is_ok()
    }

    pub async fn get(&self, queue: &str) -> Answer<Option<Taken>> {
        let options = BasicGetOptions { no_ack: false };
        let got = self.ask(async |channel| channel.basic_get(short(queue), options).await).await?;
        Ok(got.map(|got| Taken::new(got.delivery, None)))
    }

    /// Takes everything that is ready and gives it back.
    pub async fn bodies(&self, queue: &str) -> Vec<String> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let mut bodies = Vec::new();
        let options = BasicGetOptions { no_ack: false };
        while let Some(got) = channel.basic_get(short(queue), options).await.expect("a queue") {
            bodies.push(String::from_utf8(got.data.clone()).expect("text"));
        }
        let options = BasicNackOptions { multiple: true, requeue: true };
        if !bodies.is_empty() {
            channel.basic_nack(0, options).await.expect("given back");
        }
        channel.close(200, short("done")).await.expect("closed");
        bodies
    }

    pub async fn consume(&self, queue: &str, options: ConsumeOptions) -> Answer<Consumer> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let qos = channel.basic_qos(options.prefetch, BasicQosOptions::default());
        qos.await.expect("a prefetch");
        let mut arguments = FieldTable::default();
        if options.priority != 0 {
            arguments.insert(short("x-priority"), AMQPValue::LongLongInt(options.priority));
        }
        let flags = BasicConsumeOptions {
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            ..Default::default()
        };
        let consumer = channel.basic_consume(short(queue), short(""), flags, arguments).await;
        let consumer = consumer.map_err(|error| refusal(&error))?;
        Ok(Consumer { channel, consumer })
    }

    pub async fn set_policy(&self, policy: Policy) {
        let body = serde_json::json!({
            "pattern": policy.pattern,
            "priority": policy.priority,
            "apply-to": match policy.applies_to {
                AppliesTo::All => "all",
                AppliesTo::Queues => "queues",
                AppliesTo::Exchanges => "exchanges",
            },
            "definition": definition(&policy),
        });
        DECLARED.lock().unwrap().policies.push(policy.name.clone());
        manage("PUT", &format!("/api/policies/%2f/{}", policy.name), &body.to_string()).await;
    }

    pub async fn clear_policy(&self, name: &str) {
        manage("DELETE", &format!("/api/policies/%2f/{name}"), "").await;
    }
}

/// One request to the management interface.
async fn manage(method: &str, path: &str, body: &str) {
    let address = std::env::var("LEVERET_RABBITMQ_HTTP").expect("a management interface");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 404"), "{answer}");
}

impl Taken {
    fn new(delivery: lapin::message::Delivery, channel: Option<Channel>) -> Self {
        let exchange = ExchangeName::new(delivery.exchange.as_str()).expect("a name");
        let key = RoutingKey::new(delivery.routing_key.as_str()).expect("a key");
        let mut message = Message::new(exchange, key, delivery.data.clone());
        message.properties = received(&delivery.properties);
        let (redelivered, acker) = (delivery.redelivered, delivery.acker);
        Self { message, redelivered, acker, _channel: channel }
    }

    pub async fn ack(self) {
        assert!(self.acker.ack(BasicAckOptions::default()).await.expect("acknowledged"));
    }

    pub async fn reject(self, requeue: bool) {
        let options = BasicRejectOptions { requeue };
        assert!(self.acker.reject(options).await.expect("rejected"));
    }
}

impl Consumer {
    pub async fn next(&mut self) -> Option<Taken> {
        let delivery = std::future::poll_fn(|context| {
            let consumer = std::pin::Pin::new(&mut self.consumer);
            futures_core::Stream::poll_next(consumer, context)
        });
        let delivery = delivery.await?.expect("a delivery");
        Some(Taken::new(delivery, Some(self.channel.clone())))
    }

    pub async fn close(self) {
        self.channel.close(200, short("done")).await.expect("closed");
    }

    pub async fn cancel(self) {
        let tag = self.consumer.tag();
        self.channel.basic_cancel(tag, BasicCancelOptions::default()).await.expect("cancelled");
    }
}
