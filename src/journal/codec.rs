//! bincode, behind a format version: the one place that names it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A payload can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("format version {found} is not known; this program reads version {known}")]
    Version { found: u8, known: u8 },
    #[error("the record is empty")]
    Empty,
    #[error("{bytes} bytes follow the record")]
    TrailingBytes { bytes: usize },
    #[error("the record is damaged: {0}")]
    Malformed(String),
}

/// Writes the version, then the value.
pub fn encode_value<T: Serialize>(version: u8, value: &T, out: &mut Vec<u8>) {
    out.push(version);
    // Writing plain data to memory has no failure to report.
    let _written = bincode::serde::encode_into_std_write(value, out, bincode::config::standard());
}

/// # Errors
/// Another version, damage, or bytes left over.
pub fn decode_value<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let (&found, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if found != version {
        return Err(DecodeError::Version { found, known: version });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, bincode::config::standard())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if used != body.len() {
        return Err(DecodeError::TrailingBytes { bytes: body.len() - used });
    }
    Ok(value)
}
