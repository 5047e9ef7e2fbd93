//! The server stops, the way to it is cut, or nobody answers: what was confirmed is there afterwards.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use leveret::backend::{Alarm, Broker};
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};
use tokio::sync::{Mutex, MutexGuard};

use super::proxy::Proxy;
use super::{PATIENCE, connect, delete, listener, next, server, text, to, unique};

/// The whole server is touched by one test at a time, and by others meanwhile not.
static SERVER: Mutex<()> = Mutex::const_new(());

pub async fn alone() -> MutexGuard<'static, ()> {
    SERVER.lock().await
}

pub async fn control(arguments: &[&str]) {
    let command = std::env::var("LEVERET_RABBITMQ_CTL").expect("a command");
    let mut command = std::process::Command::new(command);
    command.args(arguments);
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// Publishes so many messages one after the other, each until it is confirmed: how often one failed.
pub async fn publish_all(
    broker: Broker,
    queue: QueueName,
    numbers: std::ops::Range<usize>,
) -> usize {
    let mut failures = 0;
    for number in numbers {
        loop {
            let sent =
                async { broker.publish(to(&queue, number.to_string())).await?.confirmed().await };
            match sent.await {
                Ok(()) => break,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    failures += 1;
                }
            }
        }
    }
    failures
}

pub async fn drain(broker: &Broker, queue: &QueueName) -> HashSet<String> {
    let mut bodies = HashSet::new();
    while let Some(delivery) = broker.get(queue).await.unwrap() {
        bodies.insert(text(delivery.message()));
        delivery.ack().await.unwrap();
    }
    bodies
}

pub async fn until_ready(broker: &Broker, expected: bool) {
    let reached = async {
        while broker.ready().await.is_ok() != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("its readiness changes");
}

/// Waits until it is ready, and says how long that took.
pub async fn served_again(after: &str, broker: &Broker, since: Instant) {
    until_ready(broker, true).await;
    println!("{after}: ready after {:.2} s", since.elapsed().as_secs_f64());
}

async fn connected_through_proxy(url: &str) -> (Proxy, Broker) {
    let proxy = Proxy::before(listener(url)).await;
    let broker = connect(&url.replace(&listener(url), &proxy.address.to_string())).await.unwrap();
    (proxy, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_lose_nothing_that_was_confirmed() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (proxy, broker) = connected_through_proxy(&url).await;
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let publishers: Vec<_> = (0..10)
        .map(|of| {
            tokio::spawn(publish_all(broker.clone(), queue.clone(), of * 200..of * 200 + 200))
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.cut();
        served_again("connections cut", &broker, Instant::now()).await;
    }
    let mut failures = 0;
    for publisher in publishers {
        failures += publisher.await.unwrap();
    }
    println!("connections cut: {failures} publishes failed, and were made again");
    assert_eq!(drain(&broker, &queue).await.len(), 2_000);
    delete(&broker, &[&queue]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_slow_is_served_all_the_same() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (proxy, broker) = connected_through_proxy(&url).await;
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let delay = Duration::from_millis(150);
    proxy.delay(delay);
    let since = Instant::now();
    let publishers: Vec<_> = (0..50)
        .map(|of| tokio::spawn(publish_all(broker.clone(), queue.clone(), of * 4..of * 4 + 4)))
        .collect();
    for publisher in publishers {
        assert_eq!(publisher.await.unwrap(), 0, "none fails");
    }
    // Four round trips one after the other, whoever else is waiting.
    assert!(since.elapsed() >= delay * 8);
    broker.ready().await.unwrap();
    proxy.delay(Duration::ZERO);
    assert_eq!(drain(&broker, &queue).await.len(), 200);
    delete(&broker, &[&queue]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_the_topology_is_there_and_consumers_go_on() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (proxy, broker) = connected_through_proxy(&url).await;
    let (own, durable) = (unique("own"), unique("q"));
    let exchange = ExchangeName::new(unique("x").as_str()).unwrap();
    let spec = ExchangeSpec::transient(exchange.clone(), ExchangeKind::Fanout).auto_delete();
    broker.declare_exchange(spec).await.unwrap();
    // The server deletes it with the connection.
    broker
        .declare_queue(QueueSpec::transient(own.clone()).exclusive().auto_delete())
        .await
        .unwrap();
    broker.bind(&own, &exchange, &RoutingKey::empty()).await.unwrap();
    broker.declare_queue(QueueSpec::durable(durable.clone())).await.unwrap();
    let mut events = broker.consume(&own, 0).await.unwrap();
    let mut worker = broker.consume(&durable, 1).await.unwrap();
    broker.publish(to(&durable, "1")).await.unwrap().confirmed().await.unwrap();
    let held = next(&mut worker).await;

    proxy.close();
    until_ready(&broker, false).await;
    assert!(broker.try_publish(to(&durable, "x")).await.is_err_and(|error| error.is_retryable()));
    // One that waits for the connection is sent on the next one.
    let waiting = broker.publish(to(&durable, "2")).await.unwrap();
    proxy.pass();
    waiting.confirmed().await.unwrap();
    assert!(held.ack().await.is_err_and(|error| error.is_retryable()));
    for body in ["1", "2"] {
        let delivery = next(&mut worker).await;
        assert_eq!(
            (text(delivery.message()).as_str(), delivery.redelivered()),
            (body, body == "1")
        );
        delivery.ack().await.unwrap();
    }
    let mut event = to(&own, "event");
    event.exchange = exchange;
    broker.publish(event).await.unwrap().confirmed().await.unwrap();
    assert_eq!(text(next(&mut events).await.message()), "event");
    delete(&broker, &[&durable]).await;
}

/// The server holds the queue for the connection that it does not know to be gone, and deletes it then.
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_comes_back_also_when_the_server_notices_late() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (proxy, broker) = connected_through_proxy(&url).await;
    let own = unique("own");
    let exchange = ExchangeName::new(unique("x").as_str()).unwrap();
    let spec = ExchangeSpec::durable(exchange.clone(), ExchangeKind::Fanout);
    broker.declare_exchange(spec).await.unwrap();
    let spec = QueueSpec::transient(own.clone()).exclusive().auto_delete();
    broker.declare_queue(spec).await.unwrap();
    broker.bind(&own, &exchange, &RoutingKey::empty()).await.unwrap();
    let mut events = broker.consume(&own, 0).await.unwrap();

    proxy.cut_near();
    until_ready(&broker, false).await;
    until_ready(&broker, true).await;
    proxy.let_the_server_notice();
    let publishing = async {
        loop {
            let mut event = to(&own, "event");
            event.exchange = exchange.clone();
            broker.publish(event).await.unwrap().confirmed().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        event = next(&mut events) => assert_eq!(text(event.message()), "event"),
    }
    broker.delete_exchange(&exchange, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_and_starts_has_everything_that_it_confirmed() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let publisher = tokio::spawn(publish_all(broker.clone(), queue.clone(), 0..2_000));
    tokio::time::sleep(Duration::from_millis(200)).await;
    control(&["stop_app"]).await;
    let reason = broker.ready().await.unwrap_err();
    assert!(reason.to_string().starts_with("RabbitMQ can't be reached: "), "{reason}");
    control(&["start_app"]).await;
    served_again("server stopped and started", &broker, Instant::now()).await;
    publisher.await.unwrap();
    assert_eq!(drain(&broker, &queue).await.len(), 2_000);
    delete(&broker, &[&queue]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_disk_alarm_publishers_wait_and_workers_go_on() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    broker.publish(to(&queue, "before")).await.unwrap().confirmed().await.unwrap();
    control(&["set_disk_free_limit", "1000000GB"]).await;
    until_ready(&broker, false).await;
    assert!(matches!(&broker.alarms()[..], [Alarm::Blocked(reason)] if reason.contains("disk")));
    assert!(broker.try_publish(to(&queue, "x")).await.is_err_and(|error| error.is_retryable()));
    let mut waiting = Box::pin(broker.publish(to(&queue, "meanwhile")).await.unwrap().confirmed());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "confirmed under the alarm");
    broker.get(&queue).await.unwrap().unwrap().ack().await.unwrap();
    control(&["set_disk_free_limit", "1MB"]).await;
    let since = Instant::now();
    waiting.await.unwrap();
    served_again("disk alarm ended", &broker, since).await;
    assert!(broker.alarms().is_empty());
    assert_eq!(drain(&broker, &queue).await, HashSet::from(["meanwhile".to_owned()]));
    delete(&broker, &[&queue]).await;
}

/// What waits in this process is bounded: beyond that a publisher waits, until the server takes messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_holds_publishers_off_until_the_server_takes_messages_again() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    control(&["set_disk_free_limit", "1000000GB"]).await;
    until_ready(&broker, false).await;
    let message = |number: usize| to(&queue, format!("{number}{}", "x".repeat(1 << 20)));
    let mut confirms = Vec::new();
    let waiting = loop {
        let mut publishing = Box::pin(broker.publish(message(confirms.len())));
        match tokio::time::timeout(Duration::from_millis(500), &mut publishing).await {
            Ok(confirm) => confirms.push(confirm.unwrap()),
            Err(_) => break tokio::spawn(broker_publish(broker.clone(), message(confirms.len()))),
        }
        assert!(confirms.len() < 1_000, "there is no bound");
    };
    assert!(confirms.len() > 50 && !waiting.is_finished(), "{} MiB", confirms.len());
    let refused = broker.try_publish(message(0)).await.map(drop).unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    control(&["set_disk_free_limit", "1MB"]).await;
    let count = confirms.len() + 1;
    for confirm in confirms {
        confirm.confirmed().await.unwrap();
    }
    waiting.await.unwrap();
    assert_eq!(drain(&broker, &queue).await.len(), count);
    delete(&broker, &[&queue]).await;
}

async fn broker_publish(broker: Broker, message: Message) {
    broker.publish(message).await.unwrap().confirmed().await.unwrap();
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() {
    let Some(url) = server() else { return };
    let proxy = Proxy::before(listener(&url)).await;
    proxy.silence();
    let silent = url.replace(&listener(&url), &proxy.address.to_string());
    let refused =
        connect(&format!("{silent}?connection_timeout=200")).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("no answer within 200 ms"), "{refused}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once_in_the_servers_words() {
    let Some(url) = server() else { return };
    let wrong = url.replace("guest:guest", "guest:wrong");
    let refused = connect(&wrong).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("Login was refused"), "{refused}");
    assert!(!refused.is_retryable());
    assert!(!refused.to_string().contains("wrong"), "{refused}");
}
