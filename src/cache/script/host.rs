//! What scripts have around them beyond the keyspace: their client's listener.

use std::time::Duration;

use crate::cache::reply::Reply;
use crate::model::text::Text;

/// A listener, as the scripts of one of its requests see it.
pub trait Host: Send + Sync {
    /// Answers a command that is about the server, not about keys; `None` when it has none of that name.
    fn answer(&self, request: &[Text]) -> Option<HostAnswer>;
    /// A script's call of a command has run.
    fn called(&self, request: &[Text], took: Duration);
    /// A step of [`super::Exclusive::run_in`] has run, by its place.
    fn ran(&self, step: usize, took: Duration);
}

/// What [`Host::answer`] says.
#[derive(Debug, PartialEq)]
pub enum HostAnswer {
    Reply(Reply),
    /// There is such a command, but not for scripts.
    NotForScripts,
    WrongArity,
    /// There is such a command, but no such subcommand.
    Unknown,
}
