//! A message reaches exactly the queues that its exchange's kind says, each once.

use leveret::backend::BackendError;
use leveret::broker::BrokerError;
use leveret::model::message::Message;
use leveret::model::topology::ExchangeKind;

use super::fixture::{Fixture, key, name};

#[tokio::test]
async fn the_default_exchange_routes_to_the_queue_that_the_key_names() {
    let f = Fixture::new();
    f.queue("a").await;
    f.queue("b").await;
    f.publish("", "a", "1").await;
    assert_eq!(f.bodies("a").await, ["1"]);
    assert!(f.bodies("b").await.is_empty());
}

#[tokio::test]
async fn a_direct_exchange_compares_the_whole_key() {
    let f = Fixture::new();
    f.exchange("x", ExchangeKind::Direct).await;
    for queue in ["a", "b", "c"] {
        f.queue(queue).await;
    }
    f.bind("a", "x", "red").await;
    f.bind("b", "x", "red").await;
    f.bind("c", "x", "reds").await;
    f.publish("x", "red", "1").await;
    assert_eq!(
        (f.bodies("a").await.len(), f.bodies("b").await.len(), f.bodies("c").await.len()),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_fanout_exchange_gives_one_copy_a_queue_however_it_is_bound() {
    let f = Fixture::new();
    f.exchange("x", ExchangeKind::Fanout).await;
    f.queue("a").await;
    f.queue("b").await;
    f.bind("a", "x", "one").await;
    f.bind("a", "x", "two").await;
    f.bind("b", "x", "").await;
    f.publish("x", "whatever", "1").await;
    assert_eq!((f.bodies("a").await.len(), f.bodies("b").await.len()), (1, 1));
}

#[tokio::test]
async fn a_topic_exchange_gives_one_copy_however_many_patterns_match() {
    let f = Fixture::new();
    f.exchange("x", ExchangeKind::Topic).await;
    for queue in ["a", "b", "c"] {
        f.queue(queue).await;
    }
    f.bind("a", "x", "order.*").await;
    f.bind("a", "x", "#").await;
    f.bind("b", "x", "*.created").await;
    f.bind("c", "x", "order").await;
    f.publish("x", "order.created", "1").await;
    f.publish("x", "order", "2").await;
    assert_eq!(f.bodies("a").await, ["1", "2"]);
    assert_eq!(f.bodies("b").await, ["1"]);
    assert_eq!(f.bodies("c").await, ["2"]);
}

#[tokio::test]
async fn an_unroutable_message_is_dropped_and_confirmed() {
    let f = Fixture::new();
    f.exchange("x", ExchangeKind::Topic).await;
    f.publish("x", "nobody", "1").await;
    f.publish("", "no-such-queue", "1").await;
}

#[tokio::test]
async fn an_unknown_exchange_is_refused_by_name() {
    let f = Fixture::new();
    let message = Message::new(name("nowhere"), key("k"), "1");
    match f.broker.publish(message).await.err() {
        Some(BackendError::Broker(BrokerError::NotFound { what: "exchange", name, .. })) => {
            assert_eq!(name, "nowhere")
        }
        other => panic!("expected not found, got {other:?}"),
    }
}

#[tokio::test]
async fn headers_that_nest_without_end_are_refused_before_anything_follows_them() {
    let f = Fixture::new();
    f.queue("q").await;
    let mut message = Message::new(name(""), key("q"), "1").persistent();
    let mut value = leveret::model::message::Value::Void;
    for _ in 0..64 {
        value = vec![value].into();
    }
    message.properties.headers.set("deep", value);
    let refused = f.broker.publish(message).await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("levels deep")));
    assert!(f.bodies("q").await.is_empty());
}
