//! One that waits, as its connection holds it.

use std::time::Duration;

use tokio::sync::oneshot;

use super::command::BlockingCommand;
use super::waiters::WaiterId;
use crate::cache::engine::Cache;
use crate::cache::reply::Reply;
use crate::cache::visit::Visit;

/// A command that waits for its keys. Dropping it gives up.
pub struct Waiting {
    cache: Cache,
    id: WaiterId,
    answer: oneshot::Receiver<Reply>,
    timeout: Option<Duration>,
}

impl Visit<'_> {
    /// Runs a command that may wait, in the database `db`.
    ///
    /// # Errors
    /// The wait, when none of its keys has anything yet. It begins now.
    pub fn run_or_wait(&mut self, db: u8, command: &BlockingCommand) -> Result<Reply, Waiting> {
        self.keyspace.select(db);
        if let Err(error) = self.cache.may_run(command.access(), self.keyspace) {
            return Ok(Reply::Error(error));
        }
        match command.pop.attempt(self.keyspace) {
            Ok(Some(reply)) => {
                self.cache.tell(self.keyspace);
                self.serve_waiters();
                Ok(reply)
            }
            Ok(None) => {
                let (sender, answer) = oneshot::channel();
                Err(Waiting {
                    id: self.keyspace.waiters.join(db, command.pop.clone(), sender),
                    cache: self.cache.clone(),
                    answer,
                    timeout: command.timeout,
                })
            }
            Err(error) => Ok(Reply::Error(error)),
        }
    }
}

impl Waiting {
    /// The answer, when a key is ready or the time is over. Cancel safe, but the time begins anew.
    pub async fn answer(&mut self) -> Reply {
        let answer = match self.timeout {
            None => (&mut self.answer).await.ok(),
            Some(timeout) => match tokio::time::timeout(timeout, &mut self.answer).await {
                Ok(answer) => answer.ok(),
                Err(_) => self.give_up(),
            },
        };
        // Without its sender it was given up already.
        answer.unwrap_or_else(|| self.nothing())
    }

    /// Stops waiting. There is an answer if it was served meanwhile.
    pub fn give_up(&mut self) -> Option<Reply> {
        self.cache.visit(|keyspace| keyspace.waiters.leave(self.id));
        self.answer.try_recv().ok()
    }

    /// The answer of a wait that was in vain, whatever the command.
    pub fn nothing(&self) -> Reply {
        Reply::NilArray
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cache.visit(|keyspace| keyspace.waiters.leave(self.id));
    }
}
