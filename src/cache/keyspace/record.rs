//! What the journal says of keys: four kinds of facts, and their bytes.
//!
//! A key is one value fact ([`STRING`] or [`LIST`]), at most one [`DEADLINE`] of its own, and for a
//! list one [`ELEMENT`] for each element. Elements name their list by its number, which is never used
//! again, so a list's key may go before its elements do.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::slot::Key;
use crate::journal::{self, Kind, Payload};
use crate::model::clock::UnixMs;

pub(super) const STRING: Kind = Kind(32);
pub(super) const LIST: Kind = Kind(33);
pub(super) const ELEMENT: Kind = Kind(34);
pub(super) const DEADLINE: Kind = Kind(35);

/// The format of all four; raised when one changes.
const VERSION: u8 = 1;

/// What a fact takes in the log beside its texts, about.
const FIXED_BYTES: usize = 16;

/// A list's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::cache) struct ListId(pub u64);

impl ListId {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Bytes that are encoded as one piece, not as a sequence of numbers.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A string's key and value. The value is shared with the keyspace.
pub(super) struct StringFact {
    pub key: Key,
    pub value: Bytes,
}

#[derive(Deserialize)]
pub(super) struct StringRecord {
    pub key: Bytes,
    pub value: Bytes,
}

impl Payload for StringFact {
    fn weight(&self) -> u32 {
        weight(self.key.len() + self.value.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&(Raw(&self.key), Raw(&self.value)), out);
    }
}

/// The key of a list.
pub(super) struct ListFact {
    pub key: Key,
    pub list: ListId,
}

#[derive(Deserialize)]
pub(super) struct ListRecord {
    pub key: Bytes,
    pub list: ListId,
}

impl Payload for ListFact {
    fn weight(&self) -> u32 {
        weight(self.key.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&(Raw(&self.key), self.list), out);
    }
}

/// An element of a list. Indexes run over all of a list's life: a push to the left takes the number
/// below the lowest.
pub(super) struct ElementFact {
    pub list: ListId,
    pub index: i64,
    pub value: Bytes,
}

#[derive(Deserialize)]
pub(super) struct ElementRecord {
    pub list: ListId,
    pub index: i64,
    pub value: Bytes,
}

impl Payload for ElementFact {
    fn weight(&self) -> u32 {
        weight(self.value.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&(self.list, self.index, Raw(&self.value)), out);
    }
}

/// When a key expires.
pub(super) struct DeadlineFact {
    pub key: Key,
    pub at_ms: UnixMs,
}

#[derive(Deserialize)]
pub(super) struct DeadlineRecord {
    pub key: Bytes,
    pub at_ms: UnixMs,
}

impl Payload for DeadlineFact {
    fn weight(&self) -> u32 {
        weight(self.key.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&(Raw(&self.key), self.at_ms), out);
    }
}

fn weight(text_bytes: usize) -> u32 {
    u32::try_from(FIXED_BYTES + text_bytes).unwrap_or(u32::MAX)
}

fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    journal::encode_value(VERSION, value, out);
}

/// Reads what [`Payload::encode`] wrote.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    journal::decode_value(VERSION, payload).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(fact: &dyn Payload) -> Vec<u8> {
        let mut bytes = Vec::new();
        fact.encode(&mut bytes);
        assert!(bytes.len() <= fact.weight() as usize + 8, "{bytes:?}");
        bytes
    }

    /// What was written once has to be read for ever: these bytes are the format, version 1.
    #[test]
    fn every_record_keeps_its_bytes() {
        let key: Key = b"k".as_slice().into();
        let string = StringFact { key: key.clone(), value: Bytes::from_static(&[0xff; 3]) };
        let bytes = bytes_of(&string);
        assert_eq!(bytes, [1, 1, b'k', 3, 0xff, 0xff, 0xff]);
        let StringRecord { key: read_key, value } = decode(&bytes).unwrap();
        assert_eq!((&read_key[..], &value[..]), (&b"k"[..], &[0xff; 3][..]));

        let bytes = bytes_of(&ListFact { key: key.clone(), list: ListId(7) });
        assert_eq!(bytes, [1, 1, b'k', 7]);
        let record: ListRecord = decode(&bytes).unwrap();
        assert_eq!((&record.key[..], record.list), (&b"k"[..], ListId(7)));

        let value = Bytes::from_static(b"v");
        let bytes = bytes_of(&ElementFact { list: ListId(7), index: -2, value });
        assert_eq!(bytes, [1, 7, 3, 1, b'v']);
        let record: ElementRecord = decode(&bytes).unwrap();
        assert_eq!((record.list, record.index, &record.value[..]), (ListId(7), -2, &b"v"[..]));

        let bytes = bytes_of(&DeadlineFact { key, at_ms: 250 });
        assert_eq!(bytes, [1, 1, b'k', 250]);
        let record: DeadlineRecord = decode(&bytes).unwrap();
        assert_eq!((&record.key[..], record.at_ms), (&b"k"[..], 250));
    }

    #[test]
    fn bytes_of_another_format_are_refused() {
        assert!(decode::<ListRecord>(&[2, 1, b'k', 7]).is_err());
        assert!(decode::<ListRecord>(&[1, 1, b'k']).is_err());
        assert!(decode::<ListRecord>(&[1, 1, b'k', 7, 0]).is_err());
    }
}
