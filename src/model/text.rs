//! A few bytes, or a handle on many.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// Bytes that are handed on, such as an argument of a command. A short one lies in place, so nothing
/// is allocated, counted or looked up for it; clones of a longer one share its buffer.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    Short { len: u8, bytes: [u8; Text::SHORT_BYTES_MAX] },
    Shared(Bytes),
}

const _: () = assert!(size_of::<Text>() == size_of::<Bytes>());

impl Text {
    /// So many bytes are copied rather than shared: to count a handle costs more.
    pub const SHORT_BYTES_MAX: usize = 23;

    fn short(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::SHORT_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self(Form::Short { len: u8::try_from(text.len()).ok()?, bytes }))
    }

    /// A copy, which holds nobody's buffer.
    pub fn copy_from_slice(text: &[u8]) -> Self {
        Self::short(text).unwrap_or_else(|| Self(Form::Shared(Bytes::copy_from_slice(text))))
    }

    /// Bytes that lie in `owner`: a longer one is a handle on it.
    pub fn slice_of(owner: &Bytes, range: std::ops::Range<usize>) -> Self {
        let text = owner.get(range.clone()).unwrap_or_default();
        Self::short(text).unwrap_or_else(|| Self(Form::Shared(owner.slice(range))))
    }

    /// As [`Text::to_bytes`]; a longer one stays the handle that it was.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Form::Short { .. } => self.to_bytes(),
            Form::Shared(bytes) => bytes,
        }
    }

    /// As bytes that can be kept and shared; a short one is copied.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Form::Short { .. } => Bytes::copy_from_slice(self),
            Form::Shared(bytes) => bytes.clone(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::copy_from_slice(b"")
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // It was as many when it was made.
            Form::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Form::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Bytes> for Text {
    fn from(bytes: Bytes) -> Self {
        Self::short(&bytes).unwrap_or(Self(Form::Shared(bytes)))
    }
}

/// As [`Text::to_bytes`].
impl From<&Text> for Bytes {
    fn from(text: &Text) -> Self {
        text.to_bytes()
    }
}

impl From<&Bytes> for Text {
    fn from(bytes: &Bytes) -> Self {
        Self::short(bytes).unwrap_or_else(|| Self(Form::Shared(bytes.clone())))
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Vec<u8>> for Text {
    fn from(text: Vec<u8>) -> Self {
        Bytes::from(text).into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Text {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_its_bytes_and_only_a_long_one_is_shared() {
        let owner = Bytes::from(vec![b't'; 300]);
        for len in 0..300 {
            let text = Text::slice_of(&owner, 0..len);
            assert_eq!(text, &owner[..len]);
            assert_eq!(text.to_bytes(), &owner[..len]);
            assert_eq!(text, Text::copy_from_slice(&owner[..len]));
            assert_eq!(text, Text::from(owner.slice(..len)));
            let is_shared = text.as_ptr() == owner.as_ptr();
            assert_eq!(is_shared, len > Text::SHORT_BYTES_MAX);
        }
    }
}
