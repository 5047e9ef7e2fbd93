//! What a back end may hand over, as JSON text, to be sent to clients.

use serde_json::value::RawValue;

use super::binary::is_dangling;
use super::parse::is_deeper_than;

/// How deep arrays and objects of a payload may be nested, the outermost counted. Less than
/// [`DEPTH_MAX`](super::DEPTH_MAX), so that whoever gets it can put it into something and send it on.
pub const PAYLOAD_DEPTH_MAX: usize = 100;

/// A payload that not every client could read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("it is nested deeper than {PAYLOAD_DEPTH_MAX} levels")]
    TooDeep,
    #[error("it can't be read: {0}")]
    Unreadable(#[source] serde_json::Error),
}

/// Checks what [`RawValue`] lets pass: the depth, numbers past any double, and halves of a surrogate
/// pair.
///
/// # Errors
/// [`PayloadError`] when it could not be read into a value, or is nested too deeply.
pub fn check_payload(payload: &RawValue) -> Result<(), PayloadError> {
    if is_deeper_than(payload.get(), PAYLOAD_DEPTH_MAX) {
        return Err(PayloadError::TooDeep);
    }
    is_dangling(payload, 0).map(drop).map_err(PayloadError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_what_can_be_read_into_a_value() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let (fits, too_deep) = (nested(PAYLOAD_DEPTH_MAX), nested(PAYLOAD_DEPTH_MAX + 1));
        let check = |json: &str| check_payload(&RawValue::from_string(json.to_owned()).unwrap());
        for json in [&*fits, "null", "1e300", r#""\ud83d\ude00""#, r#"{"_placeholder":true}"#] {
            assert!(check(json).is_ok(), "{json}");
        }
        assert!(matches!(check(&too_deep), Err(PayloadError::TooDeep)));
        for json in ["1e400", "[-1e400]", r#""\ud800""#, r#"{"\udc00":1}"#] {
            assert!(matches!(check(json), Err(PayloadError::Unreadable(_))), "{json}");
        }
    }
}
