//! EVAL and SCRIPT: what runs in a turn of its own.

use super::{ANY, Row};
use crate::cache::script::ScriptCommand;
use crate::cache::{Flags, Keys, Visit};
use crate::model::text::Text;
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
            about_scripts("script|exists", 1, ANY),
            about_scripts("script|flush", 0, ANY),
            Row::help("script|help", run),
            about_scripts("script|kill", 0, 0).flags(Flags::ALLOW_BUSY),
            about_scripts("script|load", 1, 1).flags(Flags::STALE),
        ],
    ),
];

const fn eval(name: &'static str) -> Row {
    const FLAGS: Flags = Flags::NO_MANDATORY_KEYS.and(Flags::SKIP_MONITOR).and(Flags::STALE);
    about_scripts(name, 2, ANY).flags(FLAGS).keys(Keys::Counted { count: 2, also: 0 })
}

const fn about_scripts(name: &'static str, least: usize, most: usize) -> Row {
    Row { flags: Flags::NOSCRIPT, ..Row::new(name, least, most, run) }
}

/// Whether a command has to leave the visit.
pub(in crate::resp) fn has_own_turn(name: &str) -> bool {
    name.starts_with("eval") || name.starts_with("script|")
}

fn run(client: &mut Client, _: &mut Visit<'_>, request: &[Text]) -> Outcome {
    match ScriptCommand::parse(request) {
        Ok(Some(command)) => return Outcome::Scripted(Box::new(Scripted::Alone(command))),
        // Only rows of scripts come here.
        Ok(None) => {}
        Err(error) => client.error(error.to_string()),
    }
    Outcome::Answered
}
