//! DEBUG: what tests of applications need of it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::help::{self, tell};
use super::{ANY, Row, is};
use crate::cache::{Flags, Visit};
use crate::resp::client::{Client, Outcome};

pub(super) const ROWS: &[Row] = &[Row::new("debug", 1, ANY, debug).flags(Flags::ADMIN)];

fn debug(client: &mut Client, _: &mut Visit<'_>, args: &[Bytes]) -> Outcome {
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
        [sub, ..] => {
            let sub = String::from_utf8_lossy(sub.get(..128).unwrap_or(sub));
            client.error(format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try DEBUG HELP."
            ));
        }
        [] => {}
    }
    Outcome::Answered
}

/// What is no number, or below zero, is no time, as with C's `strtod`.
fn parse_seconds(text: &[u8]) -> Duration {
    let seconds = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()
}
