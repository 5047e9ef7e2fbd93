//! BITFIELD: integers of any width up to 64 bits, anywhere in a string.

use bytes::Bytes;

use super::{bit_at, set_bit};
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Changed, Keyspace, check_value};
use crate::cache::notifications::Events;
use crate::cache::reply::Reply;
use crate::cache::string::in_place;

/// One operation of BITFIELD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitfieldStep {
    pub field: BitfieldKind,
    /// In bits.
    pub offset: usize,
    pub op: BitfieldOp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitfieldOp {
    Get,
    Set(i64, Overflow),
    IncrBy(i64, Overflow),
}

/// An integer's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitfieldKind {
    pub signed: bool,
    /// From 1 to 64, of unsigned ones to 63.
    pub bits: u32,
}

/// What happens to a number that does not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    Wrap,
    Saturate,
    /// It is not written, and the answer is nil.
    Fail,
}

impl BitfieldStep {
    pub(super) fn writes(&self) -> bool {
        self.op != BitfieldOp::Get
    }

    /// The byte behind the field.
    fn end(&self) -> usize {
        (self.offset + self.field.bits as usize).div_ceil(8)
    }

    fn read(&self, bytes: &[u8]) -> i64 {
        let end = self.offset + self.field.bits as usize;
        let number = (self.offset..end)
            .fold(0_u64, |number, offset| number << 1 | u64::from(bit_at(bytes, offset)));
        self.field.wrapped(i128::from(number))
    }

    fn write(&self, bytes: &mut [u8], number: i64) {
        for bit in 0..self.field.bits {
            let offset = self.offset + (self.field.bits - 1 - bit) as usize;
            set_bit(bytes, offset, number >> bit & 1 == 1);
        }
    }

    /// The answer, and whether it changed the field.
    fn run(&self, bytes: &mut [u8]) -> (Option<i64>, bool) {
        let old = self.read(bytes);
        let (fitted, answer_old) = match self.op {
            BitfieldOp::Get => return (Some(old), false),
            BitfieldOp::Set(number, overflow) => {
                (self.field.fit(self.field.taken(number), overflow), true)
            }
            BitfieldOp::IncrBy(by, overflow) => {
                (self.field.fit(i128::from(old) + i128::from(by), overflow), false)
            }
        };
        let Some(new) = fitted else { return (None, false) };
        self.write(bytes, new);
        (Some(if answer_old { old } else { new }), new != old)
    }
}

impl BitfieldKind {
    /// A number that is to be set: to an unsigned field a negative one is a large one.
    fn taken(self, number: i64) -> i128 {
        if self.signed { i128::from(number) } else { i128::from(number as u64) }
    }

    /// The lowest bits of a number.
    fn wrapped(self, number: i128) -> i64 {
        let unused = 128 - self.bits;
        let low = if self.signed {
            number << unused >> unused
        } else {
            ((number as u128) << unused >> unused) as i128
        };
        // At most 64 bits with a sign, or 63 without.
        low as i64
    }

    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = if self.signed {
            (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        };
        let fitted = match overflow {
            _ if (least..=most).contains(&number) => number,
            Overflow::Wrap => return Some(self.wrapped(number)),
            Overflow::Saturate => number.clamp(least, most),
            Overflow::Fail => return None,
        };
        i64::try_from(fitted).ok()
    }
}

pub(super) fn apply(
    keyspace: &mut Keyspace,
    key: &[u8],
    steps: &[BitfieldStep],
) -> Result<Reply, CacheError> {
    let answer = |number: Option<i64>| number.map_or(Reply::Nil, Reply::Integer);
    let Some(end) = steps.iter().filter(|step| step.writes()).map(BitfieldStep::end).max() else {
        let value = keyspace.get(key)?.unwrap_or_default();
        return Ok(Reply::Array(
            steps.iter().map(|step| Reply::Integer(step.read(&value))).collect(),
        ));
    };
    let (replies, wrote) = keyspace.edit_part_of_string(key, |value: &mut Bytes, _| {
        check_value(end)?;
        let fields = steps.iter().filter(|step| step.writes());
        let mut changed: Changed = fields.map(|step| step.offset / 8..step.end()).collect();
        let grows = value.len() < end;
        if grows {
            changed.push(value.len()..end);
        }
        let (mut wrote, mut differs) = (false, false);
        let replies = in_place(value, |bytes| {
            if grows {
                bytes.resize(end, 0);
            }
            let run = |step: &BitfieldStep| {
                let (number, is_changed) = step.run(bytes);
                wrote |= step.writes() && number.is_some();
                differs |= is_changed;
                answer(number)
            };
            steps.iter().map(run).collect()
        });
        if !grows && !differs {
            changed.clear();
        }
        Ok(((replies, differs || (grows && wrote)), changed))
    })?;
    if wrote {
        keyspace.notify(Events::STRING, "setbit", key);
    }
    Ok(Reply::Array(replies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_wrap_stop_or_fail() {
        let i8 = BitfieldKind { signed: true, bits: 8 };
        let u8 = BitfieldKind { signed: false, bits: 8 };
        for (kind, number, wrapped, saturated) in
            [(i8, 128, -128, 127), (i8, -129, 127, -128), (u8, 256, 0, 255), (u8, -1, 255, 0)]
        {
            assert_eq!(kind.fit(number, Overflow::Wrap), Some(wrapped));
            assert_eq!(kind.fit(number, Overflow::Saturate), Some(saturated));
            assert_eq!(kind.fit(number, Overflow::Fail), None);
        }
        let i64 = BitfieldKind { signed: true, bits: 64 };
        assert_eq!(i64.fit(i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        let u63 = BitfieldKind { signed: false, bits: 63 };
        assert_eq!(u63.fit(u63.taken(-1), Overflow::Saturate), Some(i64::MAX));
    }

    #[test]
    fn a_field_is_read_as_it_was_written() {
        for bits in 1..=64 {
            for offset in 0..9 {
                let field = BitfieldKind { signed: true, bits };
                let step = BitfieldStep { field, offset, op: BitfieldOp::Get };
                let mut bytes = vec![0xa5; 10];
                let before = bytes.clone();
                let number = field.wrapped(-0x1234_5678_9abc_def1);
                step.write(&mut bytes, number);
                assert_eq!(step.read(&bytes), number);
                let outside = |at: &usize| !(offset..offset + bits as usize).contains(at);
                for at in (0..80).filter(outside) {
                    assert_eq!(bit_at(&bytes, at), bit_at(&before, at));
                }
            }
        }
    }
}
