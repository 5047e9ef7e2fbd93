//! What the data folder promises: it holds what was confirmed, and nothing that was settled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leveret::backend::{Broker, Delivery, Embedded};
use leveret::broker::DeleteIf;
use leveret::journal::{JournalOptions, OpenError};
use leveret::model::clock::ManualClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{Backoff, ExchangeKind, ExchangeSpec, QueueSpec, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(20);

fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn key(name: &str) -> RoutingKey {
    RoutingKey::new(name).unwrap()
}

async fn declare(broker: &Broker, name: &str) {
    broker.declare_queue(QueueSpec::durable(queue(name))).await.unwrap();
}

async fn publish(broker: &Broker, to: &str, routing_key: &str, body: &str) {
    let message = Message::new(exchange(to), key(routing_key), body.to_owned()).persistent();
    broker.publish(message).await.unwrap().confirmed().await.unwrap();
}

async fn take(broker: &Broker, name: &str) -> Delivery {
    let mut consumer = broker.consume(&queue(name), 1).await.unwrap();
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("in time")
        .expect("a live consumer")
}

async fn bodies(broker: &Broker, name: &str) -> Vec<String> {
    let peeked = broker.peek(&queue(name), 10_000).await.unwrap();
    peeked.iter().map(|peeked| String::from_utf8(peeked.message.body.to_vec()).unwrap()).collect()
}

async fn reopened(leveret: Embedded, folder: &Path) -> Embedded {
    leveret.close().await.unwrap();
    Embedded::open(folder).unwrap()
}

fn open_at(folder: &Path, clock: &Arc<ManualClock>) -> Embedded {
    Embedded::open_with(folder, JournalOptions::default(), clock.clone()).unwrap()
}

#[tokio::test]
async fn topology_and_confirmed_messages_come_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let broker = leveret.broker();
    let spec = ExchangeSpec::durable(exchange("events"), ExchangeKind::Topic);
    broker.declare_exchange(spec).await.unwrap();
    declare(&broker, "q").await;
    broker.bind(&queue("q"), &exchange("events"), &key("order.*")).await.unwrap();
    let mut message = Message::new(exchange("events"), key("order.created"), "first").persistent();
    message.properties.headers.set("trace", "abc");
    message.properties.correlation_id = Some("7".to_owned());
    let first = message.clone();
    broker.publish(message).await.unwrap().confirmed().await.unwrap();
    for number in 0..500 {
        publish(&broker, "events", "order.created", &number.to_string()).await;
    }

    let leveret = reopened(leveret, folder.path()).await;
    let broker = leveret.broker();
    let found = bodies(&broker, "q").await;
    assert_eq!(found.len(), 501);
    assert!(found[1..].iter().enumerate().all(|(number, body)| *body == number.to_string()));
    let delivery = take(&broker, "q").await;
    assert_eq!(*delivery.message(), first);
    // Nobody had seen it before the clean stop.
    assert!(!delivery.redelivered());
    // The binding is there, and a new message comes after the old ones.
    publish(&broker, "events", "order.paid", "last").await;
    assert_eq!(bodies(&broker, "q").await.last().map(String::as_str), Some("last"));
}

#[tokio::test]
async fn what_was_acknowledged_or_is_transient_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let broker = leveret.broker();
    declare(&broker, "q").await;
    for body in ["acked", "held", "waiting"] {
        publish(&broker, "", "q", body).await;
    }
    let transient = Message::new(exchange(""), key("q"), "transient");
    broker.publish(transient).await.unwrap().confirmed().await.unwrap();
    take(&broker, "q").await.ack().await.unwrap();
    let held = take(&broker, "q").await;
    assert_eq!(&held.message().body[..], b"held");

    let leveret = reopened(leveret, folder.path()).await;
    assert_eq!(bodies(&leveret.broker(), "q").await, ["held", "waiting"]);
}

#[tokio::test]
async fn a_message_in_two_queues_is_settled_in_each_on_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let broker = leveret.broker();
    for name in ["a", "b"] {
        declare(&broker, name).await;
        broker.bind(&queue(name), &exchange("amq.fanout"), &key("")).await.unwrap();
    }
    publish(&broker, "amq.fanout", "", "1").await;
    publish(&broker, "amq.fanout", "", "2").await;
    take(&broker, "a").await.ack().await.unwrap();

    let leveret = reopened(leveret, folder.path()).await;
    let broker = leveret.broker();
    assert_eq!(bodies(&broker, "a").await, ["2"]);
    assert_eq!(bodies(&broker, "b").await, ["1", "2"]);
    take(&broker, "b").await.ack().await.unwrap();

    let leveret = reopened(leveret, folder.path()).await;
    assert_eq!(bodies(&leveret.broker(), "b").await, ["2"]);
}

#[tokio::test]
async fn a_retry_waits_out_its_time_over_a_restart_and_keeps_its_count() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let leveret = open_at(folder.path(), &clock);
    let broker = leveret.broker();
    let retry =
        RetryPolicy { attempts_max: 2, backoff: Backoff::Fixed { delay_ms: 400 }, jitter: 0.0 };
    declare(&broker, "dead").await;
    let spec =
        QueueSpec::durable(queue("q")).retry(retry).dead_letter(exchange(""), Some(key("dead")));
    broker.declare_queue(spec).await.unwrap();
    publish(&broker, "", "q", "1").await;
    take(&broker, "q").await.fail("first").await.unwrap();

    leveret.close().await.unwrap();
    let leveret = open_at(folder.path(), &clock);
    let broker = leveret.broker();
    let status = broker.queues().await.unwrap();
    let status = status.iter().find(|status| status.name.as_str() == "q").unwrap();
    assert_eq!((status.ready, status.delayed), (0, 1));
    clock.advance_ms(400);
    let again = take(&broker, "q").await;
    assert_eq!(again.retry_count(), 1);
    again.fail("second").await.unwrap();

    // The limit counts the attempts of both lives, and the dead letter is in one place.
    let leveret = reopened(leveret, folder.path()).await;
    let broker = leveret.broker();
    assert_eq!(bodies(&broker, "q").await, Vec::<String>::new());
    assert_eq!(bodies(&broker, "dead").await, ["1"]);
}

#[tokio::test]
async fn a_queue_deleted_and_declared_again_revives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let engine = leveret.broker_engine().clone();
    declare(&leveret.broker(), "q").await;
    publish(&leveret.broker(), "", "q", "old").await;
    assert_eq!(
        engine.delete_queue(&queue("q"), DeleteIf { unused: false, empty: false }).unwrap(),
        1
    );
    declare(&leveret.broker(), "q").await;
    publish(&leveret.broker(), "", "q", "new").await;
    drop(engine);

    let leveret = reopened(leveret, folder.path()).await;
    assert_eq!(bodies(&leveret.broker(), "q").await, ["new"]);
}

#[tokio::test]
async fn keys_come_back_with_their_time_to_live() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let cache = leveret.cache();
    cache.set("stays", "1", None).await.unwrap();
    cache.set("goes", "2", Some(Duration::from_millis(1))).await.unwrap();
    cache.set("later", "3", Some(Duration::from_secs(600))).await.unwrap();
    cache.set("deleted", "4", None).await.unwrap();
    assert!(cache.delete("deleted").await.unwrap());
    for number in 0..150 {
        cache
            .push_capped("list", number.to_string().into(), 100)
            .await
            .unwrap()
            .durable()
            .await
            .unwrap();
    }

    let leveret = reopened(leveret, folder.path()).await;
    let cache = leveret.cache();
    assert_eq!(cache.get("stays").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(cache.get("goes").await.unwrap(), None);
    assert_eq!(cache.get("later").await.unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(cache.get("deleted").await.unwrap(), None);
    let list = cache.list_range("list", 0, -1).await.unwrap();
    let expected: Vec<String> = (50..150).rev().map(|number| number.to_string()).collect();
    assert!(list.iter().map(|item| &item[..]).eq(expected.iter().map(String::as_bytes)));
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    match Embedded::open(folder.path()) {
        Err(error @ OpenError::InUse { .. }) => {
            assert!(error.to_string().contains("in use"), "{error}")
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("opened twice"),
    }
    leveret.close().await.unwrap();
    Embedded::open(folder.path()).unwrap();
}

fn folder_bytes(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Publishes first and acknowledges later, so that messages are written before they are settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_messages_published_and_acknowledged_leave_the_folder_small() {
    const ROUNDS: usize = 100;
    const MESSAGES_A_ROUND: usize = 10_000;
    const FOLDER_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let broker = leveret.broker();
    declare(&broker, "q").await;
    let mut consumer = broker.consume(&queue("q"), 0).await.unwrap();
    let body = bytes::Bytes::from(vec![b'x'; 200]);
    for _ in 0..ROUNDS {
        let mut last = None;
        for _ in 0..MESSAGES_A_ROUND {
            let message = Message::new(exchange(""), key("q"), body.clone()).persistent();
            last = Some(broker.publish(message).await.unwrap());
        }
        last.unwrap().confirmed().await.unwrap();
        for _ in 0..MESSAGES_A_ROUND {
            consumer.next().await.unwrap().ack().await.unwrap();
        }
    }
    drop(consumer);
    leveret.close().await.unwrap();
    let bytes = folder_bytes(folder.path());
    assert!(bytes < FOLDER_BYTES_MAX, "{} MiB", bytes >> 20);
    let leveret = Embedded::open(folder.path()).unwrap();
    assert!(bodies(&leveret.broker(), "q").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_writes_of_one_key_leave_the_folder_small() {
    const FOLDER_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let cache = leveret.cache();
    for number in 0..1_000_000 {
        cache.set("counter", number.to_string(), None).await.unwrap();
    }
    leveret.close().await.unwrap();
    let bytes = folder_bytes(folder.path());
    assert!(bytes < FOLDER_BYTES_MAX, "{} MiB", bytes >> 20);
    let leveret = Embedded::open(folder.path()).unwrap();
    assert_eq!(leveret.cache().get("counter").await.unwrap().as_deref(), Some(&b"999999"[..]));
}
