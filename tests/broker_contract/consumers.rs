//! Who among a queue's consumers gets a message, and how they learn that it is over.

use leveret::backend::{ConsumeOptions, ConsumerEnd, DeleteIf};
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, key, name, next, queue_name, refusal, text};
use super::peer::{Peer, PeerConsumer, on_both};

const IN_USE: &str = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";

async fn consume(f: &Peer, options: ConsumeOptions) -> PeerConsumer {
    f.try_consume("q", options).await.unwrap()
}

#[tokio::test]
pub async fn a_higher_priority_gets_all_while_it_can_take_them() {
    on_both(async |f| {
        f.queue("q").await;
        let with = |priority, prefetch| ConsumeOptions { priority, prefetch, ..Default::default() };
        let mut low = consume(f, with(-1, 1)).await;
        let mut high = consume(f, with(5, 2)).await;
        for body in ["1", "2", "3"] {
            f.publish("", "q", body).await;
        }
        let first = high.next().await;
        assert_eq!(text(first.message()), "1");
        let second = high.next().await;
        assert_eq!(text(second.message()), "2");
        let third = low.next().await;
        assert_eq!(text(third.message()), "3");
        first.ack().await;
        f.publish("", "q", "4").await;
        let fourth = high.next().await;
        assert_eq!(text(fourth.message()), "4");
    })
    .await;
}

#[tokio::test]
pub async fn an_exclusive_consumer_is_alone() {
    on_both(async |f| {
        f.queue("q").await;
        let exclusive = ConsumeOptions { exclusive: true, ..Default::default() };
        let alone = consume(f, exclusive).await;
        assert_eq!(
            f.try_consume("q", ConsumeOptions::default()).await.err().as_deref(),
            Some(IN_USE)
        );
        // Getting is not consuming.
        assert!(f.try_get("q").await.unwrap().is_none());
        alone.cancel().await;
        let other = f.consume("q", 1).await;
        assert_eq!(f.try_consume("q", exclusive).await.err().as_deref(), Some(IN_USE));
        other.cancel().await;
        consume(f, exclusive).await;
    })
    .await;
}

#[tokio::test]
async fn a_single_active_consumer_hands_over_in_order() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).single_active_consumer()).await;
        let mut consumers = Vec::new();
        for _ in 0..3 {
            consumers.push(f.consume("q", 1).await);
        }
        for body in ["1", "2"] {
            f.publish("", "q", body).await;
        }
        let mut first = consumers.remove(0);
        let taken = first.next().await;
        assert_eq!(text(taken.message()), "1");
        consumers[0].nothing().await;
        consumers[1].nothing().await;
        first.leave(taken).await;
        for body in ["1", "2"] {
            let taken = consumers[0].next().await;
            assert_eq!(
                (text(taken.message()), taken.redelivered()),
                (body.to_owned(), body == "1")
            );
            taken.ack().await;
        }
        f.publish("", "q", "3").await;
        assert_eq!(text(consumers[0].next().await.message()), "3");
        consumers[1].nothing().await;
        let exclusive = ConsumeOptions { exclusive: true, ..Default::default() };
        let refused = f.try_consume("q", exclusive).await;
        assert_eq!(refused.err().as_deref(), Some(IN_USE));
    })
    .await;
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
    let late = refusal(held.ack().await);
    assert!(late.starts_with("PRECONDITION_FAILED - ") && late.contains("taken it back"), "{late}");
    assert_eq!(f.take_all("q").await, ["1", "2"]);
    assert_eq!(slow.ended(), Some(ConsumerEnd::TimedOut));
}

#[tokio::test]
async fn what_a_timed_out_consumer_had_not_looked_at_is_not_handed_to_it_any_more() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).consumer_timeout_ms(1_000)).await;
    for body in ["1", "2", "3"] {
        f.publish("", "q", body).await;
    }
    let mut slow = f.consume("q", 3).await;
    let _held = next(&mut slow).await;
    f.pass_ms(&clock, 1_000);
    assert!(slow.next().await.is_none());
    assert_eq!(f.take_all("q").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn what_needs_no_acknowledgement_is_never_held_too_long() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).consumer_timeout_ms(1_000)).await;
    for body in ["1", "2"] {
        f.publish("", "q", body).await;
    }
    let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    let mut slow = f.broker.consume_with(&queue_name("q"), options).await.unwrap();
    assert_eq!(text(next(&mut slow).await.message()), "1");
    f.pass_ms(&clock, 5_000);
    // Beside it another one is watched as ever.
    let mut holder = f.broker.consume(&queue_name("q"), 1).await.unwrap();
    for body in ["3", "4"] {
        f.publish("", "q", body).await;
    }
    let held = next(&mut holder).await;
    f.pass_ms(&clock, 1_000);
    assert_eq!(holder.ended(), Some(ConsumerEnd::TimedOut));
    drop(held);
    assert_eq!(text(next(&mut slow).await.message()), "2");
    assert_eq!(slow.ended(), None);
}

/// As on the real server, but that there the whole channel ends at once.
#[tokio::test]
async fn a_channel_that_settles_too_late_is_told_so() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).consumer_timeout_ms(1_000)).await;
    f.queue("gone").await;
    for queue in ["q", "q", "q", "gone"] {
        f.publish("", queue, "1").await;
    }
    let mut channel = f.engine.channel(None);
    let mut tags = Vec::new();
    for queue in ["q", "q", "q", "gone"] {
        tags.push(channel.get(&queue_name(queue), false).unwrap().unwrap().0.delivery_tag);
    }
    f.pass_ms(&clock, 1_000);
    assert_eq!(f.depth("q").await, (3, 0, 0));
    let unknown = |tag: u64| format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    for (settled, tag) in [
        (channel.ack(tags[0], false), tags[0]),
        (channel.ack(tags[1], true), tags[1]),
        (channel.nack(tags[2], false, true), tags[2]),
    ] {
        assert_eq!(settled.unwrap_err().reply_text(), unknown(tag));
    }
    assert_eq!(f.depth("q").await, (3, 0, 0));
    // A queue that is deleted settles what it had given out: that is no fault of who acknowledges it.
    f.broker.delete_queue(&queue_name("gone"), DeleteIf::default()).await.unwrap();
    channel.ack(tags[3], false).unwrap();
}

#[tokio::test]
async fn what_a_slow_consumer_loses_dies_in_its_order() {
    let (f, clock) = Fixture::frozen();
    f.queue("dead").await;
    let spec = QueueSpec::durable(queue_name("q")).delivery_limit(0).consumer_timeout_ms(1_000);
    f.declare(spec.dead_letter(name(""), Some(key("dead")))).await;
    let bodies: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for body in &bodies {
        f.publish("", "q", body).await;
    }
    let _slow = f.consume("q", 20).await;
    f.pass_ms(&clock, 1_000);
    assert_eq!(f.bodies("dead").await, bodies);
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
