//! Scores, and how arguments become them.

use std::cmp::Ordering;

/// A double that is a number: infinite, perhaps, but never NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score(f64);

impl Eq for Score {}

/// As IEEE 754 has it: -0 is 0.
impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // One that is a number compares with every other.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Score {
    pub(super) const ZERO: Self = Self(0.0);
    pub(super) const ONE: Self = Self(1.0);

    /// `None` when it is NaN.
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self(value))
    }

    pub fn get(self) -> f64 {
        self.0
    }

    pub(super) fn without_negative_zero(self) -> Self {
        Self(self.0 + 0.0)
    }

    /// Reads an argument as Redis's `string2d` does: what C's `strtod` takes whole, without a blank
    /// before it, and neither too large nor too small for a double.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let Number { value, is_out_of_range } = number(text)?;
        if is_out_of_range { None } else { Self::new(value) }
    }

    /// Reads a range's bound as Redis does: blanks may come first, nothing at all is zero, and what is
    /// too large for a double is infinite.
    pub(super) fn parse_bound(text: &[u8]) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::ZERO);
        }
        Self::new(number(text.trim_ascii_start())?.value)
    }
}

struct Number {
    value: f64,
    /// C's `ERANGE`, but for the numbers below the smallest normal one.
    is_out_of_range: bool,
}

/// C's `strtod`, when it takes all of the text.
fn number(text: &[u8]) -> Option<Number> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let number = match digits {
        [b'0', b'x' | b'X', hexadecimal @ ..] => hexadecimal_number(hexadecimal)?,
        // No second sign.
        [b'-' | b'+', ..] => return None,
        _ => {
            let value: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            let mantissa = digits.split(|byte| matches!(byte, b'e' | b'E')).next()?;
            let is_zero = !mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
            let is_word = digits.first().is_some_and(u8::is_ascii_alphabetic);
            let is_out_of_range = (value.is_infinite() && !is_word) || (value == 0.0 && !is_zero);
            Number { value, is_out_of_range }
        }
    };
    Some(if is_negative { Number { value: -number.value, ..number } } else { number })
}

/// What follows `0x`: digits with a point or without, and a power of two behind `p`.
fn hexadecimal_number(text: &[u8]) -> Option<Number> {
    const EXPONENT_MAX: i32 = 1 << 20;
    let mark = text.iter().position(|byte| matches!(byte, b'p' | b'P'));
    let (digits, exponent) = match mark {
        None => (text, 0),
        Some(at) => {
            let (digits, exponent) = text.split_at(at);
            let exponent = std::str::from_utf8(exponent.get(1..)?).ok()?;
            // Digits only, behind a sign: one that is too long for a number is just as far away.
            let is_negative = exponent.starts_with('-');
            let magnitude = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if magnitude.is_empty() || !magnitude.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let magnitude = magnitude.parse().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
            (digits, if is_negative { -magnitude } else { magnitude })
        }
    };
    let (mut value, mut shift, mut seen_point, mut seen_digit) = (0u64, 0i32, false, false);
    let mut is_inexact = false;
    for byte in digits {
        if *byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        seen_digit = true;
        if value >> 58 == 0 {
            value = value << 4 | digit;
            shift -= if seen_point { 4 } else { 0 };
        } else {
            // Beyond a double's 53 bits only whether anything is there can round it.
            is_inexact |= digit != 0;
            shift = shift.saturating_add(if seen_point { 0 } else { 4 });
        }
    }
    if !seen_digit {
        return None;
    }
    let mantissa = (value | u64::from(is_inexact)) as f64;
    let scaled = scale(mantissa, shift.saturating_add(exponent));
    let is_out_of_range = scaled.is_infinite() || (scaled == 0.0 && mantissa != 0.0);
    Some(Number { value: scaled, is_out_of_range })
}

/// Times a power of two, in steps that a double has.
fn scale(value: f64, exponent: i32) -> f64 {
    const STEP: i32 = 1_000;
    let (mut value, mut exponent) = (value, exponent.clamp(-4 * STEP, 4 * STEP));
    while exponent != 0 {
        let step = exponent.clamp(-STEP, STEP);
        value *= 2f64.powi(step);
        exponent -= step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<f64> {
        Score::parse(text.as_bytes()).map(Score::get)
    }

    fn bound(text: &str) -> Option<f64> {
        Score::parse_bound(text.as_bytes()).map(Score::get)
    }

    #[test]
    fn scores_are_what_string2d_takes() {
        for (text, value) in [
            ("0", 0.0),
            ("-7", -7.0),
            ("+5", 5.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("1e+5", 100_000.0),
            ("00012", 12.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0X.8", -0.5),
            ("0x1P-3", 0.125),
            ("0x1.8p1", 3.0),
            ("0x123456789abcdef01", 20_988_295_479_420_645_377.0),
            ("4.9e-324", 4.9e-324),
            ("0e-999", 0.0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
            assert_eq!(bound(text), Some(value), "{text}");
        }
        assert!(parse("-0").is_some_and(f64::is_sign_negative));
        let refused =
            ["", " ", ".", "-", "+-1", "--1", "1e", "1d", "0x", "0x.", "0xp1", "0x1p", "x"];
        for text in refused.into_iter().chain(["nan", "-NaN", "1 ", "1_0", "e5", "infinit"]) {
            assert_eq!(parse(text), None, "{text:?}");
            assert!(text.is_empty() || bound(text).is_none(), "{text:?}");
        }
        for text in [" 1", "1e400", "-1e400", "1e-400", "0x1p9999", "0x1p-9999"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn bounds_take_more() {
        assert_eq!(bound(""), Some(0.0));
        assert_eq!(bound(" 1"), Some(1.0));
        assert_eq!(bound("1e400"), Some(f64::INFINITY));
        assert_eq!(bound("-1e400"), Some(f64::NEG_INFINITY));
        assert_eq!(bound("1e-400"), Some(0.0));
    }
}
