//! Commands as values, and how arguments become one.

use std::sync::LazyLock;

use ahash::AHashMap;
use bytes::Bytes;

use super::bits::{self, BitsCommand};
use super::blocking::{self, BlockingCommand};
use super::error::CacheError;
use super::hash::{self, HashCommand};
use super::key::{self, KeyCommand};
use super::list::{self, ListCommand};
use super::pubsub::{self, PubSubCommand};
use super::server::{self, ServerCommand};
use super::set::{self, SetCommand};
use super::sorted_set::{self, SortedSetCommand};
use super::string::{self, StringCommand};
use crate::model::text::Text;

/// One command, checked: what its arguments alone can get wrong is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Key(KeyCommand),
    String(StringCommand),
    Bits(BitsCommand),
    List(ListCommand),
    Hash(HashCommand),
    Set(SetCommand),
    SortedSet(SortedSetCommand),
    PubSub(PubSubCommand),
    Server(ServerCommand),
    Blocking(BlockingCommand),
}

/// What a command may do to the keyspace, and so when the journal stands in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Changes or removes; goes on under the disk alarm, so that space can come back.
    Shrink,
    /// May add data; Redis's `denyoom`.
    Grow,
}

impl Access {
    /// Of a part of what was admitted as a whole, or has begun: it is not refused half-way where it
    /// needs not be.
    pub(super) fn once_begun(self) -> Self {
        if self == Self::Grow { Self::Shrink } else { self }
    }
}

impl Command {
    /// Reads the command's name and its arguments.
    ///
    /// # Errors
    /// Redis's errors of an unknown command, a wrong number of arguments, a syntax error or a number
    /// that is none.
    pub fn parse(args: &[Bytes]) -> Result<Self, CacheError> {
        let args: Vec<Text> = args.iter().map(Text::from).collect();
        Self::parse_texts(&args)
    }

    /// As [`Command::parse`].
    ///
    /// # Errors
    /// As of [`Command::parse`].
    pub fn parse_texts(args: &[Text]) -> Result<Self, CacheError> {
        let (name, rest) = match args {
            [] => (&[][..], &[][..]),
            [name, rest @ ..] => (&name[..], rest),
        };
        let spec = Spec::find(name).ok_or_else(|| unknown(name, rest))?;
        let (spec, rest) = spec.resolve(rest)?;
        Self::parse_resolved(spec, args, rest)
    }

    /// As [`Command::parse`], for what [`Spec::resolve`] gave of a request.
    ///
    /// # Errors
    /// A syntax error, or a number that is none.
    pub fn parse_resolved(
        spec: &'static Spec,
        request: &[Text],
        rest: &[Text],
    ) -> Result<Self, CacheError> {
        if spec.arity.is_passed_by(rest.len()) {
            return Err(CacheError::WrongArity { command: spec.name });
        }
        (spec.parse)(Args { command: spec.name, request, rest })
    }

    pub(super) fn access(&self) -> Access {
        match self {
            Self::Key(command) => command.access(),
            Self::String(command) => command.access(),
            Self::Bits(command) => command.access(),
            Self::List(command) => command.access(),
            Self::Hash(command) => command.access(),
            Self::Set(command) => command.access(),
            Self::SortedSet(command) => command.access(),
            Self::PubSub(_) => Access::Read,
            Self::Server(command) => command.access(),
            Self::Blocking(command) => command.access(),
        }
    }
}

/// How many arguments a command takes, its name not counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arity {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

impl Arity {
    fn admits(self, count: usize) -> bool {
        match self {
            Self::Exactly(exactly) => count == exactly,
            Self::AtLeast(least) | Self::Between(least, _) => count >= least,
        }
    }

    /// Redis's table knows no most: such a command is queued, and fails as it runs.
    fn is_passed_by(self, count: usize) -> bool {
        matches!(self, Self::Between(_, most) if count > most)
    }
}

/// Where a command's keys are among its arguments, its name being number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    None,
    /// From the first to the last one, which may be counted from the end (-1), in steps.
    Range {
        first: usize,
        last: isize,
        step: usize,
    },
    /// The argument `count` says how many there are; they begin behind it. Before them, at `also`,
    /// may be one more (0: none), such as the destination of ZUNIONSTORE.
    Counted {
        count: usize,
        also: usize,
    },
}

/// What a command is, in the words of Redis's COMMAND.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Self = Self(0);
    pub const WRITE: Self = Self(1);
    pub const READONLY: Self = Self(1 << 1);
    /// May add data.
    pub const DENYOOM: Self = Self(1 << 2);
    pub const ADMIN: Self = Self(1 << 3);
    pub const PUBSUB: Self = Self(1 << 4);
    pub const NOSCRIPT: Self = Self(1 << 5);
    pub const BLOCKING: Self = Self(1 << 6);
    pub const FAST: Self = Self(1 << 7);
    pub const NO_MULTI: Self = Self(1 << 8);
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 9);
    /// Is answered also while a script runs that is over its time.
    pub const ALLOW_BUSY: Self = Self(1 << 10);

    /// Redis runs it also while it loads its data; here nothing is loaded while anybody asks.
    pub const LOADING: Self = Self(1 << 11);
    /// Redis runs it also on a replica that has lost its master; here there are none.
    pub const STALE: Self = Self(1 << 12);
    pub const NO_AUTH: Self = Self(1 << 13);
    /// Where its keys are takes a look at its arguments.
    pub const MOVABLE_KEYS: Self = Self(1 << 14);
    pub const SKIP_MONITOR: Self = Self(1 << 15);
    pub const SKIP_SLOWLOG: Self = Self(1 << 16);
    pub const WHENEVER: Self = Self::LOADING.and(Self::STALE);

    const NAMES: [(Self, &'static str); 17] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::PUBSUB, "pubsub"),
        (Self::NOSCRIPT, "noscript"),
        (Self::BLOCKING, "blocking"),
        (Self::FAST, "fast"),
        (Self::NO_MULTI, "no_multi"),
        (Self::NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (Self::ALLOW_BUSY, "allow_busy"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::NO_AUTH, "no_auth"),
        (Self::MOVABLE_KEYS, "movablekeys"),
        (Self::SKIP_MONITOR, "skip_monitor"),
        (Self::SKIP_SLOWLOG, "skip_slowlog"),
    ];

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// A command's row in the table: each data type has its own rows.
pub struct Spec {
    /// In lower case; a subcommand's is `object|encoding`.
    pub name: &'static str,
    pub(super) arity: Arity,
    pub flags: Flags,
    pub keys: Keys,
    pub(super) parse: fn(Args<'_>) -> Result<Command, CacheError>,
    /// Rows of their own, by the first argument.
    pub subcommands: &'static [Spec],
}

impl Spec {
    pub(super) const fn new(
        name: &'static str,
        arity: Arity,
        parse: fn(Args<'_>) -> Result<Command, CacheError>,
    ) -> Self {
        Self { name, arity, flags: Flags::NONE, keys: Keys::None, parse, subcommands: &[] }
    }

    /// A row whose first argument names a row of `subcommands`.
    pub(super) const fn container(name: &'static str, subcommands: &'static [Spec]) -> Self {
        const fn parse(args: Args<'_>) -> Result<Command, CacheError> {
            Err(CacheError::WrongArity { command: args.command })
        }
        let arity = Arity::AtLeast(1);
        Self { name, arity, flags: Flags::NONE, keys: Keys::None, parse, subcommands }
    }

    #[must_use]
    pub(super) const fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.and(flags);
        self
    }

    /// Its first argument is its only key.
    #[must_use]
    pub(super) const fn key(self) -> Self {
        self.keys(Keys::Range { first: 1, last: 1, step: 1 })
    }

    #[must_use]
    pub(super) const fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        if matches!(keys, Keys::Counted { .. }) {
            self.flags = self.flags.and(Flags::MOVABLE_KEYS);
        }
        self
    }

    /// The row that these arguments are for, the command's own or its subcommand's, and what follows
    /// the names.
    ///
    /// # Errors
    /// A wrong number of arguments; a subcommand that there is not.
    pub fn resolve<'a>(
        &'static self,
        rest: &'a [Text],
    ) -> Result<(&'static Self, &'a [Text]), CacheError> {
        let (spec, rest) = match rest {
            _ if self.subcommands.is_empty() => (self, rest),
            [] => return Err(CacheError::WrongArity { command: self.name }),
            [name, rest @ ..] => (self.subcommand(name)?, rest),
        };
        if !spec.arity.admits(rest.len()) {
            return Err(CacheError::WrongArity { command: spec.name });
        }
        Ok((spec, rest))
    }

    fn subcommand(&self, name: &[u8]) -> Result<&'static Self, CacheError> {
        let sub = |spec: &'static Self| spec.name.split_once('|').map_or("", |(_, sub)| sub);
        let found = self.subcommands.iter().find(|spec| is(name, sub(spec)));
        found.ok_or_else(|| CacheError::UnknownSubcommand {
            command: self.name,
            name: shown(name, SHOWN_BYTES_MAX),
        })
    }

    /// The arity as Redis gives it: the name counts, and a negative number is the least.
    pub fn redis_arity(&self) -> i64 {
        let counted = |arguments: usize| {
            let names = 1 + self.name.matches('|').count();
            i64::try_from(arguments + names).unwrap_or(i64::MAX)
        };
        match self.arity {
            Arity::Exactly(exactly) => counted(exactly),
            Arity::AtLeast(least) | Arity::Between(least, _) => -counted(least),
        }
    }

    /// Every command.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        TABLES.into_iter().flatten()
    }

    /// The command of this name, in any case.
    pub fn find(name: &[u8]) -> Option<&'static Self> {
        static TABLE: LazyLock<AHashMap<&'static [u8], &'static Spec>> =
            LazyLock::new(|| Spec::all().map(|spec| (spec.name.as_bytes(), spec)).collect());
        const NAME_BYTES_MAX: usize = 32;
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        TABLE.get(&*lower).copied()
    }
}

/// The rows of all data types.
static TABLES: [&[Spec]; 10] = [
    key::SPECS,
    string::SPECS,
    bits::SPECS,
    list::SPECS,
    hash::SPECS,
    set::SPECS,
    sorted_set::SPECS,
    pubsub::SPECS,
    server::SPECS,
    blocking::SPECS,
];

const SHOWN_BYTES_MAX: usize = 128;

/// A stranger's text in an error: on one line, as far as a C string goes, and not too much of it.
fn shown(text: &[u8], bytes_max: usize) -> String {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text.get(..bytes_max).unwrap_or(text)).replace(['\r', '\n'], " ")
}

/// The error of a command that there is not.
///
/// Redis shows about 128 bytes of the name and 128 of the arguments, on one line.
pub fn unknown(name: &[u8], rest: &[Text]) -> CacheError {
    let mut args = String::new();
    for arg in rest {
        if args.len() >= SHOWN_BYTES_MAX {
            break;
        }
        args.push('\'');
        args.push_str(&shown(arg, SHOWN_BYTES_MAX - args.len() + 1));
        args.push_str("' ");
    }
    CacheError::UnknownCommand { name: shown(name, SHOWN_BYTES_MAX), args }
}

/// The error of a subcommand that takes no such arguments; its name is shown as it was asked.
pub fn subcommand(command: &'static str, request: &[Text]) -> CacheError {
    let name = request.get(1).map_or(&[][..], |name| name);
    CacheError::Subcommand { command, name: shown(name, SHOWN_BYTES_MAX) }
}

/// The arguments that are still to be read.
pub(super) struct Args<'a> {
    pub command: &'static str,
    request: &'a [Text],
    rest: &'a [Text],
}

impl<'a> Args<'a> {
    /// The next argument, when there is one.
    pub(super) fn option(&mut self) -> Option<&'a Text> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next argument. The table's arity is checked first, so a missing one is a wrong table row;
    /// it answers as a wrong number of arguments does.
    pub(super) fn next(&mut self) -> Result<Text, CacheError> {
        self.option().cloned().ok_or(CacheError::WrongArity { command: self.command })
    }

    pub(super) fn integer(&mut self) -> Result<i64, CacheError> {
        parse_integer(&self.next()?).ok_or(CacheError::NotAnInteger)
    }

    /// All that are left.
    pub(super) fn remaining(&mut self) -> Vec<Text> {
        std::mem::take(&mut self.rest).to_vec()
    }

    /// What a subcommand answers that got more arguments than it takes.
    pub(super) fn too_many(&self, command: &'static str) -> CacheError {
        subcommand(command, self.request)
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Whether an argument is this option, in any case.
pub(super) fn is(arg: &[u8], option: &str) -> bool {
    arg.eq_ignore_ascii_case(option.as_bytes())
}

/// A decimal integer as Redis's `string2ll` takes it: no plus, no blank, no leading zero, no `-0`.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let args: Vec<Bytes> =
            line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        Command::parse(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_are_those_of_string2ll() {
        assert_eq!(parse_integer(b"0"), Some(0));
        assert_eq!(parse_integer(b"-17"), Some(-17));
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        for bad in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808"] {
            assert_eq!(parse_integer(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(parse("gEt k"), parse("GET k"));
        assert!(parse("get k").is_ok());
    }

    #[test]
    fn unknown_commands_are_told_as_redis_tells_them() {
        assert_eq!(
            parse("FOO a b").unwrap_err(),
            "ERR unknown command 'FOO', with args beginning with: 'a' 'b' "
        );
        assert_eq!(
            parse("a\nb c\r\nd").unwrap_err(),
            "ERR unknown command 'a b', with args beginning with: 'c  d' "
        );
        assert_eq!(
            Command::parse(&[]).unwrap_err().to_string(),
            "ERR unknown command '', with args beginning with: "
        );
        let long = parse(&format!("{} {}", "n".repeat(1_000), "a".repeat(1_000))).unwrap_err();
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn no_two_rows_of_the_table_share_a_name() {
        let mut names: Vec<&str> = Spec::all().map(|spec| spec.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
