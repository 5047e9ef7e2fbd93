//! The `bit` library: operations on integers of 32 bits, as LuaBitOp has them.

use mlua::{Lua, MultiValue, Table};

use super::failure::Arguments;

/// The lowest 32 bits of a number that is rounded to the nearest integer first.
fn to_bits(number: f64) -> u32 {
    // Adding it puts the integer's bits where the fraction's are.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (number + MAGIC).to_bits() as u32
}

fn number(bits: u32) -> f64 {
    f64::from(bits.cast_signed())
}

type Unary = fn(u32) -> u32;
type Binary = fn(u32, u32) -> u32;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let bit = lua.create_table()?;
    let unary: [(&str, Unary); 3] =
        [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", u32::swap_bytes)];
    for (name, apply) in unary {
        let function = move |lua: &Lua, args: MultiValue| {
            Arguments::from(args).number(lua, 1).map(|value| number(apply(to_bits(value))))
        };
        bit.raw_set(name, lua.create_function(function)?)?;
    }
    let folds: [(&str, Binary); 3] =
        [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, fold) in folds {
        let function = move |lua: &Lua, args: MultiValue| -> mlua::Result<f64> {
            let args = Arguments::from(args);
            let mut bits = to_bits(args.number(lua, 1)?);
            for at in 2..=args.len() {
                bits = fold(bits, to_bits(args.number(lua, at)?));
            }
            Ok(number(bits))
        };
        bit.raw_set(name, lua.create_function(function)?)?;
    }
    // By the lowest 5 bits.
    let shifts: [(&str, Binary); 5] = [
        ("lshift", |bits, by| bits << (by & 31)),
        ("rshift", |bits, by| bits >> (by & 31)),
        ("arshift", |bits, by| (bits.cast_signed() >> (by & 31)).cast_unsigned()),
        ("rol", |bits, by| bits.rotate_left(by & 31)),
        ("ror", |bits, by| bits.rotate_right(by & 31)),
    ];
    for (name, shift) in shifts {
        let function = move |lua: &Lua, args: MultiValue| -> mlua::Result<f64> {
            let args = Arguments::from(args);
            let bits = to_bits(args.number(lua, 1)?);
            Ok(number(shift(bits, to_bits(args.number(lua, 2)?))))
        };
        bit.raw_set(name, lua.create_function(function)?)?;
    }
    bit.raw_set("tohex", lua.create_function(to_hex)?)?;
    Ok(bit)
}

/// The lowest so many digits, at most 8; a negative number asks for capitals.
fn to_hex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    const DIGITS_MAX: usize = 8;
    let args = Arguments::from(args);
    let bits = to_bits(args.number(lua, 1)?);
    let asked = if args.is_nil(2) { 8 } else { to_bits(args.number(lua, 2)?).cast_signed() };
    let digits = usize::try_from(asked.unsigned_abs()).unwrap_or(DIGITS_MAX).min(DIGITS_MAX);
    let text = if asked < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
    Ok(text.get(DIGITS_MAX - digits..).unwrap_or_default().to_owned())
}
