//! A start reads the indexes, and of the rows what is asked for.

use std::fs;

use super::*;
use crate::journal::segment::SealedSegment;

/// A payload of so many bytes whose tag is its number.
struct Numbered(u32, usize);

impl Numbered {
    fn bytes(&self) -> Vec<u8> {
        vec![self.0.to_le_bytes()[0]; self.1]
    }
}

impl Payload for Numbered {
    fn weight(&self) -> u32 {
        u32::try_from(self.1).unwrap()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    fn tag(&self, out: &mut Vec<u8>) {
        // Each tenth says nothing.
        if !self.0.is_multiple_of(10) {
            out.extend_from_slice(&self.0.to_le_bytes());
        }
    }
}

/// What lives, by position: the number of each, and how long it is.
type Alive = Vec<(Entry, u32, usize)>;

async fn filled(folder: &Path) -> Alive {
    let options = JournalOptions { segment_bytes_max: 512 * 1024, ..Default::default() };
    let (journal, _) = open_with(folder, options).unwrap();
    let mut alive = Alive::new();
    for number in 0..4_000u32 {
        let bytes = if number % 500 == 3 { 300_000 } else { 250 };
        let mut group = Group::new();
        group.fact(Kind(1), Arc::new(Numbered(number, bytes)));
        let appended = journal.append(group, LATER);
        alive.push((appended.entries[0], number, bytes));
        if number % 50 == 0 {
            journal.flush().await.unwrap();
        }
        if number % 3 == 0 {
            let (entry, ..) = alive.remove(usize::try_from(number / 4).unwrap());
            drop(end(&journal, entry, LATER));
        }
    }
    journal.close();
    alive
}

/// What a start finds that asks for the payloads of each seventh, which it compares.
fn found(folder: &Path) -> (Alive, usize) {
    let mut found = Alive::new();
    let mut payloads = 0;
    let mut asked = None;
    let store = Box::new(FolderStore::open(folder).unwrap());
    let mut replay = |entry: Entry, _, content: Content<'_>| match content {
        Content::Tag(tag) => {
            let number = u32::from_le_bytes(tag.try_into().unwrap());
            found.push((entry, number, entry.weight as usize));
            asked = number.is_multiple_of(7).then_some(entry);
            Ok(asked.is_none())
        }
        Content::Payload(payload) => {
            payloads += 1;
            match asked.take() {
                Some(of) => assert_eq!(of, entry),
                None => {
                    // It was never tagged: its number is not in its payload as a whole.
                    let (number, bytes) = (u32::from(payload[0]), payload.len());
                    found.push((entry, number, bytes));
                }
            }
            assert!(payload.iter().all(|&byte| byte == payload[0]));
            let of = found.last().unwrap();
            assert_eq!((of.0, of.1.to_le_bytes()[0], of.2), (entry, payload[0], payload.len()));
            Ok(true)
        }
    };
    drop(Journal::open_by_tags(store, JournalOptions::default(), &mut replay).unwrap());
    found.sort_by_key(|(entry, ..)| entry.position);
    (found, payloads)
}

fn is_as_it_was(folder: &Path, alive: &Alive) {
    let (found, payloads) = found(folder);
    let shown = |&(entry, number, bytes): &(Entry, u32, usize)| {
        (entry, if number.is_multiple_of(10) { number % 256 } else { number }, bytes)
    };
    assert!(found.iter().eq(alive.iter().map(shown).collect::<Vec<_>>().iter()));
    let wanted =
        alive.iter().filter(|(_, number, _)| number.is_multiple_of(10) || number.is_multiple_of(7));
    assert_eq!(payloads, wanted.count());
}

fn chunks(folder: &Path, segment: u64) -> Vec<Vec<u8>> {
    let store = FolderStore::open(folder).unwrap();
    SealedSegment::open(&store, segment, false).unwrap().chunks().unwrap()
}

#[tokio::test]
async fn what_lives_is_told_by_its_tag_or_its_payload() {
    let folder = tempfile::tempdir().unwrap();
    let alive = filled(folder.path()).await;
    assert!(chunks(folder.path(), 2).len() > 2);
    check(folder.path()).unwrap();
    is_as_it_was(folder.path(), &alive);
    is_as_it_was(folder.path(), &alive);
}

#[tokio::test]
async fn rows_that_nobody_asks_for_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let alive = filled(folder.path()).await;
    // A row without anything that is asked for, and which an index covers.
    let file = folder.path().join("log-0000000002.redb");
    let mut bytes = fs::read(&file).unwrap();
    let large = alive.iter().find_map(|&(_, number, size)| {
        let is_left_alone = size > 1_000 && number % 7 > 0 && number % 10 > 0;
        let stretch = vec![number.to_le_bytes()[0]; 100_000];
        let at = bytes.chunks(4_096).position(|page| page == &stretch[..page.len()])?;
        is_left_alone.then_some(at * 4_096)
    });
    bytes[large.expect("a large fact in the second segment")] ^= 1;
    fs::write(&file, bytes).unwrap();
    is_as_it_was(folder.path(), &alive);
    let reason = check(folder.path()).unwrap_err().to_string();
    assert!(reason.contains("log-0000000002.redb"), "{reason}");
}

#[tokio::test]
async fn a_damaged_index_is_made_up_for_by_the_rows_and_found_by_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let alive = filled(folder.path()).await;
    let chunks = chunks(folder.path(), 2);
    for chunk in [&chunks[0], &chunks[2]] {
        let file = folder.path().join("log-0000000002.redb");
        let mut bytes = fs::read(&file).unwrap();
        // redb may have left older copies of it in free pages.
        let places = bytes.windows(chunk.len()).enumerate();
        let places: Vec<usize> =
            places.filter(|(_, window)| window == chunk).map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at + 40] ^= 0x10);
        fs::write(&file, bytes).unwrap();
        let reason = check(folder.path()).unwrap_err().to_string();
        assert!(reason.contains("log-0000000002.redb"), "{reason}");
        is_as_it_was(folder.path(), &alive);
    }
}
