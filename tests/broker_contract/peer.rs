//! The port that a promise is written over: the embedded engine always, and a real RabbitMQ when the
//! suite is run beside one (`tests/with-rabbitmq`). Whoever is asked answers in RabbitMQ's words.

use leveret::backend::{
    BackendError, Broker, Confirm, ConsumeOptions, Consumer, DeleteIf, Delivery,
};
use leveret::broker::BrokerError;
use leveret::model::message::Message;
use leveret::model::topology::{Binding, ExchangeKind, ExchangeSpec, Policy, QueueSpec};

use super::fixture::{Fixture, SILENCE, key, name, patience, queue_name, text};
use super::planted;
use super::rabbitmq::{self, RabbitMq};

pub enum Peer {
    Embedded(Fixture),
    /// The server itself: what the others are held against.
    RabbitMq(RabbitMq),
    /// The port on that server.
    #[cfg_attr(not(feature = "rabbitmq"), expect(dead_code, reason = "a build without its client"))]
    Adapter(Port),
}

/// The port on a server, and that server for what the port does not say.
pub struct Port {
    pub broker: Broker,
    server: RabbitMq,
}

/// A message in the hands of a test.
#[expect(clippy::large_enum_variant, reason = "a test holds few of them")]
pub enum Taken {
    /// And as what it is shown, if not as it is.
    Embedded(Delivery, Option<Box<Message>>),
    RabbitMq(rabbitmq::Taken),
}

#[expect(clippy::large_enum_variant, reason = "a test holds few of them")]
pub enum PeerConsumer {
    Embedded(Consumer),
    RabbitMq(rabbitmq::Consumer),
}

/// A publish whose confirm is awaited later.
pub enum Posted {
    Embedded(Confirm),
    RabbitMq(lapin::PublisherConfirm),
}

/// Ready, unacknowledged, delayed.
type Depth = (usize, usize, usize);

/// Runs a case on the embedded engine, and if there is a real server on that and on the port to it.
pub async fn on_both(case: impl AsyncFn(&Peer)) {
    let fixture = Fixture::new();
    planted::use_broker(&fixture.broker);
    case(&Peer::Embedded(fixture)).await;
    if planted::is_any() {
        return;
    }
    if let Some(server) = RabbitMq::connect().await {
        let peer = Peer::RabbitMq(server);
        case(&peer).await;
        if let Peer::RabbitMq(server) = peer {
            server.forget().await;
        }
    }
    // With one engine the paged suite has said of the server what there is to say.
    if !crate::PAGED {
        on_the_port(case).await;
    }
}

#[cfg(feature = "rabbitmq")]
async fn on_the_port(case: impl AsyncFn(&Peer)) {
    let Some(server) = RabbitMq::connect().await else { return };
    let url = std::env::var("LEVERET_RABBITMQ").expect("a server");
    let address = leveret::backend::Address::parse(&url).unwrap();
    let clock = leveret::model::clock::SystemClock::shared();
    let adapter = leveret::backend::RabbitMq::connect(address, clock).await.unwrap();
    let peer = Peer::Adapter(Port { broker: Broker::RabbitMq(adapter), server });
    case(&peer).await;
    if let Peer::Adapter(port) = peer {
        port.broker.close().await.unwrap();
        port.server.forget().await;
    }
}

#[cfg(not(feature = "rabbitmq"))]
async fn on_the_port(_: impl AsyncFn(&Peer)) {}

fn refusal(error: BackendError) -> String {
    match error {
        BackendError::Broker(error) => error.reply_text(),
        other => panic!("expected the broker's refusal, got {other}"),
    }
}

impl Peer {
    pub async fn declare(&self, spec: QueueSpec) {
        self.try_declare(spec).await.unwrap();
    }

    pub async fn try_declare(&self, spec: QueueSpec) -> Result<(), String> {
        match self {
            Self::Embedded(f) => {
                let declared = f.broker.declare_queue(planted::declared(spec)).await;
                planted::refused(declared.map_err(refusal))
            }
            Self::Adapter(port) => {
                let name = spec.name.to_string();
                port.broker.declare_queue(spec).await.map_err(refusal)?;
                port.server.was_declared_queue(name);
                Ok(())
            }
            Self::RabbitMq(server) => server.declare_queue(spec).await,
        }
    }

    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<(), String> {
        match self {
            Self::Embedded(f) => {
                let declared = f.broker.declare_exchange(planted::declared_exchange(spec)).await;
                planted::refused(declared.map_err(refusal))
            }
            Self::Adapter(port) => {
                let name = spec.name.to_string();
                port.broker.declare_exchange(spec).await.map_err(refusal)?;
                port.server.was_declared_exchange(name);
                Ok(())
            }
            Self::RabbitMq(server) => server.declare_exchange(spec).await,
        }
    }

    pub async fn delete_exchange(&self, exchange: &str, if_unused: bool) -> Result<(), String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                broker.delete_exchange(&name(exchange), if_unused).await.map_err(refusal)
            }
            Self::RabbitMq(server) => server.delete_exchange(exchange, if_unused).await,
        }
    }

    pub async fn delete_queue(&self, queue: &str, only: DeleteIf) -> Result<usize, String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                broker.delete_queue(&queue_name(queue), only).await.map_err(refusal)
            }
            Self::RabbitMq(server) => server.delete_queue(queue, only).await,
        }
    }

    pub async fn purge(&self, queue: &str) -> Result<usize, String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                broker.purge(&queue_name(queue)).await.map_err(refusal)
            }
            Self::RabbitMq(server) => server.purge(queue).await,
        }
    }

    pub async fn add_binding(&self, binding: Binding) -> Result<(), String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                broker.add_binding(binding).await.map_err(refusal)
            }
            Self::RabbitMq(server) => server.bind(binding).await,
        }
    }

    pub async fn unbind(&self, binding: Binding) -> Result<(), String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                broker.unbind(binding).await.map_err(refusal)
            }
            Self::RabbitMq(server) => server.unbind(binding).await,
        }
    }

    pub async fn set_policy(&self, policy: Policy) {
        match self {
            Self::Embedded(Fixture { broker, .. }) => broker.set_policy(policy).await.unwrap(),
            Self::RabbitMq(server) | Self::Adapter(Port { server, .. }) => {
                server.set_policy(policy).await;
            }
        }
    }

    pub async fn clear_policy(&self, policy: &str) {
        match self {
            Self::Embedded(Fixture { broker, .. }) => broker.clear_policy(policy).await.unwrap(),
            Self::RabbitMq(server) | Self::Adapter(Port { server, .. }) => {
                server.clear_policy(policy).await;
            }
        }
    }

    pub async fn exchange(&self, exchange: &str, kind: ExchangeKind) {
        self.declare_exchange(ExchangeSpec::durable(name(exchange), kind)).await.unwrap();
    }

    pub async fn queue(&self, queue: &str) {
        self.declare(QueueSpec::durable(queue_name(queue))).await;
    }

    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        self.try_bind(queue, exchange, routing_key).await.unwrap();
    }

    pub async fn try_bind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), String> {
        let binding = Binding::queue(name(exchange), queue_name(queue), key(routing_key));
        self.add_binding(binding).await
    }

    /// Publishes a persistent message and waits for its confirm.
    pub async fn publish(&self, exchange: &str, routing_key: &str, body: &str) {
        let message = Message::new(name(exchange), key(routing_key), body.to_owned()).persistent();
        assert_eq!(self.send(message).await, Ok(true));
    }

    /// Whether it was confirmed by an ack.
    pub async fn send(&self, message: Message) -> Result<bool, String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                let mut acked = true;
                for message in planted::sent(message) {
                    let published = broker.publish(message).await.map_err(refusal)?;
                    acked &= match published.confirmed().await {
                        Ok(()) => true,
                        Err(BackendError::Broker(BrokerError::Nacked { .. })) => false,
                        Err(other) => return Err(refusal(other)),
                    };
                }
                Ok(planted::acked(acked))
            }
            Self::RabbitMq(server) => server.publish(message, false).await.map(|sent| sent.acked),
        }
    }

    /// Publishes without waiting for the confirm.
    pub async fn post(&self, message: Message) -> Posted {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                Posted::Embedded(broker.publish(message).await.unwrap())
            }
            Self::RabbitMq(server) => Posted::RabbitMq(server.post(message).await),
        }
    }

    /// Publishes a mandatory message: whether it came back, reaching no queue.
    pub async fn comes_back(&self, message: Message) -> bool {
        match self {
            Self::Embedded(f) => {
                let published = f.engine.channel(None).publish(message, true).unwrap();
                let returned = planted::came_back(published.returned.is_some());
                published.confirm.await.unwrap();
                returned
            }
            Self::RabbitMq(server) => {
                let sent = server.publish(message, true).await.unwrap();
                assert!(sent.acked);
                sent.returned
            }
            Self::Adapter(port) => {
                let (confirm, routed) = port.broker.publish_mandatory(message).await.unwrap();
                confirm.confirmed().await.unwrap();
                !routed
            }
        }
    }

    pub async fn try_get(&self, queue: &str) -> Result<Option<Taken>, String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                let delivery = broker.get(&queue_name(queue)).await.map_err(refusal)?;
                Ok(delivery.map(Taken::embedded))
            }
            Self::RabbitMq(server) => Ok(server.get(queue).await?.map(Taken::RabbitMq)),
        }
    }

    /// The next message, waited for: on the real server, dead letters take their time.
    pub async fn get(&self, queue: &str) -> Taken {
        let found = async {
            loop {
                if let Some(taken) = self.try_get(queue).await.unwrap() {
                    return taken;
                }
                self.moment().await;
            }
        };
        tokio::time::timeout(patience(), found).await.expect("a message in time")
    }

    pub async fn try_consume(
        &self,
        queue: &str,
        options: ConsumeOptions,
    ) -> Result<PeerConsumer, String> {
        match self {
            Self::Embedded(Fixture { broker, .. }) | Self::Adapter(Port { broker, .. }) => {
                let options = planted::options(options);
                let consumer = broker.consume_with(&queue_name(queue), options).await;
                consumer.map(PeerConsumer::Embedded).map_err(refusal)
            }
            Self::RabbitMq(server) => {
                server.consume(queue, options).await.map(PeerConsumer::RabbitMq)
            }
        }
    }

    pub async fn consume(&self, queue: &str, prefetch: u16) -> PeerConsumer {
        let options = ConsumeOptions { prefetch, ..ConsumeOptions::default() };
        self.try_consume(queue, options).await.unwrap()
    }

    /// Lets the other side come a little further; the embedded engine needs that for its timers only.
    async fn moment(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    /// Waits until the queue holds so much. What is not ready is not to be seen through AMQP.
    pub async fn holds(&self, queue: &str, expected: Depth) {
        let mut held = (0, 0, 0);
        let reached = async {
            loop {
                held = match self {
                    Self::Embedded(f) => f.depth(queue).await,
                    Self::RabbitMq(server) => {
                        (server.ready(queue).await.unwrap(), expected.1, expected.2)
                    }
                    Self::Adapter(port) => {
                        let status = port.broker.queue(&queue_name(queue)).await.unwrap();
                        (status.ready, expected.1, expected.2)
                    }
                };
                if held == expected {
                    return;
                }
                self.moment().await;
            }
        };
        let reached = tokio::time::timeout(patience(), reached).await;
        assert!(reached.is_ok(), "{queue} holds {held:?}, not {expected:?}");
    }

    /// Waits until exactly these bodies are ready, in that order. They are ready afterwards too,
    /// though flagged as delivered on the real server, where looking is taking.
    pub async fn shows(&self, queue: &str, expected: &[&str]) {
        let mut shown = Vec::new();
        let reached = async {
            loop {
                shown = match self {
                    Self::Embedded(f) => f.bodies(queue).await,
                    Self::RabbitMq(server) => server.bodies(queue).await,
                    Self::Adapter(port) => {
                        let peeked = port.broker.peek(&queue_name(queue), 1_000).await.unwrap();
                        peeked.iter().map(|peeked| text(&peeked.message)).collect()
                    }
                };
                if shown == expected {
                    return;
                }
                self.moment().await;
            }
        };
        let reached = tokio::time::timeout(patience(), reached).await;
        assert!(reached.is_ok(), "{queue} shows {shown:?}, not {expected:?}");
    }

    /// Bodies of `queue`, taken and acknowledged one by one.
    pub async fn take_all(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(taken) = self.try_get(queue).await.unwrap() {
            bodies.push(text(taken.message()));
            taken.ack().await;
        }
        bodies
    }

    /// Waits until the queue is there, or not.
    pub async fn is_there(&self, queue: &str, expected: bool) {
        let reached = async {
            loop {
                let there = match self {
                    Self::Embedded(f) => f.exists(queue).await,
                    Self::RabbitMq(server) => server.ready(queue).await.is_ok(),
                    Self::Adapter(port) => port.broker.queue(&queue_name(queue)).await.is_ok(),
                };
                if there == expected {
                    return;
                }
                self.moment().await;
            }
        };
        let reached = tokio::time::timeout(patience(), reached).await;
        assert!(reached.is_ok(), "whether {queue} is there is not {expected}");
    }

    pub async fn has_exchange(&self, exchange: &str) -> bool {
        match self {
            Self::Embedded(f) => f.engine.exchange(&name(exchange)).is_ok(),
            Self::RabbitMq(server) | Self::Adapter(Port { server, .. }) => {
                server.has_exchange(exchange).await
            }
        }
    }
}

impl Posted {
    pub async fn confirmed(self) {
        match self {
            Self::Embedded(confirm) => confirm.confirmed().await.unwrap(),
            Self::RabbitMq(confirm) => assert!(confirm.await.unwrap().is_ack()),
        }
    }
}

impl Taken {
    fn embedded(delivery: Delivery) -> Self {
        let shown = planted::shown(delivery.message());
        Self::Embedded(delivery, shown)
    }

    pub fn message(&self) -> &Message {
        match self {
            Self::Embedded(delivery, shown) => shown.as_deref().unwrap_or(delivery.message()),
            Self::RabbitMq(taken) => &taken.message,
        }
    }

    pub fn redelivered(&self) -> bool {
        match self {
            Self::Embedded(delivery, _) => planted::is_flagged(delivery.redelivered()),
            Self::RabbitMq(taken) => taken.redelivered,
        }
    }

    pub async fn ack(self) {
        match self {
            Self::Embedded(delivery, _) => planted::ack(delivery).await,
            Self::RabbitMq(taken) => taken.ack().await,
        }
    }

    pub async fn requeue(self) {
        match self {
            Self::Embedded(delivery, _) => planted::requeue(delivery).await,
            Self::RabbitMq(taken) => taken.reject(true).await,
        }
    }

    pub async fn reject(self) {
        match self {
            Self::Embedded(delivery, _) => delivery.fail("rejected").await.unwrap(),
            Self::RabbitMq(taken) => taken.reject(false).await,
        }
    }
}

impl PeerConsumer {
    pub async fn next(&mut self) -> Taken {
        let next = async {
            match self {
                Self::Embedded(consumer) => consumer.next().await.map(Taken::embedded),
                Self::RabbitMq(consumer) => consumer.next().await.map(Taken::RabbitMq),
            }
        };
        let next = tokio::time::timeout(patience(), next).await;
        next.expect("a delivery in time").expect("a live consumer")
    }

    /// Nothing more comes now.
    pub async fn nothing(&mut self) {
        let next = async {
            match self {
                Self::Embedded(consumer) => drop(consumer.next().await),
                Self::RabbitMq(consumer) => drop(consumer.next().await),
            }
        };
        let silence = tokio::time::timeout(SILENCE, next).await;
        assert!(silence.is_err(), "nothing more may be delivered now");
    }

    /// Closes its channel, and what it holds goes back.
    pub async fn leave(self, held: Taken) {
        match (self, held) {
            (Self::RabbitMq(consumer), _) => consumer.close().await,
            (Self::Embedded(consumer), held) => {
                held.requeue().await;
                drop(consumer);
            }
        }
    }

    pub async fn cancel(self) {
        match self {
            Self::Embedded(consumer) => drop(consumer),
            Self::RabbitMq(consumer) => consumer.cancel().await,
        }
    }
}
