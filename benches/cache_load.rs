//! What cache writes cost the rest on the one journal: how long a broker's confirm takes beside them, and
//! what the folder takes when one key is written over and over. Asserts nothing.
//!
//! `LEVERET_BENCH_DIR` is the folder (default: `target/`, on the disk of this repository);
//! `LEVERET_BENCH_REWRITES` how often the key is written (default: 10,000,000). The argument `confirms` or
//! `rewrites` runs one of the two.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use leveret::broker::{self, Broker};
use leveret::cache::{self, AppendFsync, Cache};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 5;
/// Durable publishes of a round, one at a time.
const PUBLISHES: usize = 2_000;
const VALUE_BYTES: usize = 100;
const KEYS: usize = 10_000;
/// What a writer waits for room with, as the port does.
const WRITE_BYTES: usize = 200;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn open(folder: &Path) -> Result<(Broker, Cache), Failure> {
    let store = FolderStore::open(folder)?;
    let journal = Journal::open(Box::new(store), JournalOptions::default(), &mut |_, _, _| Ok(()))?;
    let clock = SystemClock::shared();
    let broker = Broker::new(journal.clone(), clock.clone(), broker::Recovery::default());
    let cache = Cache::new(journal, clock, AppendFsync::EverySec, cache::Recovery::default());
    Ok((broker, cache))
}

/// How long each of the confirms took, shortest first.
async fn confirms(broker: &Broker, publishes: usize) -> Result<Vec<Duration>, Failure> {
    let queue = QueueName::new("q")?;
    if let Some(commit) = broker.declare_queue(QueueSpec::durable(queue.clone()))? {
        commit.await?;
    }
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q")?);
    let mut took = Vec::with_capacity(publishes);
    for _ in 0..publishes {
        let body = Bytes::from(vec![b'x'; VALUE_BYTES]);
        let message = Message::new(exchange.clone(), key.clone(), body).persistent();
        let began = Instant::now();
        broker.publish(message).await?.confirm.await?;
        took.push(began.elapsed());
        if let Some(delivery) = broker.get(&queue)? {
            drop(delivery.ack());
        }
    }
    took.sort_unstable();
    Ok(took)
}

/// Writes keys as fast as the journal takes them, until told to stop.
async fn write(
    cache: Cache,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        cache.admit(WRITE_BYTES).await?;
        drop(cache.set(format!("key:{}", number % KEYS), value.clone())?);
        written.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    Ok(())
}

fn report(name: &str, rounds: &[Vec<Duration>]) {
    let of = |share: f64| {
        let mut values: Vec<f64> = rounds
            .iter()
            .map(|round| round[((round.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3)
            .collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let ((p50, ..), (p99, least, most)) = (of(0.5), of(0.99));
    println!("{name}: p50 {p50:.2} ms, p99 {p99:.2} ms ({least:.2} to {most:.2})");
}

async fn beside_writes(root: &Path, rounds: usize, publishes: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(root)?;
    let (broker, cache) = open(folder.path())?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let (mut written, mut time) = (0, Duration::ZERO);
    for _ in 0..rounds {
        alone.push(confirms(&broker, publishes).await?);
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let began = Instant::now();
        let writer = tokio::spawn(write(cache.clone(), stop.clone(), count.clone()));
        beside.push(confirms(&broker, publishes).await?);
        time += began.elapsed();
        stop.store(true, Ordering::Relaxed);
        writer.await??;
        written += count.load(Ordering::Relaxed);
    }
    println!(
        "a durable publish and its confirm, {publishes} one after the other; medians of {rounds}"
    );
    report("  alone", &alone);
    let rate = written as f64 / time.as_secs_f64();
    report(&format!("  beside {rate:.0} SETs a second, everysec"), &beside);
    cache.journal().close();
    Ok(())
}

/// What the files take of the disk: the end of a segment that is not used yet takes nothing.
fn folder_bytes(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        // A segment that is deleted meanwhile takes nothing.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    }
    Ok(bytes)
}

async fn rewrites(root: &Path, count: u64) -> Result<(), Failure> {
    /// Writes between two looks at the folder.
    const A_LOOK: u64 = 1_000;
    let folder = tempfile::tempdir_in(root)?;
    let (_broker, cache) = open(folder.path())?;
    let mut most = 0;
    let began = Instant::now();
    for number in 0..count {
        drop(cache.set("key", Bytes::from(vec![number as u8; VALUE_BYTES]))?);
        if number % A_LOOK == 0 {
            // Else what was overwritten within a second would never be written at all.
            cache.journal().flush().await?;
            most = most.max(folder_bytes(folder.path())?);
        }
    }
    let stats = cache.journal().stats();
    println!(
        "one key written {count} times in {:.1} s, {} commits: at most {:.1} MiB in the folder",
        began.elapsed().as_secs_f64(),
        stats.commits,
        most as f64 / f64::from(1 << 20),
    );
    cache.journal().close();
    Ok(())
}

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` a short round is enough.
    let is_short = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, publishes) = if is_short { (1, 20) } else { (ROUNDS, PUBLISHES) };
    let asked = std::env::var("LEVERET_BENCH_REWRITES").ok();
    let count = match asked {
        Some(text) => text.parse()?,
        None if is_short => 10_000,
        None => 10_000_000,
    };
    let root = std::env::var_os("LEVERET_BENCH_DIR").map_or("target".into(), PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_asked = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if is_asked("confirms") {
        runtime.block_on(beside_writes(&root, rounds, publishes))?;
    }
    if is_asked("rewrites") {
        runtime.block_on(rewrites(&root, count))?;
    }
    Ok(())
}
