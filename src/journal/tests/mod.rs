//! The journal as its owners see it, on a real folder.

mod bounds;
mod damage;
mod indexing;
mod pipeline;
mod reading;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;

type Replayed = Vec<(Entry, Kind, Vec<u8>)>;

fn open_with(folder: &Path, options: JournalOptions) -> Result<(Journal, Replayed), OpenError> {
    let mut replayed = Replayed::new();
    let journal = Journal::open(
        Box::new(FolderStore::open(folder)?),
        options,
        &mut |entry, kind, payload| {
            replayed.push((entry, kind, payload.to_vec()));
            Ok(())
        },
    )?;
    replayed.sort_by_key(|(entry, ..)| entry.position);
    Ok((journal, replayed))
}

fn open(folder: &Path) -> (Journal, Replayed) {
    open_with(folder, JournalOptions::default()).unwrap()
}

fn fact(journal: &Journal, payload: &[u8], urgency: Urgency) -> (Entry, Commit) {
    let mut group = Group::new();
    group.fact(Kind(1), Arc::new(payload.to_vec()));
    let appended = journal.append(group, urgency);
    (appended.entries[0], appended.commit)
}

fn end(journal: &Journal, entry: Entry, urgency: Urgency) -> Commit {
    let mut group = Group::new();
    group.end(entry);
    journal.append(group, urgency).commit
}

const LATER: Urgency = Urgency::Within(Duration::from_secs(3_600));

#[tokio::test]
async fn what_was_committed_is_replayed_with_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, replayed) = open(folder.path());
    assert!(replayed.is_empty());
    assert_eq!(journal.epoch(), 1);
    let (first, commit) = fact(&journal, b"first", Urgency::Now);
    assert_eq!(commit.await.unwrap(), first.position);
    let large = vec![7; 3 * row::ROW_BYTES_MAX];
    let (second, commit) = fact(&journal, &large, Urgency::Now);
    commit.await.unwrap();
    let (third, commit) = fact(&journal, b"", Urgency::Now);
    commit.await.unwrap();
    end(&journal, first, Urgency::Now).await.unwrap();
    let transient = journal.next_position();
    journal.close();

    let (journal, replayed) = open(folder.path());
    assert_eq!(replayed, [(second, Kind(1), large), (third, Kind(1), Vec::new())]);
    assert_eq!(journal.epoch(), 2);
    assert!(journal.next_position() > transient, "a position was given twice");
    assert!(journal.is_known(1, transient) && journal.is_known(2, transient));
    assert!(!journal.is_known(1, journal.next_position()));
    assert!(!journal.is_known(3, first.position));
}

#[tokio::test]
async fn an_ended_fact_of_the_open_batch_is_never_written_and_its_commit_resolves() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let payload: Arc<dyn Payload> = Arc::new(vec![1; 1_000]);
    let mut group = Group::new();
    group.fact(Kind(1), payload.clone());
    let appended = journal.append(group, LATER);
    let entry = appended.entries[0];
    assert_eq!(Arc::strong_count(&payload), 2);
    end(&journal, entry, LATER).await.unwrap();
    appended.commit.await.unwrap();
    assert_eq!(Arc::strong_count(&payload), 1, "the payload must be freed at once");
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().commits, 0);
}

async fn is_settled(commit: &mut Commit) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *commit).poll(context).is_ready())
    })
    .await
}

/// Appends a group of `ends` and of `facts` facts.
fn group(journal: &Journal, ends: &[Entry], facts: usize) -> Appended {
    let mut group = Group::new();
    for &entry in ends {
        group.end(entry);
    }
    for _ in 0..facts {
        group.fact(Kind(1), Arc::new(b"x".to_vec()));
    }
    journal.append(group, LATER)
}

#[tokio::test]
async fn a_fact_that_another_one_replaces_is_confirmed_only_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let (entry, mut first) = fact(&journal, b"in its queue", LATER);
    let mut moved = group(&journal, &[entry], 1);
    assert!(!is_settled(&mut first).await, "neither of the two is on disk");
    assert!(!is_settled(&mut moved.commit).await);
    journal.flush().await.unwrap();
    first.await.unwrap();
    moved.commit.await.unwrap();
    journal.close();
    assert_eq!(open(folder.path()).1.len(), 1);
}

#[tokio::test]
async fn an_end_is_confirmed_early_only_if_nothing_that_led_to_it_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let (older, commit) = fact(&journal, b"older", Urgency::Now);
    commit.await.unwrap();

    // Half of its fact's group is still to be written.
    let pair = group(&journal, &[], 2);
    let mut half = group(&journal, &pair.entries[..1], 0);
    assert!(!is_settled(&mut half.commit).await);
    let mut rest = group(&journal, &pair.entries[1..], 0);
    assert!(!is_settled(&mut rest.commit).await);

    // It ends something else that is on disk.
    let single = group(&journal, &[], 1);
    let mut both = group(&journal, &[single.entries[0], older], 0);
    assert!(!is_settled(&mut both.commit).await);

    // Its fact took the place of one whose group is still to be written.
    let pair = group(&journal, &[], 2);
    let moved = group(&journal, &pair.entries[..1], 1);
    let mut last = group(&journal, &moved.entries, 0);
    assert!(!is_settled(&mut last.commit).await);

    // A whole group at once.
    let mut pair = group(&journal, &[], 2);
    let mut all = group(&journal, &pair.entries, 0);
    assert!(is_settled(&mut all.commit).await && is_settled(&mut pair.commit).await);

    journal.flush().await.unwrap();
    for mut appended in [half, rest, both, last, moved] {
        assert!(is_settled(&mut appended.commit).await);
    }
    journal.close();
    assert_eq!(open(folder.path()).1.len(), 1);
}

#[tokio::test]
async fn a_batch_of_many_settled_facts_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    for _ in 0..100_000 {
        let (entry, commit) = fact(&journal, &[1; 1_000], LATER);
        drop(commit);
        end(&journal, entry, LATER).await.unwrap();
    }
    assert_eq!(journal.stats().commits, 0);
    tokio::time::timeout(Duration::from_secs(5), journal.admit(60 << 20)).await.unwrap().unwrap();
}

#[tokio::test]
async fn relaxed_resolves_at_once_and_commits_soon() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { durability: Durability::Relaxed, ..Default::default() };
    let (journal, _) = open_with(folder.path(), options).unwrap();
    let (_, commit) = fact(&journal, b"x", Urgency::Now);
    commit.await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().commits, 1);
    let (_, commit) = fact(&journal, b"y", LATER);
    commit.await.unwrap();
    journal.close();
    assert_eq!(open(folder.path()).1.len(), 2);
}

#[tokio::test]
async fn a_closed_journal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let (entry, commit) = fact(&journal, b"x", LATER);
    journal.close();
    commit.await.unwrap();
    assert_eq!(end(&journal, entry, Urgency::Now).await, Err(JournalError::Closed));
    assert_eq!(journal.flush().await, Err(JournalError::Closed));
    assert_eq!(journal.admit(1).await, Err(JournalError::Closed));
    assert_eq!(journal.writable(), Err(JournalError::Closed));
    assert_eq!(open(folder.path()).1.len(), 1);
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, _) = open(folder.path());
    let second = open_with(folder.path(), JournalOptions::default()).map(|_| ());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    assert!(matches!(check(folder.path()), Err(OpenError::InUse { .. })));
}

#[tokio::test]
async fn a_refused_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    fact(&journal, b"x", Urgency::Now).1.await.unwrap();
    journal.close();
    let opened = Journal::open(
        Box::new(FolderStore::open(folder.path()).unwrap()),
        JournalOptions::default(),
        &mut |_, _, _| Err("not mine".to_owned()),
    );
    let line = opened.map(|_| ()).unwrap_err().to_string();
    assert_eq!(line, "the record at position 1 (kind 1) was refused: not mine");
    assert_eq!(open(folder.path()).1.len(), 1);
}
