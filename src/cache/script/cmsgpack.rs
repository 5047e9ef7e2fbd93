//! MessagePack as the `cmsgpack` of Redis's scripts reads and writes it
//! (<https://github.com/msgpack/msgpack/blob/master/spec-old.md>, with `str 8`).

use super::data::{DECODED_MAX, Data};

/// Tables within tables that are written; a deeper one is written as nil.
pub const NESTING_MAX: usize = 16;
/// Arrays and maps within each other that are read. Redis reads more than twice as many.
const DECODED_NESTING_MAX: usize = 1_000;

/// Why bytes are no MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("Missing bytes in input.")]
    Missing,
    #[error("Bad data format in input.")]
    Format,
    #[error("stack overflow (in function mp_decode_to_lua_array)")]
    Nesting,
    #[error("not enough memory")]
    Memory,
}

/// Appends a value.
pub fn encode(value: &Data, out: &mut Vec<u8>) {
    encode_at(value, 0, out);
}

fn encode_at(value: &Data, level: usize, out: &mut Vec<u8>) {
    match value {
        Data::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Data::Number(number) => encode_number(*number, out),
        Data::String(text) => encode_text(text, out),
        Data::Array(items) if level < NESTING_MAX => {
            head(items.len(), 0x90, 15, [0xdc, 0xdd], out);
            items.iter().for_each(|item| encode_at(item, level + 1, out));
        }
        Data::Table(pairs) if level < NESTING_MAX => encode_table(pairs, level, out),
        _ => out.push(0xc0),
    }
}

fn encode_table(pairs: &[(Data, Data)], level: usize, out: &mut Vec<u8>) {
    let Some(items) = as_array(pairs) else {
        head(pairs.len(), 0x80, 15, [0xde, 0xdf], out);
        for (key, value) in pairs {
            encode_at(key, level + 1, out);
            encode_at(value, level + 1, out);
        }
        return;
    };
    head(items.len(), 0x90, 15, [0xdc, 0xdd], out);
    items.iter().for_each(|item| encode_at(item, level + 1, out));
}

/// The values by their keys, when these are exactly the numbers from 1 on.
fn as_array(pairs: &[(Data, Data)]) -> Option<Vec<&Data>> {
    let mut items: Vec<Option<&Data>> = vec![None; pairs.len()];
    for (key, value) in pairs {
        let Data::Number(number) = key else { return None };
        let index = as_integer(*number).and_then(|index| usize::try_from(index).ok())?;
        *items.get_mut(index.checked_sub(1)?)? = Some(value);
    }
    items.into_iter().collect()
}

/// The number as an integer of 64 bits, when it is one.
fn as_integer(number: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    (number.trunc() == number && (-END..END).contains(&number)).then_some(number as i64)
}

#[expect(clippy::cast_possible_truncation, reason = "each arm's range is its type's")]
fn encode_number(number: f64, out: &mut Vec<u8>) {
    let Some(integer) = as_integer(number) else {
        let single = number as f32;
        if f64::from(single) == number {
            out.push(0xca);
            out.extend_from_slice(&single.to_be_bytes());
        } else {
            out.push(0xcb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        return;
    };
    match integer {
        0..=0x7f => out.push(integer.cast_unsigned() as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, integer.cast_unsigned() as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(integer.cast_unsigned() as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(integer.cast_unsigned() as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&integer.to_be_bytes());
        }
        -32..=-1 => out.push((integer as i8).cast_unsigned()),
        -128..=-33 => out.extend_from_slice(&[0xd0, (integer as i8).cast_unsigned()]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(integer as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(integer as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&integer.to_be_bytes());
        }
    }
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len @ 32..) => out.extend_from_slice(&[0xd9, len]),
        _ => head(text.len(), 0xa0, 31, [0xda, 0xdb], out),
    }
    out.extend_from_slice(text);
}

/// A length: in the first byte, or behind it in 16 or 32 bits.
fn head(len: usize, fixed: u8, fixed_max: u8, long: [u8; 2], out: &mut Vec<u8>) {
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len <= fixed_max => out.push(fixed | len),
        (_, Ok(len)) => {
            out.push(long[0]);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(long[1]);
            // What lies in a script's memory is far below 2^32.
            out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// Reads one value from the front of `input`, which becomes what follows it.
///
/// # Errors
/// When the bytes end too early, are of no known format, are nested too deeply or stand for too many
/// values.
pub fn decode(input: &mut &[u8]) -> Result<Data, DecodeError> {
    decode_at(input, 0, &mut { DECODED_MAX })
}

/// `left`: values that may still be made.
fn decode_at(input: &mut &[u8], level: usize, left: &mut usize) -> Result<Data, DecodeError> {
    *left = left.checked_sub(1).ok_or(DecodeError::Memory)?;
    match u8::from_be_bytes(take(input)?) {
        byte @ 0x80..=0x8f => map(input, usize::from(byte & 0x0f), level, left),
        byte @ 0x90..=0x9f => array(input, usize::from(byte & 0x0f), level, left),
        0xdc => length::<2>(input).and_then(|len| array(input, len, level, left)),
        0xdd => length::<4>(input).and_then(|len| array(input, len, level, left)),
        0xde => length::<2>(input).and_then(|len| map(input, len, level, left)),
        0xdf => length::<4>(input).and_then(|len| map(input, len, level, left)),
        byte => scalar(byte, input),
    }
}

/// What is no array and no map. A function of its own: it takes no stack while those are read.
#[inline(never)]
#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
fn scalar(byte: u8, input: &mut &[u8]) -> Result<Data, DecodeError> {
    Ok(match byte {
        0x00..=0x7f => Data::Number(f64::from(byte)),
        0xe0..=0xff => Data::Number(f64::from(byte.cast_signed())),
        0xa0..=0xbf => text(input, usize::from(byte & 0x1f))?,
        0xc0 => Data::Nil,
        0xc2 => Data::Boolean(false),
        0xc3 => Data::Boolean(true),
        0xca => Data::Number(f64::from(f32::from_be_bytes(take(input)?))),
        0xcb => Data::Number(f64::from_be_bytes(take(input)?)),
        0xcc => Data::Number(f64::from(u8::from_be_bytes(take(input)?))),
        0xcd => Data::Number(f64::from(u16::from_be_bytes(take(input)?))),
        0xce => Data::Number(f64::from(u32::from_be_bytes(take(input)?))),
        0xcf => Data::Number(u64::from_be_bytes(take(input)?) as f64),
        0xd0 => Data::Number(f64::from(i8::from_be_bytes(take(input)?))),
        0xd1 => Data::Number(f64::from(i16::from_be_bytes(take(input)?))),
        0xd2 => Data::Number(f64::from(i32::from_be_bytes(take(input)?))),
        0xd3 => Data::Number(i64::from_be_bytes(take(input)?) as f64),
        0xd9 => length::<1>(input).and_then(|len| text(input, len))?,
        0xda => length::<2>(input).and_then(|len| text(input, len))?,
        0xdb => length::<4>(input).and_then(|len| text(input, len))?,
        _ => return Err(DecodeError::Format),
    })
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (bytes, rest) = input.split_first_chunk::<N>().ok_or(DecodeError::Missing)?;
    *input = rest;
    Ok(*bytes)
}

fn length<const N: usize>(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let bytes: [u8; N] = take(input)?;
    Ok(bytes.iter().fold(0, |len, byte| (len << 8) | usize::from(*byte)))
}

fn text(input: &mut &[u8], len: usize) -> Result<Data, DecodeError> {
    let (text, rest) = input.split_at_checked(len).ok_or(DecodeError::Missing)?;
    *input = rest;
    Ok(Data::String(text.to_vec()))
}

/// Parts that room is made for before they are there.
const RESERVED_MAX: usize = 1_024;

// Each part takes a byte at least, so a length that is not true ends with the input.
fn array(
    input: &mut &[u8],
    len: usize,
    level: usize,
    left: &mut usize,
) -> Result<Data, DecodeError> {
    descend(level)?;
    let mut items = Vec::with_capacity(len.min(input.len()).min(RESERVED_MAX));
    for _ in 0..len {
        items.push(decode_at(input, level + 1, left)?);
    }
    Ok(Data::Array(items))
}

fn map(input: &mut &[u8], len: usize, level: usize, left: &mut usize) -> Result<Data, DecodeError> {
    descend(level)?;
    let mut pairs = Vec::with_capacity(len.min(input.len() / 2).min(RESERVED_MAX));
    for _ in 0..len {
        let key = decode_at(input, level + 1, left)?;
        pairs.push((key, decode_at(input, level + 1, left)?));
    }
    Ok(Data::Table(pairs))
}

fn descend(level: usize) -> Result<(), DecodeError> {
    if level < DECODED_NESTING_MAX { Ok(()) } else { Err(DecodeError::Nesting) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: &Data) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    #[test]
    fn numbers_take_the_shortest_form() {
        for (number, bytes) in [
            (0.0, &[0x00][..]),
            (127.0, &[0x7f]),
            (128.0, &[0xcc, 0x80]),
            (256.0, &[0xcd, 1, 0]),
            (65_536.0, &[0xce, 0, 1, 0, 0]),
            (4_294_967_296.0, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1.0, &[0xff]),
            (-32.0, &[0xe0]),
            (-33.0, &[0xd0, 0xdf]),
            (-129.0, &[0xd1, 0xff, 0x7f]),
            (-32_769.0, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
            (1.5, &[0xca, 0x3f, 0xc0, 0, 0]),
        ] {
            assert_eq!(packed(&Data::Number(number)), bytes, "{number}");
            assert_eq!(decode(&mut &*bytes), Ok(Data::Number(number)));
        }
        assert_eq!(packed(&Data::Number(0.1)).len(), 9);
    }

    #[test]
    fn a_table_is_an_array_only_when_its_keys_are_the_numbers_from_1_on() {
        let pair = |key: f64, text: &str| (Data::Number(key), Data::String(text.into()));
        assert_eq!(packed(&Data::Table(vec![pair(2.0, "b"), pair(1.0, "a")])), b"\x92\xa1a\xa1b");
        assert_eq!(packed(&Data::Table(vec![pair(2.0, "b")])), b"\x81\x02\xa1b");
        assert_eq!(packed(&Data::Table(vec![])), b"\x90");
    }

    #[test]
    fn what_is_cut_or_nested_without_end_is_refused() {
        assert_eq!(decode(&mut &b"\xa5ab"[..]), Err(DecodeError::Missing));
        assert_eq!(decode(&mut &b"\xdd\xff\xff\xff\xff"[..]), Err(DecodeError::Missing));
        assert_eq!(decode(&mut &b"\xc4\x01a"[..]), Err(DecodeError::Format));
        assert_eq!(decode(&mut &[0x91; 10_000][..]), Err(DecodeError::Nesting));
    }
}
