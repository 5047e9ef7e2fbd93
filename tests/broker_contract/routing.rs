//! A message reaches exactly the queues that its exchange's kind says, each once.

use leveret::model::message::Message;
use leveret::model::topology::ExchangeKind;

use super::fixture::{Fixture, key, name};
use super::peer::on_both;

#[tokio::test]
pub async fn the_default_exchange_routes_to_the_queue_that_the_key_names() {
    on_both(async |f| {
        f.queue("a").await;
        f.queue("b").await;
        f.publish("", "a", "1").await;
        f.shows("a", &["1"]).await;
        f.shows("b", &[]).await;
    })
    .await;
}

#[tokio::test]
pub async fn a_direct_exchange_compares_the_whole_key() {
    on_both(async |f| {
        f.exchange("x", ExchangeKind::Direct).await;
        for queue in ["a", "b", "c"] {
            f.queue(queue).await;
        }
        f.bind("a", "x", "red").await;
        f.bind("b", "x", "red").await;
        f.bind("c", "x", "reds").await;
        f.publish("x", "red", "1").await;
        for (queue, ready) in [("a", 1), ("b", 1), ("c", 0)] {
            f.holds(queue, (ready, 0, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
pub async fn a_fanout_exchange_gives_one_copy_a_queue_however_it_is_bound() {
    on_both(async |f| {
        f.exchange("x", ExchangeKind::Fanout).await;
        f.queue("a").await;
        f.queue("b").await;
        f.bind("a", "x", "one").await;
        f.bind("a", "x", "two").await;
        f.bind("b", "x", "").await;
        f.publish("x", "whatever", "1").await;
        for queue in ["a", "b"] {
            f.holds(queue, (1, 0, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
pub async fn a_topic_exchange_gives_one_copy_however_many_patterns_match() {
    on_both(async |f| {
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
        f.shows("a", &["1", "2"]).await;
        f.shows("b", &["1"]).await;
        f.shows("c", &["2"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_unroutable_message_is_dropped_and_confirmed() {
    on_both(async |f| {
        f.exchange("x", ExchangeKind::Topic).await;
        f.publish("x", "nobody", "1").await;
        f.publish("", "no-such-queue", "1").await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_exchange_is_refused_by_name() {
    on_both(async |f| {
        let message = Message::new(name("nowhere"), key("k"), "1");
        assert_eq!(
            f.send(message).await.unwrap_err(),
            "NOT_FOUND - no exchange 'nowhere' in vhost '/'"
        );
    })
    .await;
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
