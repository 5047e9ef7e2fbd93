//! What the journal says of keys: the kinds of facts, and their bytes.
//!
//! A key is one value fact ([`STRING`] or that of a collection), at most one [`DEADLINE`] of its own,
//! and for a list one [`ELEMENT`] for each element, for the other collections one [`PART`] for each
//! part. A long string that was changed in a part of it counts as a collection of pieces. Elements and parts name their collection by its number, which is never used again, so a
//! collection's key may go before they do.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::DATABASES;
use super::name::Key;
use super::parts::PartRecord;
use crate::journal::{self, Kind, Payload};
use crate::model::clock::UnixMs;

pub(super) const STRING: Kind = Kind(32);
pub(super) const LIST: Kind = Kind(33);
pub(super) const ELEMENT: Kind = Kind(34);
pub(super) const DEADLINE: Kind = Kind(35);
pub(super) const HASH: Kind = Kind(36);
pub(super) const SET: Kind = Kind(37);
pub(super) const SORTED_SET: Kind = Kind(38);
pub(super) const PART: Kind = Kind(39);
pub(super) const ORDER: Kind = Kind(40);
/// The key of a string that lies in pieces, which are [`ELEMENT`]s.
pub(super) const LONG_STRING: Kind = Kind(41);

/// The format; raised when one changes.
const VERSION: u8 = 1;
/// The format of a key's fact in a database other than the first: its number comes before the rest.
const VERSION_WITH_DATABASE: u8 = 2;

/// What a fact takes in the log beside its texts, about.
const FIXED_BYTES: usize = 16;

/// A collection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::cache) struct CollectionId(pub u64);

impl CollectionId {
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
    pub db: u8,
    pub key: Key,
    pub value: Bytes,
}

#[derive(Deserialize)]
pub(super) struct StringRecord {
    pub key: Bytes,
    pub value: Bytes,
}

impl StringFact {
    /// As [`Payload::weight`] of such a fact.
    pub(super) fn weight_of(key: &[u8], value: &[u8]) -> u32 {
        weight(key.len() + value.len())
    }

    /// As [`Payload::encode`] of such a fact.
    pub(super) fn encode_of(db: u8, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        encode_keyed(db, (Raw(key), Raw(value)), out);
    }
}

impl Payload for StringFact {
    fn weight(&self) -> u32 {
        Self::weight_of(&self.key, &self.value)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Self::encode_of(self.db, &self.key, &self.value, out);
    }
}

/// The key of a collection.
pub(super) struct CollectionFact {
    pub db: u8,
    pub key: Key,
    pub collection: CollectionId,
}

#[derive(Deserialize)]
pub(super) struct CollectionRecord {
    pub key: Bytes,
    pub collection: CollectionId,
}

impl Payload for CollectionFact {
    fn weight(&self) -> u32 {
        weight(self.key.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_keyed(self.db, (Raw(&self.key), self.collection), out);
    }
}

/// An element of a list. Indexes run over all of a list's life: a push to the left takes the number
/// below the lowest.
pub(super) struct ElementFact {
    pub list: CollectionId,
    pub index: i64,
    pub value: Bytes,
}

#[derive(Deserialize)]
pub(super) struct ElementRecord {
    pub list: CollectionId,
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

/// A part of a hash, a set or a sorted set.
pub(super) struct PartFact {
    pub collection: CollectionId,
    pub name: Key,
    pub value: PartRecord,
}

#[derive(Deserialize)]
pub(super) struct PartFactRecord {
    pub collection: CollectionId,
    pub name: Bytes,
    pub value: PartRecord,
}

impl Payload for PartFact {
    fn weight(&self) -> u32 {
        weight(self.name.len() + self.value.text_bytes())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&(self.collection, Raw(&self.name), &self.value), out);
    }
}

/// When a key expires.
pub(super) struct DeadlineFact {
    pub db: u8,
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
        encode_keyed(self.db, (Raw(&self.key), self.at_ms), out);
    }
}

/// The places of the databases, by their numbers.
pub(super) struct OrderFact {
    pub places: [u8; DATABASES],
}

impl OrderFact {
    pub(super) const UNSWAPPED: [u8; DATABASES] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    /// `None` when these are not the places of all databases.
    pub(super) fn read(places: &[u8]) -> Option<[u8; DATABASES]> {
        let places: [u8; DATABASES] = places.try_into().ok()?;
        let mut sorted = places;
        sorted.sort_unstable();
        (sorted == Self::UNSWAPPED).then_some(places)
    }
}

#[derive(Deserialize)]
pub(super) struct OrderRecord {
    pub places: Bytes,
}

impl Payload for OrderFact {
    fn weight(&self) -> u32 {
        weight(self.places.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode(&Raw(&self.places), out);
    }
}

fn weight(text_bytes: usize) -> u32 {
    u32::try_from(FIXED_BYTES + text_bytes).unwrap_or(u32::MAX)
}

fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    journal::encode_value(VERSION, value, out);
}

fn encode_keyed<T: Serialize>(db: u8, value: T, out: &mut Vec<u8>) {
    match db {
        0 => encode(&value, out),
        _ => journal::encode_value(VERSION_WITH_DATABASE, &(db, value), out),
    }
}

/// Reads the fact of a key and the number of its database.
pub(super) fn decode_keyed<T: DeserializeOwned>(payload: &[u8]) -> Result<(u8, T), String> {
    match payload.first() {
        Some(&VERSION_WITH_DATABASE) => {
            journal::decode_value(VERSION_WITH_DATABASE, payload).map_err(|error| error.to_string())
        }
        _ => decode(payload).map(|record| (0, record)),
    }
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
        let string = StringFact { db: 0, key: key.clone(), value: Bytes::from_static(&[0xff; 3]) };
        let bytes = bytes_of(&string);
        assert_eq!(bytes, [1, 1, b'k', 3, 0xff, 0xff, 0xff]);
        let StringRecord { key: read_key, value } = decode(&bytes).unwrap();
        assert_eq!((&read_key[..], &value[..]), (&b"k"[..], &[0xff; 3][..]));

        let bytes =
            bytes_of(&CollectionFact { db: 0, key: key.clone(), collection: CollectionId(7) });
        assert_eq!(bytes, [1, 1, b'k', 7]);
        let record: CollectionRecord = decode(&bytes).unwrap();
        assert_eq!((&record.key[..], record.collection), (&b"k"[..], CollectionId(7)));

        let bytes =
            bytes_of(&CollectionFact { db: 3, key: key.clone(), collection: CollectionId(7) });
        assert_eq!(bytes, [2, 3, 1, b'k', 7]);
        let (db, record): (u8, CollectionRecord) = decode_keyed(&bytes).unwrap();
        assert_eq!((db, record.collection), (3, CollectionId(7)));

        for (value, tail) in [
            (PartRecord::Member, &[0][..]),
            (PartRecord::Text(Bytes::from_static(b"v")), &[1, 1, b'v']),
            (PartRecord::Score(7), &[2, 7]),
        ] {
            let fact = PartFact { collection: CollectionId(7), name: key.clone(), value };
            let bytes = bytes_of(&fact);
            assert_eq!(bytes, [&[1, 7, 1, b'k'], tail].concat());
            let record: PartFactRecord = decode(&bytes).unwrap();
            assert_eq!((record.collection, &record.name[..]), (CollectionId(7), &b"k"[..]));
        }

        let value = Bytes::from_static(b"v");
        let bytes = bytes_of(&ElementFact { list: CollectionId(7), index: -2, value });
        assert_eq!(bytes, [1, 7, 3, 1, b'v']);
        let record: ElementRecord = decode(&bytes).unwrap();
        assert_eq!(
            (record.list, record.index, &record.value[..]),
            (CollectionId(7), -2, &b"v"[..])
        );

        let places = OrderFact::UNSWAPPED;
        let bytes = bytes_of(&OrderFact { places });
        assert_eq!(bytes, [&[1, 16], &places[..]].concat());
        let record: OrderRecord = decode(&bytes).unwrap();
        assert_eq!(OrderFact::read(&record.places), Some(places));
        assert_eq!(OrderFact::read(&[0; 16]), None);

        let bytes = bytes_of(&DeadlineFact { db: 0, key, at_ms: 250 });
        assert_eq!(bytes, [1, 1, b'k', 250]);
        let record: DeadlineRecord = decode(&bytes).unwrap();
        assert_eq!((&record.key[..], record.at_ms), (&b"k"[..], 250));
    }

    #[test]
    fn bytes_of_another_format_are_refused() {
        assert!(decode::<CollectionRecord>(&[2, 1, b'k', 7]).is_err());
        assert!(decode::<CollectionRecord>(&[1, 1, b'k']).is_err());
        assert!(decode::<CollectionRecord>(&[1, 1, b'k', 7, 0]).is_err());
    }
}
