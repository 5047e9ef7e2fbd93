//! Allocations a message, in the thread that publishes: of a transient one on its way to a consumer, and
//! of a durable one until it is confirmed. The bytes are those that were asked for, lists that grow with
//! the queue included. Prints figures; asserts nothing.
//!
//! Apart from the other benches, because the counting allocator takes the place of the program's.

use bytes::Bytes;
use leveret::broker::{Broker, Confirm, ConsumeOptions, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let share = if std::env::args().any(|argument| argument == "--bench") { 1 } else { 100 };
    let messages = 100_000 / share;
    let no_ack = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    transient("no ack", no_ack, messages)?;
    let acked = ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() };
    transient("prefetch 100, ack", acked, messages)?;
    durable(messages)
}

fn message() -> Result<Message, Failure> {
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q")?);
    Ok(Message::new(exchange, key, Bytes::from(vec![b'x'; 200])))
}

fn report(
    name: &str,
    messages: usize,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    let counted = allocation_counter::measure(|| outcome = work());
    println!(
        "{name}: {:.2} allocations a message, {:.0} bytes",
        counted.count_total as f64 / messages as f64,
        counted.bytes_total as f64 / messages as f64
    );
    outcome
}

fn transient(name: &str, options: ConsumeOptions, messages: usize) -> Result<(), Failure> {
    let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
    let queue = QueueName::new("q")?;
    broker.declare_queue(QueueSpec::transient(queue.clone()))?;
    let mut consumer = broker.consume(&queue, options)?;
    let message = message()?;
    report(&format!("transient, {name}"), messages, || {
        for _ in 0..messages {
            broker.try_publish(message.clone())?;
            let delivery = consumer.try_next().ok_or("it was not delivered at once")?;
            if !options.no_ack {
                let _commit = delivery.ack();
            }
        }
        Ok(())
    })
}

fn durable(messages: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let store = FolderStore::open(folder.path())?;
    let journal = Journal::open(Box::new(store), JournalOptions::default(), &mut |_, _, _| Ok(()))?;
    let broker = Broker::new(journal.clone(), SystemClock::shared(), Recovery::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let queue = QueueSpec::durable(QueueName::new("q")?);
    if let Some(commit) = broker.declare_queue(queue)? {
        runtime.block_on(commit)?;
    }
    let message = message()?.persistent();
    let mut confirms: Vec<Confirm> = Vec::with_capacity(messages);
    report("durable, confirmed", messages, || {
        runtime.block_on(async {
            for _ in 0..messages {
                confirms.push(broker.publish(message.clone()).await?.confirm);
            }
            for confirm in confirms {
                confirm.await?;
            }
            Ok(())
        })
    })?;
    journal.close();
    Ok(())
}
