//! What is rejected goes to the dead-letter exchange, with its history, and never round for ever.

use leveret::model::message::{Headers, Message, Value};
use leveret::model::topology::ExchangeKind;

use super::fixture::{Fixture, dying_queue, next, nothing, queue_name, text, with_headers};

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

async fn with_dead_letters(f: &Fixture) {
    f.exchange("dlx", ExchangeKind::Direct).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "failed").await;
    f.broker.declare_queue(dying_queue("q", "dlx", Some("failed"))).await.unwrap();
}

#[tokio::test]
async fn a_rejected_message_is_dead_lettered_once_with_its_history_and_error() {
    let f = Fixture::new();
    with_dead_letters(&f).await;
    f.exchange("events", ExchangeKind::Topic).await;
    f.bind("q", "events", "order.*").await;
    f.publish("events", "order.created", "1").await;
    let mut consumer = f.consume("q", 1).await;
    next(&mut consumer).await.fail("no stock").await.unwrap();
    let mut dead = f.consume("dead", 10).await;
    let delivery = next(&mut dead).await;
    nothing(&mut dead).await;
    let message = delivery.message();
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("dlx", "failed"));
    assert_eq!(text(message), "1");
    let headers = &message.properties.headers;
    assert_eq!(headers.get("x-last-error").and_then(Value::as_text), Some("no stock"));
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
}

#[tokio::test]
async fn a_delivery_that_is_dropped_unsettled_counts_as_failed() {
    let f = Fixture::new();
    with_dead_letters(&f).await;
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 1).await;
    drop(next(&mut consumer).await);
    let mut dead = f.consume("dead", 1).await;
    assert_eq!(text(next(&mut dead).await.message()), "1");
}

#[tokio::test]
async fn without_a_dead_letter_exchange_or_with_a_missing_one_the_message_is_dropped() {
    let f = Fixture::new();
    f.queue("q").await;
    f.broker.declare_queue(dying_queue("r", "no-such-exchange", None)).await.unwrap();
    for queue in ["q", "r"] {
        f.publish("", queue, "1").await;
        let mut consumer = f.consume(queue, 1).await;
        next(&mut consumer).await.fail("no").await.unwrap();
        assert_eq!(f.depth(queue).await, (0, 0, 0));
    }
}

#[tokio::test]
async fn the_keys_of_cc_are_in_the_history_and_lead_on_unless_a_key_is_set() {
    let f = Fixture::new();
    f.exchange("dlx", ExchangeKind::Direct).await;
    let list = |keys: &[&str]| Value::List(keys.iter().map(|&key| Value::from(key)).collect());
    for (queue, dead_key) in [("own", None), ("new", Some("failed"))] {
        f.broker.declare_queue(dying_queue(queue, "dlx", dead_key)).await.unwrap();
        f.queue(&format!("{queue}.dead")).await;
        let headers = [("CC", list(&["cc"])), ("BCC", list(&["bcc"]))];
        let message = with_headers("", queue, "1", headers);
        f.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }
    f.bind("own.dead", "dlx", "cc").await;
    f.bind("new.dead", "dlx", "failed").await;
    for queue in ["own", "new"] {
        f.engine.get(&queue_name(queue)).unwrap().unwrap().fail("no");
        let dead = f.engine.get(&queue_name(&format!("{queue}.dead"))).unwrap().unwrap();
        let history = deaths(dead.message());
        assert_eq!(history[0].get("routing-keys"), Some(&list(&[queue, "cc"])));
        let kept = dead.message().properties.headers.get("CC").cloned();
        assert_eq!(kept, (queue == "own").then(|| list(&["cc"])));
        dead.ack();
    }
}

#[tokio::test]
async fn a_second_death_in_the_same_queue_raises_the_count() {
    let f = Fixture::new();
    // The dead letters of q come straight back to it.
    f.broker.declare_queue(dying_queue("q", "", Some("q"))).await.unwrap();
    f.publish("", "q", "1").await;
    let mut consumer = f.consume("q", 1).await;
    for _ in 0..3 {
        next(&mut consumer).await.fail("again").await.unwrap();
    }
    let delivery = next(&mut consumer).await;
    let deaths = deaths(delivery.message());
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].get("count").and_then(Value::as_int), Some(3));
}

#[tokio::test]
async fn a_cycle_of_expiry_alone_is_dropped() {
    let f = Fixture::new();
    for (queue, next) in [("a", "b"), ("b", "a")] {
        let spec = dying_queue(queue, "", Some(next)).message_ttl_ms(1);
        f.broker.declare_queue(spec).await.unwrap();
    }
    f.queue("end").await;
    f.publish("", "a", "1").await;
    // Whatever the cycle does, it ends: both queues are empty once the message has gone round.
    let gone = async {
        while f.depth("a").await.0 + f.depth("b").await.0 > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("the cycle ends");
}
