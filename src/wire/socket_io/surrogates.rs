//! Halves of surrogate pairs, as `JSON.stringify` writes those of a cut emoji (ECMA-262,
//! QuoteJSONString): no Rust string can hold one.

use std::borrow::Cow;

const ESCAPE_BYTES: usize = 6;
const REPLACEMENT: &str = "\\ufffd";

/// The JSON text with each escape of a lone surrogate replaced by that of U+FFFD, which is as long.
/// What is no JSON stays none.
pub fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == b'\\')) {
        at += found;
        at += match (unit(bytes, at), unit(bytes, at + ESCAPE_BYTES)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 2 * ESCAPE_BYTES,
            (Some(0xD800..=0xDFFF), _) => {
                out.push_str(json.get(copied..at).unwrap_or_default());
                out.push_str(REPLACEMENT);
                copied = at + ESCAPE_BYTES;
                ESCAPE_BYTES
            }
            (Some(_), _) => ESCAPE_BYTES,
            (None, _) => 2,
        };
    }
    match copied {
        0 => Cow::Borrowed(json),
        _ => {
            out.push_str(json.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

/// The code unit of the `\u` escape that begins at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at.checked_add(ESCAPE_BYTES)?)?.strip_prefix(b"\\u")?;
    escape.iter().try_fold(0, |unit: u16, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_surrogate_is_replaced_and_nothing_else() {
        let cases = [
            (r#"["\ud83d"]"#, "\u{fffd}"),
            (r#"["\uDE00!"]"#, "\u{fffd}!"),
            (r#"["\ud83d\ude00"]"#, "\u{1f600}"),
            (r#"["\uD83D\ud83d\uDe00"]"#, "\u{fffd}\u{1f600}"),
            (r#"["\ud83d\u0041\n\ude00"]"#, "\u{fffd}A\n\u{fffd}"),
            (r#"["é\\ud83d\\\ud83d"]"#, "é\\ud83d\\\u{fffd}"),
            (r#"["\u00e9\"\ud83d\""]"#, "é\"\u{fffd}\""),
        ];
        for (json, text) in cases {
            let mended = without_lone_surrogates(json);
            assert_eq!(mended.len(), json.len());
            let [read]: [String; 1] = serde_json::from_str(&mended).unwrap();
            assert_eq!(read, text, "{json}");
        }
    }

    #[test]
    fn what_has_none_is_left_as_it_is() {
        for json in
            ["", "[]", r#"["\ud83d\ude00\\ud83d"]"#, r"\", r"\u", r"\ud83", r"\ug83d", "é\\u"]
        {
            assert!(matches!(without_lone_surrogates(json), Cow::Borrowed(same) if same == json));
        }
    }
}
