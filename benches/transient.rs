//! The way of a transient message from a publisher to a consumer: one thread, a wake-up of another
//! thread beside a bare flume channel, several producers, and what idle queues with a consumer each
//! take and cost. Prints figures; asserts nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use leveret::broker::{Broker, ConsumeOptions, Consumer, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let share = if std::env::args().any(|argument| argument == "--bench") { 1 } else { 100 };
    // First, while no memory that was given back is left to hide what they take.
    idle(10_000 / share)?;
    let acked = ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() };
    one_thread("no ack", no_ack(), 1_000_000 / share)?;
    one_thread("prefetch 100, ack", acked, 1_000_000 / share)?;
    wake_ups(20_000 / share)?;
    for producers in [1, 2, 4] {
        several_producers(producers, 1_000_000 / share, no_ack())?;
        several_producers(producers, 1_000_000 / share, acked)?;
    }
    Ok(())
}

fn no_ack() -> ConsumeOptions {
    ConsumeOptions { no_ack: true, ..ConsumeOptions::default() }
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * share) as usize).copied().unwrap_or_default()
}

struct Bench {
    broker: Broker,
    consumer: Consumer,
    exchange: ExchangeName,
    key: RoutingKey,
    body: Bytes,
}

impl Bench {
    fn new(options: ConsumeOptions) -> Result<Self, Failure> {
        let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
        let queue = QueueName::new("q")?;
        broker.declare_queue(QueueSpec::transient(queue.clone()))?;
        let consumer = broker.consume(&queue, options)?;
        let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q")?);
        Ok(Self { broker, consumer, exchange, key, body: Bytes::from(vec![b'x'; 200]) })
    }

    fn message(&self) -> Message {
        Message::new(self.exchange.clone(), self.key.clone(), self.body.clone())
    }

    /// One message all the way, in this thread.
    fn pass(&mut self, acks: bool) -> Result<(), Failure> {
        self.broker.try_publish(self.message())?;
        let delivery = self.consumer.try_next().ok_or("it was not delivered at once")?;
        if acks {
            let _commit = delivery.ack();
        }
        Ok(())
    }
}

fn one_thread(name: &str, options: ConsumeOptions, messages: usize) -> Result<(), Failure> {
    let mut bench = Bench::new(options)?;
    let mut times = Vec::with_capacity(messages);
    for _ in 0..messages {
        let started = Instant::now();
        bench.pass(!options.no_ack)?;
        times.push(started.elapsed());
    }
    println!(
        "publish to consumer, one thread, {name}: p50 {} ns, p99 {} ns",
        quantile(&mut times, 0.5).as_nanos(),
        quantile(&mut times, 0.99).as_nanos()
    );
    Ok(())
}

/// A consumer that sleeps on another thread, one message at a time: until it has the message.
fn wake_ups(messages: usize) -> Result<(), Failure> {
    let Bench { broker, mut consumer, exchange, key, body } = Bench::new(no_ack())?;
    let (woken, wakes) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || -> Result<(), std::io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            while consumer.next().await.is_some() {
                let _ = woken.send(Instant::now());
            }
        });
        Ok(())
    });
    let mut ours = Vec::with_capacity(messages);
    for _ in 0..messages {
        std::thread::sleep(Duration::from_micros(50));
        let started = Instant::now();
        broker.try_publish(Message::new(exchange.clone(), key.clone(), body.clone()))?;
        ours.push(wakes.recv()?.duration_since(started));
    }
    broker.delete_queue(&QueueName::new("q")?, leveret::broker::DeleteIf::default())?;
    thread.join().map_err(|_| "the consumer panicked")??;

    let (sender, receiver) = flume::bounded::<Bytes>(100);
    let (woken, wakes) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || -> Result<(), std::io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            while receiver.recv_async().await.is_ok() {
                let _ = woken.send(Instant::now());
            }
        });
        Ok(())
    });
    let mut bare = Vec::with_capacity(messages);
    for _ in 0..messages {
        std::thread::sleep(Duration::from_micros(50));
        let started = Instant::now();
        sender.send(body.clone())?;
        bare.push(wakes.recv()?.duration_since(started));
    }
    drop(sender);
    thread.join().map_err(|_| "the receiver panicked")??;
    println!(
        "publish to a consumer that sleeps on another thread: p50 {} ns; a bare flume channel: {} ns",
        quantile(&mut ours, 0.5).as_nanos(),
        quantile(&mut bare, 0.5).as_nanos()
    );
    Ok(())
}

fn several_producers(
    producers: usize,
    messages: usize,
    options: ConsumeOptions,
) -> Result<(), Failure> {
    let Bench { broker, mut consumer, exchange, key, body } = Bench::new(options)?;
    let each = messages / producers;
    let started = Instant::now();
    let threads: Vec<_> = (0..producers)
        .map(|_| {
            let (broker, exchange, key, body) =
                (broker.clone(), exchange.clone(), key.clone(), body.clone());
            std::thread::spawn(move || {
                for _ in 0..each {
                    let message = Message::new(exchange.clone(), key.clone(), body.clone());
                    if broker.try_publish(message).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for _ in 0..each * producers {
            if let Some(delivery) = consumer.next().await
                && !options.no_ack
            {
                let _commit = delivery.ack();
            }
        }
    });
    let took = started.elapsed();
    for thread in threads {
        thread.join().map_err(|_| "a producer panicked")?;
    }
    println!(
        "{producers} producers, one consumer, {}: {:.0} messages/s",
        if options.no_ack { "no ack" } else { "prefetch 100, ack" },
        (each * producers) as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// Resident bytes of the process.
fn resident_bytes() -> Result<f64, Failure> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = pages.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4_096.0)
}

fn idle(count: usize) -> Result<(), Failure> {
    let mut bench = Bench::new(no_ack())?;
    let median = |bench: &mut Bench| -> Result<Duration, Failure> {
        let mut times = Vec::with_capacity(100_000);
        for _ in 0..100_000 {
            let started = Instant::now();
            bench.pass(false)?;
            times.push(started.elapsed());
        }
        Ok(quantile(&mut times, 0.5))
    };
    let before = median(&mut bench)?;
    let empty = resident_bytes()?;
    let names: Vec<QueueName> = (0..count)
        .map(|number| QueueName::new(format!("idle.{number}")))
        .collect::<Result<_, _>>()?;
    for name in &names {
        bench.broker.declare_queue(QueueSpec::transient(name.clone()))?;
    }
    let queues = resident_bytes()?;
    let options = ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() };
    let consumers: Vec<Consumer> =
        names.iter().map(|name| bench.broker.consume(name, options)).collect::<Result<_, _>>()?;
    let all = resident_bytes()?;
    let after = median(&mut bench)?;
    println!(
        "{count} idle queues: {:.0} bytes each, with its name; {} idle consumers: {:.0} bytes each; publish p50 {} ns before, {} ns after",
        (queues - empty) / count as f64,
        consumers.len(),
        (all - queues) / count as f64,
        before.as_nanos(),
        after.as_nanos()
    );
    Ok(())
}
