//! The broker port on a real RabbitMQ: what AMQP does not have, and what happens when the server or the way
//! to it fails. Runs beside a server: `tests/with-rabbitmq cargo test --features rabbitmq --test rabbitmq_faults`.
#![cfg(feature = "rabbitmq")]

mod carried;
mod differences;
mod faults;
mod proxy;
mod served;
mod stalled;
mod window;

use std::time::Duration;

use leveret::backend::{Address, BackendError, Broker, Consumer, Delivery, RabbitMq};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's URL; `None`: the suite does not run beside one.
fn server() -> Option<String> {
    std::env::var("LEVERET_RABBITMQ").ok()
}

/// Where the server listens.
fn listener(url: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap().to_owned()
}

async fn connect(url: &str) -> Result<Broker, BackendError> {
    let address = Address::parse(url).unwrap();
    RabbitMq::connect(address, SystemClock::shared()).await.map(Broker::RabbitMq)
}

/// A name that no other test uses.
fn unique(what: &str) -> QueueName {
    QueueName::new(format!("{what}-{}", uuid::Uuid::new_v4().simple())).unwrap()
}

fn to(queue: &QueueName, body: impl Into<String>) -> Message {
    let key = RoutingKey::new(queue.as_str()).unwrap();
    Message::new(ExchangeName::default_exchange(), key, body.into()).persistent()
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
    next.expect("a delivery in time").expect("a live consumer")
}

async fn delete(broker: &Broker, queues: &[&QueueName]) {
    for queue in queues {
        broker.delete_queue(queue, Default::default()).await.unwrap();
    }
}
