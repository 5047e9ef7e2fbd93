//! Ack with effects: the input is settled and the outputs are there, or neither.

use std::time::Duration;

use leveret::backend::{Audience, BackendError, Broker, Cache, Embedded};
use leveret::model::clock::SystemClock;
use leveret::model::message::{Message, Value};
use leveret::model::names::UserId;
use leveret::model::topology::{Overflow, QueueSpec};

use crate::fixture::{Fixture, key, name, queue_name, refusal, text};

struct Stand {
    broker: Broker,
    cache: Cache,
    _engines: Embedded,
}

impl Stand {
    async fn new() -> Self {
        let engines = Embedded::in_memory(SystemClock::shared());
        let stand = Self { broker: engines.broker(), cache: engines.cache(), _engines: engines };
        for queue in ["in", "out"] {
            let spec = QueueSpec::durable(queue_name(queue));
            stand.broker.declare_queue(spec).await.unwrap();
        }
        stand
    }

    /// Puts a message into `in`.
    async fn input(&self) {
        let mut message = output("in", "input");
        message.properties.message_id = Some("m-1".to_owned());
        self.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }

    async fn depth(&self, queue: &str) -> (usize, usize) {
        let queues = self.broker.queues().await.unwrap();
        let status = queues.iter().find(|status| status.name.as_str() == queue).unwrap();
        (status.ready, status.unacked)
    }
}

fn output(queue: &str, body: &str) -> Message {
    Message::new(name(""), key(queue), body.to_owned()).persistent()
}

#[tokio::test]
async fn what_it_publishes_keeps_its_order_persistent_or_not() {
    let stand = Stand::new().await;
    stand.input().await;
    let mut delivery = stand.broker.get(&queue_name("in")).await.unwrap().unwrap();
    let transient = |body: &str| Message::new(name(""), key("out"), body.to_owned());
    let outputs = [output("out", "1"), transient("2"), output("out", "3"), transient("4")];
    delivery
        .ack_with(|tx| {
            for message in outputs {
                tx.publish(message);
            }
        })
        .await
        .unwrap();
    for body in ["1", "2", "3", "4"] {
        let delivery = stand.broker.get(&queue_name("out")).await.unwrap().unwrap();
        assert_eq!(text(delivery.message()), body);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn it_settles_publishes_and_sets_at_once() {
    let stand = Stand::new().await;
    stand.input().await;
    let mut delivery = stand.broker.get(&queue_name("in")).await.unwrap().unwrap();
    delivery
        .ack_with(|tx| {
            tx.publish(output("out", "1")).publish(output("out", "2"));
            tx.set_ex("session", "ada", Duration::from_secs(60));
            tx.incr("count").incr_by("count", 4).rpush("log", "x");
            tx.push_capped("newest", "a", 1).push_capped("newest", "b", 1);
        })
        .await
        .unwrap();
    assert_eq!(stand.depth("in").await, (0, 0));
    let outputs = stand.broker.peek(&queue_name("out"), 10).await.unwrap();
    let bodies: Vec<String> = outputs.iter().map(|peeked| text(&peeked.message)).collect();
    assert_eq!(bodies, ["1", "2"]);
    // What caused them is said in each.
    for peeked in &outputs {
        let cause = peeked.message.properties.headers.get("x-cause");
        assert_eq!(cause, Some(&Value::from("m-1")));
    }
    assert_eq!(stand.cache.get("session").await.unwrap().as_deref(), Some(&b"ada"[..]));
    assert_eq!(stand.cache.get("count").await.unwrap().as_deref(), Some(&b"5"[..]));
    assert_eq!(stand.cache.list_range("log", 0, -1).await.unwrap(), ["x"]);
    assert_eq!(stand.cache.list_range("newest", 0, -1).await.unwrap(), ["b"]);
    // It is settled: a second time is refused, and dropping it does nothing.
    let again = delivery.ack_with(|tx| _ = tx.incr("count")).await;
    assert!(refusal(again).contains("the delivery is settled"));
    drop(delivery);
    assert_eq!(stand.depth("in").await, (0, 0));
}

#[tokio::test]
async fn an_effect_that_can_not_be_had_settles_nothing() {
    let stand = Stand::new().await;
    stand.cache.push_capped("list", "x".into(), 5).await.unwrap().durable().await.unwrap();
    let spec = QueueSpec::durable(queue_name("full"));
    let spec = spec.length_max(1, Overflow::RejectPublish);
    stand.broker.declare_queue(spec).await.unwrap();
    stand.broker.publish(output("full", "x")).await.unwrap().confirmed().await.unwrap();
    stand.input().await;
    let mut delivery = stand.broker.get(&queue_name("in")).await.unwrap().unwrap();

    let wrong_type = delivery.ack_with(|tx| {
        tx.publish(output("out", "1")).set("key", "value").incr("list");
    });
    let error = wrong_type.await.unwrap_err();
    assert!(matches!(&error, BackendError::Cache(_)), "{error}");
    assert!(error.to_string().starts_with("WRONGTYPE"), "{error}");

    let unknown = delivery.ack_with(|tx| {
        let lost = Message::new(name("nowhere"), key("k"), "x").persistent();
        tx.set("key", "value").publish(output("out", "1")).publish(lost);
    });
    assert_eq!(refusal(unknown.await), "NOT_FOUND - no exchange 'nowhere' in vhost '/'");

    let full = delivery.ack_with(|tx| _ = tx.set("key", "value").publish(output("full", "2")));
    assert!(refusal(full.await).contains("queue 'full' is full"));
    // Each of them alone would find its place.
    let spec = QueueSpec::durable(queue_name("narrow")).length_max(1, Overflow::RejectPublish);
    stand.broker.declare_queue(spec).await.unwrap();
    let both = delivery.ack_with(|tx| {
        tx.publish(output("narrow", "1")).publish(output("narrow", "2"));
    });
    assert!(refusal(both.await).contains("queue 'narrow' is full"));
    assert_eq!(stand.depth("narrow").await, (0, 0));

    let too_many = delivery.ack_with(|tx| {
        (0..1_025).for_each(|_| _ = tx.incr("key"));
    });
    assert!(refusal(too_many.await).contains("at most 1024 effects"));

    assert_eq!(stand.cache.get("key").await.unwrap(), None);
    assert_eq!(stand.depth("out").await, (0, 0));
    assert_eq!(stand.depth("in").await, (0, 1));
    // It is still its holder's: to be returned, for one.
    delivery.requeue().await.unwrap();
    assert_eq!(stand.depth("in").await, (1, 0));
}

#[tokio::test]
async fn what_the_queue_took_back_can_not_be_settled() {
    let stand = Stand::new().await;
    stand.input().await;
    let mut delivery = stand.broker.get(&queue_name("in")).await.unwrap().unwrap();
    stand.broker.delete_queue(&queue_name("in"), Default::default()).await.unwrap();
    let late = delivery.ack_with(|tx| _ = tx.set("key", "value"));
    assert!(refusal(late.await).contains("its queue has taken it back"));
    assert_eq!(stand.cache.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn events_and_notifications_follow_the_commit() {
    let stand = Stand::new().await;
    let mut channel = stand.cache.subscribe("orders").await.unwrap();
    let spec = QueueSpec::transient(queue_name("events"));
    stand.broker.declare_queue(spec).await.unwrap();
    let emit = name("leveret.emit");
    stand.broker.bind(&queue_name("events"), &emit, &key("user.#")).await.unwrap();
    stand.input().await;
    let mut delivery = stand.broker.get(&queue_name("in")).await.unwrap().unwrap();
    let ada = Audience::User(UserId::new("ada.l").unwrap());
    delivery
        .ack_with(|tx| {
            tx.emit(&ada, "done", &serde_json::json!({ "n": 1 }));
            tx.emit(&Audience::All, "unheard", "x");
            tx.notify("orders", "updated");
        })
        .await
        .unwrap();
    assert_eq!(channel.next().await.as_deref(), Some(&b"updated"[..]));
    let event = stand.broker.get(&queue_name("events")).await.unwrap().unwrap();
    let message = event.message();
    assert_eq!(message.routing_key.as_str(), "user.ada.l");
    assert_eq!(Audience::of_routing_key("user.ada.l"), Some(ada));
    assert_eq!(message.properties.kind.as_deref(), Some("done"));
    assert_eq!(text(message), r#"{"n":1}"#);
}

#[tokio::test]
async fn a_broker_without_a_cache_says_so() {
    let fixture = Fixture::new();
    fixture.queue("in").await;
    fixture.publish("", "in", "x").await;
    let mut delivery = fixture.broker.get(&queue_name("in")).await.unwrap().unwrap();
    let refused = delivery.ack_with(|tx| _ = tx.set("key", "value")).await;
    assert!(refusal(refused).contains("the broker has no cache"));
    delivery.ack_with(|tx| _ = tx.publish(output("in", "y"))).await.unwrap();
    assert_eq!(fixture.bodies("in").await, ["y"]);
}

#[tokio::test]
async fn the_exchange_for_events_is_always_there() {
    let fixture = Fixture::new();
    let deleted = fixture.broker.delete_exchange(&name("leveret.emit"), false).await;
    assert!(refusal(deleted).contains("deletion of system exchange 'leveret.emit'"));
}
