//! Committed facts are read back from wherever they lie, beside the writer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const KIB: u64 = 1024;

/// A payload that may be read back.
struct Tagged(Vec<u8>);

impl Payload for Tagged {
    fn weight(&self) -> u32 {
        self.0.weight()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn tag(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0[..2]);
    }
}

fn fact(journal: &Journal, payload: &[u8], urgency: Urgency) -> (Entry, Commit) {
    let mut group = Group::new();
    group.fact(Kind(1), Arc::new(Tagged(payload.to_vec())));
    let appended = journal.append(group, urgency);
    (appended.entries[0], appended.commit)
}

fn payload(number: u32, bytes: usize) -> Vec<u8> {
    [&number.to_le_bytes()[..], &vec![number.to_le_bytes()[0]; bytes]].concat()
}

fn read(
    journal: &Journal,
    positions: &[Position],
) -> Result<BTreeMap<Position, Vec<u8>>, ReadError> {
    let mut found = BTreeMap::new();
    journal.read(positions, &mut |entry, kind, payload| {
        assert_eq!(kind, Kind(1));
        assert_eq!(entry.weight as usize, payload.len());
        assert!(found.insert(entry.position, payload.to_vec()).is_none());
    })?;
    Ok(found)
}

/// Facts of all sizes in several segments, by position.
async fn filled(journal: &Journal) -> BTreeMap<Position, Vec<u8>> {
    let mut facts = BTreeMap::new();
    for number in 0..600u32 {
        let bytes = match number % 50 {
            0 => 600_000,
            1..10 => 9_000,
            _ => 100,
        };
        let payload = payload(number, bytes);
        let (entry, _) = fact(journal, &payload, LATER);
        facts.insert(entry.position, payload);
        if number % 7 == 0 {
            journal.next_position();
        }
        if number % 40 == 0 {
            journal.flush().await.unwrap();
        }
    }
    journal.flush().await.unwrap();
    facts
}

fn small_segments() -> JournalOptions {
    JournalOptions { segment_bytes_max: 512 * KIB, ..Default::default() }
}

#[tokio::test]
async fn facts_are_read_from_sealed_segments_and_from_the_active_one() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open_with(folder.path(), small_segments()).unwrap();
    let facts = filled(&journal).await;
    assert!(journal.stats().segments > 10);
    let positions: Vec<Position> = facts.keys().copied().collect();
    assert_eq!(journal.committed_position(), *positions.last().unwrap());
    assert!(read(&journal, &positions).unwrap() == facts);
    for stretch in positions.chunks(3) {
        let found = read(&journal, stretch).unwrap();
        assert!(found.iter().eq(stretch.iter().map(|at| (at, &facts[at]))));
    }
    let missing = Position(positions.last().unwrap().0 + 1);
    assert_eq!(read(&journal, &[missing]), Err(ReadError::Missing { position: missing }));
    journal.close();
    assert_eq!(read(&journal, &positions[..1]), Err(ReadError::Closed));

    let (journal, _) = open_with(folder.path(), small_segments()).unwrap();
    assert!(read(&journal, &positions).unwrap() == facts);
}

#[tokio::test]
async fn what_is_not_committed_is_read_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let (first, commit) = fact(&journal, b"first", Urgency::Now);
    commit.await.unwrap();
    let (second, _) = fact(&journal, b"second", LATER);
    let large = payload(3, 9_000);
    let (third, _) = fact(&journal, &large, LATER);
    assert!(journal.committed_position() < second.position);
    let positions = [first, second, third].map(|entry| entry.position);
    let payloads = [b"first".to_vec(), b"second".to_vec(), large];
    let all: BTreeMap<Position, Vec<u8>> = positions.into_iter().zip(payloads).collect();
    assert!(read(&journal, &positions).unwrap() == all);
    // What is ended by then never comes to the disk.
    let mut group = Group::new();
    group.end(second).end(third);
    journal.append(group, LATER);
    let missing = Err(ReadError::Missing { position: second.position });
    assert_eq!(read(&journal, &positions), missing);
    assert_eq!(Journal::in_memory().read(&[], &mut |_, _, _| ()), Ok(()));
}

#[tokio::test]
async fn facts_that_say_nothing_are_facts() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let mut entries = Vec::new();
    for bytes in [0, 3, 0, 0] {
        let mut group = Group::new();
        group.fact(Kind(1), Arc::new(vec![7; bytes]));
        entries.push(journal.append(group, LATER).entries[0]);
    }
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().live_facts, 4);
    journal.close();
    let (journal, found) = open(folder.path());
    assert_eq!(found.len(), 4);
    let mut group = Group::new();
    for entry in entries {
        group.end(entry);
    }
    journal.append(group, LATER);
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().live_facts, 0);
}

/// Readers that never stop, while segments are sealed, copied and deleted under them.
#[test]
fn reads_find_everything_while_compaction_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes_max: 256 * KIB, ..Default::default() };
    let (journal, _) = open_with(folder.path(), options.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut kept: HashMap<Position, Vec<u8>> = HashMap::new();
    let stop = AtomicBool::new(false);
    let mut dying = Vec::new();
    let mut number = 0u32;
    let mut write = |kept: &mut HashMap<Position, Vec<u8>>, dying: &mut Vec<Entry>| {
        for _ in 0..400 {
            number += 1;
            let payload = payload(number, if number.is_multiple_of(450) { 300_000 } else { 1_000 });
            let (entry, _) = fact(&journal, &payload, LATER);
            if number.is_multiple_of(15) {
                kept.insert(entry.position, payload);
            } else {
                dying.push(entry);
            }
        }
        runtime.block_on(journal.flush()).unwrap();
    };
    write(&mut kept, &mut dying);
    let mut watched: Vec<Position> = kept.keys().copied().collect();
    watched.sort_unstable();
    let known = kept.clone();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !stop.load(Ordering::Relaxed) || rounds == 0 {
                        for stretch in watched.chunks(5) {
                            let found = read(&journal, stretch).unwrap();
                            assert!(found.iter().all(|(at, payload)| known[at] == *payload));
                            assert_eq!(found.len(), stretch.len());
                        }
                        rounds += 1;
                    }
                })
            })
            .collect();
        for _ in 0..15 {
            write(&mut kept, &mut dying);
            for entry in dying.drain(..) {
                drop(end(&journal, entry, LATER));
            }
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(journal.stats().bytes_rewritten > 100_000, "{:?}", journal.stats());
    let mut positions: Vec<Position> = kept.keys().copied().collect();
    positions.sort_unstable();
    let check = |journal: &Journal| {
        let found = read(journal, &positions).unwrap();
        assert!(found.len() == kept.len());
        assert!(found.iter().all(|(at, payload)| kept[at] == *payload));
    };
    check(&journal);
    journal.close();
    check(&open_with(folder.path(), options).unwrap().0);
}

#[tokio::test]
async fn reads_go_on_when_the_journal_has_failed() {
    struct Panics;
    impl Payload for Panics {
        /// Too much to be encoded by who appends it.
        fn weight(&self) -> u32 {
            SMALL_WEIGHT_MAX + 1
        }
        fn encode(&self, _: &mut Vec<u8>) {
            panic!("planted");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open_with(folder.path(), small_segments()).unwrap();
    let facts = filled(&journal).await;
    let mut group = Group::new();
    group.fact(Kind(1), Arc::new(Tagged(b"small".to_vec())));
    group.fact(Kind(1), Arc::new(Panics));
    let Appended { entries, commit } = journal.append(group, Urgency::Now);
    commit.await.unwrap_err();
    assert!(journal.writable().is_err());
    let positions: Vec<Position> = facts.keys().copied().collect();
    assert!(read(&journal, &positions).unwrap() == facts);
    // Who had it in memory can have it still.
    assert_eq!(read(&journal, &[entries[0].position]).unwrap()[&entries[0].position], b"small");
}

#[tokio::test]
async fn a_damaged_row_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    let (first, _) = fact(&journal, &payload(7, 40_000), Urgency::Now);
    journal.close();
    let (journal, _) = open(folder.path());
    let file = folder.path().join("log-0000000001.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let payload = payload(7, 40_000);
    let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
    bytes[at + 5] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let Err(ReadError::Failed { reason }) = read(&journal, &[first.position]) else {
        panic!("it was read");
    };
    assert!(reason.contains("log-0000000001.redb at row 0: the row's checksum"), "{reason}");
}
