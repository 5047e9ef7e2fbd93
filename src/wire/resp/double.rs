//! Doubles as Redis 7.0 prints them: C's `%.17g`.

use std::io::Write;

/// Significant digits: enough to read the same double back.
const DIGITS: usize = 17;

/// Appends `value` as C's `printf` writes it with `%.17g`; infinities are `inf` and `-inf`.
pub fn format_double(value: f64, out: &mut Vec<u8>) {
    const INTEGERS_BELOW: f64 = 1e17;
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == value.trunc() && value.abs() < INTEGERS_BELOW {
        if value == 0.0 && value.is_sign_negative() {
            out.push(b'-');
        }
        // It is whole and below 10^17, so the cast is exact.
        #[expect(clippy::cast_possible_truncation)]
        let whole = value as i64;
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else {
        format_fraction(value, out);
    }
}

fn format_fraction(value: f64, out: &mut Vec<u8>) {
    // "-d.dddddddddddddddde-308": 17 digits, correctly rounded.
    let mut scientific = [0; 32];
    let mut rest = &mut scientific[..];
    // It fits, and a slice takes what fits.
    let _ = write!(rest, "{:.*e}", DIGITS - 1, value.abs());
    let unused = rest.len();
    let written = scientific.get(..scientific.len() - unused).unwrap_or_default();
    let mark = written.iter().position(|byte| *byte == b'e').unwrap_or(written.len());
    let (mantissa, exponent) = written.split_at(mark);
    let exponent: i32 = exponent
        .get(1..)
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .unwrap_or_default();
    let mut digits: smallvec::SmallVec<[u8; DIGITS]> =
        mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    match usize::try_from(exponent) {
        Ok(exponent) if exponent < DIGITS => {
            // The point comes behind 1 + exponent digits.
            digits.resize(digits.len().max(exponent + 1), b'0');
            let (whole, fraction) = digits.split_at(exponent + 1);
            out.extend_from_slice(whole);
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        }
        Err(_) if exponent >= -4 => {
            out.extend_from_slice(b"0.");
            out.extend((exponent..-1).map(|_| b'0'));
            out.extend_from_slice(&digits);
        }
        _ => {
            let (first, others) = digits.split_at(1);
            out.extend_from_slice(first);
            if !others.is_empty() {
                out.push(b'.');
                out.extend_from_slice(others);
            }
            // A vector takes every write.
            let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        format_double(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_those_of_printf() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-3.5, "-3.5"),
            (0.1, "0.10000000000000001"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (1e17, "1e+17"),
            (99_999_999_999_999_984.0, "99999999999999984"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (1234.5678, "1234.5678"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let read: f64 = text(value).parse().unwrap();
            prop_assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}
