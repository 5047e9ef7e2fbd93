//! Redis's glob patterns, also used for the room patterns of a token.

/// Whether `text` matches `pattern`: `*`, `?`, `[abc]`, `[a-c]`, `[^x]`, and `\` before a literal.
///
/// Follows Redis's `stringmatchlen`, on bytes, in time O(pattern * text) at most: a star never
/// backtracks past an earlier star.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the latest star does not fit: (after the star, text position).
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(next) = match_one(pattern, p, text[t]) {
            p = next;
            t += 1;
            continue;
        }
        match star {
            Some((after_star, from)) => {
                p = after_star;
                t = from + 1;
                star = Some((after_star, from + 1));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The pattern position after the element at `at`, when that element matches `byte`.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// The position after the class that begins at `at` (behind its `[`), when it matches `byte`.
/// An unclosed class ends with the pattern, as Redis has it.
fn match_class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut hit = false;
    loop {
        match pattern.get(at).copied() {
            None => break,
            Some(b']') => {
                at += 1;
                break;
            }
            Some(b'\\') if at + 1 < pattern.len() => {
                hit |= pattern[at + 1] == byte;
                at += 2;
            }
            Some(low) => {
                if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() {
                    let high = pattern[at + 2];
                    hit |= (low.min(high)..=low.max(high)).contains(&byte);
                    at += 3;
                } else {
                    hit |= low == byte;
                    at += 1;
                }
            }
        }
    }
    (hit != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn stars_question_marks_classes_and_escapes() {
        assert!(check("*", ""));
        assert!(check("a*c*e", "abcde"));
        assert!(!check("a*c*e", "abcd"));
        assert!(check("h?llo", "hello"));
        assert!(!check("h?llo", "hllo"));
        assert!(check("h[ae]llo", "hallo"));
        assert!(!check("h[ae]llo", "hillo"));
        assert!(check("h[^e]llo", "hallo"));
        assert!(!check("h[^e]llo", "hello"));
        assert!(check("h[a-c]llo", "hbllo"));
        assert!(check("h[c-a]llo", "hbllo"));
        assert!(check(r"h\*llo", "h*llo"));
        assert!(!check(r"h\*llo", "hello"));
        assert!(check("team-*", "team-"));
        assert!(!check("team-*", "teams"));
        assert!(!check("[", ""));
        assert!(check("a[bc", "ab"));
    }

    #[test]
    fn many_stars_do_not_explode() {
        let text = "a".repeat(5_000);
        let pattern = format!("{}b", "a*".repeat(200));
        assert!(!check(&pattern, &text));
    }
}
