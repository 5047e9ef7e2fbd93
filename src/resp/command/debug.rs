//! DEBUG: what tests of applications need of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::help::{self, tell};
use super::{ANY, Row, is};
use crate::cache::{Flags, Visit, refused_subcommand};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};

pub(super) const ROWS: &[Row] = &[Row::new("debug", 1, ANY, debug).flags(Flags::ADMIN)];

fn debug(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    // As `enable-debug-command local` has it. What has no address came through no network.
    let address = client.handle.peer.address.parse::<SocketAddr>();
    if address.is_ok_and(|address| !address.ip().is_loopback()) {
        client.error(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
        );
        return Outcome::Answered;
    }
    match args.get(1..).unwrap_or_default() {
        [sub] if is(sub, "help") => return tell(client, help::DEBUG),
        [sub, seconds] if is(sub, "sleep") => {
            let until = client.shared.pause.sleep(parse_seconds(seconds));
            client.answers_at = client.answers_at.max(Some(until));
            client.ok();
        }
        [_, ..] => client.error(refused_subcommand("DEBUG", args).to_string()),
        [] => {}
    }
    Outcome::Answered
}

/// The decimal number that the text begins with, as C's `strtod` finds it. What is none, below zero, or
/// beyond what Redis counts in microseconds, is no time.
fn parse_seconds(text: &[u8]) -> Duration {
    const TEXT_BYTES_MAX: usize = 32;
    let text = text.trim_ascii_start();
    let begins = (1..=text.len().min(TEXT_BYTES_MAX)).rev().filter_map(|end| text.get(..end));
    let seconds = begins
        .filter_map(|begin| std::str::from_utf8(begin).ok())
        .find_map(|begin| begin.parse::<f64>().ok());
    let countable = seconds.filter(|seconds| seconds * 1_000_000.0 < i64::MAX as f64);
    Duration::try_from_secs_f64(countable.unwrap_or(0.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::parse_seconds;

    /// Redis 7.0 sleeps as long for each of these.
    #[test]
    fn seconds_are_those_of_redis() {
        for (text, ms) in [
            ("0.2", 200),
            (" +0.3", 300),
            (".2e0", 200),
            ("1abc", 1_000),
            ("0.2.3", 200),
            ("abc", 0),
            ("", 0),
            ("-1", 0),
            ("nan", 0),
            ("inf", 0),
            ("1e20", 0),
            ("9223372036855", 0),
        ] {
            assert_eq!(parse_seconds(text.as_bytes()).as_millis(), ms, "{text}");
        }
        assert_eq!(parse_seconds(b"9223372036854").as_secs(), 9_223_372_036_854);
    }
}
