//! One visit to the keyspace by a client: as many commands as it has sent, under one lock.

use super::command::{Access, Command, Flags};
use super::engine::Cache;
use super::error::CacheError;
use super::keyspace::{DATABASES, Keyspace};
use super::pubsub::Topic;
use super::reply::Reply;
use crate::journal::{Commit, Urgency};

/// The keyspace, for as long as a client works on it. Others wait meanwhile.
pub struct Visit<'a> {
    pub(super) cache: &'a Cache,
    pub(super) keyspace: &'a mut Keyspace,
    /// Those that wait are served at the end of a transaction, not between its commands.
    in_transaction: bool,
}

impl Visit<'_> {
    /// Runs a command in the database `db`; one that is not there is the first.
    pub fn run(&mut self, db: u8, command: &Command) -> Reply {
        if self.keyspace.selected() != db {
            self.keyspace.select(db);
        }
        let access = command.access();
        // A transaction was admitted as a whole.
        let access = if self.in_transaction { access.once_begun() } else { access };
        let reply = match self.cache.may_run(access, self.keyspace) {
            Ok(()) => self.cache.apply_admitted(command, self.keyspace),
            Err(error) => Reply::Error(error),
        };
        self.serve_waiters();
        reply
    }

    /// LRANGE, as [`Visit::run`] runs it, but that its values are shown where they lie, after their
    /// number.
    ///
    /// # Errors
    /// The key holds no list.
    pub fn list_range(
        &mut self,
        db: u8,
        (key, start, stop): (&[u8], i64, i64),
        show: impl FnOnce(usize, &mut dyn Iterator<Item = &[u8]>),
    ) -> Result<(), CacheError> {
        if self.keyspace.selected() != db {
            self.keyspace.select(db);
        }
        self.cache.may_run(Access::Read, self.keyspace)?;
        let shown = self.keyspace.list_range(key, start, stop).map(|values| match values {
            Some(values) => show(values.len(), &mut values.map(|value| &**value)),
            None => show(0, &mut std::iter::empty()),
        });
        self.cache.tell(self.keyspace);
        shown
    }

    /// Runs commands as one: nobody that waits for a key is served between them.
    pub fn as_one<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.in_transaction = true;
        let result = work(self);
        self.in_transaction = false;
        self.serve_waiters();
        result
    }

    /// Whether a command with these flags may be queued for a transaction.
    ///
    /// # Errors
    /// [`CacheError::OutOfMemory`] whatever the command does, as of Redis; the journal's, if it writes.
    pub fn may_queue(&mut self, flags: Flags) -> Result<(), CacheError> {
        self.cache.admitted(access_of(flags))?;
        self.keyspace.make_room(Access::Grow)
    }

    /// Whether a transaction of commands with these flags may run. None of them is refused for want of
    /// memory then.
    ///
    /// # Errors
    /// [`CacheError::OutOfMemory`] and the journal's.
    pub fn may_run_as_one(&mut self, flags: Flags) -> Result<(), CacheError> {
        self.cache.may_run(access_of(flags), self.keyspace)
    }

    /// Whether commands run as one, so that none of them can wait.
    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    pub(super) fn serve_waiters(&mut self) {
        if self.keyspace.waiters.are_ready() && !self.in_transaction {
            self.keyspace.serve_waiters();
        }
    }

    /// Bytes of memory that the keys take, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.keyspace.bytes()
    }

    /// Keys that were removed because their time was over, and because memory ran out.
    pub fn removals(&self) -> (u64, u64) {
        self.keyspace.removals()
    }

    /// Questions after keys that found one, and that did not: Redis's `keyspace_hits` and `keyspace_misses`.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.keyspace.hits_and_misses()
    }

    /// Hits, misses and removals are counted from 0 again.
    pub fn reset_counts(&mut self) {
        self.keyspace.reset_counts();
    }

    /// The channels, patterns or shard channels that somebody listens to.
    pub fn topic_count(&self, topic: Topic) -> usize {
        self.cache.registry().topic_count(topic)
    }

    /// The databases that have keys: their number, how many, and how many of those have a deadline.
    pub fn databases(&self) -> impl Iterator<Item = (u8, usize, usize)> {
        self.keyspace.key_counts().filter(|(_, keys, _)| *keys > 0)
    }
}

fn access_of(flags: Flags) -> Access {
    if flags.has(Flags::DENYOOM) {
        Access::Grow
    } else if flags.has(Flags::WRITE) {
        Access::Shrink
    } else {
        Access::Read
    }
}

impl Cache {
    /// Databases, numbered from 0.
    pub const DATABASES: u8 = DATABASES as u8;

    /// Takes the lock for the commands that `work` runs. What they change is one group of the journal,
    /// as of [`Cache::execute`]; the commit is `None` when that is nothing.
    pub fn visit_with<T>(
        &self,
        urgency: Option<Urgency>,
        work: impl FnOnce(&mut Visit<'_>) -> T,
    ) -> (T, Option<Commit>) {
        self.pipeline(urgency, |keyspace| {
            work(&mut Visit { cache: self, keyspace, in_transaction: false })
        })
    }
}
