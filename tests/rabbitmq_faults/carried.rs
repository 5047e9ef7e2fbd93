//! Retries, delays and redrives, which queues carry.

use std::time::{Duration, Instant};

use leveret::backend::{Death, Edit, RunState, Selection};
use leveret::model::message::{Message, Value};
use leveret::model::names::{ExchangeName, RoutingKey};
use leveret::model::topology::{Backoff, ExchangeKind, ExchangeSpec, QueueSpec, RetryPolicy};

use super::faults::alone;
use super::{connect, delete, next, server, text, to, unique};

#[tokio::test]
async fn a_failure_comes_back_after_its_delay_and_is_dead_lettered_once_at_the_limit() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (broker, other_node) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    let (queue, dead) = (unique("q"), unique("dead"));
    let events = ExchangeName::new(unique("events").as_str()).unwrap();
    let retry = RetryPolicy {
        attempts_max: 3,
        backoff: Backoff::Exponential { first_ms: 150, max_ms: 10_000 },
        jitter: 0.0,
    };
    let to_dead = RoutingKey::new(dead.as_str()).unwrap();
    let spec = QueueSpec::durable(queue.clone())
        .dead_letter(ExchangeName::default_exchange(), Some(to_dead))
        .retry(retry);
    for node in [&broker, &other_node] {
        let exchange = ExchangeSpec::durable(events.clone(), ExchangeKind::Topic);
        node.declare_exchange(exchange).await.unwrap();
        node.declare_queue(QueueSpec::durable(dead.clone())).await.unwrap();
        node.declare_queue(spec.clone()).await.unwrap();
    }
    broker.bind(&queue, &events, &RoutingKey::new("order.*").unwrap()).await.unwrap();
    let key = RoutingKey::new("order.created").unwrap();
    let mut sent = Message::new(events.clone(), key, "1").persistent();
    sent.properties.message_id = Some("m".to_owned());
    broker.publish(sent.clone()).await.unwrap().confirmed().await.unwrap();

    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    let started = Instant::now();
    let first = next(&mut consumer).await;
    assert_eq!((first.retry_count(), first.redelivered()), (0, false));
    first.fail("first").await.unwrap();
    let second = next(&mut consumer).await;
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert_eq!((second.retry_count(), second.redelivered()), (1, true));
    let shown = second.message();
    assert_eq!((&shown.exchange, shown.routing_key.as_str()), (&events, "order.created"));
    let names: Vec<_> = shown.properties.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-retry-count"], "nothing shows how it came back");
    second.fail("second").await.unwrap();
    // Whichever node gets it goes on counting.
    drop(consumer);
    let mut consumer = other_node.consume(&queue, 1).await.unwrap();
    let third = next(&mut consumer).await;
    assert!(started.elapsed() >= Duration::from_millis(150 + 300));
    assert_eq!(third.retry_count(), 2);
    third.fail("third").await.unwrap();

    let mut graves = broker.consume(&dead, 1).await.unwrap();
    let letter = next(&mut graves).await;
    let death = Death::newest(letter.message()).unwrap();
    assert_eq!((death.queue, death.reason, death.count), (queue.as_str(), "rejected", 1));
    assert_eq!((death.exchange, death.routing_key), (events.as_str(), Some("order.created")));
    assert_eq!((death.error, death.attempts), (Some("third"), 3));
    letter.ack().await.unwrap();
    for queue in [&queue, &dead] {
        assert_eq!(broker.queue(queue).await.unwrap().ready, 0);
    }
    delete(&broker, &[&queue, &dead]).await;
    broker.delete_exchange(&events, false).await.unwrap();
}

#[tokio::test]
async fn a_delayed_message_waits_and_others_pass_it() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let started = Instant::now();
    // All of them, before any is confirmed: that takes its time.
    let mut published = Vec::new();
    for (delay_ms, body) in [(2_000, "late"), (1_000, "soon"), (0, "now")] {
        let mut message = to(&queue, body);
        if delay_ms > 0 {
            message.properties.headers.set("x-delay", Value::Int(delay_ms));
        }
        published.push(broker.publish(message).await.unwrap());
    }
    for published in published {
        published.confirmed().await.unwrap();
    }
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    for (body, after_ms) in [("now", 0), ("soon", 1_000), ("late", 2_000)] {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(delivery.message()), body);
        assert!(started.elapsed() >= Duration::from_millis(after_ms));
        assert!(delivery.message().properties.headers.is_empty());
        delivery.ack().await.unwrap();
    }
    let mut both = to(&queue, "never");
    both.properties.headers.set("x-delay", Value::Int(1));
    both.properties.expiration_ms = Some(1);
    let refused = broker.publish(both).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().starts_with("RabbitMQ can't do this: "), "{refused}");
    delete(&broker, &[&queue]).await;
}

#[tokio::test]
async fn dead_letters_go_back_one_or_many_and_others_stay() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let (queue, dead) = (unique("q"), unique("dead"));
    broker.declare_queue(QueueSpec::durable(dead.clone())).await.unwrap();
    let to_dead = RoutingKey::new(dead.as_str()).unwrap();
    let spec = QueueSpec::durable(queue.clone());
    let spec = spec.dead_letter(ExchangeName::default_exchange(), Some(to_dead));
    broker.declare_queue(spec).await.unwrap();
    for body in ["1", "2", "3"] {
        broker.publish(to(&queue, body)).await.unwrap().confirmed().await.unwrap();
        let delivery = broker.get(&queue).await.unwrap().unwrap();
        delivery.fail("broken").await.unwrap();
    }
    broker.publish(to(&dead, "alive")).await.unwrap().confirmed().await.unwrap();

    let peeked = broker.peek(&dead, 10).await.unwrap();
    let bodies: Vec<_> = peeked.iter().map(|peeked| text(&peeked.message)).collect();
    assert_eq!(bodies, ["1", "2", "3", "alive"]);
    let behind = broker.peek_after(&dead, &peeked[1].id, 10).await.unwrap();
    assert_eq!(text(&behind[0].message), "3");
    let groups = broker.dead_letter_groups(&dead).await.unwrap();
    assert_eq!((groups.groups[0].count, groups.alive, groups.complete), (3, 1, true));
    assert_eq!(groups.groups[0].error.as_deref(), Some("broken"));

    let edit = Edit { body: Some("mended".into()), ..Edit::default() };
    let queues = broker.redrive(&dead, &peeked[0].id, edit).await.unwrap();
    assert_eq!(queues, Some(vec![queue.clone()]));
    assert_eq!(broker.redrive(&dead, &peeked[0].id, Edit::default()).await.unwrap(), None);
    let back = broker.get(&queue).await.unwrap().unwrap();
    assert_eq!(text(back.message()), "mended");
    assert!(back.message().properties.headers.is_empty(), "{:?}", back.message());
    back.ack().await.unwrap();

    let all = || Selection::Matching(Default::default());
    let (plan, complete) = broker.plan_redrive(&dead, all()).await.unwrap();
    assert_eq!((plan.moved, plan.kept, complete), (2, 1, true));
    let progress = broker.start_redrive(&dead, all(), None).await.unwrap().ended().await;
    assert_eq!(progress.state, RunState::Done);
    assert_eq!((progress.tally.moved, progress.tally.kept), (2, 1));
    assert_eq!(broker.queue(&queue).await.unwrap().ready, 2);
    assert_eq!(broker.discard(&dead, all()).await.unwrap(), 1);
    assert_eq!(broker.queue(&dead).await.unwrap().ready, 0);
    delete(&broker, &[&queue, &dead]).await;
}

#[tokio::test]
async fn what_needs_one_journal_is_refused_and_says_why() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    broker.publish(to(&queue, "1")).await.unwrap().confirmed().await.unwrap();
    let mut delivery = broker.get(&queue).await.unwrap().unwrap();
    let refused = delivery.ack_with(|tx| _ = tx.set("key", "value")).await.unwrap_err();
    assert!(refused.to_string().contains("in one commit"), "{refused}");
    assert!(!refused.is_retryable());
    // It is still there to be settled.
    delivery.ack().await.unwrap();
    assert!(broker.explain("m").await.is_err());
    assert!(broker.policies().await.is_err());
    delete(&broker, &[&queue]).await;
}
