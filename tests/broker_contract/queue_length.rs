//! A queue's maximum length, and what happens to the message that is one too many.

use leveret::backend::BackendError;
use leveret::broker::BrokerError;
use leveret::model::message::{Message, Value};
use leveret::model::topology::{ExchangeKind, Overflow, QueueSpec};

use super::fixture::{Fixture, key, name, queue_name, text};

/// Whether the publish was confirmed by an ack.
async fn acked(f: &Fixture, queue: &str, body: &str) -> bool {
    let message = Message::new(name(""), key(queue), body.to_owned()).persistent();
    match f.broker.publish(message).await.unwrap().confirmed().await {
        Ok(()) => true,
        Err(BackendError::Broker(BrokerError::Nacked { name })) => {
            assert_eq!(name, queue);
            false
        }
        Err(other) => panic!("expected a nack, got {other}"),
    }
}

async fn with_dead_letters(f: &Fixture, length_max: u64, overflow: Overflow) {
    f.exchange("dlx", ExchangeKind::Fanout).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "").await;
    let spec = QueueSpec::durable(queue_name("q")).length_max(length_max, overflow);
    f.declare(spec.dead_letter(name("dlx"), None)).await;
}

#[tokio::test]
async fn drop_head_dead_letters_the_oldest() {
    let f = Fixture::new();
    with_dead_letters(&f, 2, Overflow::DropHead).await;
    for body in ["1", "2", "3", "4"] {
        assert!(acked(&f, "q", body).await);
    }
    assert_eq!(f.bodies("q").await, ["3", "4"]);
    assert_eq!(f.bodies("dead").await, ["1", "2"]);
    let dead = f.broker.get(&queue_name("dead")).await.unwrap().unwrap();
    let headers = &dead.message().properties.headers;
    assert_eq!(headers.get("x-first-death-reason").and_then(Value::as_text), Some("maxlen"));
    dead.ack().await.unwrap();
}

#[tokio::test]
async fn unacknowledged_messages_do_not_count_and_a_returned_one_may_be_the_oldest() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).length_max(1, Overflow::DropHead)).await;
    assert!(acked(&f, "q", "a").await);
    let taken = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    assert!(acked(&f, "q", "b").await);
    taken.requeue().await.unwrap();
    assert_eq!(f.bodies("q").await, ["b"]);
}

#[tokio::test]
async fn reject_publish_nacks_the_newest_and_drops_it() {
    let f = Fixture::new();
    with_dead_letters(&f, 2, Overflow::RejectPublish).await;
    let mut acks = Vec::new();
    for body in ["1", "2", "3"] {
        acks.push(acked(&f, "q", body).await);
    }
    assert_eq!(acks, [true, true, false]);
    assert_eq!(f.bodies("q").await, ["1", "2"]);
    assert!(f.bodies("dead").await.is_empty());
    let taken = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    assert!(acked(&f, "q", "4").await);
    taken.requeue().await.unwrap();
    assert_eq!(f.bodies("q").await, ["1", "2", "4"]);
}

#[tokio::test]
async fn reject_publish_dlx_dead_letters_what_it_nacks() {
    let f = Fixture::new();
    with_dead_letters(&f, 1, Overflow::RejectPublishDlx).await;
    assert!(acked(&f, "q", "1").await);
    assert!(!acked(&f, "q", "2").await);
    assert_eq!(f.bodies("q").await, ["1"]);
    assert_eq!(f.bodies("dead").await, ["2"]);
}

#[tokio::test]
async fn one_queue_that_refuses_does_not_keep_the_others_from_their_copy() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("full")).length_max(0, Overflow::RejectPublish)).await;
    f.queue("free").await;
    for queue in ["full", "free"] {
        f.bind(queue, "amq.fanout", "").await;
    }
    let message = Message::new(name("amq.fanout"), key(""), "1").persistent();
    let outcome = f.broker.publish(message).await.unwrap().confirmed().await;
    assert!(matches!(outcome, Err(BackendError::Broker(BrokerError::Nacked { .. }))));
    assert_eq!(f.bodies("free").await, ["1"]);
    assert!(f.bodies("full").await.is_empty());
}

#[tokio::test]
async fn bytes_are_those_of_the_ready_bodies() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).length_bytes_max(10, Overflow::DropHead)).await;
    for body in ["1234", "5678", "9012"] {
        assert!(acked(&f, "q", body).await);
    }
    assert_eq!(f.bodies("q").await, ["5678", "9012"]);
    assert_eq!(f.engine.queue_status(&queue_name("q")).unwrap().ready_bytes, 8);
}

#[tokio::test]
async fn a_consumer_that_waits_gets_a_message_past_a_maximum_of_none() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).length_max(0, Overflow::DropHead)).await;
    let mut consumer = f.consume("q", 1).await;
    assert!(acked(&f, "q", "1").await);
    assert!(acked(&f, "q", "2").await);
    assert_eq!(text(super::fixture::next(&mut consumer).await.message()), "1");
    assert_eq!(f.depth("q").await.0, 0);
}

#[tokio::test]
async fn what_expired_behind_a_dropped_head_goes_with_it() {
    let (f, clock) = Fixture::frozen();
    f.queue("dead").await;
    let spec = QueueSpec::durable(queue_name("q")).length_max(2, Overflow::DropHead);
    f.declare(spec.dead_letter(name(""), Some(key("dead")))).await;
    f.publish("", "q", "dropped").await;
    let mut short = Message::new(name(""), key("q"), "expired").persistent();
    short.properties.expiration_ms = Some(10);
    f.broker.publish(short).await.unwrap().confirmed().await.unwrap();
    f.pass_ms(&clock, 11);
    assert_eq!(f.bodies("q").await, ["dropped", "expired"]);
    f.publish("", "q", "last").await;
    assert_eq!(f.bodies("q").await, ["last"]);
    let mut reasons = Vec::new();
    while let Some(dead) = f.broker.get(&queue_name("dead")).await.unwrap() {
        let reason = dead.message().properties.headers.get("x-first-death-reason").cloned();
        reasons.push((text(dead.message()), reason.and_then(|r| r.as_text().map(str::to_owned))));
        dead.ack().await.unwrap();
    }
    let reason = |reason: &str| Some(reason.to_owned());
    assert_eq!(
        reasons,
        [("dropped".to_owned(), reason("maxlen")), ("expired".to_owned(), reason("expired"))]
    );
}
