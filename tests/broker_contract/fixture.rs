//! A broker of its own for each test, and short words for what the tests say often.

use std::sync::Arc;
use std::time::Duration;

use leveret::backend::{BackendError, Broker, Consumer, Delivery};
use leveret::broker::{self, BrokerOptions, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::{ManualClock, SharedClock, SystemClock};
use leveret::model::message::{Message, Value};
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Less, where the case is meant to fail.
const PATIENCE_WITH_FAULT: Duration = Duration::from_millis(300);
/// How long nothing has to happen before a test believes that nothing will.
pub const SILENCE: Duration = Duration::from_millis(60);

pub fn patience() -> Duration {
    if super::planted::is_any() { PATIENCE_WITH_FAULT } else { PATIENCE }
}

pub struct Fixture {
    pub broker: Broker,
    /// For what the port does not say.
    pub engine: broker::Broker,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub fn new() -> Self {
        let fixture = Self::with_clock(SystemClock::shared());
        tokio::spawn(fixture.engine.run_timers());
        fixture
    }

    /// A broker whose time stands still until [`Fixture::pass_ms`].
    pub fn frozen() -> (Self, Arc<ManualClock>) {
        let clock = ManualClock::at(1_000_000);
        (Self::with_clock(clock.clone()), clock)
    }

    fn with_clock(clock: SharedClock) -> Self {
        let folder = crate::PAGED.then(|| tempfile::tempdir().unwrap());
        let journal = match &folder {
            None => Journal::in_memory(),
            Some(folder) => {
                let store = Box::new(FolderStore::open(folder.path()).unwrap());
                Journal::open(store, JournalOptions::default(), &mut |_, _, _| Ok(())).unwrap()
            }
        };
        let options = match crate::PAGED {
            true => BrokerOptions { ready_bytes_max: 0 },
            false => BrokerOptions::default(),
        };
        let engine = broker::Broker::with_options(journal, clock, Recovery::default(), options);
        Self { broker: Broker::Embedded(engine.clone()), engine, _folder: folder }
    }

    /// Moves a frozen clock and does what is due then.
    pub fn pass_ms(&self, clock: &ManualClock, by_ms: u64) {
        clock.advance_ms(by_ms);
        self.engine.tick();
    }

    pub async fn declare(&self, spec: QueueSpec) {
        self.broker.declare_queue(spec).await.unwrap();
    }

    /// Bodies of `queue`, taken and acknowledged one by one.
    pub async fn take_all(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(delivery) = self.broker.get(&queue_name(queue)).await.unwrap() {
            bodies.push(text(delivery.message()));
            delivery.ack().await.unwrap();
        }
        bodies
    }

    pub async fn exists(&self, queue: &str) -> bool {
        let queues = self.broker.queues().await.unwrap();
        queues.iter().any(|status| status.name.as_str() == queue)
    }

    pub async fn exchange(&self, exchange: &str, kind: ExchangeKind) {
        let spec = ExchangeSpec::durable(name(exchange), kind);
        self.broker.declare_exchange(spec).await.unwrap();
    }

    pub async fn queue(&self, queue: &str) {
        self.broker.declare_queue(QueueSpec::durable(queue_name(queue))).await.unwrap();
    }

    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        self.broker.bind(&queue_name(queue), &name(exchange), &key(routing_key)).await.unwrap();
    }

    pub async fn publish(&self, exchange: &str, routing_key: &str, body: &str) {
        let message = Message::new(name(exchange), key(routing_key), body.to_owned()).persistent();
        self.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }

    pub async fn consume(&self, queue: &str, prefetch: u16) -> Consumer {
        self.broker.consume(&queue_name(queue), prefetch).await.unwrap()
    }

    pub async fn depth(&self, queue: &str) -> (usize, usize, usize) {
        let queues = self.broker.queues().await.unwrap();
        let status = queues.iter().find(|status| status.name.as_str() == queue).unwrap();
        (status.ready, status.unacked, status.delayed)
    }

    /// Ready bodies in order, without taking them.
    pub async fn bodies(&self, queue: &str) -> Vec<String> {
        let peeked = self.broker.peek(&queue_name(queue), 1_000).await.unwrap();
        peeked.iter().map(|peeked| text(&peeked.message)).collect()
    }
}

/// A durable queue whose dead letters go to `exchange` under `routing_key`.
pub fn dying_queue(queue: &str, exchange: &str, routing_key: Option<&str>) -> QueueSpec {
    QueueSpec::durable(queue_name(queue)).dead_letter(name(exchange), routing_key.map(key))
}

/// Body `body` for `key` on `exchange`, with headers.
pub fn with_headers(
    exchange: &str,
    routing_key: &str,
    body: &str,
    headers: impl IntoIterator<Item = (&'static str, Value)>,
) -> Message {
    let mut message = Message::new(name(exchange), key(routing_key), body.to_owned()).persistent();
    message.properties.headers =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    message
}

/// What a refused call answers a client.
pub fn refusal<T>(outcome: Result<T, BackendError>) -> String {
    match outcome {
        Err(BackendError::Broker(error)) => error.reply_text(),
        Err(other) => panic!("expected the broker's refusal, got {other}"),
        Ok(_) => panic!("expected a refusal"),
    }
}

pub async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time")
        .expect("a live consumer")
}

pub async fn nothing(consumer: &mut Consumer) {
    let silence = tokio::time::timeout(SILENCE, consumer.next()).await;
    assert!(silence.is_err(), "nothing more may be delivered now");
}

pub fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

pub fn name(exchange: &str) -> ExchangeName {
    ExchangeName::new(exchange).unwrap()
}

pub fn queue_name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

pub fn key(routing_key: &str) -> RoutingKey {
    RoutingKey::new(routing_key).unwrap()
}
