//! What a command answers.

use bytes::Bytes;

use super::CacheError;

/// The answer of one command, as RESP has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A simple string, such as `OK`.
    Status(&'static str),
    Error(CacheError),
    Integer(i64),
    Bulk(Bytes),
    /// No value.
    Nil,
    /// No list of values: RESP2 tells it from [`Reply::Nil`], RESP3 does not.
    NilArray,
    Array(Vec<Reply>),
    /// A double; in RESP2 a string of its digits.
    Double(f64),
    /// Keys and values by turns; in RESP2 an array of both.
    Map(Vec<(Reply, Reply)>),
    /// Pairs in an order; in RESP2 an array of both by turns.
    Pairs(Vec<(Reply, Reply)>),
    /// Values without an order; in RESP2 an array.
    Set(Vec<Reply>),
    /// True or false; in RESP2 1 or 0.
    Boolean(bool),
    /// Text for people in a format of three letters, such as `txt`; in RESP2 a string.
    Verbatim {
        format: [u8; 3],
        text: Bytes,
    },
    /// The digits of an integer of any size; in RESP2 a string.
    BigNumber(Bytes),
    /// What a script or a listener says in a status of its own.
    StatusText(Bytes),
    /// An error in a script's own words, its code first.
    ErrorText(Bytes),
}

impl Reply {
    pub(super) const OK: Self = Self::Status("OK");

    pub(super) fn bulk_or_nil(value: Option<Bytes>) -> Self {
        value.map_or(Self::Nil, Self::Bulk)
    }

    pub(super) fn bulks(values: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Array(values.into_iter().map(Self::Bulk).collect())
    }

    /// A length or a count.
    pub(super) fn count(count: usize) -> Self {
        // A count of what lies in memory is far below 2^63.
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Reply {
    fn from(yes: bool) -> Self {
        Self::Integer(i64::from(yes))
    }
}
