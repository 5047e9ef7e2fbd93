//! Strings as rows of bits: the commands on them.
//!
//! The first bit is the highest one of the first byte. May import: the keyspace and `string`.

mod count;
mod field;
mod parse;

use std::ops::Range;

use bytes::Bytes;
use smallvec::smallvec;

use super::command::Access;
use super::error::CacheError;
use super::keyspace::{Keyspace, Ttl, check_value};
use super::notifications::Events;
use super::reply::Reply;
use super::string::in_place;
use crate::model::text::Text;
pub use field::{BitfieldKind, BitfieldOp, BitfieldStep, Overflow};
pub(super) use parse::SPECS;

/// A command on the bits of a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BitsCommand {
    Set {
        key: Text,
        offset: usize,
        bit: bool,
    },
    Get {
        key: Text,
        offset: usize,
    },
    Count {
        key: Text,
        range: BitRange,
    },
    Position {
        key: Text,
        bit: bool,
        range: BitRange,
    },
    /// BITOP.
    Combine {
        op: BitwiseOp,
        destination: Text,
        keys: Vec<Text>,
    },
    /// BITFIELD and BITFIELD_RO.
    Field {
        key: Text,
        steps: Vec<BitfieldStep>,
    },
}

/// What BITCOUNT and BITPOS look at. Redis reads it when it has found the key: what is wrong with it is
/// told only then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitRange {
    /// As they came: at most a start, an end and a unit.
    args: Vec<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitUnit {
    Byte,
    Bit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitwiseOp {
    And,
    Or,
    Xor,
    Not,
}

impl BitsCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Get { .. } | Self::Count { .. } | Self::Position { .. } => Access::Read,
            Self::Field { steps, .. } if !steps.iter().any(BitfieldStep::writes) => Access::Read,
            Self::Set { .. } | Self::Combine { .. } | Self::Field { .. } => Access::Grow,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        Ok(match self {
            Self::Set { key, offset, bit } => {
                let (old, is_changed) = keyspace.edit_part_of_string(key, |value, _| {
                    let byte = offset / 8;
                    check_value(byte + 1)?;
                    if byte < value.len() && bit_at(value, *offset) == *bit {
                        return Ok(((*bit, false), smallvec![]));
                    }
                    let changed = smallvec![byte.min(value.len())..byte + 1];
                    let old = in_place(value, |bytes| {
                        if bytes.len() <= byte {
                            bytes.resize(byte + 1, 0);
                        }
                        let old = bit_at(bytes, *offset);
                        set_bit(bytes, *offset, *bit);
                        old
                    });
                    Ok(((old, true), changed))
                })?;
                if is_changed {
                    keyspace.notify(Events::STRING, "setbit", key);
                }
                old.into()
            }
            Self::Get { key, offset } => {
                keyspace.read_string(key)?.is_some_and(|value| bit_at(value, *offset)).into()
            }
            Self::Count { key, range } => match keyspace.read_string(key)? {
                None => Reply::Integer(0),
                Some(value) => Reply::count(count::count(value, range.counted(value.len())?)),
            },
            Self::Position { key, bit, range } => match keyspace.read_string(key)? {
                // A key that is not there has nothing but zeros.
                None => Reply::Integer(if *bit { -1 } else { 0 }),
                Some(value) => {
                    let (bits, ends) = range.searched(value.len())?;
                    let found = count::position(value, *bit, bits.clone());
                    // Behind the end of a value there are zeros, but not behind the end of a range.
                    let behind = (!bit && !ends && !bits.is_empty()).then_some(bits.end);
                    found.or(behind).map_or(Reply::Integer(-1), Reply::count)
                }
            },
            Self::Combine { op, destination, keys } => {
                let sources: Vec<Bytes> = keys
                    .iter()
                    .map(|key| Ok(keyspace.get(key)?.unwrap_or_default()))
                    .collect::<Result<_, CacheError>>()?;
                let combined = count::combine(*op, &sources);
                let len = combined.len();
                if len == 0 {
                    keyspace.remove(destination);
                } else {
                    keyspace.set(destination, combined, Ttl::None)?;
                }
                Reply::count(len)
            }
            Self::Field { key, steps } => field::apply(keyspace, key, steps)?,
        })
    }
}

/// The bit at an offset; what is not there is zero.
fn bit_at(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// Sets a bit that is there.
fn set_bit(bytes: &mut [u8], offset: usize, bit: bool) {
    if let Some(byte) = bytes.get_mut(offset / 8) {
        let mask = 1 << (7 - offset % 8);
        *byte = if bit { *byte | mask } else { *byte & !mask };
    }
}

impl BitRange {
    /// The bits that BITCOUNT counts in a value of `len` bytes.
    fn counted(&self, len: usize) -> Result<Range<usize>, CacheError> {
        match &*self.args {
            [] => Ok(0..len * 8),
            [start, stop, unit @ ..] if unit.len() <= 1 => {
                let (start, stop) = (parse::bound(start)?, parse::bound(stop)?);
                // Redis looks at no unit then.
                if start < 0 && stop < 0 && start > stop {
                    return Ok(0..0);
                }
                Ok(bits(start, stop, parse::unit(unit.first().map(AsRef::as_ref))?, len))
            }
            _ => Err(CacheError::Syntax),
        }
    }

    /// The bits that BITPOS searches, and whether the command says where they end.
    fn searched(&self, len: usize) -> Result<(Range<usize>, bool), CacheError> {
        match &*self.args {
            [] => Ok((0..len * 8, false)),
            [start, more @ ..] if more.len() <= 2 => {
                let start = parse::bound(start)?;
                let unit = parse::unit(more.get(1).map(AsRef::as_ref))?;
                let stop = more.first().map(|stop| parse::bound(stop)).transpose()?;
                Ok((bits(start, stop.unwrap_or(-1), unit, len), stop.is_some()))
            }
            _ => Err(CacheError::Syntax),
        }
    }
}

/// The bits from `start` to `stop`, both included; negative ones count from the end, and those before
/// the beginning are the beginning.
fn bits(start: i64, stop: i64, unit: BitUnit, bytes: usize) -> Range<usize> {
    let scale = match unit {
        BitUnit::Byte => 8,
        BitUnit::Bit => 1,
    };
    let len = bytes * 8 / scale;
    let from_either_end = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => len.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (from_either_end(start), from_either_end(stop).saturating_add(1).min(len));
    if start < end { start * scale..end * scale } else { 0..0 }
}
