//! Whose a queue is, when it goes, and with what words its use is refused.

use leveret::backend::DeleteIf;
use leveret::model::topology::{
    Backoff, ExchangeKind, Policy, QueueSettings, QueueSpec, RetryPolicy,
};

use super::fixture::{Fixture, next, queue_name, refusal};
use super::peer::{Peer, on_both};

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
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).auto_delete()).await;
        f.publish("", "q", "1").await;
        let delivery = f.get("q").await;
        delivery.requeue().await;
        f.is_there("q", true).await;
        let one = f.consume("q", 1).await;
        let two = f.consume("q", 1).await;
        one.cancel().await;
        f.is_there("q", true).await;
        two.cancel().await;
        f.is_there("q", false).await;
    })
    .await;
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

/// As on the real server, where setting one starts the clock.
#[tokio::test]
async fn a_policy_gives_an_idle_queue_its_whole_time() {
    let (f, clock) = Fixture::frozen();
    f.queue("q").await;
    f.pass_ms(&clock, 10_000);
    let queue = QueueSettings { expires_ms: Some(400), ..QueueSettings::default() };
    let (name, pattern) = ("expires".to_owned(), "q".to_owned());
    let policy = Policy { name, pattern, queue, ..Policy::default() };
    f.broker.set_policy(policy).await.unwrap();
    f.pass_ms(&clock, 399);
    assert!(f.exists("q").await);
    f.pass_ms(&clock, 1);
    assert!(!f.exists("q").await);
}

#[tokio::test]
async fn a_queue_is_not_empty_while_messages_wait_in_it_for_their_time() {
    let (f, clock) = Fixture::frozen();
    let backoff = Backoff::Fixed { delay_ms: 1_000 };
    let retry = RetryPolicy { attempts_max: 3, backoff, jitter: 0.0 };
    f.declare(QueueSpec::durable(queue_name("q")).retry(retry)).await;
    f.publish("", "q", "1").await;
    f.broker.get(&queue_name("q")).await.unwrap().unwrap().fail("later").await.unwrap();
    let empty = DeleteIf { unused: false, empty: true };
    let refused = refusal(f.broker.delete_queue(&queue_name("q"), empty).await);
    assert_eq!(refused, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty");
    f.pass_ms(&clock, 1_000);
    assert_eq!(f.take_all("q").await, ["1"]);
    f.broker.delete_queue(&queue_name("q"), empty).await.unwrap();
}

/// RabbitMQ 4.3 refuses them, which Celery needs.
#[tokio::test]
async fn a_transient_queue_need_not_be_exclusive() {
    on_both(async |f| {
        f.declare(QueueSpec::transient(queue_name("q"))).await;
        f.publish("", "q", "1").await;
        let mut channel = f.channel().await;
        channel.look_at("q").await.unwrap();
        channel.close().await;
        f.shows("q", &["1"]).await;
    })
    .await;
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
    on_both(async |f| {
        f.queue("q").await;
        f.exchange("x", ExchangeKind::Direct).await;
        f.bind("q", "x", "k").await;
        f.publish("", "q", "1").await;
        let (unused, empty) =
            (DeleteIf { unused: true, empty: false }, DeleteIf { unused: false, empty: true });
        assert_eq!(
            f.delete_queue("q", empty).await.unwrap_err(),
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
        );
        let mut consumer = f.consume("q", 1).await;
        assert_eq!(
            f.delete_queue("q", unused).await.unwrap_err(),
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
        );
        let delivery = consumer.next().await;
        f.publish("", "q", "2").await;
        // Ready messages are counted, those in a consumer's hands are not.
        let deleted = f.delete_queue("q", DeleteIf::default()).await.unwrap();
        assert_eq!(deleted, 1);
        delivery.ack().await;
        if let Peer::Embedded(f) = f {
            assert!(f.engine.bindings().is_empty());
        }
        assert_eq!(f.delete_queue("q", empty).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn purging_leaves_what_is_in_a_consumers_hands() {
    on_both(async |f| {
        f.queue("q").await;
        for body in ["1", "2", "3"] {
            f.publish("", "q", body).await;
        }
        let taken = f.get("q").await;
        assert_eq!(f.purge("q").await.unwrap(), 2);
        taken.requeue().await;
        f.shows("q", &["1"]).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    on_both(async |f| {
        f.queue("q").await;
        let missing = "NOT_FOUND - no queue 'nope' in vhost '/'";
        assert_eq!(f.purge("nope").await.unwrap_err(), missing);
        assert_eq!(
            f.try_consume("nope", Default::default()).await.map(|_| ()).unwrap_err(),
            missing
        );
        assert_eq!(f.try_get("nope").await.map(|_| ()).unwrap_err(), missing);
        assert_eq!(
            f.try_bind("q", "nope", "k").await.unwrap_err(),
            "NOT_FOUND - no exchange 'nope' in vhost '/'"
        );
    })
    .await;
}
