//! Binary data inside of arguments: written as an attachment of its packet, and read back from it.
//!
//! serde knows no attachments, so they pass beside it: while a packet is written or read, this thread
//! holds its list.

use std::cell::RefCell;

use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    static OUTGOING: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
    static INCOMING: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
}

/// Bytes in an argument, at any depth: a `Buffer` or `ArrayBuffer` for the stock client. It has a form
/// in a packet only; to write or read it anywhere else is an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binary(pub Bytes);

impl<B: Into<Bytes>> From<B> for Binary {
    fn from(bytes: B) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = OUTGOING.with_borrow_mut(|outgoing| {
            let list = outgoing.as_mut()?;
            list.push(self.0.clone());
            Some(list.len() - 1)
        });
        let number = number.ok_or_else(|| S::Error::custom("binary data outside of a packet"))?;
        let mut placeholder = serializer.serialize_struct("Placeholder", 2)?;
        placeholder.serialize_field("_placeholder", &true)?;
        placeholder.serialize_field("num", &number)?;
        placeholder.end()
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Placeholder {
            _placeholder: bool,
            num: usize,
        }
        let placeholder = Placeholder::deserialize(deserializer)?;
        INCOMING
            .with_borrow(|incoming| incoming.as_ref()?.get(placeholder.num).cloned())
            .filter(|_| placeholder._placeholder)
            .map(Self)
            .ok_or_else(|| D::Error::custom("expected binary data"))
    }
}

/// Runs `write`; the attachments that it wrote placeholders of.
pub(super) fn collect<T>(write: impl FnOnce() -> T) -> (T, Vec<Bytes>) {
    // What is being written may itself write a packet, which has a list of its own.
    let outer = OUTGOING.replace(Some(Vec::new()));
    let written = write();
    let attachments = OUTGOING.replace(outer).unwrap_or_default();
    (written, attachments)
}

/// Runs `read`, in which a [`Binary`] finds its bytes among `attachments`.
pub fn with<T>(attachments: &[Bytes], read: impl FnOnce() -> T) -> T {
    if attachments.is_empty() {
        return read();
    }
    let outer = INCOMING.replace(Some(attachments.to_vec()));
    let value = read();
    INCOMING.set(outer);
    value
}
