//! SLOWLOG: the requests that took long, the newest first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::model::clock::UnixMs;
use crate::model::text::Text;

/// What is kept of a request: so many arguments, and so many bytes of each.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// A slow request.
pub(super) struct Slow {
    pub id: i64,
    pub at_ms: UnixMs,
    pub took: Duration,
    pub args: Vec<Text>,
    pub client_address: String,
    pub client_name: Bytes,
}

#[derive(Default)]
pub(super) struct SlowLog {
    next_id: i64,
    entries: VecDeque<Slow>,
}

impl SlowLog {
    /// Adds a request; the oldest ones go until `len_max` are left. Its id is given here.
    pub(super) fn add(&mut self, mut slow: Slow, len_max: usize) {
        slow.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(slow);
        self.entries.truncate(len_max);
    }

    pub(super) fn newest(&self, count: usize) -> impl ExactSizeIterator<Item = &Slow> {
        self.entries.iter().take(count)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A request as it is kept: shortened, with copies that hold no large buffer, and without passwords.
pub(super) fn shorten(request: &[Text]) -> Vec<Text> {
    let secret = || Text::from("(redacted)");
    let is_at = |at: Option<usize>, word: &str| {
        let arg = at.and_then(|at| request.get(at));
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    // HELLO tells a user and a password behind AUTH.
    let is_secret = |at: usize| {
        (at > 0 && is_at(Some(0), "auth"))
            || (is_at(Some(0), "hello")
                && (is_at(at.checked_sub(1), "auth") || is_at(at.checked_sub(2), "auth")))
            || (is_at(Some(0), "config") && is_at(at.checked_sub(1), "requirepass"))
    };
    let shown = if request.len() > ARGS_MAX { ARGS_MAX - 1 } else { request.len() };
    let mut args: Vec<Text> = request
        .iter()
        .take(shown)
        .enumerate()
        .map(|(at, arg)| match arg.get(..ARG_BYTES_MAX) {
            _ if is_secret(at) => secret(),
            Some(start) if arg.len() > ARG_BYTES_MAX => {
                let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX);
                [start, more.as_bytes()].concat().into()
            }
            _ => Text::copy_from_slice(arg),
        })
        .collect();
    if request.len() > shown {
        args.push(format!("... ({} more arguments)", request.len() - shown).into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Vec<Text> {
        args.iter().map(|arg| Text::copy_from_slice(arg.as_bytes())).collect()
    }

    #[test]
    fn a_long_request_is_shortened_and_a_password_left_out() {
        let long = "x".repeat(130);
        let kept = shorten(&request(&["set", "k", &long]));
        assert_eq!(kept[2], format!("{}... (2 more bytes)", "x".repeat(128)));
        let many = vec!["a"; 40];
        let kept = shorten(&request(&many));
        assert_eq!((kept.len(), &kept[31][..]), (32, &b"... (9 more arguments)"[..]));
        for (told, kept) in [
            (&["AUTH", "me", "pw"][..], &["AUTH", "(redacted)", "(redacted)"][..]),
            (
                &["hello", "3", "AUTH", "me", "pw", "setname", "n"],
                &["hello", "3", "AUTH", "(redacted)", "(redacted)", "setname", "n"],
            ),
            (
                &["config", "set", "timeout", "1", "REQUIREPASS", "pw"],
                &["config", "set", "timeout", "1", "REQUIREPASS", "(redacted)"],
            ),
        ] {
            assert_eq!(shorten(&request(told)), request(kept));
        }
    }
}
