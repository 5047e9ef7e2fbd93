//! What is rejected goes to the dead-letter exchange, with its history, and never round for ever.

use leveret::model::message::{Headers, Message, Value};
use leveret::model::topology::{ExchangeKind, QueueSpec};

use super::fixture::{Fixture, dying_queue, queue_name, text, with_headers};
use super::peer::{Peer, Taken, on_both};

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
async fn what_a_dead_consumer_held_goes_back_where_nothing_takes_the_failed() {
    on_both(async |f| {
        f.queue("plain").await;
        f.declare(QueueSpec::quorum(queue_name("limited")).delivery_limit(1)).await;
        for (queue, left) in [("plain", 1), ("limited", 0)] {
            f.publish("", queue, "1").await;
            for redelivered in [false, true] {
                let mut consumer = f.consume(queue, 1).await;
                let held = consumer.next().await;
                assert_eq!((text(held.message()).as_str(), held.redelivered()), ("1", redelivered));
                match held {
                    Taken::Embedded(delivery, _) => drop((delivery, consumer)),
                    held @ Taken::RabbitMq(_) => consumer.leave(held).await,
                }
            }
            f.holds(queue, (left, 0, 0)).await;
        }
    })
    .await;
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
        f.queue("blind").await;
        f.bind("blind", "dlx", "bcc").await;
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
        // The server remembers the keys of BCC; here, and over the port, nobody does.
        if let Peer::RabbitMq(_) = f {
            f.get("blind").await.ack().await;
        }
        f.holds("blind", (0, 0, 0)).await;
    })
    .await;
}

/// Asserts that a death has these fields, some time, and no others.
fn assert_death(death: &Headers, expected: &[(&str, Value)]) {
    let mut told = death.clone();
    assert!(matches!(told.remove("time"), Some(Value::Timestamp(1..))), "{death:?}");
    let expected: Headers =
        expected.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    assert_eq!(told.sorted(), expected.sorted());
}

#[tokio::test]
pub async fn a_second_death_in_the_same_queue_raises_the_count() {
    on_both(async |f| {
        for (queue, next) in [("a", "b"), ("b", "c"), ("c", "a")] {
            f.declare(dying_queue(queue, "", Some(next))).await;
        }
        f.exchange("events", ExchangeKind::Topic).await;
        f.bind("a", "events", "#").await;
        let mut message = with_headers("events", "order.created", "1", []);
        message.properties.expiration_ms = Some(3_600_000);
        assert_eq!(f.send(message).await, Ok(true));
        // It dies in "a" a second time: under another key, of another exchange, without an expiration.
        for queue in ["a", "b", "c", "a", "b"] {
            f.get(queue).await.reject().await;
        }
        let delivery = f.get("c").await;
        let properties = &delivery.message().properties;
        assert_eq!(properties.expiration_ms, None);
        for (field, value) in [("queue", "a"), ("reason", "rejected"), ("exchange", "events")] {
            let name = format!("x-first-death-{field}");
            assert_eq!(properties.headers.get(&name), Some(&Value::from(value)), "{name}");
        }
        let mut deaths = deaths(delivery.message());
        let first = deaths.first().and_then(|death| death.get("queue")).cloned();
        assert_eq!(first, Some(Value::from("b")));
        // The server turns those behind the first around with each death.
        if let Peer::RabbitMq(_) = f {
            deaths[1..].reverse();
        }
        let common = |queue: &str, count: i64, exchange: &str, key: &str| {
            vec![
                ("queue", Value::from(queue)),
                ("reason", Value::from("rejected")),
                ("count", Value::Int(count)),
                ("exchange", Value::from(exchange)),
                ("routing-keys", Value::List(vec![Value::from(key)])),
            ]
        };
        assert_eq!(deaths.len(), 3);
        assert_death(&deaths[0], &common("b", 2, "", "b"));
        let mut expired = common("a", 2, "events", "order.created");
        expired.push(("original-expiration", Value::from("3600000")));
        assert_death(&deaths[1], &expired);
        assert_death(&deaths[2], &common("c", 1, "", "c"));
        delivery.ack().await;
    })
    .await;
}

#[tokio::test]
async fn a_cycle_of_expiry_alone_is_dropped() {
    on_both(async |f| {
        // Each round leaves a copy where nothing takes it away again.
        f.exchange("rounds", ExchangeKind::Fanout).await;
        f.declare(dying_queue("a", "rounds", None).message_ttl_ms(1)).await;
        f.declare(dying_queue("b", "", Some("a")).message_ttl_ms(1)).await;
        f.queue("end").await;
        for queue in ["b", "end"] {
            f.bind(queue, "rounds", "").await;
        }
        let bodies: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        for (round, body) in bodies.iter().enumerate() {
            f.publish("", "a", body).await;
            // Those before it have had the time for a round of their own.
            f.holds("end", (round + 1, 0, 0)).await;
        }
        for queue in ["a", "b"] {
            f.holds(queue, (0, 0, 0)).await;
        }
        assert_eq!(f.take_all("end").await, bodies);
    })
    .await;
}
