//! What died gives its space back, and nobody waits for ever.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use super::*;

const MIB: u64 = 1024 * 1024;

/// What the files take of the disk: the end of a segment that is not used yet takes nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().metadata().map_or(0, |it| it.blocks() * 512)).sum()
}

#[tokio::test]
async fn a_million_facts_that_are_ended_leave_the_folder_below_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let mut alive = VecDeque::new();
    let mut largest = 0;
    for round in 0..500 {
        for _ in 0..2_000 {
            alive.push_back(fact(&journal, &[7; 100], LATER).0);
        }
        if round > 0 {
            // Each was written before it is ended.
            for entry in alive.drain(..2_000) {
                drop(end(&journal, entry, LATER));
            }
        }
        journal.flush().await.unwrap();
        largest = largest.max(folder_bytes(folder.path()));
    }
    let stats = journal.stats();
    assert!(stats.bytes_appended > 100 * MIB, "{stats:?}");
    assert!(largest < 64 * MIB, "the folder had {} MiB", largest / MIB);
    assert!(stats.bytes_rewritten < stats.bytes_appended, "{stats:?}");
    journal.close();
    assert!(folder_bytes(folder.path()) < 64 * MIB);
    assert_eq!(open(folder.path()).1.len(), 2_000);
}

#[tokio::test]
async fn a_million_writes_of_one_fact_leave_the_folder_below_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let mut latest = fact(&journal, b"0", Urgency::Now).0;
    for write in 1..1_000_000u32 {
        let mut group = Group::new();
        group.end(latest).fact(Kind(40), Arc::new(write.to_le_bytes().to_vec()));
        latest = journal.append(group, Urgency::Now).entries[0];
        if write % 4_096 == 0 {
            journal.flush().await.unwrap();
        }
    }
    journal.close();
    assert!(folder_bytes(folder.path()) < 64 * MIB);
    let (_, replayed) = open(folder.path());
    assert_eq!(replayed, [(latest, Kind(40), 999_999u32.to_le_bytes().to_vec())]);
}

#[tokio::test]
async fn compaction_gives_back_what_long_lived_facts_hold() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes_max: MIB, ..Default::default() };
    let (journal, _) = open_with(folder.path(), options.clone()).unwrap();
    let mut kept = Vec::new();
    let mut dying = Vec::new();
    for at in 0..20_000u32 {
        let (entry, _) = fact(&journal, &[at.to_le_bytes().to_vec(), vec![0; 996]].concat(), LATER);
        if at % 40 == 0 {
            kept.push((entry, at));
        } else {
            dying.push(entry);
        }
        if at % 500 == 499 {
            journal.flush().await.unwrap();
        }
    }
    assert!(journal.stats().row_bytes > 19 * MIB);
    for entry in dying {
        drop(end(&journal, entry, LATER));
    }
    journal.flush().await.unwrap();
    settle(&journal, |stats| stats.row_bytes < 3 * MIB).await;
    let stats = journal.stats();
    assert_eq!(stats.live_facts, kept.len() as u64);
    assert!(stats.bytes_rewritten > 0 && stats.bytes_rewritten < 2 * MIB, "{stats:?}");

    // What was moved can be ended, and its end is found again.
    let (ended, _) = kept.remove(0);
    end(&journal, ended, Urgency::Now).await.unwrap();
    journal.close();
    let (_, replayed) = open_with(folder.path(), options).unwrap();
    let found: Vec<(Entry, u32)> = replayed
        .iter()
        .map(|(entry, _, payload)| (*entry, u32::from_le_bytes(*payload.first_chunk().unwrap())))
        .collect();
    assert!(found == kept);
}

/// Waits for the writer's background work.
async fn settle(journal: &Journal, done: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    while !done(&journal.stats()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", journal.stats());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn many_starts_do_not_leave_many_files() {
    let folder = tempfile::tempdir().unwrap();
    for start in 0..40u8 {
        let (journal, replayed) = open(folder.path());
        assert_eq!(replayed.len(), usize::from(start));
        fact(&journal, &[start; 50], Urgency::Now).1.await.unwrap();
        settle(&journal, |stats| stats.segments <= 18).await;
    }
    let (journal, replayed) = open(folder.path());
    assert_eq!(replayed.len(), 40);
    assert_eq!(journal.epoch(), 41);
}

#[tokio::test]
async fn admission_waits_for_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { uncommitted_bytes_max: 1_000, ..Default::default() };
    let (journal, _) = open_with(folder.path(), options).unwrap();
    journal.admit(5_000).await.unwrap();
    // A quarter of the bound is enough to be due at once.
    let (_, commit) = fact(&journal, &[0; 5_000], LATER);
    journal.admit(1).await.unwrap();
    commit.await.unwrap();
}

#[tokio::test]
async fn what_ended_before_its_commit_is_bounded_while_it_takes_memory() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { uncommitted_bytes_max: 64 * 1_024, ..Default::default() };
    let (journal, _) = open_with(folder.path(), options).unwrap();
    let (_, kept) = fact(&journal, b"kept", LATER);
    for _ in 0..100 {
        let (entry, _commit) = fact(&journal, &[0; 400], LATER);
        drop(end(&journal, entry, LATER));
    }
    // A quarter of the bound is enough to be due at once.
    kept.await.unwrap();
    // What ended while that was written is settled by the commit that follows.
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().live_facts, 1);
}

#[tokio::test]
async fn one_fact_alone_is_due_within_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let begun = Instant::now();
    let (_, later) = fact(&journal, b"x", Urgency::Within(Duration::from_millis(50)));
    later.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let (_, waiting) = fact(&journal, b"y", LATER);
    let (_, now) = fact(&journal, b"z", Urgency::Now);
    now.await.unwrap();
    waiting.await.unwrap();
    assert_eq!(journal.stats().commits, 2);
}
