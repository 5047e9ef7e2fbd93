//! Publish and confirm of durable messages, beside raw append + fdatasync of the same bytes in
//! commits of the same number, alternated in one run. Prints ratios; asserts nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leveret::broker::{Broker, Recovery};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

const ROUNDS: usize = 7;

struct Round {
    messages_per_s: f64,
    commits: u64,
    raw_messages_per_s: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.messages_per_s / self.raw_messages_per_s
    }
}

fn main() {
    let root = std::env::var_os("LEVERET_BENCH_DIR")
        .map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "durable publish + confirm / raw append + fdatasync, {ROUNDS} rounds, median (min to max)"
    );
    for body_bytes in [200, 1024] {
        for (in_flight, messages) in [(1, 300), (100, 10_000), (10_000, 100_000)] {
            let mut rounds: Vec<Round> = (0..ROUNDS)
                .map(|_| runtime.block_on(round(&root, body_bytes, in_flight, messages)))
                .collect();
            rounds.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
            let median = &rounds[ROUNDS / 2];
            println!(
                "{body_bytes:>5} B, {in_flight:>6} in flight: {:.2} ({:.2} to {:.2}); {:.0} against {:.0} msg/s, {:.0} messages a commit",
                median.ratio(),
                rounds[0].ratio(),
                rounds[ROUNDS - 1].ratio(),
                median.messages_per_s,
                median.raw_messages_per_s,
                messages as f64 / median.commits as f64,
            );
        }
    }
}

async fn round(root: &Path, body_bytes: usize, in_flight: usize, messages: usize) -> Round {
    let folder = tempfile::tempdir_in(root).expect("a folder on the disk that is measured");
    let (took, commits) = publish(folder.path(), body_bytes, in_flight, messages).await;
    let raw = append(&folder.path().join("raw"), body_bytes * messages, commits);
    Round {
        messages_per_s: messages as f64 / took.as_secs_f64(),
        commits,
        raw_messages_per_s: messages as f64 / raw.as_secs_f64(),
    }
}

async fn publish(
    folder: &Path,
    body_bytes: usize,
    in_flight: usize,
    messages: usize,
) -> (Duration, u64) {
    let store = FolderStore::open(folder.join("data")).expect("a new folder");
    let journal = Journal::open(Box::new(store), JournalOptions::default(), &mut |_, _, _| Ok(()))
        .expect("an empty log");
    let broker = Broker::new(journal.clone(), SystemClock::shared(), Recovery::default());
    let queue = QueueName::new("q").expect("a name");
    if let Some(commit) = broker.declare_queue(QueueSpec::durable(queue)).expect("a new queue") {
        commit.await.expect("a healthy disk");
    }
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q").expect("a key"));
    let body = bytes::Bytes::from(vec![b'x'; body_bytes]);
    let commits_before = journal.stats().commits;
    let mut unconfirmed = std::collections::VecDeque::with_capacity(in_flight);
    let started = Instant::now();
    for _ in 0..messages {
        if unconfirmed.len() == in_flight
            && let Some(confirm) = unconfirmed.pop_front()
        {
            let confirm: leveret::broker::Confirm = confirm;
            confirm.await.expect("a healthy disk");
        }
        let message = Message::new(exchange.clone(), key.clone(), body.clone()).persistent();
        unconfirmed.push_back(broker.publish(message).await.expect("the queue is there").confirm);
    }
    for confirm in unconfirmed {
        confirm.await.expect("a healthy disk");
    }
    let took = started.elapsed();
    let commits = journal.stats().commits - commits_before;
    journal.close();
    (took, commits)
}

/// The same bytes in as many commits.
fn append(path: &Path, bytes: usize, commits: u64) -> Duration {
    let mut file = File::create(path).expect("a new file");
    let chunk = vec![b'x'; bytes.div_ceil(usize::try_from(commits).expect("few commits"))];
    let started = Instant::now();
    for _ in 0..commits {
        file.write_all(&chunk).expect("space");
        file.sync_data().expect("a healthy disk");
    }
    started.elapsed()
}
