//! Inline commands: a line of words with a shell's quotes, as someone types it.

use crate::model::text::Text;

/// Splits a line into its words. In double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` are bytes, in
/// single quotes only `\'`. `None` when a quote is not closed, or more than a blank follows it.
pub(super) fn split(line: &[u8]) -> Option<Vec<Text>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let plain = rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len());
        let (start, behind) = rest.split_at(plain);
        let is_whole = behind.first().is_none_or(u8::is_ascii_whitespace);
        if is_whole {
            // As most words are: no byte is looked at twice.
            words.push(Text::copy_from_slice(start));
            rest = behind;
        } else {
            let mut word = start.to_vec();
            rest = take_word(behind, &mut word)?;
            words.push(Text::from(word));
        }
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// Whether a byte stands for itself, and ends no word.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, 0 | b'"' | b'\'') && !byte.is_ascii_whitespace()
}

/// The word at the start of `rest`, and what is behind it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // As Redis reads C strings, a zero byte ends the line.
            [] | [0, ..] => return Some(&[]),
            [blank, ..] if blank.is_ascii_whitespace() => return Some(rest),
            [b'"', behind @ ..] => return closed(double_quoted(behind, word)?),
            [b'\'', behind @ ..] => return closed(single_quoted(behind, word)?),
            [byte, behind @ ..] => {
                word.push(*byte);
                rest = behind;
            }
        }
    }
}

/// A closing quote ends its word.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [next, ..] if !next.is_ascii_whitespace() && *next != 0 => None,
        _ => Some(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] | [0, ..] => return None,
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'x', high, low, behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), behind)
            }
            [b'\\', escaped, behind @ ..] if *escaped != 0 => (escape(*escaped), behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] | [0, ..] => return None,
            [b'\'', behind @ ..] => return Some(behind),
            [b'\\', b'\'', behind @ ..] => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

fn escape(letter: u8) -> u8 {
    match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// Of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<Text>> {
        split(line.as_bytes())
    }

    #[test]
    fn words_are_split_at_blanks_and_quotes_hold_them_together() {
        let cases: [(&str, &[&[u8]]); 10] = [
            ("", &[]),
            ("  \t ", &[]),
            ("get  key ", &[b"get", b"key"]),
            ("a\tb\0 c", &[b"a", b"b"]),
            ("set k \"a b\"", &[b"set", b"k", b"a b"]),
            (r#"set k "\x41\xfF\n\r\t\b\a\q\"""#, &[b"set", b"k", b"A\xff\n\r\t\x08\x07q\""]),
            (r"get 'a\'b\n'", &[b"get", br"a'b\n"]),
            (r#"get a"b c"d"#, &[]),
            (r#""" ''"#, &[b"", b""]),
            (r#"x\x4"#, &[br"x\x4"]),
        ];
        for (line, expected) in cases {
            match words(line) {
                Some(words) => assert_eq!(words, expected, "{line}"),
                None => assert_eq!(line, r#"get a"b c"d"#, "only this one is refused"),
            }
        }
    }

    #[test]
    fn quotes_that_do_not_close_are_refused() {
        for line in ["\"", "'", "a 'b", "a \"b", "\"a\"b", "'a'b", "\"\\", "\"a\\\""] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
