//! Numbers as C's library writes and reads them: what scripts see of them.

use std::io::Write;

/// Significant digits that `%g` may be asked for here.
const PRECISION_MAX: usize = 17;

/// Appends `value` as `printf` writes it with `%.{precision}g`, at 1 to 17 digits.
pub(super) fn format_g(value: f64, precision: usize, out: &mut Vec<u8>) {
    let precision = precision.clamp(1, PRECISION_MAX);
    if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() { b"-nan" } else { b"nan" });
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value.is_infinite() {
        out.extend_from_slice(b"inf");
        return;
    }
    // "d.ddddde-308", correctly rounded.
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let significant = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
    let digits = digits.get(..significant).unwrap_or(&digits);
    match usize::try_from(exponent) {
        Ok(whole) if whole < precision => {
            let whole = whole + 1;
            out.extend(digits.iter().take(whole));
            out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(digits.len())));
            if digits.len() > whole {
                out.push(b'.');
                out.extend(digits.iter().skip(whole));
            }
        }
        Err(_) if exponent >= -4 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
            out.extend_from_slice(digits);
        }
        _ => {
            out.extend(digits.iter().take(1));
            if digits.len() > 1 {
                out.push(b'.');
                out.extend(digits.iter().skip(1));
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            // A vector takes all that is written.
            let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
        }
    }
}

/// The number that `text` begins with and how many bytes it takes, as `strtod` reads it: a decimal
/// or hexadecimal one, an infinity, a NaN. No blanks before it.
pub(super) fn parse_prefix(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, signed) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let rest = text.get(signed..)?;
    let word = |word: &[u8]| rest.get(..word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let (value, taken) = if word(b"infinity") {
        (f64::INFINITY, 8)
    } else if word(b"inf") {
        (f64::INFINITY, 3)
    } else if word(b"nan") {
        (f64::NAN, 3)
    } else if word(b"0x") {
        hexadecimal(rest).unwrap_or((0.0, 1))
    } else {
        decimal(rest)?
    };
    Some((if negative { -value } else { value }, signed + taken))
}

fn digits(text: &[u8], at: usize, is: fn(&u8) -> bool) -> usize {
    text.iter().skip(at).take_while(|byte| is(byte)).count()
}

/// The bytes of an exponent such as `e-12` at `at`: 0 when there is none.
fn exponent(text: &[u8], at: usize, letter: u8) -> usize {
    if !text.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&letter)) {
        return 0;
    }
    let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
    match digits(text, at + 1 + sign, u8::is_ascii_digit) {
        0 => 0,
        count => 1 + sign + count,
    }
}

fn decimal(text: &[u8]) -> Option<(f64, usize)> {
    let whole = digits(text, 0, u8::is_ascii_digit);
    let mut end = whole;
    if text.get(end) == Some(&b'.') {
        let fraction = digits(text, end + 1, u8::is_ascii_digit);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if end == 0 {
        return None;
    }
    end += exponent(text, end, b'e');
    let number = std::str::from_utf8(text.get(..end)?).ok()?;
    Some((number.parse().ok()?, end))
}

fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let whole = digits(text, 2, u8::is_ascii_hexdigit);
    let mut end = 2 + whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(text, end + 1, u8::is_ascii_hexdigit);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return None;
    }
    let mut value = 0.0_f64;
    for digit in text.get(2..end)?.iter().filter_map(|byte| char::from(*byte).to_digit(16)) {
        value = value * 16.0 + f64::from(digit);
    }
    let mut power = -4 * i32::try_from(fraction).ok()?;
    let binary = exponent(text, end, b'p');
    if let Some(by) = text.get(end + 1..end + binary).filter(|by| !by.is_empty()) {
        let by: i32 = std::str::from_utf8(by).ok()?.parse().unwrap_or(i32::MAX / 2);
        power = power.saturating_add(by);
    }
    Some((value * 2.0_f64.powi(power), end + binary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: f64, precision: usize) -> String {
        let mut out = Vec::new();
        format_g(value, precision, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_printf_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e15, "1e+15"),
            (1e13, "10000000000000"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e100, "1e+100"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(shown(value, 14), expected);
        }
        assert_eq!(shown(0.1, 17), "0.10000000000000001");
        assert_eq!(shown(1e17, 17), "1e+17");
        assert_eq!(shown(9.96, 2), "10");
    }

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        for (text, value, taken) in [
            ("12]", 12.0, 2),
            ("-1.5e3x", -1500.0, 6),
            ("1e", 1.0, 1),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            ("0x10", 16.0, 4),
            ("0x1.8p1", 3.0, 7),
            ("0xg", 0.0, 1),
            ("-infinity", f64::NEG_INFINITY, 9),
            ("+1", 1.0, 2),
        ] {
            assert_eq!(parse_prefix(text.as_bytes()), Some((value, taken)), "{text}");
        }
        for none in ["", "-", "+", ".", "e5", "x"] {
            assert_eq!(parse_prefix(none.as_bytes()), None, "{none}");
        }
        assert!(parse_prefix(b"nan").is_some_and(|(value, taken)| value.is_nan() && taken == 3));
    }
}
