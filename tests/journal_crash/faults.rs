//! One fault at a time: an error of the disk, a full disk, a power failure between two commits.

use std::sync::Arc;
use std::time::Duration;

use leveret::journal::{
    Appended, Commit, Entry, Group, Journal, JournalError, JournalOptions, Payload,
    SMALL_WEIGHT_MAX, Urgency,
};

use crate::disk::{Disk, Random};
use crate::model::KIND;

const LATER: Urgency = Urgency::Within(Duration::from_secs(3_600));

fn open(disk: &Disk, options: JournalOptions) -> (Journal, Vec<(Entry, Vec<u8>)>) {
    let mut replayed = Vec::new();
    let journal = Journal::open(disk.store(), options, &mut |entry, _, payload| {
        replayed.push((entry, payload.to_vec()));
        Ok(())
    });
    (journal.unwrap(), replayed)
}

fn append(journal: &Journal, payload: impl Payload + 'static, urgency: Urgency) -> (Entry, Commit) {
    let mut group = Group::new();
    group.fact(KIND, Arc::new(payload));
    let Appended { entries, commit } = journal.append(group, urgency);
    (entries[0], commit)
}

fn end(journal: &Journal, entry: Entry) -> Commit {
    let mut group = Group::new();
    group.end(entry);
    journal.append(group, Urgency::Now).commit
}

#[tokio::test]
async fn an_error_of_the_disk_poisons_and_a_reopen_is_whole() {
    // The error hits each operation of the commit once (a large row, a redo record, a sync), and then
    // none.
    let mut intact = 0;
    for operation in 1..8 {
        let disk = Disk::new(Random(operation));
        let (journal, _) = open(&disk, JournalOptions::default());
        let (kept, commit) = append(&journal, b"kept".to_vec(), Urgency::Now);
        commit.await.unwrap();
        disk.state().until_error = Some(operation);
        let (first, failing) = append(&journal, vec![1; 100_000], LATER);
        let (second, beside) = append(&journal, b"second".to_vec(), Urgency::Now);
        let outcome = beside.await;
        let injected = disk.state().until_error.is_none();
        disk.state().until_error = None;
        assert_eq!(failing.await.is_ok(), outcome.is_ok());
        let mut may_be = vec![kept.position];
        if let Err(error) = outcome {
            assert!(injected);
            let JournalError::Poisoned { reason } = &error else { panic!("{error}") };
            assert!(reason.contains("the disk failed"), "{reason}");
            assert_eq!(journal.writable(), Err(error.clone()));
            assert_eq!(journal.admit(1).await, Err(error.clone()));
            assert_eq!(journal.flush().await, Err(error.clone()));
            assert_eq!(append(&journal, b"late".to_vec(), Urgency::Now).1.await, Err(error));
        } else {
            assert!(!injected, "operation {operation} failed and was not noticed");
            intact += 1;
            may_be.extend([first.position, second.position]);
        }
        journal.close();
        let (journal, replayed) = open(&disk, JournalOptions::default());
        let found: Vec<_> = replayed.iter().map(|(entry, _)| entry.position).collect();
        // The failed commit may be there, then as a whole.
        let whole = [kept.position, first.position, second.position];
        assert!(found == may_be || found == whole, "operation {operation}: {found:?}");
        append(&journal, b"again".to_vec(), Urgency::Now).1.await.unwrap();
    }
    assert!((1..5).contains(&intact), "{intact} of 7 rounds met no error");
}

struct Panics;

impl Payload for Panics {
    /// Too much to be encoded by who appends it.
    fn weight(&self) -> u32 {
        SMALL_WEIGHT_MAX + 1
    }

    fn encode(&self, _: &mut Vec<u8>) {
        panic!("can't be encoded");
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_poisons() {
    let disk = Disk::new(Random(1));
    let (journal, _) = open(&disk, JournalOptions::default());
    let (kept, commit) = append(&journal, b"kept".to_vec(), Urgency::Now);
    commit.await.unwrap();
    let (_, commit) = append(&journal, Panics, Urgency::Now);
    assert!(matches!(commit.await, Err(JournalError::Poisoned { .. })));
    journal.close();
    assert_eq!(open(&disk, JournalOptions::default()).1, [(kept, b"kept".to_vec())]);
}

#[tokio::test]
async fn the_disk_alarm_holds_publishers_and_lets_acknowledgements_through() {
    let disk = Disk::new(Random(1));
    let options = JournalOptions { reserve_bytes: 1_000_000, ..JournalOptions::default() };
    let (journal, _) = open(&disk, options);
    let (entry, commit) = append(&journal, vec![0; 200_000], Urgency::Now);
    commit.await.unwrap();
    disk.state().free_bytes = 999_999;
    let mut alarm = journal.disk_alarm().unwrap();
    let noticed = alarm.wait_for(|alarmed| *alarmed);
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("in time").unwrap();
    assert!(matches!(journal.writable(), Err(JournalError::DiskAlarm { .. })));
    end(&journal, entry).await.unwrap();

    let admitted = journal.admit(1);
    let mut admitted = std::pin::pin!(admitted);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut admitted).await;
    assert!(early.is_err(), "admitted under the alarm");
    disk.state().free_bytes = 2_000_000;
    tokio::time::timeout(Duration::from_secs(10), admitted).await.expect("in time").unwrap();
    assert_eq!(journal.writable(), Ok(()));
}

#[tokio::test]
async fn a_position_that_a_crash_took_back_is_not_known() {
    let disk = Disk::new(Random(1));
    let (journal, _) = open(&disk, JournalOptions::default());
    let (kept, commit) = append(&journal, b"kept".to_vec(), Urgency::Now);
    commit.await.unwrap();
    let (lost, commit) = append(&journal, b"lost".to_vec(), LATER);
    assert!(journal.is_known(1, kept.position) && journal.is_known(1, lost.position));
    disk.pull_the_plug();
    journal.close();
    assert!(commit.await.is_err());
    disk.reboot();

    let (journal, _) = open(&disk, JournalOptions::default());
    assert_eq!(journal.epoch(), 2);
    let (again, commit) = append(&journal, b"in its place".to_vec(), Urgency::Now);
    commit.await.unwrap();
    assert_eq!(again.position, lost.position);
    assert!(journal.is_known(1, kept.position) && journal.is_known(2, again.position));
    assert!(!journal.is_known(1, lost.position));
}

#[tokio::test]
async fn a_disk_that_fills_while_nothing_is_written_is_noticed() {
    let disk = Disk::new(Random(1));
    let options = JournalOptions { reserve_bytes: 1_000_000, ..JournalOptions::default() };
    let (journal, _) = open(&disk, options);
    let mut alarm = journal.disk_alarm().unwrap();
    disk.state().free_bytes = 999_999;
    let noticed = alarm.wait_for(|alarmed| *alarmed);
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("in time").unwrap();
    assert!(matches!(journal.writable(), Err(JournalError::DiskAlarm { .. })));
    disk.state().free_bytes = 2_000_000;
    let noticed = alarm.wait_for(|alarmed| !*alarmed);
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("in time").unwrap();
    assert_eq!(journal.writable(), Ok(()));
}
