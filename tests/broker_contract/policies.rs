//! Policies give settings to queues and exchanges by name, at run time.

use leveret::model::message::Value;
use leveret::model::topology::{
    AppliesTo, Backoff, DeadLetter, ExchangeKind, ExchangeSpec, Overflow, Policy, QueueSettings,
    QueueSpec, RetryPolicy,
};

use super::fixture::{Fixture, key, name, queue_name, refusal};
use super::peer::on_both;

fn policy(name: &str, pattern: &str, queue: QueueSettings) -> Policy {
    Policy { name: name.to_owned(), pattern: pattern.to_owned(), queue, ..Policy::default() }
}

fn length(length_max: u64) -> QueueSettings {
    QueueSettings { length_max: Some(length_max), ..QueueSettings::default() }
}

#[tokio::test]
async fn a_policy_applies_to_the_queues_that_it_matches_at_once_and_until_it_is_cleared() {
    on_both(async |f| {
        for queue in ["orders.new", "users"] {
            f.queue(queue).await;
            for body in ["1", "2", "3"] {
                f.publish("", queue, body).await;
            }
        }
        f.set_policy(policy("short", "^orders\\.", length(1))).await;
        f.shows("orders.new", &["3"]).await;
        f.shows("users", &["1", "2", "3"]).await;
        // One that is declared later has it too.
        f.queue("orders.later").await;
        f.publish("", "orders.later", "1").await;
        f.publish("", "orders.later", "2").await;
        f.shows("orders.later", &["2"]).await;
        f.clear_policy("short").await;
        f.publish("", "orders.new", "4").await;
        f.shows("orders.new", &["3", "4"]).await;
    })
    .await;
}

#[tokio::test]
async fn of_several_the_highest_priority_holds_alone() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q"))).await;
        let low = Policy { priority: 1, ..policy("low", ".*", length(1)) };
        let high = Policy {
            priority: 2,
            ..policy("high", "q", QueueSettings { expires_ms: Some(60_000), ..Default::default() })
        };
        f.set_policy(low).await;
        f.set_policy(high).await;
        f.publish("", "q", "1").await;
        f.publish("", "q", "2").await;
        f.shows("q", &["1", "2"]).await;
        f.clear_policy("high").await;
        f.shows("q", &["2"]).await;
    })
    .await;
}

#[tokio::test]
async fn of_an_argument_and_a_policy_the_lower_number_holds() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).length_max(2, Overflow::DropHead)).await;
        f.set_policy(policy("long", "q", length(5))).await;
        for body in ["1", "2", "3"] {
            f.publish("", "q", body).await;
        }
        f.shows("q", &["2", "3"]).await;
        f.set_policy(policy("long", "q", length(1))).await;
        f.shows("q", &["3"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_policy_gives_dead_lettering_retry_and_time_to_live() {
    let (f, clock) = Fixture::frozen();
    f.queue("dead").await;
    f.queue("q").await;
    let retry = RetryPolicy {
        attempts_max: 2,
        backoff: Backoff::Linear { first_ms: 100, max_ms: 1_000 },
        jitter: 0.0,
    };
    let settings = QueueSettings {
        dead_letter: Some(DeadLetter { exchange: name(""), routing_key: Some(key("dead")) }),
        retry: Some(retry),
        message_ttl_ms: Some(5_000),
        ..QueueSettings::default()
    };
    f.publish("", "q", "failing").await;
    f.broker.set_policy(policy("p", "^q$", settings)).await.unwrap();
    f.engine.get(&queue_name("q")).unwrap().unwrap().fail("first");
    f.pass_ms(&clock, 100);
    f.engine.get(&queue_name("q")).unwrap().unwrap().fail("second");
    let dead = f.engine.get(&queue_name("dead")).unwrap().unwrap();
    let headers = &dead.message().properties.headers;
    assert_eq!(headers.get("x-last-error").and_then(Value::as_text), Some("second"));
    dead.ack();
    f.publish("", "q", "late").await;
    f.pass_ms(&clock, 5_001);
    assert_eq!(f.bodies("dead").await, ["late"]);
}

#[tokio::test]
async fn a_policy_gives_an_alternate_exchange_and_applies_to_what_it_says() {
    on_both(async |f| {
        f.exchange("x", ExchangeKind::Direct).await;
        f.queue("rest").await;
        f.bind("rest", "amq.fanout", "").await;
        let alternate = Some(name("amq.fanout"));
        let exchanges = Policy {
            applies_to: AppliesTo::Exchanges,
            alternate,
            ..policy("rest", ".*", length(0))
        };
        f.set_policy(exchanges).await;
        f.publish("x", "nothing", "1").await;
        f.shows("rest", &["1"]).await;
        let own = ExchangeSpec::durable(name("y"), ExchangeKind::Direct).alternate(name("nowhere"));
        f.declare_exchange(own).await.unwrap();
        f.publish("y", "nothing", "2").await;
        f.shows("rest", &["1"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused() {
    let f = Fixture::new();
    let refused = refusal(f.broker.set_policy(policy("p", "(", length(1))).await);
    assert!(refused.starts_with("PRECONDITION_FAILED - policy 'p': bad pattern"), "{refused}");
    assert!(f.engine.policies().is_empty());
}
