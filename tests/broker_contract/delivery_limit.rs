//! A message that comes back too often is dead-lettered.

use leveret::model::message::Value;
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, key, name, queue_name};
use super::peer::{Peer, on_both};

async fn with_limit(f: &Peer, spec: QueueSpec) {
    f.queue("dead").await;
    f.declare(spec.delivery_limit(2).dead_letter(name(""), Some(key("dead")))).await;
    f.publish("", "q", "1").await;
}

#[tokio::test]
pub async fn after_two_returns_the_third_is_its_death() {
    on_both(async |f| {
        with_limit(f, QueueSpec::quorum(queue_name("q"))).await;
        for count in 0..3 {
            let delivery = f.get("q").await;
            let shown = delivery.message().properties.headers.get("x-delivery-count").cloned();
            assert_eq!(shown, Some(Value::Int(count)));
            assert_eq!(delivery.redelivered(), count > 0);
            delivery.requeue().await;
        }
        assert!(f.try_get("q").await.unwrap().is_none());
        let dead = f.get("dead").await;
        let headers = &dead.message().properties.headers;
        let reason = headers.get("x-first-death-reason").and_then(Value::as_text);
        assert_eq!(reason, Some("delivery_limit"));
        assert_eq!(headers.get("x-delivery-count"), None);
    })
    .await;
}

/// Embedded only: RabbitMQ counts what it sent, whether or not the client looked at it.
#[tokio::test]
async fn a_delivery_that_nobody_looked_at_does_not_count() {
    let peer = Peer::Embedded(Fixture::new());
    with_limit(&peer, QueueSpec::durable(queue_name("q"))).await;
    for _ in 0..10 {
        peer.consume("q", 1).await.cancel().await;
    }
    let Peer::Embedded(f) = &peer else { unreachable!("made above") };
    let delivery = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    assert_eq!((delivery.delivery_count(), delivery.redelivered()), (0, false));
    assert!(delivery.message().properties.headers.is_empty());
}
