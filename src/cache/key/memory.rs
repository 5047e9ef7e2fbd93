//! MEMORY: what a value takes.

use super::KeyCommand;
use crate::cache::command::{Args, Arity, Command, Flags, Keys, Spec, is};
use crate::cache::error::CacheError;
use crate::cache::server::ServerCommand;

pub(super) const SUBCOMMANDS: &[Spec] = &[
    Spec::new("memory|usage", Arity::AtLeast(1), parse_usage)
        .flags(Flags::READONLY)
        .keys(Keys::Range { first: 2, last: 2, step: 1 }),
    Spec::new("memory|help", Arity::Exactly(0), |_| {
        Ok(Command::Server(ServerCommand::Help { lines: HELP }))
    })
    .flags(Flags::WHENEVER),
];

/// An estimate needs no samples, so their number only has to be one.
fn parse_usage(mut args: Args<'_>) -> Result<Command, CacheError> {
    let key = args.next()?;
    while let Some(option) = args.option() {
        if !is(option, "samples") || args.is_empty() {
            return Err(CacheError::Syntax);
        }
        if args.integer()? < 0 {
            return Err(CacheError::Syntax);
        }
    }
    Ok(Command::Key(KeyCommand::MemoryUsage { key }))
}

const HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
    "HELP",
    "    Prints this help.",
];
