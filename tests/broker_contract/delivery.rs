//! Order, prefetch, and what happens to deliveries that are not acknowledged.

use super::fixture::{Fixture, next, text};
use super::peer::on_both;

#[tokio::test]
pub async fn one_consumer_gets_messages_in_publishing_order() {
    on_both(async |f| {
        f.queue("q").await;
        let mut consumer = f.consume("q", 10).await;
        for number in 0..200 {
            f.publish("", "q", &number.to_string()).await;
            if number % 3 == 0 {
                consumer.next().await.ack().await;
            }
        }
        for number in 67..200 {
            let delivery = consumer.next().await;
            assert_eq!(text(delivery.message()), number.to_string());
            delivery.ack().await;
        }
        f.holds("q", (0, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
pub async fn prefetch_bounds_what_is_unsettled_at_once() {
    on_both(async |f| {
        f.queue("q").await;
        for number in 0..5 {
            f.publish("", "q", &number.to_string()).await;
        }
        let mut consumer = f.consume("q", 2).await;
        let first = consumer.next().await;
        let _second = consumer.next().await;
        consumer.nothing().await;
        f.holds("q", (3, 2, 0)).await;
        first.ack().await;
        assert_eq!(text(consumer.next().await.message()), "2");
    })
    .await;
}

#[tokio::test]
pub async fn no_prefetch_limit_delivers_everything_in_order() {
    on_both(async |f| {
        f.queue("q").await;
        for number in 0..3_000 {
            f.publish("", "q", &number.to_string()).await;
        }
        let mut consumer = f.consume("q", 0).await;
        let mut held = Vec::new();
        for number in 0..3_000 {
            let delivery = consumer.next().await;
            assert_eq!(text(delivery.message()), number.to_string());
            held.push(delivery);
        }
        f.holds("q", (0, 3_000, 0)).await;
        for delivery in held {
            delivery.ack().await;
        }
        f.holds("q", (0, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn consumers_take_turns() {
    on_both(async |f| {
        f.queue("q").await;
        let mut a = f.consume("q", 10).await;
        let mut b = f.consume("q", 10).await;
        for number in 0..4 {
            f.publish("", "q", &number.to_string()).await;
        }
        let mut seen = Vec::new();
        for consumer in [&mut a, &mut b] {
            for _ in 0..2 {
                let delivery = consumer.next().await;
                seen.push(text(delivery.message()));
                delivery.ack().await;
            }
            consumer.nothing().await;
        }
        assert_eq!(seen, ["0", "2", "1", "3"]);
    })
    .await;
}

#[tokio::test]
pub async fn a_requeued_message_returns_to_its_old_place_marked_as_redelivered() {
    on_both(async |f| {
        f.queue("q").await;
        for number in 0..3 {
            f.publish("", "q", &number.to_string()).await;
        }
        let mut consumer = f.consume("q", 2).await;
        let first = consumer.next().await;
        assert!(!first.redelivered());
        let second = consumer.next().await;
        consumer.cancel().await;
        second.requeue().await;
        first.requeue().await;
        f.shows("q", &["0", "1", "2"]).await;
        let mut consumer = f.consume("q", 1).await;
        let again = consumer.next().await;
        assert!(again.redelivered());
    })
    .await;
}

/// Embedded only: on the wire a delivery that was sent is the client's until its channel closes.
#[tokio::test]
async fn a_cancelled_consumer_returns_what_it_did_not_take() {
    let f = Fixture::new();
    f.queue("q").await;
    for number in 0..4 {
        f.publish("", "q", &number.to_string()).await;
    }
    let mut consumer = f.consume("q", 3).await;
    let taken = next(&mut consumer).await;
    assert_eq!(f.depth("q").await, (1, 3, 0));
    drop(consumer);
    assert_eq!(f.depth("q").await, (3, 1, 0));
    assert_eq!(f.bodies("q").await, ["1", "2", "3"]);
    let mut other = f.consume("q", 1).await;
    let delivery = next(&mut other).await;
    assert_eq!((text(delivery.message()), delivery.redelivered()), ("1".to_owned(), false));
    taken.ack().await.unwrap();
}

#[tokio::test]
async fn cancelling_every_consumer_ends_them_and_keeps_what_they_hold_settleable() {
    let f = Fixture::new();
    f.queue("q").await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 1).await;
    let delivery = next(&mut consumer).await;
    f.broker.cancel_consumers();
    assert!(consumer.next().await.is_none());
    delivery.ack().await.unwrap();
    assert_eq!(f.depth("q").await, (0, 0, 0));
}
