//! The commands on the server as a whole.

use bytes::Bytes;

use super::command::{Access, Arity, Command, Spec, is};
use super::error::CacheError;
use super::keyspace::Keyspace;
use super::reply::Reply;

/// A command on the server as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCommand {
    Ping { text: Option<Bytes> },
    Echo { text: Bytes },
    DbSize,
    FlushAll,
}

pub(super) const SPECS: &[Spec] = &[
    Spec::new("ping", Arity::Between(0, 1), |mut args| {
        Ok(Command::Server(ServerCommand::Ping { text: args.option().cloned() }))
    }),
    Spec::new("echo", Arity::Exactly(1), |mut args| {
        Ok(Command::Server(ServerCommand::Echo { text: args.next()? }))
    }),
    Spec::new("dbsize", Arity::Exactly(0), |_| Ok(Command::Server(ServerCommand::DbSize))),
    Spec::new("flushall", Arity::AtLeast(0), |mut args| {
        let known = args.option().is_none_or(|mode| is(mode, "async") || is(mode, "sync"));
        if !known || !args.is_empty() {
            return Err(CacheError::Syntax);
        }
        Ok(Command::Server(ServerCommand::FlushAll))
    }),
];

impl ServerCommand {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::FlushAll => Access::Shrink,
            Self::Ping { .. } | Self::Echo { .. } | Self::DbSize => Access::Read,
        }
    }

    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Reply {
        match self {
            Self::Ping { text: None } => Reply::Status("PONG"),
            Self::Ping { text: Some(text) } | Self::Echo { text } => Reply::Bulk(text.clone()),
            Self::DbSize => Reply::count(keyspace.len()),
            Self::FlushAll => {
                keyspace.clear_all();
                Reply::OK
            }
        }
    }
}
