//! EVAL and SCRIPT: what runs in a turn of its own.

use bytes::Bytes;

use super::{ANY, Row};
use crate::cache::script::ScriptCommand;
use crate::cache::{Flags, Keys, Visit};
use crate::resp::client::{Client, Outcome};
use crate::resp::scripted::Scripted;

pub(super) const ROWS: &[Row] = &[
    eval("eval"),
    eval("evalsha"),
    eval("eval_ro").flags(Flags::READONLY),
    eval("evalsha_ro").flags(Flags::READONLY),
    Row::container(
        "script",
        &[
            Row::new("script|exists", 1, ANY, run),
            Row::new("script|flush", 0, ANY, run),
            // The only one that has no flags in Redis.
            Row { flags: Flags::NONE, ..Row::new("script|help", 0, 0, run) },
            Row::new("script|kill", 0, 0, run).flags(Flags::ALLOW_BUSY),
            Row::new("script|load", 1, 1, run),
        ],
    ),
];

const fn eval(name: &'static str) -> Row {
    Row::new(name, 2, ANY, run)
        .flags(Flags::NO_MANDATORY_KEYS)
        .keys(Keys::Counted { count: 2, also: 0 })
}

/// Whether a command has to leave the visit.
pub(in crate::resp) fn has_own_turn(name: &str) -> bool {
    name.starts_with("eval") || name.starts_with("script|")
}

fn run(client: &mut Client, _: &mut Visit<'_>, request: &[Bytes]) -> Outcome {
    match ScriptCommand::parse(request) {
        Ok(Some(command)) => return Outcome::Scripted(Box::new(Scripted::Alone(command))),
        // Only rows of scripts come here.
        Ok(None) => {}
        Err(error) => client.error(error.to_string()),
    }
    Outcome::Answered
}
