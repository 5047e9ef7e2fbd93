//! Whose a queue is, when it goes, and with what words its use is refused.

use leveret::backend::DeleteIf;
use leveret::model::topology::{ExchangeKind, QueueSpec};

use super::fixture::{Fixture, key, name, next, queue_name, refusal};

#[tokio::test]
async fn an_exclusive_queue_is_its_connections_alone_and_goes_with_it() {
    let f = Fixture::new();
    let (owner, other) = (f.engine.connect(), f.engine.connect());
    let spec = QueueSpec::durable(queue_name("q")).exclusive();
    owner.declare_queue(spec.clone()).unwrap();
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. \
                  It could be originally declared on another connection or the exclusive property \
                  value does not match that of the original declaration.";
    let q = queue_name("q");
    let refused = [
        other.declare_queue(spec.clone()).err(),
        other.declare_queue(QueueSpec::durable(queue_name("q"))).err(),
        owner.declare_queue(QueueSpec::durable(queue_name("q"))).err(),
        other.queue_status(&q).err(),
        other.get(&q).err(),
        other.consume(&q, Default::default()).err(),
        other.purge(&q).err(),
        other.delete_queue(&q, DeleteIf::default()).err(),
    ];
    for error in refused {
        let error = error.expect("a refusal");
        assert_eq!((error.reply_code(), error.reply_text().as_str()), (Some(405), locked));
    }
    // Publishing to it is anybody's.
    f.publish("", "q", "1").await;
    assert_eq!(owner.queue_status(&q).unwrap().ready, 1);
    owner.declare_queue(spec).unwrap();
    drop(other);
    assert!(f.exists("q").await);
    drop(owner);
    assert!(!f.exists("q").await);
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer_and_never_before_the_first() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).auto_delete()).await;
    f.publish("", "q", "1").await;
    let delivery = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    delivery.requeue().await.unwrap();
    assert!(f.exists("q").await);
    let one = f.consume("q", 1).await;
    let two = f.consume("q", 1).await;
    drop(one);
    assert!(f.exists("q").await);
    drop(two);
    assert!(!f.exists("q").await);
}

#[tokio::test]
async fn an_auto_delete_queue_goes_too_when_its_last_consumer_is_timed_out() {
    let (f, clock) = Fixture::frozen();
    f.declare(QueueSpec::durable(queue_name("q")).auto_delete().consumer_timeout_ms(100)).await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 1).await;
    let _held = next(&mut consumer).await;
    f.pass_ms(&clock, 100);
    assert!(!f.exists("q").await);
}

#[tokio::test]
async fn an_unused_queue_expires_and_use_puts_that_off() {
    let (f, clock) = Fixture::frozen();
    let spec = QueueSpec::durable(queue_name("q")).expires_ms(400);
    f.declare(spec.clone()).await;
    f.pass_ms(&clock, 300);
    assert!(f.broker.get(&queue_name("q")).await.unwrap().is_none());
    f.pass_ms(&clock, 300);
    f.declare(spec).await;
    f.pass_ms(&clock, 300);
    f.engine.queue_status(&queue_name("q")).unwrap();
    f.pass_ms(&clock, 300);
    let consumer = f.consume("q", 1).await;
    f.pass_ms(&clock, 5_000);
    drop(consumer);
    f.pass_ms(&clock, 399);
    assert!(f.exists("q").await);
    // Publishing is no use of it.
    f.publish("", "q", "1").await;
    f.pass_ms(&clock, 1);
    assert!(!f.exists("q").await);
}

#[tokio::test]
async fn a_server_named_queue_has_a_name_of_its_own() {
    let f = Fixture::new();
    let spec = QueueSpec::transient(queue_name("ignored")).exclusive();
    let (one, _) = f.engine.declare_generated_queue(spec.clone()).unwrap();
    let (two, _) = f.engine.declare_generated_queue(spec).unwrap();
    assert!(one.as_str().starts_with("amq.gen-") && one != two);
    f.publish("", one.as_str(), "1").await;
    assert_eq!(f.bodies(one.as_str()).await, ["1"]);
}

#[tokio::test]
async fn deletion_asks_first_if_it_is_told_to() {
    let f = Fixture::new();
    f.queue("q").await;
    f.exchange("x", ExchangeKind::Direct).await;
    f.bind("q", "x", "k").await;
    f.publish("", "q", "1").await;
    let (unused, empty) =
        (DeleteIf { unused: true, empty: false }, DeleteIf { unused: false, empty: true });
    assert_eq!(
        refusal(f.broker.delete_queue(&queue_name("q"), empty).await),
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
    );
    let mut consumer = f.consume("q", 1).await;
    assert_eq!(
        refusal(f.broker.delete_queue(&queue_name("q"), unused).await),
        "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    );
    let delivery = next(&mut consumer).await;
    f.publish("", "q", "2").await;
    // Ready messages are counted, those in a consumer's hands are not.
    let deleted = f.broker.delete_queue(&queue_name("q"), DeleteIf::default()).await.unwrap();
    assert_eq!(deleted, 1);
    delivery.ack().await.unwrap();
    assert!(f.engine.bindings().is_empty());
    assert_eq!(f.broker.delete_queue(&queue_name("q"), empty).await.unwrap(), 0);
}

#[tokio::test]
async fn purging_leaves_what_is_in_a_consumers_hands() {
    let f = Fixture::new();
    f.queue("q").await;
    for body in ["1", "2", "3"] {
        f.publish("", "q", body).await;
    }
    let taken = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    assert_eq!(f.broker.purge(&queue_name("q")).await.unwrap(), 2);
    taken.requeue().await.unwrap();
    assert_eq!(f.bodies("q").await, ["1"]);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let f = Fixture::new();
    f.queue("q").await;
    let missing = "NOT_FOUND - no queue 'nope' in vhost '/'";
    assert_eq!(refusal(f.broker.purge(&queue_name("nope")).await), missing);
    assert_eq!(refusal(f.broker.consume(&queue_name("nope"), 1).await.map(|_| ())), missing);
    assert_eq!(refusal(f.broker.get(&queue_name("nope")).await.map(|_| ())), missing);
    assert_eq!(
        refusal(f.broker.bind(&queue_name("q"), &name("nope"), &key("k")).await),
        "NOT_FOUND - no exchange 'nope' in vhost '/'"
    );
}
