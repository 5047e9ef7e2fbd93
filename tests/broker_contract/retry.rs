//! The retry policy: held, delivered again to the same queue, and dead-lettered once at the limit.

use std::time::Instant;

use leveret::model::message::Value;
use leveret::model::topology::{Backoff, ExchangeKind, RetryPolicy};

use super::fixture::{Fixture, dying_queue, next, nothing, text};

async fn retrying(f: &Fixture, attempts_max: u32, first_ms: u64) {
    f.exchange("dlx", ExchangeKind::Direct).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "failed").await;
    let retry = RetryPolicy {
        attempts_max,
        backoff: Backoff::Exponential { first_ms, max_ms: 1_000 },
        jitter: 0.0,
    };
    let spec = dying_queue("q", "dlx", Some("failed")).retry(retry);
    f.broker.declare_queue(spec).await.unwrap();
}

#[tokio::test]
async fn a_failure_is_delivered_again_after_its_delay_with_its_count() {
    let f = Fixture::new();
    retrying(&f, 3, 40).await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 5).await;
    let started = Instant::now();
    next(&mut consumer).await.fail("first").await.unwrap();
    assert_eq!(f.depth("q").await, (0, 0, 1));
    let again = next(&mut consumer).await;
    assert!(started.elapsed().as_millis() >= 40);
    assert_eq!((again.retry_count(), again.redelivered()), (1, true));
    again.fail("second").await.unwrap();
    let last = next(&mut consumer).await;
    assert!(started.elapsed().as_millis() >= 40 + 80);
    assert_eq!(last.retry_count(), 2);
    last.ack().await.unwrap();
    assert_eq!(f.depth("q").await, (0, 0, 0));
    assert!(f.bodies("dead").await.is_empty());
}

#[tokio::test]
async fn at_its_limit_a_message_is_dead_lettered_once_with_the_last_error() {
    let f = Fixture::new();
    retrying(&f, 3, 1).await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 5).await;
    for attempt in 1..=3 {
        next(&mut consumer).await.fail(&format!("attempt {attempt}")).await.unwrap();
    }
    let mut dead = f.consume("dead", 5).await;
    let delivery = next(&mut dead).await;
    nothing(&mut dead).await;
    nothing(&mut consumer).await;
    let headers = &delivery.message().properties.headers;
    assert_eq!(headers.get("x-last-error").and_then(Value::as_text), Some("attempt 3"));
    assert_eq!(headers.get("x-retry-count").and_then(Value::as_int), Some(3));
}

#[tokio::test]
async fn other_messages_pass_one_that_waits() {
    let f = Fixture::new();
    retrying(&f, 3, 300).await;
    f.publish("", "q", "slow").await;
    f.publish("", "q", "fast").await;
    let mut consumer = f.consume("q", 1).await;
    next(&mut consumer).await.fail("wait").await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(text(delivery.message()), "fast");
    delivery.ack().await.unwrap();
    assert_eq!(text(next(&mut consumer).await.message()), "slow");
}
