//! A disk that publishers fill: no write fails for want of space, and draining it ends the alarm without a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use leveret::journal::{
    Appended, Commit, Entry, Group, Journal, JournalError, JournalOptions, Urgency,
};

use crate::disk::{Disk, Random};
use crate::model::KIND;

const MIB: u64 = 1024 * 1024;
const CAPACITY_BYTES: u64 = 32 * MIB;
const RESERVE_BYTES: u64 = 2 * MIB;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Settled at once by a drain.
const ACKS_A_COMMIT: usize = 200;

fn open(disk: &Disk, options: JournalOptions) -> Journal {
    Journal::open(disk.store(), options, &mut |_, _, _| Ok(())).unwrap()
}

/// As by default on a disk of a gigabyte and more: as much may be uncommitted as is kept in reserve.
fn options() -> JournalOptions {
    JournalOptions {
        uncommitted_bytes_max: usize::try_from(RESERVE_BYTES).unwrap(),
        reserve_bytes: RESERVE_BYTES,
        ..JournalOptions::default()
    }
}

fn full_disk() -> Disk {
    let disk = Disk::new(Random(1));
    let mut state = disk.state();
    state.capacity_bytes = Some(CAPACITY_BYTES);
    // So that publishers run ahead of it.
    state.lingers = true;
    drop(state);
    disk
}

fn free_bytes(disk: &Disk) -> u64 {
    use leveret::journal::SegmentStore;
    disk.free_bytes().unwrap()
}

/// Publishes as fast as it is let, until the alarm holds it off; everything is confirmed.
async fn fill(journal: &Journal, bytes: usize, random: &mut Random) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut commits: Vec<Commit> = Vec::new();
    loop {
        let admitted = tokio::time::timeout(Duration::from_millis(50), journal.admit(bytes)).await;
        match (admitted, journal.writable()) {
            (Ok(outcome), _) => outcome.unwrap(),
            (Err(_), Err(JournalError::DiskAlarm { .. })) => break,
            (Err(_), Err(failed)) => panic!("{failed}"),
            (Err(_), Ok(())) => continue,
        }
        let payload = vec![random.next() as u8; bytes];
        let mut group = Group::new();
        group.fact(KIND, Arc::new(payload));
        let Appended { entries: added, commit } = journal.append(group, Urgency::Now);
        entries.push(added[0]);
        commits.push(commit);
    }
    for commit in commits {
        commit.await.unwrap();
    }
    entries
}

/// Acknowledges in order, and each is on disk.
async fn drain(journal: &Journal, entries: &[Entry]) {
    for some in entries.chunks(ACKS_A_COMMIT) {
        let mut last = None;
        for &entry in some {
            let mut group = Group::new();
            group.end(entry);
            last = Some(journal.append(group, Urgency::Now).commit);
        }
        last.unwrap().await.unwrap();
    }
}

async fn recovers(disk: &Disk, journal: &Journal) {
    let mut alarm = journal.disk_alarm().unwrap();
    let ended = tokio::time::timeout(PATIENCE, alarm.wait_for(|alarmed| !*alarmed)).await;
    let stats = journal.stats();
    assert!(ended.is_ok(), "{} bytes are free, and the alarm stays: {stats:?}", free_bytes(disk));
    assert!(stats.bytes_rewritten < stats.bytes_appended, "{stats:?}");
    journal.admit(1).await.unwrap();
}

/// One in so many bytes stays, so that every segment has one; the others go.
fn parted(entries: &[Entry], bytes: usize) -> (Vec<Entry>, Vec<Entry>) {
    let (kept, gone): (Vec<Entry>, Vec<&[Entry]>) =
        entries.chunks(400_000 / bytes).map(|some| some.split_first().unwrap()).unzip();
    (kept, gone.concat())
}

#[tokio::test]
async fn draining_a_full_disk_ends_the_alarm_each_time() {
    for bytes in [1_000, 20_000, 300_000] {
        let disk = full_disk();
        let journal = open(&disk, options());
        let mut random = Random(1);
        for round in 0..3 {
            let entries = fill(&journal, bytes, &mut random).await;
            let published = (entries.len() * bytes) as u64;
            assert!(published > CAPACITY_BYTES * 3 / 4, "round {round}: {published} bytes");
            // The reserve is there for what drains it.
            let free = free_bytes(&disk);
            assert!(free > RESERVE_BYTES / 2 && free < RESERVE_BYTES, "round {round}: {free}");
            drain(&journal, &entries).await;
            recovers(&disk, &journal).await;
        }
    }
}

#[tokio::test]
async fn a_live_message_in_every_segment_does_not_hold_a_full_disk() {
    for bytes in [1_000, 20_000] {
        let disk = full_disk();
        let journal = open(&disk, options());
        let entries = fill(&journal, bytes, &mut Random(1)).await;
        let (kept, gone) = parted(&entries, bytes);
        drain(&journal, &gone).await;
        recovers(&disk, &journal).await;
        assert_eq!(journal.stats().live_facts, kept.len() as u64);
    }
}

#[tokio::test]
async fn nor_does_it_when_others_took_most_of_the_reserve() {
    let disk = full_disk();
    let journal = open(&disk, options());
    let entries = fill(&journal, 20_000, &mut Random(1)).await;
    disk.state().others_bytes = free_bytes(&disk) - RESERVE_BYTES / 4;
    let (kept, gone) = parted(&entries, 20_000);
    drain(&journal, &gone).await;
    recovers(&disk, &journal).await;
    assert_eq!(journal.stats().live_facts, kept.len() as u64);
}

#[tokio::test]
async fn what_is_dead_in_the_segment_that_is_written_to_is_space_too() {
    let disk = full_disk();
    // Less is free beside the reserve than a segment has.
    disk.state().others_bytes = CAPACITY_BYTES - RESERVE_BYTES - MIB;
    let journal = open(&disk, options());
    let mut random = Random(1);
    for _ in 0..3 {
        let entries = fill(&journal, 20_000, &mut random).await;
        drain(&journal, &entries).await;
        recovers(&disk, &journal).await;
    }
}
