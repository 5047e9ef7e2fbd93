//! The broker without its journal: matching topics, and the way of a transient message.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::broker::{Broker, ConsumeOptions, Consumer, Recovery, TopicTrie};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{Binding, QueueSpec};

/// Cost must follow the key's words and the matches, not the number of bindings.
fn topic_match(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic match");
    for bindings in [10, 1_000, 100_000] {
        let mut trie = TopicTrie::new();
        for number in 0..bindings {
            let pattern = match number % 4 {
                0 => format!("order.{number}.created"),
                1 => format!("order.{number}.*"),
                2 => format!("user.{number}.#"),
                _ => format!("*.{number}.deleted"),
            };
            trie.insert(&pattern, number);
        }
        // Matched by `order.5.*` alone.
        group.bench_function(BenchmarkId::from_parameter(bindings), |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                trie.for_each_match(black_box("order.5.created"), |value| found += value);
                found
            });
        });
    }
    group.finish();
}

struct Bench {
    broker: Broker,
    consumer: Consumer,
    exchange: ExchangeName,
    key: RoutingKey,
}

fn one_queue(options: ConsumeOptions) -> Bench {
    let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
    let queue = QueueName::new("q").expect("a name");
    let spec = QueueSpec::transient(queue.clone());
    broker.declare_queue(spec).expect("a new queue");
    let consumer = broker.consume(&queue, options).expect("the queue is there");
    let key = RoutingKey::new("q").expect("a key");
    Bench { broker, consumer, exchange: ExchangeName::default_exchange(), key }
}

/// One thread and no wake-up: publish, then take the delivery.
fn transient(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transient publish to consumer");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("no ack", ConsumeOptions { no_ack: true, ..ConsumeOptions::default() }),
        ("prefetch 100, ack", ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() }),
    ];
    let body = bytes::Bytes::from(vec![b'x'; 200]);
    for (name, options) in cases {
        let mut bench = one_queue(options);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let message = Message::new(bench.exchange.clone(), bench.key.clone(), body.clone());
                let published = bench.broker.try_publish(message).expect("the exchange is there");
                let delivery = bench.consumer.try_next().expect("it was delivered at once");
                if !options.no_ack {
                    let _commit = delivery.ack();
                }
                published.routed
            });
        });
    }
    group.finish();
}

/// A durable message on a journal that forgets: what the engine itself does for it, its trace included.
fn persistent(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("persistent publish to consumer");
    group.throughput(Throughput::Elements(1));
    let body = bytes::Bytes::from(vec![b'x'; 200]);
    let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
    let queue = QueueName::new("q").expect("a name");
    broker.declare_queue(QueueSpec::durable(queue.clone())).expect("a new queue");
    let options = ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() };
    let mut consumer = broker.consume(&queue, options).expect("the queue is there");
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q").expect("a key"));
    // A message with an id is followed by the trace, for `explain`.
    for (name, id) in [("prefetch 100, ack", None), ("the same with a message_id", Some("m-1"))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut message = Message::new(exchange.clone(), key.clone(), body.clone());
                message.properties.persistent = true;
                message.properties.message_id = id.map(str::to_owned);
                let published = broker.try_publish(message).expect("the exchange is there");
                let delivery = consumer.try_next().expect("it was delivered at once");
                let _commit = delivery.ack();
                published.routed
            });
        });
    }
    group.finish();
}

/// The same way beside other queues with idle consumers, which must cost nothing.
fn among_others(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transient publish among idle queues and consumers");
    let body = bytes::Bytes::from(vec![b'x'; 200]);
    for others in [0, 100, 10_000] {
        let options = ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() };
        let mut bench = one_queue(options);
        let exchange = ExchangeName::new("amq.topic").expect("a name");
        let mut idle = Vec::new();
        for number in 0..others {
            let name = QueueName::new(format!("idle.{number}")).expect("a name");
            bench.broker.declare_queue(QueueSpec::transient(name.clone())).expect("a new queue");
            let key = RoutingKey::new(format!("idle.{number}.#")).expect("a key");
            let binding = Binding::queue(exchange.clone(), name.clone(), key);
            let _durable = bench.broker.bind(binding).expect("both ends are there");
            idle.push(bench.broker.consume(&name, options).expect("the queue is there"));
        }
        let own = QueueName::new("q").expect("a name");
        let key = RoutingKey::new("busy.#").expect("a key");
        let _durable = bench.broker.bind(Binding::queue(exchange.clone(), own, key));
        let key = RoutingKey::new("busy.key").expect("a key");
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.iter(|| {
                let message = Message::new(exchange.clone(), key.clone(), body.clone());
                bench.broker.try_publish(message).expect("the exchange is there");
                let delivery = bench.consumer.try_next().expect("it was delivered at once");
                delivery.ack()
            });
        });
    }
    group.finish();
}

/// Publishing onto a backlog, with nobody to take it: the length must not matter.
fn onto_backlog(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transient publish onto a backlog, and one get");
    for backlog in [0, 1_000_000] {
        let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
        let queue = QueueName::new("q").expect("a name");
        broker.declare_queue(QueueSpec::transient(queue.clone())).expect("a new queue");
        let (exchange, key) =
            (ExchangeName::default_exchange(), RoutingKey::new("q").expect("a key"));
        let publish = || {
            let message = Message::new(exchange.clone(), key.clone(), bytes::Bytes::new());
            broker.try_publish(message).expect("the exchange is there");
        };
        (0..backlog).for_each(|_| publish());
        group.bench_function(BenchmarkId::from_parameter(backlog), |bencher| {
            bencher.iter(|| {
                publish();
                broker.get(&queue).expect("the queue is there").map(|delivery| delivery.ack())
            });
        });
    }
    group.finish();
}

/// A persistent message in many queues, taken and acknowledged in each: what one of them costs must not
/// grow with their number.
fn fanned_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("persistent fan-out, get and ack in every queue");
    let exchange = ExchangeName::new("amq.fanout").expect("a name");
    for queues in [10, 1_000, 10_000] {
        let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
        let key = || RoutingKey::new("").expect("a key");
        let names: Vec<QueueName> = (0..queues)
            .map(|number| {
                let name = QueueName::new(format!("q.{number}")).expect("a name");
                broker.declare_queue(QueueSpec::durable(name.clone())).expect("a new queue");
                let binding = Binding::queue(exchange.clone(), name.clone(), key());
                let _durable = broker.bind(binding).expect("both ends are there");
                name
            })
            .collect();
        group.throughput(Throughput::Elements(queues));
        group.bench_function(BenchmarkId::from_parameter(queues), |bencher| {
            bencher.iter(|| {
                let message = Message::new(exchange.clone(), key(), bytes::Bytes::new());
                broker.try_publish(message.persistent()).expect("the exchange is there");
                for name in &names {
                    let delivery = broker.get(name).expect("the queue is there");
                    let _commit = delivery.expect("it was routed here").ack();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    topic_match,
    transient,
    persistent,
    among_others,
    onto_backlog,
    fanned_out
);
criterion_main!(benches);
