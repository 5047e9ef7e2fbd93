//! The name of a key, of a hash's field, of a set's member.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use super::memory::allocated;

/// So many bytes lie where the name itself does: whoever looks one up needs no look elsewhere.
const SHORT_BYTES_MAX: usize = 22;
/// A longer one's two counts.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// A name's own copy, so that it never keeps a reader's larger buffer alive. Clones of a long one
/// share it.
#[derive(Clone)]
pub(in crate::cache) struct Key(Form);

#[derive(Clone)]
enum Form {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24);

impl Key {
    /// Bytes of memory outside of `Self`, estimated.
    pub(in crate::cache) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Short { .. } => 0,
            Form::Long(bytes) => allocated(COUNTS_BYTES + bytes.len()),
        }
    }
}

impl From<&[u8]> for Key {
    fn from(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        Self(match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(name);
                Form::Short { len, bytes }
            }
            _ => Form::Long(Arc::from(name)),
        })
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // It was as many when it was made.
            Form::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Form::Long(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

/// As its bytes, by which tables are asked.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.escape_ascii().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_is_as_its_bytes() {
        let hasher = ahash::RandomState::with_seed(1);
        let texts: Vec<Vec<u8>> = (0..300).map(|len| vec![b'n'; len]).collect();
        for text in &texts {
            let key = Key::from(text.as_slice());
            assert_eq!(*key, **text);
            assert_eq!(hasher.hash_one(&key), hasher.hash_one(text.as_slice()));
            assert_eq!(key.heap_bytes() > 0, text.len() > SHORT_BYTES_MAX);
            for other in &texts {
                let other_key = Key::from(other.as_slice());
                assert_eq!(key == other_key, text == other);
                assert_eq!(key.cmp(&other_key), text.cmp(other));
            }
        }
    }
}
