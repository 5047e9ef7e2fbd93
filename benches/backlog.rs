//! A long durable backlog: memory while it grows, the rate of publishing it beside the disk's own, the
//! time of a restart with it, and the rate of draining it. Prints; asserts nothing.
//!
//! `LEVERET_BENCH_MESSAGES` sets how many messages of 1 KiB (200,000), `LEVERET_BENCH_DIR` the disk;
//! `cargo bench --bench backlog -- --fanout 3` puts each into three queues, which are drained one after
//! the other.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leveret::broker::{Broker, ConsumeOptions, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{Binding, QueueSpec};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BODY_BYTES: usize = 1024;
const IN_FLIGHT: usize = 10_000;
/// The backlog is published and drained in so many parts, each of which is timed.
const PARTS: usize = 10;

fn main() {
    let root = std::env::var_os("LEVERET_BENCH_DIR")
        .map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let messages = std::env::var("LEVERET_BENCH_MESSAGES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200_000);
    let mut arguments = std::env::args().skip_while(|argument| argument != "--fanout");
    let queues = arguments.nth(1).map_or(1, |text| text.parse().expect("a number of queues"));
    let folder = tempfile::tempdir_in(root).expect("a folder on the disk that is measured");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{messages} messages of {BODY_BYTES} B in {queues} queues; resident at the start {} MiB",
        resident_mib()
    );
    runtime.block_on(fill(folder.path(), messages, queues));
    runtime.block_on(drain(folder.path(), messages, queues));
}

fn open(folder: &Path) -> (Journal, Broker) {
    let mut recovery = Recovery::default();
    let store = Box::new(FolderStore::open(folder).expect("a folder"));
    let journal =
        Journal::open_by_tags(store, JournalOptions::default(), &mut |entry, kind, content| {
            recovery.accept_content(entry, kind, content)
        })
        .expect("a journal");
    let broker = Broker::new(journal.clone(), SystemClock::shared(), recovery);
    tokio::spawn(broker.run_timers());
    (journal, broker)
}

fn queue(number: usize) -> QueueName {
    QueueName::new(format!("backlog {number}")).expect("a name")
}

fn on_disk(broker: &Broker) -> usize {
    broker.queues().iter().map(|status| status.on_disk).sum()
}

async fn fill(folder: &Path, messages: usize, queues: usize) {
    let (journal, broker) = open(folder);
    let fanout = || ExchangeName::new("amq.fanout").expect("a name");
    for number in 0..queues {
        broker.declare_queue(QueueSpec::durable(queue(number))).expect("a queue");
        let key = RoutingKey::new("").expect("a key");
        broker.bind(Binding::queue(fanout(), queue(number), key)).expect("bound");
    }
    let body = bytes::Bytes::from(vec![b'x'; BODY_BYTES]);
    for part in 1..=PARTS {
        let (began, before) = (Instant::now(), journal.stats().commits);
        let mut confirms = std::collections::VecDeque::new();
        for _ in 0..messages / PARTS {
            let (exchange, key) = match queues {
                1 => (ExchangeName::new("").expect("a name"), "backlog 0"),
                _ => (fanout(), ""),
            };
            let key = RoutingKey::new(key).expect("a key");
            let message = Message::new(exchange, key, body.clone()).persistent();
            confirms.push_back(broker.publish(message).await.expect("published").confirm);
            if confirms.len() == IN_FLIGHT
                && let Some(oldest) = confirms.pop_front()
            {
                oldest.await.expect("confirmed");
            }
        }
        for confirm in confirms {
            confirm.await.expect("confirmed");
        }
        let took = began.elapsed();
        let commits = journal.stats().commits - before;
        let raw = append(folder, BODY_BYTES * messages / PARTS, commits);
        let rate = per_second(messages / PARTS, took);
        println!(
            "filled {part:>2}/{PARTS}: {rate:>7.0} msg/s, {:.2} of raw; {} MiB resident, {} on disk",
            raw.as_secs_f64() / took.as_secs_f64(),
            resident_mib(),
            on_disk(&broker),
        );
    }
    // As a crash leaves it: nothing says that this was a stop in order.
    drop(broker);
    journal.close();
}

async fn drain(folder: &Path, messages: usize, queues: usize) {
    let began = Instant::now();
    let (journal, broker) = open(folder);
    println!(
        "ready after {:.2} s; {} MiB resident, {} ready",
        began.elapsed().as_secs_f64(),
        resident_mib(),
        broker.queues().iter().map(|status| status.ready).sum::<usize>(),
    );
    for number in 0..queues {
        drain_one(&broker, number, messages).await;
    }
    journal.close();
}

async fn drain_one(broker: &Broker, number: usize, messages: usize) {
    let options = ConsumeOptions { prefetch: 1_000, ..ConsumeOptions::default() };
    let mut consumer = broker.consume(&queue(number), options).expect("a consumer");
    for part in 1..=PARTS {
        let began = Instant::now();
        let mut last = None;
        for _ in 0..messages / PARTS {
            last = consumer.next().await.expect("a delivery").ack();
        }
        if let Some(commit) = last {
            commit.await.expect("committed");
        }
        let rate = per_second(messages / PARTS, began.elapsed());
        println!(
            "drained {part:>2}/{PARTS} of queue {number}: {rate:>7.0} msg/s; {} MiB resident",
            resident_mib()
        );
    }
}

/// Raw append + fdatasync of so many bytes in so many commits.
fn append(folder: &Path, bytes: usize, commits: u64) -> Duration {
    let path = folder.join("raw");
    let mut file = File::create(&path).expect("a file");
    let commits = usize::try_from(commits).unwrap_or(1).max(1);
    let piece = vec![b'x'; bytes / commits];
    let began = Instant::now();
    for _ in 0..commits {
        file.write_all(&piece).expect("written");
        file.sync_data().expect("synced");
    }
    let took = began.elapsed();
    std::fs::remove_file(&path).expect("removed");
    took
}

fn per_second(messages: usize, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

/// Linux alone says it.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
