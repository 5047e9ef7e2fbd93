//! A file that the journal did not leave like this is refused, and stays as it is.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A closed journal of one segment, and that segment's file.
async fn filled() -> (tempfile::TempDir, PathBuf, Replayed) {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    for round in 0..4u8 {
        for _ in 0..20 {
            let _ = fact(&journal, &vec![round; 700 * usize::from(round) + 5], LATER);
        }
        let (entry, _) = fact(&journal, &vec![round; 300_000], LATER);
        journal.flush().await.unwrap();
        end(&journal, entry, Urgency::Now).await.unwrap();
    }
    journal.close();
    let file = folder.path().join("log-0000000001.redb");
    let copy = tempfile::tempdir().unwrap();
    fs::copy(&file, copy.path().join("log-0000000001.redb")).unwrap();
    let (journal, replayed) = open(folder.path());
    drop(journal);
    let file = copy.path().join("log-0000000001.redb");
    (copy, file, replayed)
}

/// The reason why the folder is refused; it must name the file and leave it alone.
fn refused(folder: &Path, file: &Path) -> String {
    let before = fs::read(file).unwrap();
    let checked = check(folder).expect_err("check accepts it").to_string();
    let opened = open_with(folder, JournalOptions::default()).map(|_| ());
    let reason = match opened {
        Err(error @ OpenError::Damaged { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, checked);
    assert!(reason.contains(file.to_str().unwrap()), "{reason}");
    assert!(fs::read(file).unwrap() == before, "the file was changed");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "only the file and the lock");
    reason
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let (folder, file, _) = filled().await;
    let whole = fs::read(&file).unwrap();
    for bytes in [0, 1, 4_096, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        fs::write(&file, &whole[..bytes]).unwrap();
        refused(folder.path(), &file);
    }
    fs::write(&file, [whole.as_slice(), &[0; 4_096]].concat()).unwrap();
    // A longer file holds everything that the journal wrote.
    assert!(check(folder.path()).is_ok());
}

#[tokio::test]
async fn a_foreign_file_is_refused() {
    let (folder, file, _) = filled().await;
    fs::write(&file, vec![0x5A; 100_000]).unwrap();
    refused(folder.path(), &file);
    fs::write(&file, b"hello").unwrap();
    refused(folder.path(), &file);
    fs::remove_file(&file).unwrap();
    let table = redb::TableDefinition::<u64, u64>::new("theirs");
    let theirs = redb::Database::create(&file).unwrap();
    let transaction = theirs.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    theirs.close().unwrap();
    assert!(refused(folder.path(), &file).ends_with("the file is no segment of a journal"));
}

#[tokio::test]
async fn a_segment_of_another_log_or_under_another_name_is_refused() {
    let (folder, file, _) = filled().await;
    let (other, other_file, _) = filled().await;
    let second = other.path().join("log-0000000002.redb");
    fs::rename(&other_file, &second).unwrap();
    let renamed = check(other.path()).unwrap_err().to_string();
    assert!(renamed.ends_with("it is segment 1 under another name"), "{renamed}");

    let own = fs::read(&file).unwrap();
    let (journal, _) = open(folder.path());
    journal.close();
    // Compaction may have had the time to copy it, and to remove it.
    fs::write(&file, own).unwrap();
    let foreign = folder.path().join("log-0000000002.redb");
    assert!(foreign.exists());
    fs::rename(&second, &other_file).unwrap();
    drop(open(other.path()));
    fs::copy(&second, &foreign).unwrap();
    let error = check(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("it belongs to another log"), "{error}");
}

#[tokio::test]
async fn a_flipped_byte_is_refused_or_does_not_matter() {
    let (folder, file, replayed) = filled().await;
    let whole = fs::read(&file).unwrap();
    let mut refusals = 0;
    let places = 300;
    for place in 0..places {
        let mut flipped = whole.clone();
        let at = place * whole.len() / places + place % 512;
        flipped[at] ^= 1 << (place % 8);
        fs::write(&file, &flipped).unwrap();
        // Free pages are not covered by any checksum.
        let checked = check(folder.path());
        refusals += usize::from(checked.is_err());
        let mut found = Replayed::new();
        let store = FolderStore::open(folder.path()).unwrap();
        let read =
            recovery::recover(&store, recovery::Depth::Needed, &mut |entry, kind, content| {
                if let Content::Payload(bytes) = content {
                    found.push((entry, kind, bytes.to_vec()));
                }
                Ok(false)
            });
        // A start reads less than a check: it may miss damage where nothing is that it needs.
        match read {
            Ok(_) => assert!(found == replayed, "a flipped byte at {at} changed what was read"),
            Err(error) => assert!(checked.is_err(), "{error}, and the check found nothing"),
        }
        assert!(fs::read(&file).unwrap() == flipped, "the file was changed");
    }
    assert!(refusals > places / 3, "only {refusals} of {places} were noticed");
}

#[tokio::test]
async fn what_an_unfinished_creation_left_is_no_damage() {
    let (folder, file, replayed) = filled().await;
    fs::write(folder.path().join("log-0000000002.redb.new"), b"half a fi").unwrap();
    drop(file);
    let (journal, again) = open(folder.path());
    assert!(again == replayed);
    let (_, commit) = fact(&journal, b"x", Urgency::Now);
    commit.await.unwrap();
    journal.close();
    assert_eq!(open(folder.path()).1.len(), replayed.len() + 1);
}
