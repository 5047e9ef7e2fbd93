//! A queue's maximum length, and what happens to the message that is one too many.

use leveret::model::message::{Message, Value};
use leveret::model::topology::{ExchangeKind, Overflow, QueueSpec};

use super::fixture::{Fixture, key, name, queue_name, text};
use super::peer::{Peer, on_both};

/// Whether the publish was confirmed by an ack.
async fn acked(f: &Peer, queue: &str, body: &str) -> bool {
    let message = Message::new(name(""), key(queue), body.to_owned()).persistent();
    f.send(message).await.unwrap()
}

async fn with_dead_letters(f: &Peer, length_max: u64, overflow: Overflow) {
    f.exchange("dlx", ExchangeKind::Fanout).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "").await;
    let spec = QueueSpec::durable(queue_name("q")).length_max(length_max, overflow);
    f.declare(spec.dead_letter(name("dlx"), None)).await;
}

#[tokio::test]
pub async fn drop_head_dead_letters_the_oldest() {
    on_both(async |f| {
        with_dead_letters(f, 2, Overflow::DropHead).await;
        for body in ["1", "2", "3", "4"] {
            assert!(acked(f, "q", body).await);
        }
        f.shows("q", &["3", "4"]).await;
        f.shows("dead", &["1", "2"]).await;
        let dead = f.get("dead").await;
        let headers = &dead.message().properties.headers;
        assert_eq!(headers.get("x-first-death-reason").and_then(Value::as_text), Some("maxlen"));
        dead.ack().await;
    })
    .await;
}

#[tokio::test]
async fn unacknowledged_messages_do_not_count_and_a_returned_one_may_be_the_oldest() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).length_max(1, Overflow::DropHead)).await;
        assert!(acked(f, "q", "a").await);
        let taken = f.get("q").await;
        assert!(acked(f, "q", "b").await);
        taken.requeue().await;
        f.shows("q", &["b"]).await;
    })
    .await;
}

#[tokio::test]
pub async fn reject_publish_nacks_the_newest_and_drops_it() {
    on_both(async |f| {
        with_dead_letters(f, 2, Overflow::RejectPublish).await;
        let mut acks = Vec::new();
        for body in ["1", "2", "3"] {
            acks.push(acked(f, "q", body).await);
        }
        assert_eq!(acks, [true, true, false]);
        f.shows("q", &["1", "2"]).await;
        f.shows("dead", &[]).await;
        let taken = f.get("q").await;
        assert!(acked(f, "q", "4").await);
        taken.requeue().await;
        f.shows("q", &["1", "2", "4"]).await;
    })
    .await;
}

#[tokio::test]
async fn reject_publish_dlx_dead_letters_what_it_nacks() {
    on_both(async |f| {
        with_dead_letters(f, 1, Overflow::RejectPublishDlx).await;
        assert!(acked(f, "q", "1").await);
        assert!(!acked(f, "q", "2").await);
        f.shows("q", &["1"]).await;
        f.shows("dead", &["2"]).await;
    })
    .await;
}

#[tokio::test]
pub async fn one_queue_that_refuses_does_not_keep_the_others_from_their_copy() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("full")).length_max(0, Overflow::RejectPublish))
            .await;
        f.queue("free").await;
        for queue in ["full", "free"] {
            f.bind(queue, "amq.fanout", "").await;
        }
        let message = Message::new(name("amq.fanout"), key(""), "1").persistent();
        assert_eq!(f.send(message).await, Ok(false));
        f.shows("free", &["1"]).await;
        f.shows("full", &[]).await;
    })
    .await;
}

#[tokio::test]
pub async fn bytes_are_those_of_the_ready_bodies() {
    on_both(async |f| {
        let spec = QueueSpec::durable(queue_name("q"));
        f.declare(spec.length_bytes_max(10, Overflow::DropHead)).await;
        for body in ["1234", "5678", "9012"] {
            assert!(acked(f, "q", body).await);
        }
        f.shows("q", &["5678", "9012"]).await;
        if let Peer::Embedded(f) = f {
            assert_eq!(f.engine.queue_status(&queue_name("q")).unwrap().ready_bytes, 8);
        }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_waits_gets_a_message_past_a_maximum_of_none() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).length_max(0, Overflow::DropHead)).await;
        let mut consumer = f.consume("q", 1).await;
        assert!(acked(f, "q", "1").await);
        assert!(acked(f, "q", "2").await);
        let taken = consumer.next().await;
        assert_eq!(text(taken.message()), "1");
        f.holds("q", (0, 1, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn what_expired_behind_a_dropped_head_goes_with_it() {
    let (f, clock) = Fixture::frozen();
    f.queue("dead").await;
    let spec = QueueSpec::durable(queue_name("q")).length_max(2, Overflow::DropHead);
    f.declare(spec.dead_letter(name(""), Some(key("dead")))).await;
    f.publish("", "q", "dropped").await;
    let mut short = Message::new(name(""), key("q"), "expired").persistent();
    short.properties.expiration_ms = Some(10);
    f.broker.publish(short).await.unwrap().confirmed().await.unwrap();
    f.pass_ms(&clock, 11);
    assert_eq!(f.bodies("q").await, ["dropped", "expired"]);
    f.publish("", "q", "last").await;
    assert_eq!(f.bodies("q").await, ["last"]);
    let mut reasons = Vec::new();
    while let Some(dead) = f.broker.get(&queue_name("dead")).await.unwrap() {
        let reason = dead.message().properties.headers.get("x-first-death-reason").cloned();
        reasons.push((text(dead.message()), reason.and_then(|r| r.as_text().map(str::to_owned))));
        dead.ack().await.unwrap();
    }
    let reason = |reason: &str| Some(reason.to_owned());
    assert_eq!(
        reasons,
        [("dropped".to_owned(), reason("maxlen")), ("expired".to_owned(), reason("expired"))]
    );
}
