//! What the arguments of the bit commands say.

use super::field::{BitfieldKind, BitfieldOp, BitfieldStep, Overflow};
use super::{BitRange, BitUnit, BitsCommand, BitwiseOp};
use crate::cache::command::{Args, Arity, Command, Flags, Keys, Spec, is, parse_integer};
use crate::cache::error::CacheError;

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const READ: Flags = Flags::READONLY;
const FAST_READ: Flags = Flags::READONLY.and(Flags::FAST);

/// No value has more bytes.
const OFFSET_END: i64 = 8 * 512 * 1024 * 1024;

pub(in crate::cache) const SPECS: &[Spec] = &[
    Spec::new("setbit", Arity::Exactly(3), |mut args| {
        let (key, offset) = (args.next()?, offset(&args.next()?)?);
        let bit = match &*args.next()? {
            b"0" => false,
            b"1" => true,
            _ => return Err(CacheError::NotABit),
        };
        Ok(Command::Bits(BitsCommand::Set { key, offset, bit }))
    })
    .flags(WRITE)
    .key(),
    Spec::new("getbit", Arity::Exactly(2), |mut args| {
        let (key, offset) = (args.next()?, offset(&args.next()?)?);
        Ok(Command::Bits(BitsCommand::Get { key, offset }))
    })
    .flags(FAST_READ)
    .key(),
    Spec::new("bitcount", Arity::AtLeast(1), |mut args| {
        let (key, range) = (args.next()?, BitRange { args: args.remaining() });
        Ok(Command::Bits(BitsCommand::Count { key, range }))
    })
    .flags(READ)
    .key(),
    Spec::new("bitpos", Arity::AtLeast(2), |mut args| {
        let key = args.next()?;
        let bit = match args.integer()? {
            0 => false,
            1 => true,
            _ => return Err(CacheError::NeitherBit),
        };
        let range = BitRange { args: args.remaining() };
        Ok(Command::Bits(BitsCommand::Position { key, bit, range }))
    })
    .flags(READ)
    .key(),
    Spec::new("bitop", Arity::AtLeast(3), bitop).flags(WRITE).keys(Keys::Range {
        first: 2,
        last: -1,
        step: 1,
    }),
    Spec::new("bitfield", Arity::AtLeast(1), |args| bitfield(args, true)).flags(WRITE).key(),
    Spec::new("bitfield_ro", Arity::AtLeast(1), |args| bitfield(args, false))
        .flags(FAST_READ)
        .key(),
];

/// A bit's place.
fn offset(text: &[u8]) -> Result<usize, CacheError> {
    place(parse_integer(text))
}

fn place(offset: Option<i64>) -> Result<usize, CacheError> {
    offset
        .filter(|offset| *offset < OFFSET_END)
        .and_then(|offset| usize::try_from(offset).ok())
        .ok_or(CacheError::NotABitOffset)
}

pub(super) fn bound(text: &[u8]) -> Result<i64, CacheError> {
    parse_integer(text).ok_or(CacheError::NotAnInteger)
}

pub(super) fn unit(text: Option<&[u8]>) -> Result<BitUnit, CacheError> {
    match text {
        None => Ok(BitUnit::Byte),
        Some(text) if is(text, "byte") => Ok(BitUnit::Byte),
        Some(text) if is(text, "bit") => Ok(BitUnit::Bit),
        Some(_) => Err(CacheError::Syntax),
    }
}

fn bitop(mut args: Args<'_>) -> Result<Command, CacheError> {
    const OPS: [(&str, BitwiseOp); 4] = [
        ("and", BitwiseOp::And),
        ("or", BitwiseOp::Or),
        ("xor", BitwiseOp::Xor),
        ("not", BitwiseOp::Not),
    ];
    let name = args.next()?;
    let (_, op) = *OPS.iter().find(|(op, _)| is(&name, op)).ok_or(CacheError::Syntax)?;
    let (destination, keys) = (args.next()?, args.remaining());
    if op == BitwiseOp::Not && keys.len() != 1 {
        return Err(CacheError::NotOfMany);
    }
    Ok(Command::Bits(BitsCommand::Combine { op, destination, keys }))
}

fn bitfield(mut args: Args<'_>, may_write: bool) -> Result<Command, CacheError> {
    let key = args.next()?;
    let mut overflow = Overflow::default();
    let mut steps = Vec::new();
    while let Some(name) = args.option() {
        let left = args.len();
        if is(name, "overflow") && left >= 1 {
            const KINDS: [(&str, Overflow); 3] =
                [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
            let kind = args.next()?;
            let found = KINDS.iter().find(|(name, _)| is(&kind, name));
            overflow = found.ok_or(CacheError::NotAnOverflow)?.1;
            continue;
        }
        let op = if is(name, "get") && left >= 2 {
            |_, _| BitfieldOp::Get
        } else if is(name, "set") && left >= 3 {
            BitfieldOp::Set
        } else if is(name, "incrby") && left >= 3 {
            BitfieldOp::IncrBy
        } else {
            return Err(CacheError::Syntax);
        };
        let field = kind(&args.next()?).ok_or(CacheError::NotABitfieldType)?;
        let offset = match &*args.next()? {
            [b'#', nth @ ..] => {
                place(parse_integer(nth).and_then(|nth| nth.checked_mul(i64::from(field.bits))))?
            }
            text => offset(text)?,
        };
        let number = if is(name, "get") { 0 } else { args.integer()? };
        steps.push(BitfieldStep { field, offset, op: op(number, overflow) });
    }
    if !may_write && steps.iter().any(BitfieldStep::writes) {
        return Err(CacheError::ReadOnlyBitfield);
    }
    Ok(Command::Bits(BitsCommand::Field { key, steps }))
}

/// `i` or `u` and the number of bits.
fn kind(text: &[u8]) -> Option<BitfieldKind> {
    let (signed, bits_max, digits) = match text {
        [b'i', digits @ ..] => (true, 64, digits),
        [b'u', digits @ ..] => (false, 63, digits),
        _ => return None,
    };
    let bits = parse_integer(digits).filter(|bits| (1..=bits_max).contains(bits))?;
    Some(BitfieldKind { signed, bits: u32::try_from(bits).ok()? })
}
