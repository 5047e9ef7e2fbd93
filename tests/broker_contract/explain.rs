//! Explain: the path of a durable message, by its id or by its place in the log.

use leveret::backend::{Edit, Embedded, Event, Explanation};
use leveret::model::message::Message;
use leveret::model::topology::{Backoff, ExchangeKind, QueueSpec, RetryPolicy};

use crate::fixture::{Fixture, dying_queue, key, name, queue_name};

/// Each step in a few words, with its message.
fn told(path: &Explanation) -> Vec<(String, String)> {
    let told = path.steps.iter().map(|step| {
        let event = match &step.event {
            Event::Published { exchange, routing_key, cause } => {
                format!("published to '{exchange}' as {routing_key}, cause {cause:?}")
            }
            Event::Routed { queue } => format!("routed to {queue}"),
            Event::Delivered { queue, deliveries } => format!("delivered by {queue}, {deliveries}"),
            Event::Acked { queue } => format!("acked in {queue}"),
            Event::Retried { queue, attempt, error, .. } => {
                format!("attempt {attempt} failed in {queue}: {error:?}")
            }
            Event::DeadLettered { queue, reason, error, to } => {
                format!("died in {queue}: {reason}, {error:?}, goes on: {}", to.is_some())
            }
            Event::Redriven { queue, .. } => format!("redriven from {queue}"),
        };
        (step.message.clone(), event)
    });
    told.collect()
}

fn events(path: &Explanation) -> Vec<String> {
    told(path).into_iter().map(|(_, event)| event).collect()
}

fn message(queue: &str, id: Option<&str>) -> Message {
    let mut message = Message::new(name(""), key(queue), "x").persistent();
    message.properties.message_id = id.map(str::to_owned);
    message
}

async fn publish(f: &Fixture, message: Message) {
    f.broker.publish(message).await.unwrap().confirmed().await.unwrap();
}

#[tokio::test]
async fn a_path_leads_over_retry_death_and_redrive_to_what_was_caused() {
    let (f, clock) = Fixture::frozen();
    f.exchange("dlx", ExchangeKind::Direct).await;
    for queue in ["dead", "receipts"] {
        f.queue(queue).await;
    }
    f.bind("dead", "dlx", "failed").await;
    let backoff = Backoff::Fixed { delay_ms: 100 };
    let retry = RetryPolicy { attempts_max: 2, backoff, jitter: 0.0 };
    f.declare(dying_queue("orders", "dlx", Some("failed")).retry(retry)).await;
    publish(&f, message("orders", Some("order-7"))).await;
    for error in ["no stock", "no stock at all"] {
        let delivery = f.broker.get(&queue_name("orders")).await.unwrap().unwrap();
        delivery.fail(error).await.unwrap();
        f.pass_ms(&clock, 100);
    }
    let dead = f.broker.peek(&queue_name("dead"), 1).await.unwrap().remove(0);
    let edit = Edit::default();
    assert!(f.broker.redrive(&queue_name("dead"), &dead.id, edit).await.unwrap().is_some());
    let mut delivery = f.broker.get(&queue_name("orders")).await.unwrap().unwrap();
    assert_eq!(delivery.id(), "order-7");
    delivery.ack_with(|tx| _ = tx.publish(message("receipts", None))).await.unwrap();

    let path = f.broker.explain("order-7").await.unwrap();
    assert_eq!(
        events(&path),
        [
            "published to '' as orders, cause None",
            "routed to orders",
            "delivered by orders, 1",
            r#"attempt 1 failed in orders: Some("no stock")"#,
            "delivered by orders, 1",
            r#"died in orders: rejected, Some("no stock at all"), goes on: true"#,
            "published to 'dlx' as failed, cause None",
            "routed to dead",
            "redriven from dead",
            "published to '' as orders, cause None",
            "routed to orders",
            "delivered by orders, 1",
            "acked in orders",
        ]
    );
    // It was three messages, one after the other; any of them tells of itself and what came after.
    let names: Vec<String> = told(&path).into_iter().map(|(message, _)| message).collect();
    let dead = &names[6];
    let from_there = f.broker.explain(dead).await.unwrap();
    assert_eq!(events(&from_there), events(&path)[6..]);
    assert_eq!(path.caused.len(), 1);
    assert_eq!(path.caused, from_there.caused);
    assert_eq!(path.caused[0].routing_key.as_str(), "receipts");
    // And the other way: what was caused names its cause.
    let receipt = f.broker.explain(&path.caused[0].message).await.unwrap();
    let cause = r#"published to '' as receipts, cause Some("order-7")"#;
    assert_eq!(events(&receipt), [cause, "routed to receipts"]);
}

#[tokio::test]
async fn a_message_without_an_id_is_called_by_its_place() {
    let f = Fixture::new();
    f.queue("q").await;
    f.queue("out").await;
    publish(&f, message("q", None)).await;
    let mut delivery = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    let id = delivery.id();
    delivery.ack_with(|tx| _ = tx.publish(message("out", None))).await.unwrap();
    let path = f.broker.explain(&id).await.unwrap();
    // Nobody could ask for it by name, so what was ordinary was not noted.
    assert_eq!(events(&path), ["acked in q"]);
    assert_eq!(path.caused.len(), 1);
    assert!(!path.is_cut);
}

#[tokio::test]
async fn what_is_transient_or_unknown_has_no_path() {
    let f = Fixture::new();
    f.queue("q").await;
    let mut transient = message("q", Some("t"));
    transient.properties.persistent = false;
    publish(&f, transient).await;
    for id in ["t", "nothing", "1-999999", "2-1", "", "-"] {
        assert_eq!(f.broker.explain(id).await.unwrap(), Explanation::default(), "{id}");
    }
}

#[tokio::test]
async fn an_id_that_many_messages_share_is_cut() {
    let f = Fixture::new();
    f.queue("q").await;
    for _ in 0..600 {
        publish(&f, message("q", Some("same"))).await;
    }
    let path = f.broker.explain("same").await.unwrap();
    assert!(path.is_cut);
    assert_eq!(path.steps.len(), 1_000);
}

#[tokio::test]
async fn a_place_in_the_log_is_called_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let engines = Embedded::open(folder.path()).unwrap();
    let broker = engines.broker();
    broker.declare_queue(QueueSpec::durable(queue_name("q"))).await.unwrap();
    broker.publish(message("q", None)).await.unwrap().confirmed().await.unwrap();
    let delivery = broker.get(&queue_name("q")).await.unwrap().unwrap();
    let id = delivery.id();
    delivery.requeue().await.unwrap();
    drop(broker);
    engines.close().await.unwrap();

    let engines = Embedded::open(folder.path()).unwrap();
    let broker = engines.broker();
    let mut delivery = broker.get(&queue_name("q")).await.unwrap().unwrap();
    assert_eq!(delivery.id(), id);
    delivery.ack_with(|_| {}).await.unwrap();
    // What was before the restart is not known any more.
    assert_eq!(events(&broker.explain(&id).await.unwrap()), ["acked in q"]);
}
