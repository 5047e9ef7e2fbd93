//! The commands that are about a connection or the server, not about keys.

mod about;
mod categories;
mod client;
mod config;
mod debug;
mod docs;
mod greeting;
mod help;
mod info;
mod process;
pub(super) mod pubsub;
pub(super) mod script;
mod slow_log;
pub(super) mod transaction;

use std::sync::LazyLock;

use ahash::AHashMap;

use super::client::{Client, Outcome};
use crate::cache::{CacheError, Flags, Keys, Visit};
use crate::model::text::Text;

/// What runs a command; the request's arguments are as many as the row says.
type Run = fn(&mut Client, &mut Visit<'_>, &[Text]) -> Outcome;

/// A command's row.
pub(super) struct Row {
    /// In lower case; a subcommand's is `client|id`.
    pub name: &'static str,
    /// Arguments at least, and at most, names not counted.
    least: usize,
    most: usize,
    pub flags: Flags,
    pub keys: Keys,
    pub run: Run,
    /// Rows of their own, by the first argument.
    pub subcommands: &'static [Row],
}

impl Row {
    const fn new(name: &'static str, least: usize, most: usize, run: Run) -> Self {
        let flags = Flags::NOSCRIPT.and(Flags::WHENEVER);
        Self { name, least, most, flags, keys: Keys::None, run, subcommands: &[] }
    }

    /// As [`Row::new`], for what Redis's scripts may run too.
    const fn for_scripts(name: &'static str, least: usize, most: usize, run: Run) -> Self {
        Self { flags: Flags::WHENEVER, ..Self::new(name, least, most, run) }
    }

    const fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.and(flags);
        self
    }

    const fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        if matches!(keys, Keys::Counted { .. }) {
            self.flags = self.flags.and(Flags::MOVABLE_KEYS);
        }
        self
    }

    const fn container(name: &'static str, subcommands: &'static [Row]) -> Self {
        const fn answered(_: &mut Client, _: &mut Visit<'_>, _: &[Text]) -> Outcome {
            Outcome::Answered
        }
        Self {
            name,
            least: 1,
            most: ANY,
            flags: Flags::NONE,
            keys: Keys::None,
            run: answered,
            subcommands,
        }
    }

    /// Every row but the subcommands'.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        [
            greeting::ROWS,
            client::ROWS,
            transaction::ROWS,
            pubsub::ROWS,
            script::ROWS,
            config::ROWS,
            info::ROWS,
            about::ROWS,
            slow_log::ROWS,
            debug::ROWS,
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        static TABLE: LazyLock<AHashMap<&'static [u8], &'static Row>> =
            LazyLock::new(|| Row::all().map(|row| (row.name.as_bytes(), row)).collect());
        TABLE.get(&*name.to_ascii_lowercase()).copied()
    }

    /// The row that these arguments are for: the command's own, or its subcommand's.
    pub(super) fn resolve<'a>(
        &'static self,
        rest: &'a [Text],
    ) -> Result<(&'static Self, &'a [Text]), CacheError> {
        let (row, rest) = match rest {
            _ if self.subcommands.is_empty() => (self, rest),
            // It has an answer of its own.
            [] if self.least == 0 => (self, rest),
            [] => return Err(CacheError::WrongArity { command: self.name }),
            [name, rest @ ..] => (self.subcommand(name)?, rest),
        };
        if !(row.least..=row.most).contains(&rest.len()) {
            return Err(CacheError::WrongArity { command: row.name });
        }
        Ok((row, rest))
    }

    fn subcommand(&self, name: &[u8]) -> Result<&'static Self, CacheError> {
        let is_named = |row: &&Self| {
            let (_, own) = row.name.split_once('|').unwrap_or_default();
            name.eq_ignore_ascii_case(own.as_bytes())
        };
        self.subcommands.iter().find(is_named).ok_or_else(|| CacheError::UnknownSubcommand {
            command: self.name,
            name: String::from_utf8_lossy(name).chars().take(128).collect(),
        })
    }

    /// The arity as Redis gives it: names count, and a negative number is the least.
    pub(super) fn redis_arity(&self) -> i64 {
        let names = 1 + self.name.matches('|').count();
        let counted = i64::try_from(self.least + names).unwrap_or(i64::MAX);
        if self.least == self.most { counted } else { -counted }
    }
}

/// Whether an argument is this word, in any case.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

const ANY: usize = usize::MAX;
