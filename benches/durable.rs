//! Publish and confirm of durable messages, beside bare append + fdatasync of the same commits: the
//! plain file gets the sizes that the engine's commits had, one by one, on the same file system,
//! right after the engine's run. Each begins with an empty file; but `used` says that the engine's folder has
//! the files of as many messages that are gone again, as that of a broker has after a while. Printed: the disk's time divided by
//! the engine's, so 1 is the most there is, and what a commit took. Asserts nothing. A run at 10,000 in
//! flight takes seconds: a disk that takes a short burst five times faster than what follows is measured at
//! what follows. `LEVERET_SHARE=5` plays a fifth of the messages, which is such a burst.
//!
//! `LEVERET_BENCH_DIR` is the folder (default: `target/`, on the disk of this repository); an
//! argument such as `1024/10000` runs the cases whose name holds it, and with a `$` that one; `200/10000x64`: 64 messages are
//! published at once (`Broker::publish_all`).

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use leveret::broker::{Broker, Confirm, Confirms, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions, SegmentStore, StorageBackend};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 7;

/// (bytes of a body, messages in flight, messages that are published at once, messages in all, and whether
/// there were as many before).
const CASES: [(usize, usize, usize, usize, bool); 12] = [
    (200, 1, 1, 500, false),
    (200, 100, 1, 20_000, false),
    (200, 10_000, 1, 1_500_000, false),
    (200, 10_000, 1, 1_500_000, true),
    (200, 10_000, 64, 1_500_000, false),
    (200, 10_000, 64, 1_500_000, true),
    (1_024, 1, 1, 500, false),
    (1_024, 100, 1, 20_000, false),
    (1_024, 10_000, 1, 500_000, false),
    (1_024, 10_000, 1, 500_000, true),
    (1_024, 10_000, 64, 500_000, false),
    (1_024, 10_000, 64, 500_000, true),
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let (rounds, share) = match std::env::args().any(|argument| argument == "--bench") {
        true => (ROUNDS, std::env::var("LEVERET_SHARE").ok().map_or(Ok(1), |it| it.parse())?),
        false => (1, 500),
    };
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let root = std::env::var_os("LEVERET_BENCH_DIR").map_or("target".into(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    println!(
        "durable publish + confirm against append + fdatasync of the same commits; medians of {rounds} rounds"
    );
    for (body_bytes, in_flight, at_once, messages, used) in CASES {
        let name = match at_once {
            1 => format!("{body_bytes}/{in_flight}"),
            _ => format!("{body_bytes}/{in_flight}x{at_once}"),
        } + if used { " used" } else { "" };
        if only.as_ref().is_some_and(|only| !format!("{name}$").contains(only.as_str())) {
            continue;
        }
        let messages = (messages / share).max(1);
        let run = || -> Result<Round, Failure> {
            let folder = tempfile::tempdir_in(&root)?;
            let load = Load { body_bytes, in_flight, at_once, messages, used };
            let engine = runtime.block_on(publish(folder.path(), load))?;
            let raw = append(&folder.path().join("raw"), &engine.commits)?;
            Ok(Round { engine, raw })
        };
        let rounds = (0..rounds).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
        report(&name, messages, &rounds);
    }
    Ok(())
}

struct Round {
    engine: Run,
    raw: Duration,
}

/// What the engine did in one round.
struct Run {
    took: Duration,
    /// What the publisher's thread had of a processor.
    publisher: Duration,
    /// Bytes of rows, a commit each.
    commits: Vec<u64>,
    traffic: Traffic,
}

/// What reached the files beneath redb.
#[derive(Clone, Copy)]
struct Traffic {
    syncs: u64,
    sync_ns: u64,
    writes: u64,
    written_bytes: u64,
    write_ns: u64,
}

fn report(name: &str, messages: usize, rounds: &[Round]) {
    let of = |value: &dyn Fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let messages = messages as f64;
    let (ratio, lowest, highest) =
        of(&|round| round.raw.as_secs_f64() / round.engine.took.as_secs_f64());
    let rate = of(&|round| messages / round.engine.took.as_secs_f64()).0;
    let raw_rate = of(&|round| messages / round.raw.as_secs_f64()).0;
    let commits = |round: &Round| round.engine.commits.len().max(1) as f64;
    let us = |time: Duration, round: &Round| time.as_secs_f64() * 1e6 / commits(round);
    println!(
        "{name:>17}: {ratio:.2} ({lowest:.2} to {highest:.2}); {rate:.0} against {raw_rate:.0} msg/s; {:.1} messages and {:.0} bytes a commit; publisher {:.0} ns a message",
        of(&|round| messages / commits(round)).0,
        of(&|round| round.engine.commits.iter().sum::<u64>() as f64 / commits(round)).0,
        of(&|round| round.engine.publisher.as_secs_f64() * 1e9 / messages).0,
    );
    let traffic = |value: fn(&Traffic) -> u64| {
        of(&|round| value(&round.engine.traffic) as f64 / commits(round)).0
    };
    println!(
        "            a commit: {:.0} us, in {:.2} syncs {:.0} us, in {:.1} writes of {:.0} bytes {:.0} us; raw {:.0} us",
        of(&|round| us(round.engine.took, round)).0,
        traffic(|traffic| traffic.syncs),
        traffic(|traffic| traffic.sync_ns) / 1e3,
        traffic(|traffic| traffic.writes),
        traffic(|traffic| traffic.written_bytes),
        traffic(|traffic| traffic.write_ns) / 1e3,
        of(&|round| us(round.raw, round)).0,
    );
}

#[derive(Clone, Copy)]
struct Load {
    body_bytes: usize,
    in_flight: usize,
    at_once: usize,
    messages: usize,
    used: bool,
}

async fn publish(folder: &Path, load: Load) -> Result<Run, Failure> {
    let observed = Arc::new(Observed::default());
    let store = ObservedStore {
        store: FolderStore::open(folder.join("data"))?,
        observed: observed.clone(),
    };
    let journal = Journal::open(Box::new(store), JournalOptions::default(), &mut |_, _, _| Ok(()))?;
    let broker = Broker::new(journal.clone(), SystemClock::shared(), Recovery::default());
    let timers = tokio::spawn(broker.run_timers());
    let queue = QueueName::new("q")?;
    if let Some(commit) = broker.declare_queue(QueueSpec::durable(queue.clone()))? {
        commit.await?;
    }
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q")?);
    let body = bytes::Bytes::from(vec![b'x'; load.body_bytes]);
    let message = || Message::new(exchange.clone(), key.clone(), body.clone()).persistent();
    if load.used {
        publish_batches(&broker, &Load { at_once: 64, ..load }, message).await?;
        // Segments are deleted between commits.
        broker.purge(&queue)?;
        while journal.stats().segments > 2 {
            broker.publish(message()).await?.confirm.await?;
            broker.purge(&queue)?;
        }
    }
    observed.begin(&journal);
    let (started, before) = (Instant::now(), processor_time()?);
    match load.at_once {
        1 => publish_each(&broker, &load, message).await?,
        _ => publish_batches(&broker, &load, message).await?,
    }
    let (took, publisher) = (started.elapsed(), processor_time()? - before);
    let (commits, traffic) = observed.end(&journal);
    timers.abort();
    journal.close();
    Ok(Run { took, publisher, commits, traffic })
}

/// What this thread had of a processor so far.
fn processor_time() -> Result<Duration, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?))
}

async fn publish_each(
    broker: &Broker,
    load: &Load,
    message: impl Fn() -> Message,
) -> Result<(), Failure> {
    let mut unconfirmed: VecDeque<Confirm> = VecDeque::with_capacity(load.in_flight);
    for _ in 0..load.messages {
        if unconfirmed.len() == load.in_flight
            && let Some(confirm) = unconfirmed.pop_front()
        {
            confirm.await?;
        }
        unconfirmed.push_back(broker.publish(message()).await?.confirm);
    }
    for confirm in unconfirmed {
        confirm.await?;
    }
    Ok(())
}

async fn publish_batches(
    broker: &Broker,
    load: &Load,
    message: impl Fn() -> Message,
) -> Result<(), Failure> {
    let mut unconfirmed: VecDeque<Confirms> = VecDeque::new();
    let (mut published, mut in_flight) = (0, 0);
    while published < load.messages {
        let count = load.at_once.min(load.messages - published);
        while in_flight + count > load.in_flight
            && let Some(mut confirms) = unconfirmed.pop_front()
        {
            in_flight -= confirms.len();
            while let Some(confirm) = confirms.next().await {
                confirm?;
            }
        }
        let batch = broker.publish_all((0..count).map(|_| message())).await?;
        unconfirmed.push_back(batch.confirms);
        (published, in_flight) = (published + count, in_flight + count);
    }
    for mut confirms in unconfirmed {
        while let Some(confirm) = confirms.next().await {
            confirm?;
        }
    }
    Ok(())
}

/// Appends and syncs the same commits to a file that grows.
fn append(path: &Path, commits: &[u64]) -> Result<Duration, Failure> {
    let mut file = File::create(path)?;
    let largest = commits.iter().copied().max().unwrap_or_default();
    let bytes = vec![b'x'; usize::try_from(largest)?];
    let started = Instant::now();
    for &commit in commits {
        file.write_all(&bytes[..usize::try_from(commit)?])?;
        file.sync_data()?;
    }
    Ok(started.elapsed())
}

/// Counts what passes. At each sync the journal is asked what it had committed before.
#[derive(Default)]
struct Observed {
    journal: OnceLock<Journal>,
    committed: Mutex<Vec<Committed>>,
    syncs: AtomicU64,
    sync_ns: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    write_ns: AtomicU64,
}

/// All commits so far.
#[derive(Clone, Copy)]
struct Committed {
    commits: u64,
    bytes: u64,
}

impl Committed {
    fn by(journal: &Journal) -> Self {
        let stats = journal.stats();
        Self { commits: stats.commits, bytes: stats.bytes_appended }
    }

    /// The bytes of each commit since `before`. The next one is written while the disk is at the last, so
    /// there may be two: they are taken for equal.
    fn since(self, before: Self) -> impl Iterator<Item = u64> {
        let (commits, bytes) = (self.commits - before.commits, self.bytes - before.bytes);
        (0..commits).map(move |nth| bytes / commits + u64::from(nth < bytes % commits))
    }
}

impl Observed {
    fn begin(&self, journal: &Journal) {
        self.journal.get_or_init(|| journal.clone());
        for counter in
            [&self.syncs, &self.sync_ns, &self.writes, &self.written_bytes, &self.write_ns]
        {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn sample(&self) {
        if let Some(journal) = self.journal.get() {
            let mut samples = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push(Committed::by(journal));
        }
    }

    fn end(&self, journal: &Journal) -> (Vec<u64>, Traffic) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let traffic = Traffic {
            syncs: of(&self.syncs),
            sync_ns: of(&self.sync_ns),
            writes: of(&self.writes),
            written_bytes: of(&self.written_bytes),
            write_ns: of(&self.write_ns),
        };
        let mut samples = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push(Committed::by(journal));
        let commits = samples.windows(2).flat_map(|pair| pair[1].since(pair[0]));
        (commits.filter(|&bytes| bytes > 0).collect(), traffic)
    }
}

struct ObservedStore {
    store: FolderStore,
    observed: Arc<Observed>,
}

impl ObservedStore {
    fn observe(&self, file: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        Box::new(ObservedFile { file, observed: self.observed.clone() })
    }
}

impl SegmentStore for ObservedStore {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.store.list()
    }
    fn open(&self, segment: u64) -> io::Result<Box<dyn StorageBackend>> {
        self.store.open(segment)
    }
    fn create(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.observe(self.store.create(segment, bytes)?))
    }
    fn publish(&self, segment: u64) -> io::Result<()> {
        self.store.publish(segment)
    }
    fn remove(&self, segment: u64) -> io::Result<()> {
        self.store.remove(segment)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        self.store.size_bytes()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.store.free_bytes()
    }
}

struct ObservedFile {
    file: Box<dyn StorageBackend>,
    observed: Arc<Observed>,
}

impl fmt::Debug for ObservedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

fn timed<T>(count: &AtomicU64, ns: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    count.fetch_add(1, Ordering::Relaxed);
    ns.fetch_add(took, Ordering::Relaxed);
    done
}

impl StorageBackend for ObservedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.observed.sample();
        timed(&self.observed.syncs, &self.observed.sync_ns, || self.file.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.observed.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        timed(&self.observed.writes, &self.observed.write_ns, || self.file.write(offset, data))
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
