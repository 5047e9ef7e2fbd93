//! The commands on the server as a whole.

use crate::model::text::Text;

use super::command::{Access, Args, Arity, Command, Flags, Spec, is, parse_integer};
use super::error::CacheError;
use super::keyspace::{DATABASES, Keyspace};
use super::reply::Reply;

/// A command on the server as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCommand {
    Ping {
        text: Option<Text>,
    },
    Echo {
        text: Text,
    },
    DbSize,
    FlushDb,
    FlushAll,
    SwapDb {
        one: u8,
        other: u8,
    },
    /// There are no replicas to wait for.
    Wait,
    /// What a container's subcommands are for.
    Help {
        lines: &'static [&'static str],
    },
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("ping", Arity::Between(0, 1), |mut args| {
        Ok(Command::Server(ServerCommand::Ping { text: args.option().cloned() }))
    })
    .flags(Flags::FAST),
    Spec::new("echo", Arity::Exactly(1), |mut args| {
        Ok(Command::Server(ServerCommand::Echo { text: args.next()? }))
    })
    .flags(Flags::FAST.and(Flags::WHENEVER)),
    Spec::new("dbsize", Arity::Exactly(0), |_| Ok(Command::Server(ServerCommand::DbSize)))
        .flags(Flags::READONLY.and(Flags::FAST)),
    Spec::new("flushdb", Arity::AtLeast(0), |args| flush(ServerCommand::FlushDb, args))
        .flags(Flags::WRITE),
    Spec::new("flushall", Arity::AtLeast(0), |args| flush(ServerCommand::FlushAll, args))
        .flags(Flags::WRITE),
    Spec::new("swapdb", Arity::Exactly(2), |mut args| {
        let (one, other) = (args.next()?, args.next()?);
        let number = |text: &[u8], which| {
            let number = parse_integer(text).and_then(|number| i32::try_from(number).ok());
            number.ok_or(CacheError::InvalidDatabase { which })
        };
        let (one, other) = (number(&one, "first")?, number(&other, "second")?);
        let database = |number: i32| {
            let number = u8::try_from(number).ok().filter(|db| usize::from(*db) < DATABASES);
            number.ok_or(CacheError::NoSuchDatabase)
        };
        let (one, other) = (database(one)?, database(other)?);
        Ok(Command::Server(ServerCommand::SwapDb { one, other }))
    })
    .flags(Flags::WRITE.and(Flags::FAST)),
    Spec::new("wait", Arity::Exactly(2), |mut args| {
        args.integer()?;
        match parse_integer(&args.next()?) {
            None => Err(CacheError::TimeoutNotAnInteger),
            Some(..0) => Err(CacheError::NegativeTimeout),
            Some(0..) => Ok(Command::Server(ServerCommand::Wait)),
        }
    })
    .flags(Flags::NOSCRIPT),
];

fn flush(command: ServerCommand, mut args: Args<'_>) -> Result<Command, CacheError> {
    let is_known = args.option().is_none_or(|mode| is(mode, "async") || is(mode, "sync"));
    if !is_known || !args.is_empty() {
        return Err(CacheError::Syntax);
    }
    Ok(Command::Server(command))
}

impl ServerCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::FlushDb | Self::FlushAll | Self::SwapDb { .. } => Access::Shrink,
            Self::Ping { .. }
            | Self::Echo { .. }
            | Self::DbSize
            | Self::Wait
            | Self::Help { .. } => Access::Read,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Reply {
        match self {
            Self::Ping { text: None } => Reply::Status("PONG"),
            Self::Ping { text: Some(text) } | Self::Echo { text } => Reply::Bulk(text.to_bytes()),
            Self::DbSize => Reply::count(keyspace.len()),
            Self::FlushDb => {
                keyspace.clear();
                Reply::OK
            }
            Self::SwapDb { one, other } => {
                keyspace.swap(*one, *other);
                Reply::OK
            }
            Self::Wait => Reply::Integer(0),
            Self::Help { lines } => {
                Reply::Array(lines.iter().map(|line| Reply::Status(line)).collect())
            }
            Self::FlushAll => {
                keyspace.clear_all();
                Reply::OK
            }
        }
    }
}
