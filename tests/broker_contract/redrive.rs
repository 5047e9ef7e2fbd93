//! A dead letter goes back to where it died, as it was, or mended.

use leveret::backend::BackendError;
use leveret::broker::BrokerError;
use leveret::model::message::Message;
use leveret::model::topology::ExchangeKind;

use super::fixture::{Fixture, dying_queue, key, name, next, queue_name, text};

async fn one_dead(f: &Fixture) -> String {
    f.exchange("events", ExchangeKind::Topic).await;
    f.exchange("dlx", ExchangeKind::Direct).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "failed").await;
    f.broker.declare_queue(dying_queue("q", "dlx", Some("failed"))).await.unwrap();
    f.bind("q", "events", "order.*").await;
    f.publish("events", "order.created", "broken").await;
    let mut consumer = f.consume("q", 1).await;
    next(&mut consumer).await.fail("no").await.unwrap();
    let peeked = f.broker.peek(&queue_name("dead"), 10).await.unwrap();
    assert_eq!(peeked.len(), 1);
    peeked[0].id.clone()
}

#[tokio::test]
async fn a_redriven_message_is_as_it_was_before_it_died() {
    let f = Fixture::new();
    let id = one_dead(&f).await;
    assert!(f.broker.redrive(&queue_name("dead"), &id, None).await.unwrap());
    assert_eq!(f.depth("dead").await, (0, 0, 0));
    let mut consumer = f.consume("q", 1).await;
    let delivery = next(&mut consumer).await;
    let message: &Message = delivery.message();
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("events", "order.created")
    );
    assert_eq!(text(message), "broken");
    assert!(message.properties.headers.is_empty());
    assert!(message.properties.persistent);
    assert_eq!(delivery.retry_count(), 0);
}

#[tokio::test]
async fn a_redriven_message_can_be_mended() {
    let f = Fixture::new();
    let id = one_dead(&f).await;
    assert!(f.broker.redrive(&queue_name("dead"), &id, Some("mended".into())).await.unwrap());
    assert_eq!(f.bodies("q").await, ["mended"]);
}

#[tokio::test]
async fn an_unknown_id_redrives_nothing_and_a_living_message_is_refused() {
    let f = Fixture::new();
    let _id = one_dead(&f).await;
    assert!(!f.broker.redrive(&queue_name("dead"), "999999", None).await.unwrap());
    assert!(!f.broker.redrive(&queue_name("dead"), "not a number", None).await.unwrap());
    f.broker
        .publish(Message::new(name(""), key("dead"), "alive").persistent())
        .await
        .unwrap()
        .confirmed()
        .await
        .unwrap();
    let peeked = f.broker.peek(&queue_name("dead"), 10).await.unwrap();
    let refused = f.broker.redrive(&queue_name("dead"), &peeked[1].id, None).await;
    assert!(
        matches!(refused, Err(BackendError::Broker(BrokerError::NotRedrivable { .. }))),
        "{refused:?}"
    );
    assert_eq!(f.bodies("dead").await, ["broken", "alive"]);
}

#[tokio::test]
async fn what_lies_behind_a_redriven_message_expires_in_time() {
    let (f, clock) = Fixture::frozen();
    let id = one_dead(&f).await;
    let mut short = Message::new(name(""), key("dead"), "short").persistent();
    short.properties.expiration_ms = Some(10);
    f.broker.publish(short).await.unwrap().confirmed().await.unwrap();
    assert!(f.broker.redrive(&queue_name("dead"), &id, None).await.unwrap());
    f.pass_ms(&clock, 11);
    assert_eq!(f.depth("dead").await, (0, 0, 0));
}
