//! A message with `x-delay` becomes ready after its time.

use std::time::Duration;

use leveret::model::message::Value;
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, key, name, queue_name, with_headers};

#[tokio::test]
async fn a_delayed_message_waits_and_others_pass_it() {
    let (f, clock) = Fixture::frozen();
    f.queue("q").await;
    // Never early: a part of a millisecond is a whole one.
    let delay = Duration::from_micros(499_001);
    let delayed = with_headers("", "q", "later", []).delayed(delay);
    assert_eq!(delayed.properties.headers.get("x-delay"), Some(&Value::Int(500)));
    f.broker.publish(delayed).await.unwrap().confirmed().await.unwrap();
    f.publish("", "q", "now").await;
    assert_eq!(f.depth("q").await, (1, 0, 1));
    assert_eq!(f.take_all("q").await, ["now"]);
    f.pass_ms(&clock, 499);
    assert_eq!(f.depth("q").await, (0, 0, 1));
    f.pass_ms(&clock, 1);
    assert_eq!(f.take_all("q").await, ["later"]);
}

#[tokio::test]
async fn its_time_to_live_begins_when_its_delay_ends_and_a_dead_letter_is_not_delayed_again() {
    let (f, clock) = Fixture::frozen();
    f.queue("dead").await;
    let spec = QueueSpec::durable(queue_name("q")).message_ttl_ms(100);
    f.declare(spec.dead_letter(name(""), Some(key("dead")))).await;
    let delayed = with_headers("", "q", "1", [("x-delay", Value::Int(1_000))]);
    f.broker.publish(delayed).await.unwrap().confirmed().await.unwrap();
    f.pass_ms(&clock, 1_000);
    assert_eq!(f.bodies("q").await, ["1"]);
    f.pass_ms(&clock, 101);
    assert_eq!(f.bodies("dead").await, ["1"]);
}
