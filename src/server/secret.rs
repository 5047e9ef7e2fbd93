//! The secret that signs tokens: given, or made once for development.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// The file of the development secret, in the data folder.
const FILE_NAME: &str = "dev-secret";
const DEVELOPMENT_BYTES: usize = 32;

/// HS256 wants a key no shorter than its hash (RFC 7518, section 3.2).
const SAFE_BYTES_MIN: usize = 32;

/// The key of HS256. It is never shown: no `Debug`, no `Display`.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret that somebody chose. A short one is accepted (see [`Secret::is_short`]).
    ///
    /// # Errors
    /// When it is empty.
    pub fn given(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        Ok(Self(text.as_bytes().to_vec()))
    }

    /// A secret that lives as long as the process.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; DEVELOPMENT_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex(&bytes).into_bytes()))
    }

    /// The development secret of a data folder; `None` when no server has made one.
    ///
    /// # Errors
    /// When the file can't be read or holds anything else.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::DamagedSecret { path });
            }
            Err(source) => return Err(Error::File { path, source }),
        };
        let text = text.trim_end();
        if text.len() != 2 * DEVELOPMENT_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(Error::DamagedSecret { path });
        }
        Ok(Some(Self(text.as_bytes().to_vec())))
    }

    /// The development secret of a data folder, made if there is none. The caller holds the folder's
    /// lock, so nobody else makes one at the same time.
    ///
    /// # Errors
    /// As [`Secret::of_folder`], and when it can't be written.
    pub fn of_folder_or_new(folder: &Path) -> Result<Self, Error> {
        if let Some(secret) = Self::of_folder(folder)? {
            return Ok(secret);
        }
        let secret = Self::random()?;
        let path = folder.join(FILE_NAME);
        secret.write(&path).map_err(|source| Error::File { path, source })?;
        Ok(secret)
    }

    /// Appears whole or not at all, readable for the owner only.
    fn write(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(&self.0)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // A link, unlike a rename, never replaces what is there.
        fs::hard_link(&unfinished, path)?;
        fs::remove_file(&unfinished)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is shorter than HS256 demands, so that it could be guessed.
    pub fn is_short(&self) -> bool {
        self.0.len() < SAFE_BYTES_MIN
    }
}

/// Whether others than the owner may read the development secret; `None` when there is none.
pub fn readable_by_others(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(FILE_NAME);
    let mode = fs::metadata(&path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then_some(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Secret::of_folder(folder.path()).unwrap().is_none());
        let made = Secret::of_folder_or_new(folder.path()).unwrap();
        let read = Secret::of_folder(folder.path()).unwrap().unwrap();
        let again = Secret::of_folder_or_new(folder.path()).unwrap();
        assert_eq!(made.as_bytes().len(), 64);
        assert_eq!((made.as_bytes(), made.as_bytes()), (read.as_bytes(), again.as_bytes()));
        assert!(!made.is_short());

        let other = tempfile::tempdir().unwrap();
        let another = Secret::of_folder_or_new(other.path()).unwrap();
        assert_ne!(made.as_bytes(), another.as_bytes());
    }

    #[test]
    fn only_the_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        Secret::of_folder_or_new(folder.path()).unwrap();
        let path = folder.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(readable_by_others(folder.path()).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(readable_by_others(folder.path()), Some(path));
    }

    #[test]
    fn a_crash_while_it_was_written_leaves_no_half_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dev-secret.new"), "12").unwrap();
        assert!(Secret::of_folder(folder.path()).unwrap().is_none());
        assert!(Secret::of_folder_or_new(folder.path()).is_ok());
        assert!(!folder.path().join("dev-secret.new").exists());
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        for content in [&b""[..], b"abc", b"\xff\xfe"] {
            fs::write(folder.path().join(FILE_NAME), content).unwrap();
            assert!(matches!(
                Secret::of_folder_or_new(folder.path()),
                Err(Error::DamagedSecret { .. })
            ));
            assert_eq!(fs::read(folder.path().join(FILE_NAME)).unwrap(), content);
        }
    }
}
