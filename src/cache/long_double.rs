//! The floating-point numbers that Redis counts with in INCRBYFLOAT: 80 bits, 64 of them mantissa.
//!
//! A client can tell them from doubles: 0.1 + 0.2 is 0.3, and 2^53 + 1 is counted.

use std::cmp::Ordering;

/// A finite number or an infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LongDouble {
    negative: bool,
    /// Its top bit is set, but for zero and the smallest numbers.
    mantissa: u64,
    /// Of two, by which the mantissa is multiplied.
    exponent: i32,
}

/// Of the smallest number; zero has it too.
const EXPONENT_MIN: i32 = -16_445;
const EXPONENT_MAX: i32 = 16_320;
const INFINITE: i32 = i32::MAX;
/// Redis reads no longer text.
const TEXT_BYTES_END: usize = 5 * 1_024;
/// Digits behind the point, before zeros at the end are cut off.
const DECIMALS: usize = 17;

impl LongDouble {
    pub(super) const ZERO: Self = Self { negative: false, mantissa: 0, exponent: EXPONENT_MIN };

    /// Reads what C's `strtold` reads whole, decimal or hexadecimal; `None` for anything else, for
    /// what is no number, and for what is out of range.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_END {
            return None;
        }
        let (negative, text) = match text {
            [b'-', text @ ..] => (true, text),
            [b'+', text @ ..] => (false, text),
            text => (false, text),
        };
        let size = match text {
            [b'0', b'x' | b'X', text @ ..] => hexadecimal(text),
            _ if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") => {
                return Some(Self { negative, mantissa: 1, exponent: INFINITE });
            }
            text => decimal(text),
        }?;
        Some(Self { negative, ..size })
    }

    pub(super) fn is_infinite(self) -> bool {
        self.exponent == INFINITE
    }

    /// The sum; `None` when that is no finite number.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        if self.is_infinite() || other.is_infinite() {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let magnitude = |number: &Self| (number.exponent, number.mantissa);
        let (large, small) =
            if magnitude(&self) >= magnitude(&other) { (self, other) } else { (other, self) };
        // 63 more bits below: what falls off beyond them decides a rounding only by being there.
        let high = u128::from(large.mantissa) << 63;
        let whole = u128::from(small.mantissa) << 63;
        let distance = large.exponent.abs_diff(small.exponent);
        let low = whole.checked_shr(distance).unwrap_or(0);
        let has_rest = low.checked_shl(distance) != Some(whole);
        let exponent = large.exponent - 63;
        let sum = match (large.negative == small.negative, has_rest) {
            (true, _) => high + low,
            (false, false) => high - low,
            (false, true) => high - low - 1,
        };
        let rounded = rounded(sum, exponent, has_rest)?;
        Some(Self { negative: large.negative, ..rounded })
    }
}

/// As C's `%.17Lf`, without the zeros at its end.
impl std::fmt::Display for LongDouble {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match u32::try_from(self.exponent) {
            Ok(up) => {
                let mut number = Natural::from(self.mantissa);
                number.shift_left(up);
                number.into_decimal() + &"0".repeat(DECIMALS)
            }
            Err(_) => {
                let scaled = u128::from(self.mantissa) * 10_u128.pow(DECIMALS as u32);
                half_even(scaled, self.exponent.unsigned_abs(), false).to_string()
            }
        };
        let digits = format!("{digits:0>width$}", width = DECIMALS + 1);
        let (whole, decimals) = digits.split_at(digits.len() - DECIMALS);
        let decimals = decimals.trim_end_matches('0');
        let is_zero = whole == "0" && decimals.is_empty();
        let sign = if self.negative && !is_zero { "-" } else { "" };
        let point = if decimals.is_empty() { "" } else { "." };
        write!(formatter, "{sign}{whole}{point}{decimals}")
    }
}

/// `number` / 2^`shift`, rounded to the nearest, to the even one of two. `has_rest`: it is a little
/// more than it says.
fn half_even(number: u128, shift: u32, has_rest: bool) -> u128 {
    if shift == 0 {
        return number;
    }
    let kept = number.checked_shr(shift).unwrap_or(0);
    let dropped = number - kept.checked_shl(shift).unwrap_or(0);
    let Some(half) = 1_u128.checked_shl(shift - 1) else { return kept };
    let up = match dropped.cmp(&half) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => has_rest || kept % 2 == 1,
    };
    kept + u128::from(up)
}

/// The nearest number to `mantissa` * 2^`exponent`; `None` when it is out of range. With a rest the
/// mantissa has at least 66 bits.
fn rounded(mantissa: u128, exponent: i32, has_rest: bool) -> Option<LongDouble> {
    if mantissa == 0 {
        return Some(LongDouble::ZERO);
    }
    let bits = 128 - mantissa.leading_zeros() as i32;
    let shift = (bits - 64).max(EXPONENT_MIN - exponent);
    let mut exponent = exponent + shift;
    let mut mantissa = match u32::try_from(shift) {
        Ok(down) => half_even(mantissa, down, has_rest),
        Err(_) => mantissa << shift.unsigned_abs(),
    };
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    let mantissa = u64::try_from(mantissa).ok()?;
    (mantissa != 0 && exponent <= EXPONENT_MAX).then_some(LongDouble {
        negative: false,
        mantissa,
        exponent,
    })
}

/// The digits before an exponent, those of them behind the point, and the exponent.
fn scientific(text: &[u8], marks: [u8; 2], is_digit: fn(u8) -> bool) -> Option<(Vec<u8>, i64)> {
    let mantissa_end = text.iter().position(|byte| marks.contains(byte)).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(mantissa_end);
    let exponent = match exponent {
        [] => 0,
        [_, exponent @ ..] => {
            let (sign, digits) = match exponent {
                [b'-', digits @ ..] => (-1, digits),
                [b'+', digits @ ..] => (1, digits),
                digits => (1, digits),
            };
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let add = |sum: i64, digit: &u8| (sum * 10 + i64::from(digit - b'0')).min(1_000_000);
            sign * digits.iter().fold(0, add)
        }
    };
    let point = mantissa.iter().position(|&byte| byte == b'.');
    let behind = point.map_or(0, |point| mantissa.len() - point - 1);
    let mut digits = mantissa.to_vec();
    if let Some(point) = point {
        digits.remove(point);
    }
    if digits.is_empty() || !digits.iter().all(|&digit| is_digit(digit)) {
        return None;
    }
    Some((digits, exponent - behind as i64 * if marks[0] == b'p' { 4 } else { 1 }))
}

fn hexadecimal(text: &[u8]) -> Option<LongDouble> {
    let (digits, mut exponent) = scientific(text, *b"pP", |digit| digit.is_ascii_hexdigit())?;
    let (mut mantissa, mut has_rest) = (0_u128, false);
    for digit in digits {
        let value = u128::from(char::from(digit).to_digit(16)?);
        if mantissa >> 120 == 0 {
            mantissa = mantissa << 4 | value;
        } else {
            has_rest |= value != 0;
            exponent += 4;
        }
    }
    rounded(mantissa, i32::try_from(exponent).ok()?, has_rest)
}

fn decimal(text: &[u8]) -> Option<LongDouble> {
    /// No number in range has its first digit farther from the point.
    const PLACES_MAX: i64 = 5_000;
    let (digits, exponent) = scientific(text, *b"eE", |digit| digit.is_ascii_digit())?;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    if digits.is_empty() {
        return Some(LongDouble::ZERO);
    }
    if (digits.len() as i64 + exponent).abs() > PLACES_MAX {
        return None;
    }
    let mut numerator = Natural::from(0);
    for &digit in digits {
        numerator.multiply_add(10, u64::from(digit - b'0'));
    }
    let mut denominator = Natural::from(1);
    let scaled = if exponent >= 0 { &mut numerator } else { &mut denominator };
    for _ in 0..exponent.unsigned_abs() {
        scaled.multiply_add(10, 0);
    }
    // A quotient of 67 or 68 bits: enough to round, few enough for 128.
    const QUOTIENT_BITS: i32 = 67;
    let up = QUOTIENT_BITS - (numerator.bits() - denominator.bits());
    if up >= 0 { &mut numerator } else { &mut denominator }.shift_left(up.unsigned_abs());
    denominator.shift_left(QUOTIENT_BITS as u32);
    let mut quotient = 0;
    for _ in 0..=QUOTIENT_BITS {
        quotient <<= 1;
        if numerator.compare(&denominator).is_ge() {
            numerator.subtract(&denominator);
            quotient |= 1;
        }
        denominator.halve();
    }
    rounded(quotient, -up, numerator.bits() > 0)
}

/// A number without end, its lowest digits first, none above its highest that is not zero.
struct Natural(Vec<u64>);

impl From<u64> for Natural {
    fn from(number: u64) -> Self {
        Self(if number == 0 { Vec::new() } else { vec![number] })
    }
}

impl Natural {
    fn bits(&self) -> i32 {
        self.0.last().map_or(0, |top| self.0.len() as i32 * 64 - top.leading_zeros() as i32)
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn multiply_add(&mut self, factor: u64, summand: u64) {
        let mut carry = u128::from(summand);
        for digit in &mut self.0 {
            let product = u128::from(*digit) * u128::from(factor) + carry;
            *digit = product as u64;
            carry = product >> 64;
        }
        if carry > 0 {
            self.0.push(carry as u64);
        }
    }

    /// The remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0;
        for digit in self.0.iter_mut().rev() {
            let part = rest << 64 | u128::from(*digit);
            *digit = (part / u128::from(divisor)) as u64;
            rest = part % u128::from(divisor);
        }
        self.trim();
        rest as u64
    }

    fn shift_left(&mut self, bits: u32) {
        self.multiply_add(1 << (bits % 64), 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, bits as usize / 64));
        }
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let next = *digit << 63;
            *digit = *digit >> 1 | carry;
            carry = next;
        }
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes away a number that is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (digit, other) in self.0.iter_mut().zip(others) {
            let (less, first) = digit.overflowing_sub(other);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*digit, borrow) = (less, first || second);
        }
        self.trim();
    }

    fn into_decimal(mut self) -> String {
        const BASE: u64 = 10_u64.pow(18);
        let mut groups = Vec::new();
        while !self.0.is_empty() {
            groups.push(self.divide(BASE));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.into_iter().rev() {
            text.push_str(&format!("{group:018}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, other: &str) -> Option<String> {
        let (one, other) =
            (LongDouble::parse(one.as_bytes())?, LongDouble::parse(other.as_bytes()));
        one.plus(other?).map(|sum| sum.to_string())
    }

    /// The sums are those of Redis 7.0 on x86-64.
    #[test]
    fn sums_are_those_of_the_long_double() {
        for (one, other, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("10.6", "-1e20", "-99999999999999999992"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-20", "0"),
            ("1", "-1", "0"),
            ("0", "-0.0", "0"),
            ("0", "0x10", "16"),
            ("1.5", "0x.8p1", "2.5"),
            ("9007199254740993", "0", "9007199254740993"),
            ("123456789012345678901234567890", "0.1", "123456789012345678899921813504"),
            ("+1", ".5", "1.5"),
            ("0", "3.5e-4950", "0"),
        ] {
            assert_eq!(sum(one, other).as_deref(), Some(expected), "{one} + {other}");
        }
        let large = sum("1.7976931348623157e308", "1.7976931348623157e308").unwrap();
        assert!(large.starts_with("35953862697246313999184209354820886809677289388865"), "{large}");
        assert!(large.ends_with("971852753604933726679072768"), "{large}");
        let largest = sum("0", "1e4932").unwrap();
        assert!(largest.starts_with("1000000000000000000006018949387963891323837774254533"));
        assert_eq!(largest.len(), 4_933);
    }

    #[test]
    fn infinities_and_what_is_no_number_are_refused() {
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1.1e4932", "1.1e4932"), None);
        for bad in [
            "", " 1", "1 ", "nan", "abc", ".", "1e", "1e+", "0x", "1.2.3", "--1", "1e5000",
            "1e-5000",
        ] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(LongDouble::parse(&[b'1'; TEXT_BYTES_END]).is_none());
        assert!(LongDouble::parse(b"-Infinity").is_some());
    }

    #[test]
    fn small_integers_and_doubles_go_through_unharmed() {
        for integer in [0_i64, 1, -1, 7, 1 << 53, i64::MAX, i64::MIN] {
            assert_eq!(sum(&integer.to_string(), "0"), Some(integer.to_string()));
        }
        for eighths in -1_000_i32..1_000 {
            let double = f64::from(eighths) / 8.0;
            assert_eq!(sum(&double.to_string(), "0"), Some((double + 0.0).to_string()));
        }
    }
}
