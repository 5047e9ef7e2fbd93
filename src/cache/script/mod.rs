//! Scripts: Lua 5.1 as Redis 7.0 gives it to its clients.
//!
//! Owns the Lua state and its thread, the libraries in it, the scripts that are known, and the gate
//! that makes clients wait while one runs. May import: the commands and the keyspace of the cache.
//!
//! What always holds:
//! - A script has the only turn: neither another script nor a client that takes [`Turn`]s sees what
//!   lies between two of its calls. Methods of [`Cache`] don't wait for it: they take the keyspace's
//!   lock between two calls, so a script that runs for long stops nobody in this process.
//! - Whoever waits for a key is served at its end, not between two of its calls.
//! - Its changes are one group of the journal, written at its end. Only when someone in this process
//!   changes something meanwhile, what the script has done by then goes along with that.
//! - Time stands still for it, and no key expires meanwhile.
//! - It can be stopped until it has changed something.
//! - What it can allocate is bounded in Lua, and so is what one of its calls takes out of Lua; what a
//!   decoder makes of a text is bounded by the text.

mod bits;
mod call;
pub mod cjson;
pub mod cmsgpack;
mod codecs;
mod command;
mod convert;
mod data;
mod failure;
mod gate;
mod host;
mod library;
mod lua_struct;
mod number;
mod random;
mod sandbox;
mod source;
mod vm;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use command::{ScriptCommand, ScriptName};
pub use data::Data;
pub use gate::Turn;
pub use host::{Host, HostAnswer};

use super::command::{Access, Command};
use super::engine::{AppendFsync, Cache, Executed};
use super::error::CacheError;
use super::keyspace::Keyspace;
use super::reply::Reply;
use crate::journal::Commit;
use crate::model::clock::UnixMs;
use crate::model::text::Text;
use gate::{Gate, ScriptTurn};
use worker::{Done, Job, Worker};

/// What a cache has for scripts.
#[derive(Default)]
pub(super) struct Scripts {
    gate: Arc<Gate>,
    worker: Worker,
}

/// A command on scripts, and the database that it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRequest {
    pub db: u8,
    pub command: ScriptCommand,
}

/// One step of a transaction with scripts in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Command(Command),
    Script(ScriptCommand),
}

/// The only turn: while it lives, no client and no script works on the keyspace.
pub struct Exclusive {
    cache: Cache,
    turn: ScriptTurn,
}

impl Exclusive {
    /// Runs the steps, each in its database, as one script: what they change is one group of the
    /// journal. There is an answer for each step. They run to their end also when nobody waits for that.
    ///
    /// # Errors
    /// [`CacheError::ScriptThread`].
    pub async fn run(self, steps: Vec<(u8, Step)>) -> Result<Executed, CacheError> {
        self.run_in(steps, None).await
    }

    /// As [`Exclusive::run`], for a client of `host`.
    ///
    /// # Errors
    /// [`CacheError::ScriptThread`].
    pub async fn run_in(
        self,
        steps: Vec<(u8, Step)>,
        host: Option<Arc<dyn Host>>,
    ) -> Result<Executed, CacheError> {
        let Self { cache, turn } = self;
        let (done, outcome) = oneshot::channel();
        let job = Job { cache: cache.clone(), turn, steps, host, done };
        cache.scripts().worker.send(job)?;
        let Ok(Done { replies, commit }) = outcome.await else {
            return Err(CacheError::ScriptThread("its thread came to an end".to_owned()));
        };
        Ok(Executed { replies, commit })
    }
}

impl Cache {
    /// EVAL: runs a script in the first database. It is kept, so its next run need not compile it.
    pub async fn eval(
        &self,
        script: impl Into<Bytes>,
        keys: impl IntoIterator<Item = Bytes>,
        args: impl IntoIterator<Item = Bytes>,
    ) -> Reply {
        let command = ScriptCommand::Eval {
            script: ScriptName::Text(script.into().into()),
            keys: keys.into_iter().map(Text::from).collect(),
            args: args.into_iter().map(Text::from).collect(),
            read_only: false,
        };
        self.script(ScriptRequest { db: 0, command }).await
    }

    /// Runs a command on scripts. It waits for its turn; while a script runs that is over its time, the
    /// answer is [`CacheError::Busy`], except to SCRIPT KILL. A script runs to its end also when nobody
    /// waits for its answer any more. Under `appendfsync always` the answer waits for the commit.
    pub async fn script(&self, request: ScriptRequest) -> Reply {
        if request.command == ScriptCommand::Kill {
            return self.kill_script();
        }
        self.try_script(request).await.unwrap_or_else(Reply::Error)
    }

    async fn try_script(&self, request: ScriptRequest) -> Result<Reply, CacheError> {
        let steps = vec![(request.db, Step::Script(request.command))];
        let Executed { replies, commit } = self.exclusive().await?.run(steps).await?;
        if self.fsync() == AppendFsync::Always && commit.is_some() {
            self.journal().flush().await?;
        }
        Ok(replies.into_iter().next().unwrap_or(Reply::Nil))
    }

    /// SCRIPT KILL: stops the script that runs, unless it has changed something.
    pub fn kill_script(&self) -> Reply {
        self.scripts().gate.kill().map_or_else(Reply::Error, |()| Reply::OK)
    }

    /// Waits for a turn that nobody shares: for a script, or a transaction that has one in it.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while a script runs that is over its time.
    pub async fn exclusive(&self) -> Result<Exclusive, CacheError> {
        let turn = self.scripts().gate.script_turn().await?;
        Ok(Exclusive { cache: self.clone(), turn })
    }

    /// A client's turn, for one pipeline; `None` while a script runs or waits, and [`Cache::turn`] is
    /// to be awaited. Clients share their turns; no script begins while one is held.
    pub fn try_turn(&self) -> Option<Turn<'_>> {
        self.scripts().gate.try_turn()
    }

    /// Waits for a client's turn; clients and scripts get them in the order in which they come.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while a script runs that is over its time, at once.
    pub async fn turn(&self) -> Result<Turn<'_>, CacheError> {
        self.scripts().gate.turn().await
    }

    /// As [`Cache::turn`], however long that takes.
    pub(super) async fn turn_however_late(&self) -> Turn<'_> {
        self.scripts().gate.turn_however_late().await
    }

    /// How long a script may run before clients are told [`CacheError::Busy`]: `lua-time-limit`, 5
    /// seconds at first. Zero: for ever.
    pub fn script_time_limit(&self) -> Duration {
        self.scripts().gate.limit()
    }

    /// Sets [`Cache::script_time_limit`].
    pub fn set_script_time_limit(&self, limit: Duration) {
        self.scripts().gate.set_limit(limit);
    }

    /// # Errors
    /// [`CacheError::OutOfMemory`].
    fn make_room_for_script(&self) -> Result<(), CacheError> {
        self.visit(|keyspace| keyspace.make_room(Access::Grow))
    }

    /// Runs a command of a script, whose changes are kept apart until [`Cache::record_script`].
    /// The journal and memory are asked as for a command of these accesses.
    fn run_for_script(
        &self,
        (now_ms, db): (UnixMs, u8),
        command: &Command,
        (journal, room): (Access, Access),
    ) -> Reply {
        self.visit_at(now_ms, |keyspace| {
            keyspace.select(db);
            keyspace.waiters.hold(true);
            keyspace.switch_parked();
            let admitted = self.admitted(journal).and_then(|()| keyspace.make_room(room));
            let reply = match admitted {
                Ok(()) => self.apply_admitted(command, keyspace),
                Err(error) => Reply::Error(error),
            };
            keyspace.switch_parked();
            reply
        })
    }

    /// The script has ended: its changes become one group, and those that wait are served.
    fn record_script(&self) -> Option<Commit> {
        let end = |keyspace: &mut Keyspace| {
            keyspace.switch_parked();
            keyspace.waiters.hold(false);
        };
        self.pipeline(None, end).1
    }
}

#[cfg(test)]
mod tests;
