//! Who among a queue's consumers gets a message, and how they learn that it is over.

use leveret::backend::{ConsumeOptions, Consumer, ConsumerEnd, DeleteIf};
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, next, nothing, queue_name, refusal, text};

const IN_USE: &str = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";

async fn consume(f: &Fixture, options: ConsumeOptions) -> Consumer {
    f.broker.consume_with(&queue_name("q"), options).await.unwrap()
}

#[tokio::test]
async fn a_higher_priority_gets_all_while_it_can_take_them() {
    let f = Fixture::new();
    f.queue("q").await;
    let with = |priority, prefetch| ConsumeOptions { priority, prefetch, ..Default::default() };
    let mut low = consume(&f, with(-1, 10)).await;
    let mut high = consume(&f, with(5, 2)).await;
    for body in ["1", "2", "3"] {
        f.publish("", "q", body).await;
    }
    let first = next(&mut high).await;
    assert_eq!(text(first.message()), "1");
    assert_eq!(text(next(&mut high).await.message()), "2");
    assert_eq!(text(next(&mut low).await.message()), "3");
    first.ack().await.unwrap();
    f.publish("", "q", "4").await;
    assert_eq!(text(next(&mut high).await.message()), "4");
}

#[tokio::test]
async fn an_exclusive_consumer_is_alone() {
    let f = Fixture::new();
    f.queue("q").await;
    let exclusive = ConsumeOptions { exclusive: true, ..Default::default() };
    let alone = consume(&f, exclusive).await;
    let q = queue_name("q");
    assert_eq!(refusal(f.broker.consume(&q, 1).await.map(|_| ())), IN_USE);
    // Getting is not consuming.
    assert!(f.broker.get(&q).await.unwrap().is_none());
    drop(alone);
    let other = f.consume("q", 1).await;
    assert_eq!(refusal(f.broker.consume_with(&q, exclusive).await.map(|_| ())), IN_USE);
    drop(other);
    consume(&f, exclusive).await;
}

#[tokio::test]
async fn a_single_active_consumer_hands_over_in_order() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).single_active_consumer()).await;
    let mut consumers = Vec::new();
    for _ in 0..3 {
        consumers.push(f.consume("q", 10).await);
    }
    for body in ["1", "2"] {
        f.publish("", "q", body).await;
    }
    let mut first = consumers.remove(0);
    let taken = next(&mut first).await;
    assert_eq!(text(taken.message()), "1");
    nothing(&mut consumers[0]).await;
    nothing(&mut consumers[1]).await;
    drop(first);
    assert_eq!(text(next(&mut consumers[0]).await.message()), "2");
    f.publish("", "q", "3").await;
    assert_eq!(text(next(&mut consumers[0]).await.message()), "3");
    nothing(&mut consumers[1]).await;
    taken.ack().await.unwrap();
    let exclusive = ConsumeOptions { exclusive: true, ..Default::default() };
    let refused = f.broker.consume_with(&queue_name("q"), exclusive).await;
    assert_eq!(refusal(refused.map(|_| ())), IN_USE);
}

#[tokio::test]
async fn a_consumer_learns_why_it_ended() {
    let f = Fixture::new();
    f.queue("q").await;
    let mut consumer = f.consume("q", 1).await;
    assert_eq!(consumer.ended(), None);
    f.broker.delete_queue(&queue_name("q"), DeleteIf::default()).await.unwrap();
    assert!(consumer.next().await.is_none());
    assert_eq!(consumer.ended(), Some(ConsumerEnd::QueueDeleted));
    f.queue("q").await;
    let mut consumer = f.consume("q", 1).await;
    f.broker.cancel_consumers();
    assert!(consumer.next().await.is_none());
    assert_eq!(consumer.ended(), Some(ConsumerEnd::Cancelled));
}

#[tokio::test]
async fn a_consumer_that_sits_on_a_delivery_is_ended_and_its_messages_return() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).consumer_timeout_ms(1_000)).await;
    for body in ["1", "2"] {
        f.publish("", "q", body).await;
    }
    let mut slow = f.consume("q", 2).await;
    let held = next(&mut slow).await;
    f.pass_ms(&clock, 999);
    assert_eq!(f.depth("q").await, (0, 2, 0));
    f.pass_ms(&clock, 1);
    assert_eq!(f.depth("q").await, (2, 0, 0));
    // What it held is no longer its to settle.
    held.ack().await.unwrap();
    assert_eq!(f.take_all("q").await, ["1", "2"]);
    assert_eq!(slow.ended(), Some(ConsumerEnd::TimedOut));
}

#[tokio::test]
async fn settling_in_time_keeps_a_consumer() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).consumer_timeout_ms(1_000)).await;
    let mut consumer = f.consume("q", 1).await;
    for body in ["1", "2", "3"] {
        f.publish("", "q", body).await;
        let delivery = next(&mut consumer).await;
        f.pass_ms(&clock, 900);
        delivery.ack().await.unwrap();
    }
    f.pass_ms(&clock, 10_000);
    assert_eq!(consumer.ended(), None);
}
