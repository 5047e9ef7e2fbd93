//! Values as bytes: the only place that names bincode, so that it can be replaced.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

/// Nothing that one value claims to hold may be larger. Decoding borrows from its input, so it fails
/// at the input's end before it allocates; the limit is the second line of defence.
const VALUE_BYTES_MAX: usize = 1 << 30;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<VALUE_BYTES_MAX>,
> = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();

/// Why bytes are not the value that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("there are no bytes to decode")]
    Empty,
    #[error("format version {found} is not known; version {accepted} is")]
    UnknownVersion { found: u8, accepted: u8 },
    #[error("{bytes} bytes follow the value")]
    TrailingBytes { bytes: usize },
    #[error("malformed value: {reason}")]
    Malformed { reason: String },
}

/// Appends `version` and then `value` to `out`.
///
/// # Panics
/// When the type can't be encoded at all (a sequence without a length, a failing `Serialize`): a
/// defect of the type, never of its content. On the writer's thread it poisons the journal.
pub fn encode_value<T: Serialize>(version: u8, value: &T, out: &mut Vec<u8>) {
    out.push(version);
    encode_plain(value, out);
}

/// Reads what [`encode_value`] wrote with the version `accepted`, to the last byte.
///
/// # Errors
/// A [`DecodeError`] that says what is wrong with the bytes.
pub fn decode_value<T: DeserializeOwned>(accepted: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let (&found, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if found != accepted {
        return Err(DecodeError::UnknownVersion { found, accepted });
    }
    let (value, used) = decode_plain(rest)?;
    match rest.len() - used {
        0 => Ok(value),
        bytes => Err(DecodeError::TrailingBytes { bytes }),
    }
}

/// The end of a batch's bytes. Most writes are a byte or two.
struct Appending<'a>(&'a mut Vec<u8>);

impl Writer for Appending<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        match bytes {
            [byte] => self.0.push(*byte),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }
}

/// Appends a value without a version: a part of a larger one, or a row's record.
///
/// # Panics
/// As [`encode_value`].
pub fn encode_plain<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    if let Err(error) = bincode::serde::encode_into_writer(value, Appending(out), CONFIG) {
        #[expect(
            clippy::panic,
            reason = "a type that can't be encoded is a defect of this program"
        )]
        {
            panic!("{} can't be encoded: {error}", std::any::type_name::<T>());
        }
    }
}

/// Appends a number as [`encode_value`] does: one below 251 is a byte, a larger one a code and 2, 4 or 8
/// bytes, the lowest first.
#[inline]
pub fn put_number(number: u64, out: &mut Vec<u8>) {
    // Of a known length each: one store instead of a call.
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    match number {
        0..=250 => out.push(a),
        251..=0xFFFF => out.extend_from_slice(&[251, a, b]),
        0x1_0000..=0xFFFF_FFFF => out.extend_from_slice(&[252, a, b, c, d]),
        _ => out.extend_from_slice(&[253, a, b, c, d, e, f, g, h]),
    }
}

/// Appends bytes, or a text, as [`encode_value`] does.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads such a number from the front of `bytes`; `None` when there is none.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (&code, rest) = bytes.split_first()?;
    let (number, rest) = match code {
        0..=250 => (code.into(), rest),
        251 => {
            let (number, rest) = rest.split_first_chunk()?;
            (u16::from_le_bytes(*number).into(), rest)
        }
        252 => {
            let (number, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*number).into(), rest)
        }
        253 => {
            let (number, rest) = rest.split_first_chunk()?;
            (u64::from_le_bytes(*number), rest)
        }
        _ => return None,
    };
    *bytes = rest;
    Some(number)
}

/// Reads a value from the front of `bytes`, and how many bytes it took.
pub(super) fn decode_plain<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, usize), DecodeError> {
    bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|error| DecodeError::Malformed { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_was() {
        let value = ("name".to_owned(), vec![1u64, 2, 3], Some(-7i32));
        let mut bytes = Vec::new();
        encode_value(3, &value, &mut bytes);
        assert_eq!(decode_value(3, &bytes), Ok(value));
    }

    #[test]
    fn another_version_trailing_and_missing_bytes_are_refused() {
        let mut bytes = Vec::new();
        encode_value(1, &"text".to_owned(), &mut bytes);
        assert_eq!(
            decode_value::<String>(2, &bytes),
            Err(DecodeError::UnknownVersion { found: 1, accepted: 2 })
        );
        assert_eq!(decode_value::<String>(1, &[]), Err(DecodeError::Empty));
        assert!(matches!(
            decode_value::<String>(1, &bytes[..bytes.len() - 1]),
            Err(DecodeError::Malformed { .. })
        ));
        bytes.push(0);
        assert_eq!(decode_value::<String>(1, &bytes), Err(DecodeError::TrailingBytes { bytes: 1 }));
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing() {
        // A string that claims to be just under the limit.
        let mut bytes = vec![1u8, 252];
        bytes.extend_from_slice(&((1u32 << 30) - 100).to_le_bytes());
        assert!(matches!(decode_value::<String>(1, &bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode_value::<Vec<u64>>(1, &bytes), Err(DecodeError::Malformed { .. })));
    }
}
