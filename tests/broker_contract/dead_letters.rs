//! What is rejected goes to the dead-letter exchange, with its history, and never round for ever.

use leveret::model::message::{Headers, Message, Value};
use leveret::model::topology::ExchangeKind;

use super::fixture::{Fixture, dying_queue, text, with_headers};
use super::peer::{Peer, on_both};

fn deaths(message: &Message) -> Vec<Headers> {
    match message.properties.headers.get("x-death") {
        Some(Value::List(deaths)) => deaths
            .iter()
            .map(|death| match death {
                Value::Table(table) => table.clone(),
                other => panic!("x-death holds {other:?}"),
            })
            .collect(),
        other => panic!("x-death is {other:?}"),
    }
}

async fn with_dead_letters(f: &Peer) {
    f.exchange("dlx", ExchangeKind::Direct).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "failed").await;
    f.declare(dying_queue("q", "dlx", Some("failed"))).await;
}

#[tokio::test]
pub async fn a_rejected_message_is_dead_lettered_once_with_its_history_and_error() {
    on_both(async |f| {
        with_dead_letters(f).await;
        f.exchange("events", ExchangeKind::Topic).await;
        f.bind("q", "events", "order.*").await;
        f.publish("events", "order.created", "1").await;
        let mut consumer = f.consume("q", 1).await;
        consumer.next().await.reject().await;
        let mut dead = f.consume("dead", 10).await;
        let delivery = dead.next().await;
        dead.nothing().await;
        let message = delivery.message();
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("dlx", "failed"));
        assert_eq!(text(message), "1");
        let headers = &message.properties.headers;
        let header = |name: &str| headers.get(name).and_then(Value::as_text);
        for name in ["x-first-death-queue", "x-first-death-reason", "x-first-death-exchange"] {
            assert!(header(name).is_some(), "{name} in {headers:?}");
        }
        let deaths = deaths(message);
        assert_eq!(deaths.len(), 1);
        let field = |name: &str| deaths[0].get(name).and_then(Value::as_text);
        assert_eq!(
            (field("queue"), field("reason"), field("exchange")),
            (Some("q"), Some("rejected"), Some("events"))
        );
        assert_eq!(deaths[0].get("count").and_then(Value::as_int), Some(1));
        assert_eq!(
            deaths[0].get("routing-keys"),
            Some(&Value::List(vec![Value::from("order.created")]))
        );
        assert!(matches!(deaths[0].get("time"), Some(Value::Timestamp(_))));
        // The consumer's own words travel only here.
        if let Peer::Embedded(_) = f {
            assert_eq!(header("x-last-error"), Some("rejected"));
        }
    })
    .await;
}

/// Embedded only: on the wire nobody drops a delivery without dropping its channel.
#[tokio::test]
async fn a_delivery_that_is_dropped_unsettled_counts_as_failed() {
    let f = &Peer::Embedded(Fixture::new());
    with_dead_letters(f).await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 1).await;
    drop(consumer.next().await);
    let mut dead = f.consume("dead", 1).await;
    assert_eq!(text(dead.next().await.message()), "1");
}

#[tokio::test]
async fn without_a_dead_letter_exchange_or_with_a_missing_one_the_message_is_dropped() {
    on_both(async |f| {
        f.queue("q").await;
        f.declare(dying_queue("r", "no-such-exchange", None)).await;
        for queue in ["q", "r"] {
            f.publish("", queue, "1").await;
            let mut consumer = f.consume(queue, 1).await;
            consumer.next().await.reject().await;
            f.holds(queue, (0, 0, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_keys_of_cc_are_in_the_history_and_lead_on_unless_a_key_is_set() {
    on_both(async |f| {
        f.exchange("dlx", ExchangeKind::Direct).await;
        let list = |keys: &[&str]| Value::List(keys.iter().map(|&key| Value::from(key)).collect());
        for (queue, dead_key) in [("own", None), ("new", Some("failed"))] {
            f.declare(dying_queue(queue, "dlx", dead_key)).await;
            f.queue(&format!("{queue}.dead")).await;
            let headers = [("CC", list(&["cc"])), ("BCC", list(&["bcc"]))];
            let message = with_headers("", queue, "1", headers);
            assert_eq!(f.send(message).await, Ok(true));
        }
        f.bind("own.dead", "dlx", "cc").await;
        f.bind("new.dead", "dlx", "failed").await;
        for queue in ["own", "new"] {
            f.get(queue).await.reject().await;
            let dead = f.get(&format!("{queue}.dead")).await;
            let history = deaths(dead.message());
            assert_eq!(history[0].get("routing-keys"), Some(&list(&[queue, "cc"])));
            let kept = dead.message().properties.headers.get("CC").cloned();
            assert_eq!(kept, (queue == "own").then(|| list(&["cc"])));
            dead.ack().await;
        }
    })
    .await;
}

#[tokio::test]
pub async fn a_second_death_in_the_same_queue_raises_the_count() {
    on_both(async |f| {
        // The dead letters of q come straight back to it.
        f.declare(dying_queue("q", "", Some("q"))).await;
        f.publish("", "q", "1").await;
        let mut consumer = f.consume("q", 1).await;
        for _ in 0..3 {
            consumer.next().await.reject().await;
        }
        let delivery = consumer.next().await;
        let deaths = deaths(delivery.message());
        assert_eq!(deaths.len(), 1);
        assert_eq!(deaths[0].get("count").and_then(Value::as_int), Some(3));
    })
    .await;
}

#[tokio::test]
async fn a_cycle_of_expiry_alone_is_dropped() {
    on_both(async |f| {
        for (queue, next) in [("a", "b"), ("b", "a")] {
            let spec = dying_queue(queue, "", Some(next)).message_ttl_ms(1);
            f.declare(spec).await;
        }
        f.queue("end").await;
        f.publish("", "a", "1").await;
        // Whatever the cycle does, it ends: both queues are empty once the message has gone round.
        f.holds("a", (0, 0, 0)).await;
        f.holds("b", (0, 0, 0)).await;
    })
    .await;
}
