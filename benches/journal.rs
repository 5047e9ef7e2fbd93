//! Durable appends against the disk itself: each run of the journal is followed by a run of bare
//! append + fdatasync of a plain file, with as many syncs and as many bytes as the journal's commits
//! had. Printed: the disk's time divided by the journal's, so 1 is the most there is.
//!
//! `LEVERET_BENCH_DIR` is the folder (default: `target/`, on the disk of this repository).

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret::journal::{
    FolderStore, Group, Journal, JournalOptions, Kind, Payload, Stats, Urgency,
};

const ROUNDS: usize = 7;

/// (bytes of a fact, facts in flight, facts in all).
const CASES: [(usize, usize, usize); 6] = [
    (200, 1, 400),
    (200, 100, 20_000),
    (200, 10_000, 300_000),
    (1_024, 1, 400),
    (1_024, 100, 20_000),
    (1_024, 10_000, 200_000),
];

type Failure = Box<dyn std::error::Error>;

struct Round {
    journal: Duration,
    disk: Duration,
    stats: Stats,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.disk.as_secs_f64() / self.journal.as_secs_f64()
    }
}

/// Appends `facts` facts, at most `in_flight` of them unconfirmed.
async fn append(
    folder: &Path,
    bytes: usize,
    in_flight: usize,
    facts: usize,
) -> Result<(Duration, Stats), Failure> {
    let store = Box::new(FolderStore::open(folder)?);
    let journal = Journal::open(store, JournalOptions::default(), &mut |_, _, _| Ok(()))?;
    let payload: Arc<dyn Payload> = Arc::new(vec![7u8; bytes]);
    let mut unconfirmed = VecDeque::with_capacity(in_flight);
    let begun = Instant::now();
    for _ in 0..facts {
        if unconfirmed.len() == in_flight
            && let Some(commit) = unconfirmed.pop_front()
        {
            commit.await?;
        }
        let mut group = Group::new();
        group.fact(Kind(1), payload.clone());
        unconfirmed.push_back(journal.append(group, Urgency::Now).commit);
    }
    for commit in unconfirmed {
        commit.await?;
    }
    let took = begun.elapsed();
    let stats = journal.stats();
    journal.close();
    Ok((took, stats))
}

/// The same number of syncs, and of bytes in all, to one plain file.
fn append_raw(file: &Path, stats: Stats) -> Result<Duration, Failure> {
    let chunk = vec![7; usize::try_from(stats.bytes_appended / stats.commits.max(1))?];
    let mut file = File::create(file)?;
    let begun = Instant::now();
    for _ in 0..stats.commits {
        file.write_all(&chunk)?;
        file.sync_data()?;
    }
    Ok(begun.elapsed())
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let (rounds, share) = match std::env::args().any(|argument| argument == "--bench") {
        true => (ROUNDS, 1),
        false => (1, 100),
    };
    let folder = std::env::var_os("LEVERET_BENCH_DIR").map_or("target".into(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!(
        "durable append, the disk's time / the journal's: median (lowest - highest) of {rounds}"
    );
    for (bytes, in_flight, facts) in CASES {
        let facts = (facts / share).max(1);
        let mut taken = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let folder = tempfile::tempdir_in(&folder)?;
            let log = folder.path().join("log");
            let (journal, stats) = runtime.block_on(append(&log, bytes, in_flight, facts))?;
            let disk = append_raw(&folder.path().join("raw"), stats)?;
            taken.push(Round { journal, disk, stats });
        }
        let (ratio, lowest, highest) = spread(taken.iter().map(Round::ratio).collect());
        let facts_a_second =
            facts as f64 / spread(taken.iter().map(|r| r.journal.as_secs_f64()).collect()).0;
        let commits = spread(taken.iter().map(|r| r.stats.commits as f64).collect()).0;
        println!(
            "{bytes:>5} B, {in_flight:>6} in flight: {ratio:.2} ({lowest:.2} - {highest:.2})   \
             {facts_a_second:>9.0} facts/s, {:>7.1} facts a commit",
            facts as f64 / commits,
        );
    }
    Ok(())
}
