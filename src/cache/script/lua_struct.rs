//! Packed binary structures as the `struct` library of Redis's scripts has them.

use std::borrow::Cow;

use super::data::Data;
use super::number::{format_g, parse_prefix};

/// Bytes of the longest integer.
const INTEGER_BYTES_MAX: usize = 32;
/// The widest alignment of the machine.
const ALIGNMENT_MAX: usize = 8;

/// Why a format, a value or a data string is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StructError {
    /// Whatever is wrong with the format.
    Plain(String),
    /// Wrong is the argument of this number.
    Argument(usize, String),
    /// This argument is not a number, or not a string.
    NotA(usize, &'static str),
}

type Result<T> = std::result::Result<T, StructError>;

/// Reads a format, option by option.
struct Format<'a> {
    rest: &'a [u8],
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    /// It ends at a NUL, as a string of C.
    fn new(text: &'a [u8]) -> Self {
        let rest = text.split(|byte| *byte == 0).next().unwrap_or_default();
        Self { rest, little: cfg!(target_endian = "little"), align: 1 }
    }

    /// The next option, its size, and the padding before it at `position`.
    fn next(&mut self, position: usize) -> Result<Option<(u8, usize, usize)>> {
        let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_BYTES_MAX {
                    return Err(StructError::Plain(format!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        let padding = if size == 0 || *option == b'c' {
            0
        } else {
            let size = size.min(self.align);
            size.wrapping_sub(position & size.wrapping_sub(1)) & size.wrapping_sub(1)
        };
        Ok(Some((*option, size, padding)))
    }

    fn number(&mut self, default: usize) -> Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at_checked(digits).unwrap_or_default();
        if number.is_empty() {
            return Ok(default);
        }
        self.rest = rest;
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<i32>().ok());
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| StructError::Plain("integral size overflow".to_owned()))
    }

    /// An option that says how the others are to be read.
    fn control(&mut self, option: u8) -> Result<()> {
        match option {
            b' ' => {}
            b'>' => self.little = false,
            b'<' => self.little = true,
            b'!' => {
                let align = self.number(ALIGNMENT_MAX)?;
                if !align.is_power_of_two() {
                    return Err(StructError::Plain(format!(
                        "alignment {align} is not a power of 2"
                    )));
                }
                self.align = align;
            }
            other => {
                let text = format!("invalid format option '{}'", char::from(other));
                return Err(StructError::Argument(1, text));
            }
        }
        Ok(())
    }
}

/// `struct.pack`: `values` are the arguments behind the format. No more than `bytes_max` are written.
pub(super) fn pack(format: &[u8], values: &[Data], bytes_max: usize) -> Result<Vec<u8>> {
    let mut format = Format::new(format);
    let mut out = Vec::new();
    // The format is argument 1.
    let mut argument = 1;
    let mut next = |kind: &'static str| {
        argument += 1;
        let value = values.get(argument - 2);
        (argument, value, StructError::NotA(argument, kind))
    };
    while let Some((option, size, padding)) = format.next(out.len())? {
        if out.len() + padding + size > bytes_max {
            return Err(StructError::Plain("resulting string too large".to_owned()));
        }
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let (_, value, error) = next("number");
                let number = value.and_then(number).ok_or(error)?;
                put_integer(number, size, format.little, &mut out);
            }
            b'x' => out.push(0),
            b'f' => {
                let (_, value, error) = next("number");
                #[expect(clippy::cast_possible_truncation, reason = "that is what is asked for")]
                let number = value.and_then(number).ok_or(error)? as f32;
                put(number.to_bits().to_le_bytes(), format.little, &mut out);
            }
            b'd' => {
                let (_, value, error) = next("number");
                let number = value.and_then(number).ok_or(error)?;
                put(number.to_bits().to_le_bytes(), format.little, &mut out);
            }
            b'c' | b's' => {
                let (at, value, error) = next("string");
                let text = value.and_then(text).ok_or(error)?;
                let size = if size == 0 { text.len() } else { size };
                // Redis names the argument behind it.
                let short = || StructError::Argument(at + 1, "string too short".to_owned());
                out.extend_from_slice(text.get(..size).ok_or_else(short)?);
                if option == b's' {
                    out.push(0);
                }
            }
            other => format.control(other)?,
        }
    }
    Ok(out)
}

/// A number, or a string that is one.
fn number(value: &Data) -> Option<f64> {
    match value {
        Data::Number(number) => Some(*number),
        Data::String(text) => {
            let text = text.trim_ascii();
            parse_prefix(text).filter(|(_, taken)| *taken == text.len()).map(|(number, _)| number)
        }
        _ => None,
    }
}

/// A string, or a number as Lua writes it.
fn text(value: &Data) -> Option<Cow<'_, [u8]>> {
    match value {
        Data::Number(number) => {
            let mut text = Vec::new();
            format_g(*number, 14, &mut text);
            Some(Cow::Owned(text))
        }
        Data::String(text) => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

fn put<const N: usize>(mut bytes: [u8; N], little: bool, out: &mut Vec<u8>) {
    if !little {
        bytes.reverse();
    }
    out.extend_from_slice(&bytes);
}

fn put_integer(number: f64, size: usize, little: bool, out: &mut Vec<u8>) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as C does")]
    let value = if number < 0.0 { (number as i64).cast_unsigned() } else { number as u64 };
    let byte = |at: usize| u32::try_from(at * 8).ok().and_then(|by| value.checked_shr(by));
    let bytes = (0..size).map(|at| (byte(at).unwrap_or(0) & 0xff) as u8);
    if little {
        out.extend(bytes);
    } else {
        out.extend(bytes.rev());
    }
}

/// `struct.unpack` from the position `from`, which counts from 0: the values, of which there may be
/// `values_max`, and the position behind the last one.
pub(super) fn unpack(
    format: &[u8],
    data: &[u8],
    from: usize,
    values_max: usize,
) -> Result<(Vec<Data>, usize)> {
    let mut format = Format::new(format);
    let mut at = from;
    let mut values = Vec::new();
    let short = || StructError::Argument(2, "data string too short".to_owned());
    while let Some((option, mut size, padding)) = format.next(at)? {
        if values.len() > values_max {
            return Err(StructError::Plain("stack overflow (too many results)".to_owned()));
        }
        at += padding;
        let from_here = data.get(at..).ok_or_else(short)?;
        let mut bytes = from_here.get(..size).ok_or_else(short)?;
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = option.is_ascii_lowercase();
                values.push(Data::Number(get_integer(bytes, format.little, signed)));
            }
            b'x' => {}
            b'f' => {
                let bits = get_bits(bytes, format.little);
                values.push(Data::Number(f64::from(f32::from_bits(bits as u32))));
            }
            b'd' => values.push(Data::Number(f64::from_bits(get_bits(bytes, format.little)))),
            b'c' => {
                if size == 0 {
                    let Some(Data::Number(number)) = values.pop() else {
                        let text = "format 'c0' needs a previous size".to_owned();
                        return Err(StructError::Plain(text));
                    };
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let length = number as usize;
                    size = if number < 0.0 { usize::MAX } else { length };
                    bytes = from_here.get(..size).ok_or_else(short)?;
                }
                values.push(Data::String(bytes.to_vec()));
            }
            b's' => {
                let end = memchr::memchr(0, from_here)
                    .ok_or_else(|| StructError::Plain("unfinished string in data".to_owned()))?;
                values.push(Data::String(from_here.get(..end).unwrap_or_default().to_vec()));
                size = end + 1;
            }
            other => format.control(other)?,
        }
        at += size;
    }
    Ok((values, at))
}

/// The lowest 64 bits.
fn get_bits(bytes: &[u8], little: bool) -> u64 {
    let join = |bits: u64, byte: &u8| (bits << 8) | u64::from(*byte);
    if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
}

#[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
fn get_integer(bytes: &[u8], little: bool, signed: bool) -> f64 {
    let bits = get_bits(bytes, little);
    if !signed {
        return bits as f64;
    }
    let unused = 64_usize.saturating_sub(bytes.len() * 8);
    let unused = u32::try_from(unused).unwrap_or_default().min(63);
    ((bits << unused).cast_signed() >> unused) as f64
}

/// `struct.size`.
pub(super) fn size(format: &[u8]) -> Result<usize> {
    let mut format = Format::new(format);
    let mut total = 0_usize;
    while let Some((option, size, padding)) = format.next(total)? {
        match option {
            b's' => {
                let text = "option 's' has no fixed size".to_owned();
                return Err(StructError::Argument(1, text));
            }
            b'c' if size == 0 => {
                let text = "option 'c0' has no fixed size".to_owned();
                return Err(StructError::Argument(1, text));
            }
            other if !other.is_ascii_alphanumeric() => format.control(other)?,
            _ => {}
        }
        total = total.saturating_add(padding).saturating_add(size);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let values = [
            Data::Number(-2.0),
            Data::Number(300.0),
            Data::String(b"abc".to_vec()),
            Data::Number(1.5),
        ];
        for format in ["<i2 H s d", ">!4 b L c3 f", "i16 T s d"] {
            let packed = pack(format.as_bytes(), &values, 1_000).unwrap();
            let (read, end) = unpack(format.as_bytes(), &packed, 0, 10).unwrap();
            assert_eq!(read, values, "{format}");
            assert_eq!(end, packed.len());
        }
    }

    #[test]
    fn sizes_count_the_padding() {
        assert_eq!(size(b"!8 b i d <l"), Ok(24));
        assert!(size(b"s").is_err());
        assert!(size(b"!3").is_err());
        assert!(size(b"i33").is_err());
        assert!(size(b"i99999999999").is_err());
    }

    #[test]
    fn a_length_comes_before_its_string() {
        let read = unpack(b"bc0", b"\x02abc", 0, 10).unwrap();
        assert_eq!(read, (vec![Data::String(b"ab".to_vec())], 3));
        assert!(unpack(b"bc0", b"\xffabc", 0, 10).is_err());
        assert!(unpack(b"c0", b"abc", 0, 10).is_err());
        assert!(unpack(b"i", b"abc", 9, 10).is_err());
    }
}
