//! A journal that an earlier release wrote opens, with everything in it, and is written to further.
//!
//! `tests/fixtures/journal/` holds one folder a format; its README says how the next one is made.

mod facts;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use leveret::broker::{self, Broker};
use leveret::cache::{self, AppendFsync, Cache};
use leveret::journal::{Content, FolderStore, Journal, JournalOptions, Kind};
use leveret::model::clock::ManualClock;

/// The format that this version writes.
const CURRENT: &str = "2";
/// From here on messages of several queues have a tag, whose first byte this is.
const SEVERAL_TAG: u8 = 2;
const MESSAGE: u8 = 4;
const PACKED: &str = "gz";

struct Open {
    journal: Journal,
    broker: Broker,
    cache: Cache,
    clock: Arc<ManualClock>,
    /// The record kinds that were found.
    kinds: BTreeSet<u8>,
    /// How many messages have the tag of several queues.
    several: usize,
}

/// How a journal is read.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// As the program does: by the tags of what need not be read.
    ByTags,
    Whole,
}

fn open(folder: &Path, now_ms: u64, reading: Reading) -> Open {
    let store = FolderStore::open(folder).unwrap();
    let (mut broker, mut cache) = (broker::Recovery::default(), cache::Recovery::default());
    let (mut kinds, mut several) = (BTreeSet::new(), 0);
    let mut accept = |entry, kind: Kind, content: Content<'_>| {
        kinds.insert(kind.0);
        if let Content::Tag(&[SEVERAL_TAG, ..]) = content
            && kind.0 == MESSAGE
        {
            several += 1;
        }
        match (kind.0, content) {
            (_, Content::Tag(_)) if reading == Reading::Whole => Ok(false),
            (..32, content) => broker.accept_content(entry, kind, content),
            (_, Content::Tag(_)) => Ok(false),
            (_, Content::Payload(payload)) => cache.accept(entry, kind, payload).map(|()| true),
        }
    };
    let journal =
        Journal::open_by_tags(Box::new(store), JournalOptions::default(), &mut accept).unwrap();
    let clock = ManualClock::at(now_ms);
    let broker = Broker::new(journal.clone(), clock.clone(), broker);
    let cache = Cache::new(journal.clone(), clock.clone(), AppendFsync::Always, cache);
    Open { journal, broker, cache, clock, kinds, several }
}

impl Open {
    async fn close(self) {
        self.broker.cancel_consumers();
        self.broker.close().await.unwrap();
        self.journal.close();
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal")
}

/// The files of a fixture, as they were.
fn unpack(format: &Path, into: &Path) {
    for packed in fs::read_dir(format).unwrap() {
        let packed = packed.unwrap().path();
        let mut file = File::create(into.join(packed.file_stem().unwrap())).unwrap();
        io::copy(&mut GzDecoder::new(File::open(&packed).unwrap()), &mut file).unwrap();
    }
}

fn pack(folder: &Path, format: &Path) {
    if format.exists() {
        fs::remove_dir_all(format).unwrap();
    }
    fs::create_dir_all(format).unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "redb") {
            continue;
        }
        let name = format!("{}.{PACKED}", file.file_name().unwrap().to_str().unwrap());
        let packed = File::create(format.join(name)).unwrap();
        let mut packed = GzEncoder::new(packed, Compression::best());
        io::copy(&mut File::open(&file).unwrap(), &mut packed).unwrap();
        packed.finish().unwrap();
    }
}

#[tokio::test]
async fn every_format_that_was_ever_written_opens() {
    let mut formats: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    formats.sort();
    assert!(formats.iter().any(|format| format.ends_with(CURRENT)), "the current one is missing");
    let readings = [Reading::ByTags, Reading::Whole];
    for (format, reading) in formats.iter().flat_map(|it| readings.map(|reading| (it, reading))) {
        let folder = tempfile::tempdir().unwrap();
        unpack(format, folder.path());
        let first = open(folder.path(), facts::WRITTEN_MS, reading);
        assert_eq!(first.kinds, facts::KINDS.into_iter().collect(), "{}", format.display());
        // The first format was written before there was such a tag.
        let with_several = !format.ends_with("1");
        assert_eq!(first.several, if with_several { facts::SEVERAL_TAGGED } else { 0 });
        facts::check(&first, with_several).await;
        facts::write_on(&first).await;
        first.close().await;
        let second = open(folder.path(), facts::WRITTEN_MS, reading);
        facts::check_written_on(&second);
        second.close().await;
    }
}

/// What is written today passes the same check, so a fixture never lags behind what it is made from.
#[tokio::test]
async fn what_is_written_today_opens() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let written = open(folder.path(), facts::WRITTEN_MS, Reading::ByTags);
    assert_eq!(written.kinds, facts::KINDS.into_iter().collect());
    assert_eq!(written.several, facts::SEVERAL_TAGGED);
    facts::check(&written, true).await;
}

async fn write(folder: &Path) {
    let written = open(folder, facts::WRITTEN_MS, Reading::ByTags);
    facts::fill(&written).await;
    written.close().await;
}

#[tokio::test]
#[ignore = "writes the fixture of the current format anew"]
async fn write_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    pack(folder.path(), &fixtures().join(CURRENT));
}
