//! The memory alarm: publishers wait and are told, consumers go on.

use std::time::Duration;

use leveret::backend::Alarm;
use leveret::broker::ChannelEvent;
use leveret::model::message::Message;

use crate::fixture::{Fixture, key, name, queue_name, refusal};

/// A little more than the messages of these tests weigh.
const LIMIT_BYTES: usize = 10_000;

fn large(persistent: bool) -> Message {
    let message = Message::new(name(""), key("q"), vec![b'x'; LIMIT_BYTES]);
    if persistent { message.persistent() } else { message }
}

async fn alarmed() -> Fixture {
    let fixture = Fixture::new();
    fixture.queue("q").await;
    fixture.broker.set_memory_limit(LIMIT_BYTES);
    fixture.broker.publish(large(true)).await.unwrap().confirmed().await.unwrap();
    fixture
}

#[tokio::test]
async fn publishers_wait_until_consumers_made_room() {
    let fixture = alarmed().await;
    assert!(matches!(
        fixture.broker.alarms()[..],
        [Alarm::Memory { limit_bytes: LIMIT_BYTES, .. }]
    ));
    let weight = large(true).weight();
    let text = format!("the messages take {weight} bytes of memory, over the limit of 10000");
    assert_eq!(fixture.broker.ready().await.unwrap_err().to_string(), text);
    for persistent in [true, false] {
        let refused = fixture.broker.try_publish(large(persistent)).await;
        assert!(matches!(&refused, Err(error) if error.is_retryable()));
        assert_eq!(refusal(refused), format!("RESOURCE_ERROR - {text}"));
        let waiting = fixture.broker.publish(large(persistent));
        let early = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(early.is_err(), "admitted under the alarm");
    }
    let waiting = tokio::spawn({
        let engine = fixture.engine.clone();
        async move { engine.publish(large(false)).await.map(|published| published.routed) }
    });
    // Consumers go on, and what they settle makes room.
    assert_eq!(fixture.take_all("q").await.len(), 1);
    assert!(waiting.await.unwrap().unwrap());
}

#[tokio::test]
async fn an_acknowledgement_with_effects_does_not_wait_for_memory() {
    let fixture = alarmed().await;
    let mut delivery = fixture.broker.get(&queue_name("q")).await.unwrap().unwrap();
    // Waiting for room here, a worker would wait for itself.
    delivery.ack_with(|tx| _ = tx.publish(large(true))).await.unwrap();
    assert_eq!(fixture.depth("q").await, (1, 0, 0));
}

#[tokio::test]
async fn a_channel_hears_of_it() {
    let fixture = alarmed().await;
    // Also one that comes later.
    let mut channel = fixture.engine.channel(None);
    match channel.next().await {
        ChannelEvent::Blocked { reason } => assert_eq!(reason, "low on memory"),
        _ => panic!("it is blocked"),
    }
    assert!(channel.try_next().is_none(), "it is told once");
    let draining = tokio::spawn(async move { fixture.take_all("q").await.len() });
    assert!(matches!(channel.next().await, ChannelEvent::Unblocked));
    assert_eq!(draining.await.unwrap(), 1);
    assert!(channel.try_next().is_none());
}
