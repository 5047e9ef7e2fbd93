//! Files of removed segments, kept to be written over.
//!
//! For a file that grows, a file system finds blocks, and notes in its own journal first that they are the
//! file's, and then that something was written to them. Of blocks that were written before it has nothing
//! to note: a sync is that of the data alone.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// They take no more than this of the disk, and no more than this share of what is free beyond so much.
const BYTES_MAX: u64 = 512 * 1024 * 1024;
const FREE_SHARE: u64 = 16;
const FREE_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// One that is in the folder.
pub(super) struct Spare {
    bytes: u64,
    number: u64,
}

#[derive(Debug)]
pub(super) struct Spares {
    folder: PathBuf,
    /// The bytes of each, and the number in its name.
    files: BTreeSet<(u64, u64)>,
    bytes: u64,
    next_number: u64,
}

fn file_name(number: u64) -> String {
    format!("spare-{number}.redb")
}

fn parse_file_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix("spare-")?.strip_suffix(".redb")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl Spares {
    /// Those that an earlier process left.
    pub(super) fn found_in(folder: &Path) -> io::Result<Self> {
        let mut spares =
            Self { folder: folder.to_owned(), files: BTreeSet::new(), bytes: 0, next_number: 1 };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(parse_file_name) {
                spares.add(Spare { bytes: entry.metadata()?.len(), number });
            }
        }
        Ok(spares)
    }

    /// Keeps the file of a segment that is removed, or deletes it when there are enough. One that is kept is
    /// to be added once its name lasts: by its old name it would be found as what is written over it.
    pub(super) fn keep(&mut self, file: &Path, free_bytes: u64) -> io::Result<Option<Spare>> {
        let bytes = fs::metadata(file)?.len();
        if self.bytes + bytes > room(free_bytes) {
            return fs::remove_file(file).map(|()| None);
        }
        let number = self.next_number;
        self.next_number += 1;
        fs::rename(file, self.path(number))?;
        Ok(Some(Spare { bytes, number }))
    }

    pub(super) fn add(&mut self, Spare { bytes, number }: Spare) {
        self.files.insert((bytes, number));
        self.bytes += bytes;
        self.next_number = self.next_number.max(number + 1);
    }

    /// Gives the one that is nearest to `bytes` the name of `file`, and cuts it to that: at most so long,
    /// and what is in it is anything. `None` when there is none, or it can't be had.
    pub(super) fn take(&mut self, bytes: u64, file: &Path) -> Option<File> {
        let large_enough = self.files.range((bytes, 0)..).next();
        let &(spare_bytes, number) = large_enough.or_else(|| self.files.last())?;
        self.forget(spare_bytes, number);
        let path = self.path(number);
        let take = || {
            fs::rename(&path, file)?;
            let file = OpenOptions::new().read(true).write(true).open(file)?;
            if spare_bytes > bytes {
                file.set_len(bytes)?;
            }
            Ok(file)
        };
        take().inspect_err(|error: &io::Error| warn(error, &path)).ok()
    }

    /// Deletes what is too much beside so many free bytes. How many bytes that gives.
    pub(super) fn trim(&mut self, free_bytes: u64) -> u64 {
        let mut freed = 0;
        while self.bytes > room(free_bytes)
            && let Some(&(bytes, number)) = self.files.last()
        {
            self.forget(bytes, number);
            let path = self.path(number);
            match fs::remove_file(&path) {
                Ok(()) => freed += bytes,
                Err(error) => warn(&error, &path),
            }
        }
        freed
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(file_name(number))
    }

    fn forget(&mut self, bytes: u64, number: u64) {
        self.files.remove(&(bytes, number));
        self.bytes -= bytes;
    }
}

fn room(free_bytes: u64) -> u64 {
    BYTES_MAX.min(free_bytes.saturating_sub(FREE_MIN) / FREE_SHARE)
}

fn warn(error: &io::Error, path: &Path) {
    tracing::warn!(%error, path = %path.display(), "a spare file can't be used");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const PLENTY: u64 = 1 << 40;

    fn file(folder: &Path, bytes: usize) -> PathBuf {
        let path = folder.join("file");
        fs::write(&path, vec![7; bytes]).unwrap();
        path
    }

    fn keep(spares: &mut Spares, bytes: usize, free_bytes: u64) {
        let file = file(&spares.folder, bytes);
        if let Some(spare) = spares.keep(&file, free_bytes).unwrap() {
            spares.add(spare);
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_nearest_is_taken_and_keeps_its_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut spares = Spares::found_in(folder).unwrap();
        for bytes in [40_960, 8_192, 20_480] {
            keep(&mut spares, bytes, PLENTY);
        }
        // As the next process finds them.
        let mut spares = Spares::found_in(folder).unwrap();
        let taken = folder.join("taken");
        for (wanted, bytes) in [(12_288, 12_288), (100_000, 40_960), (4_096, 4_096)] {
            let metadata = spares.take(wanted, &taken).unwrap().metadata().unwrap();
            assert_eq!(metadata.len(), bytes);
            assert!(metadata.blocks() > 0);
            assert_eq!(fs::read(&taken).unwrap()[0], 7);
        }
        assert!(spares.take(1, &taken).is_none());
        assert_eq!((spares.bytes, names(folder)), (0, vec!["taken".to_owned()]));
    }

    #[test]
    fn there_are_never_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut spares = Spares::found_in(folder).unwrap();
        for _ in 0..3 {
            keep(&mut spares, 4_096, FREE_MIN + 2 * 4_096 * FREE_SHARE);
        }
        assert_eq!(names(folder), ["spare-1.redb", "spare-2.redb"]);
        assert_eq!(spares.trim(FREE_MIN + 2 * 4_096 * FREE_SHARE), 0);
        assert_eq!(spares.trim(FREE_MIN + 2 * 4_096 * FREE_SHARE - 1), 4_096);
        assert_eq!(names(folder), ["spare-1.redb"]);
        assert_eq!(spares.trim(0), 4_096);
        assert!(names(folder).is_empty());
    }

    #[test]
    fn one_whose_name_may_not_last_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, taken) = (folder.path(), folder.path().join("taken"));
        let mut spares = Spares::found_in(folder).unwrap();
        let spare = spares.keep(&file(folder, 10), PLENTY).unwrap().unwrap();
        assert!(spares.take(10, &taken).is_none());
        spares.add(spare);
        assert!(spares.take(10, &taken).is_some());
    }

    #[test]
    fn one_that_is_gone_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut spares = Spares::found_in(folder.path()).unwrap();
        for _ in 0..2 {
            keep(&mut spares, 10, PLENTY);
        }
        names(folder.path())
            .iter()
            .for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
        assert!(spares.take(10, &folder.path().join("taken")).is_none());
        assert_eq!(spares.trim(0), 0);
    }
}
