//! The commands on scripts as values.

use crate::model::text::Text;

use crate::cache::command::{is, parse_integer};
use crate::cache::error::CacheError;

/// A command on scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptCommand {
    /// EVAL, EVALSHA; with `read_only` EVAL_RO, EVALSHA_RO.
    Eval { script: ScriptName, keys: Vec<Text>, args: Vec<Text>, read_only: bool },
    /// SCRIPT LOAD
    Load { script: Text },
    /// SCRIPT EXISTS
    Exists { digests: Vec<Text> },
    /// SCRIPT FLUSH
    Flush,
    /// SCRIPT KILL
    Kill,
    /// SCRIPT HELP
    Help,
}

/// What names a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptName {
    Text(Text),
    /// Its SHA-1, in hexadecimal digits.
    Digest(Text),
}

impl ScriptCommand {
    /// Reads a command's name and its arguments; `None` when it is no command on scripts.
    ///
    /// # Errors
    /// A wrong number of arguments, an unknown subcommand, a number of keys that can't be.
    pub fn parse(args: &[Text]) -> Result<Option<Self>, CacheError> {
        let [name, rest @ ..] = args else { return Ok(None) };
        const EVALS: [(&str, bool, bool); 4] = [
            ("eval", false, false),
            ("evalsha", true, false),
            ("eval_ro", false, true),
            ("evalsha_ro", true, true),
        ];
        for (command, by_digest, read_only) in EVALS {
            if is(name, command) {
                return parse_eval(command, by_digest, read_only, rest).map(Some);
            }
        }
        if is(name, "script") { parse_script(rest).map(Some) } else { Ok(None) }
    }
}

fn parse_eval(
    command: &'static str,
    by_digest: bool,
    read_only: bool,
    rest: &[Text],
) -> Result<ScriptCommand, CacheError> {
    let [script, count, rest @ ..] = rest else {
        return Err(CacheError::WrongArity { command });
    };
    let count = parse_integer(count).ok_or(CacheError::NotAnInteger)?;
    let count = match usize::try_from(count) {
        Ok(count) => count,
        Err(_) if count < 0 => return Err(CacheError::NegativeKeys),
        Err(_) => return Err(CacheError::TooManyNumKeys),
    };
    let (keys, args) = rest.split_at_checked(count).ok_or(CacheError::TooManyNumKeys)?;
    let script = if by_digest {
        ScriptName::Digest(script.clone())
    } else {
        ScriptName::Text(script.clone())
    };
    Ok(ScriptCommand::Eval { script, keys: keys.to_vec(), args: args.to_vec(), read_only })
}

fn parse_script(args: &[Text]) -> Result<ScriptCommand, CacheError> {
    let [sub, rest @ ..] = args else {
        return Err(CacheError::WrongArity { command: "script" });
    };
    let wrong = |command| Err(CacheError::WrongArity { command });
    if is(sub, "load") {
        return match rest {
            [script] => Ok(ScriptCommand::Load { script: script.clone() }),
            _ => wrong("script|load"),
        };
    }
    if is(sub, "exists") {
        return match rest {
            [] => wrong("script|exists"),
            digests => Ok(ScriptCommand::Exists { digests: digests.to_vec() }),
        };
    }
    if is(sub, "flush") {
        return match rest {
            [] => Ok(ScriptCommand::Flush),
            [mode] if is(mode, "sync") || is(mode, "async") => Ok(ScriptCommand::Flush),
            _ => Err(CacheError::ScriptFlushOption),
        };
    }
    if is(sub, "kill") {
        return if rest.is_empty() { Ok(ScriptCommand::Kill) } else { wrong("script|kill") };
    }
    if is(sub, "help") {
        return if rest.is_empty() { Ok(ScriptCommand::Help) } else { wrong("script|help") };
    }
    let name = String::from_utf8_lossy(sub.get(..128).unwrap_or(sub)).replace(['\r', '\n'], " ");
    Err(CacheError::UnknownSubcommand { command: "script", name })
}

/// What SCRIPT HELP says.
pub(super) const HELP: [&str; 15] = [
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "HELP",
    "    Prints this help.",
];
