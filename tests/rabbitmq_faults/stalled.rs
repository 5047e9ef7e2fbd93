//! The way to the server stands still in the middle of a call: each is answered or fails, and none waits
//! for ever.

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, Instant};

use leveret::backend::{Broker, Delivery, Edit, Selection};
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};
use tokio::task::JoinSet;

use super::faults::{drain, served_again};
use super::proxy::Proxy;
use super::{PATIENCE, connect, delete, listener, next, server, to, unique};

/// Calls that were made while nothing came through, by name.
#[derive(Default)]
struct Calls(JoinSet<(&'static str, Result<(), String>)>);

impl Calls {
    fn make<T, E: ToString>(
        &mut self,
        name: &'static str,
        call: impl Future<Output = Result<T, E>> + Send + 'static,
    ) {
        self.0.spawn(async move { (name, call.await.map(drop).map_err(|it| it.to_string())) });
    }

    /// Those that fail, and those that do not end, when `by` has passed.
    async fn end(mut self, by: Duration) -> (HashSet<&'static str>, usize) {
        let deadline = tokio::time::Instant::now() + by;
        let mut failed = HashSet::new();
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.0.join_next()).await {
            let (name, outcome) = ended.unwrap();
            if let Err(reason) = outcome {
                assert!(reason.contains("RabbitMQ can't be reached"), "{name}: {reason}");
                failed.insert(name);
            }
        }
        (failed, self.0.len())
    }
}

/// Messages of which no call says that they may go: the others' acknowledgements may have arrived.
const KEPT: [&str; 7] = ["2", "4", "5", "6", "7", "8", "9"];

/// A queue with messages, and deliveries of some of them.
struct Stand {
    broker: Broker,
    queue: QueueName,
    held: Vec<Delivery>,
}

impl Stand {
    async fn new(broker: Broker) -> Self {
        let queue = unique("q");
        broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
        for number in 0..10 {
            let message = to(&queue, number.to_string());
            broker.publish(message).await.unwrap().confirmed().await.unwrap();
        }
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(broker.get(&queue).await.unwrap().unwrap());
        }
        Self { broker, queue, held }
    }

    fn make_all(&mut self) -> Calls {
        let mut calls = Calls::default();
        let exchange = ExchangeName::new(unique("x").as_str()).unwrap();
        macro_rules! call {
            ($name:literal, |$broker:ident, $queue:ident| $work:expr) => {
                let ($broker, $queue) = (self.broker.clone(), self.queue.clone());
                calls.make($name, async move { $work });
            };
        }
        let held = std::mem::take(&mut self.held);
        let Ok([fails, one, back, other]) = <[Delivery; 4]>::try_from(held) else { panic!() };
        calls.make("ack_all", Delivery::ack_all(vec![one, other]));
        calls.make("fail", async move { fails.fail("no").await });
        calls.make("requeue", back.requeue());
        let other = exchange.clone();
        call!("declare_exchange", |broker, _queue| {
            let spec = ExchangeSpec::durable(other, ExchangeKind::Fanout);
            broker.declare_exchange(spec).await
        });
        call!("delete_exchange", |broker, _queue| broker.delete_exchange(&exchange, false).await);
        call!("declare_queue", |broker, queue| broker
            .declare_queue(QueueSpec::durable(queue))
            .await);
        call!("bind", |broker, queue| {
            let exchange = ExchangeName::new("amq.direct").unwrap();
            broker.bind(&queue, &exchange, &RoutingKey::empty()).await
        });
        call!("queue", |broker, queue| broker.queue(&queue).await);
        call!("get", |broker, queue| broker.get(&queue).await);
        call!("consume", |broker, queue| broker.consume(&queue, 1).await);
        call!("peek", |broker, queue| broker.peek(&queue, 10).await);
        call!("dead_letter_groups", |broker, queue| broker.dead_letter_groups(&queue).await);
        call!("redrive", |broker, queue| broker.redrive(&queue, "1", Edit::default()).await);
        call!("discard", |broker, queue| {
            broker.discard(&queue, Selection::Ids(vec!["1".to_owned()])).await
        });
        call!("publish", |broker, queue| {
            broker.publish(to(&queue, "unconfirmed")).await?.confirmed().await
        });
        call!("publish_mandatory", |broker, queue| broker
            .publish_mandatory(to(&queue, "unconfirmed"))
            .await);
        call!("ready", |broker, _queue| broker.ready().await);
        calls
    }
}

/// `is_cut`: the connection is cut, rather than that its silence is noticed.
async fn all_calls_end(is_cut: bool) {
    let Some(url) = server() else { return };
    let _alone = super::faults::alone().await;
    let proxy = Proxy::before(listener(&url)).await;
    let way = url.replace(&listener(&url), &proxy.address.to_string());
    let mut stand = Stand::new(connect(&format!("{way}?heartbeat=2")).await.unwrap()).await;
    let mut worker = stand.broker.consume(&stand.queue, 1).await.unwrap();
    drop(next(&mut worker).await.requeue().await);
    let since = Instant::now();
    proxy.stall();
    let calls = stand.make_all();
    if is_cut {
        // They are under way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.cut();
    }
    let (failed, waiting) = calls.end(PATIENCE).await;
    println!("all calls ended after {:.1} s", since.elapsed().as_secs_f64());
    assert_eq!(waiting, 0, "calls wait for ever; these failed: {failed:?}");
    for name in ["ack_all", "get", "consume", "peek", "redrive", "publish", "declare_exchange"] {
        assert!(failed.contains(name), "{name} did not fail; these did: {failed:?}");
    }
    proxy.go_on();
    served_again("the way is free again", &stand.broker, Instant::now()).await;
    // The worker goes on by itself (what it had got before is not its own any more), and nothing that was
    // confirmed is gone.
    while next(&mut worker).await.requeue().await.is_err() {}
    drop(worker);
    let direct = connect(&url).await.unwrap();
    let there = async {
        let mut there = HashSet::new();
        while KEPT.iter().any(|body| !there.contains(*body)) {
            there.extend(drain(&direct, &stand.queue).await);
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("all that nobody settled are there");
    delete(&direct, &[&stand.queue]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_fail_when_the_connection_is_cut() {
    all_calls_end(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_fail_when_the_server_stays_silent() {
    all_calls_end(false).await;
}
