//! The cache as others hold it: one keyspace behind one lock, its journal, its subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::command::{Access, Command};
use super::error::CacheError;
use super::get_or_set::Flights;
use super::keyspace::{Keyspace, Lookups, Recovery};
use super::pubsub::{Registry, Subscriber, SubscriberLimits};
use super::reply::Reply;
use super::script::Scripts;
use super::settings::Settings;
use crate::journal::{Commit, Journal, JournalError, Urgency};
use crate::model::clock::{SharedClock, UnixMs};

/// When a change has to be on disk: Redis's `appendfsync`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendFsync {
    /// At once; who needs it waits for the commit.
    Always,
    /// Within a second.
    #[default]
    EverySec,
    /// Whenever something else commits, at the latest after the 30 seconds that an operating system
    /// would take its time for.
    No,
}

impl AppendFsync {
    /// As CONFIG names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySec => "everysec",
            Self::No => "no",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Always, Self::EverySec, Self::No].into_iter().find(|fsync| fsync.name() == name)
    }

    fn urgency(self) -> Urgency {
        match self {
            Self::Always => Urgency::Now,
            Self::EverySec => Urgency::Within(Duration::from_secs(1)),
            Self::No => Urgency::Within(Duration::from_secs(30)),
        }
    }
}

/// The answers of a pipeline.
pub struct Executed {
    /// One for each command, in order.
    pub replies: Vec<Reply>,
    /// `None` when nothing was changed.
    pub commit: Option<Commit>,
}

/// The embedded cache; clones share it.
#[derive(Clone)]
pub struct Cache {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    keyspace: Mutex<Keyspace>,
    registry: Arc<Registry>,
    journal: Journal,
    clock: SharedClock,
    pub(super) settings: Mutex<Settings>,
    /// The keyspace has not yet heard of it.
    pub(super) settings_changed: AtomicBool,
    pub(super) flights: Flights,
    /// Locks that were taken since the start.
    pub(super) locks: AtomicU64,
    /// A deadline came up that is earlier than the one that the expiry driver sleeps until.
    pub(super) earlier_deadline: Notify,
    scripts: Scripts,
}

impl Cache {
    /// A cache with the keys that `recovery` took from the journal. Keys that have expired
    /// meanwhile are gone, from the journal too.
    pub fn new(
        journal: Journal,
        clock: SharedClock,
        fsync: AppendFsync,
        recovery: Recovery,
    ) -> Self {
        let lookups = Lookups::new(
            metrics::counter!("redis_cache_hits_total", "status" => "hit"),
            metrics::counter!("redis_cache_hits_total", "status" => "miss"),
        );
        let settings = Settings { appendfsync: fsync, ..Settings::default() };
        let mut keyspace = Keyspace::new(lookups, journal.keeps());
        keyspace.configure(&settings);
        keyspace.begin(clock.now_ms());
        keyspace.restore(recovery);
        // Nobody waits for what was expired or left over: the same is found at the next start.
        let _ = keyspace.record(&journal, fsync.urgency());
        let shared = Shared {
            keyspace: Mutex::new(keyspace),
            registry: Arc::default(),
            journal,
            clock,
            settings: Mutex::new(settings),
            settings_changed: AtomicBool::new(false),
            flights: Flights::default(),
            locks: AtomicU64::new(0),
            earlier_deadline: Notify::new(),
            scripts: Scripts::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs the commands under one lock; what they change is one group of the journal, so it
    /// survives a crash as a whole or not at all. A command that fails answers with its error and
    /// the next one runs. `urgency` overrides what `appendfsync` says.
    ///
    /// While the journal takes no writes, commands that write answer `MISCONF` and change nothing;
    /// under the disk alarm, those that can't add data still run.
    pub fn execute(&self, commands: &[Command], urgency: Option<Urgency>) -> Executed {
        self.execute_in(0, commands, urgency)
    }

    /// As [`Cache::execute`], in the database `db`; one that is not there is the first.
    pub fn execute_in(&self, db: u8, commands: &[Command], urgency: Option<Urgency>) -> Executed {
        let (replies, commit) = self.pipeline(urgency, |keyspace| {
            keyspace.select(db);
            let run = |command| {
                let reply = self.apply(command, keyspace);
                keyspace.serve_waiters();
                reply
            };
            commands.iter().map(run).collect()
        });
        Executed { replies, commit }
    }

    pub(super) fn apply(&self, command: &Command, keyspace: &mut Keyspace) -> Reply {
        match self.may_run(command.access(), keyspace) {
            Ok(()) => self.apply_admitted(command, keyspace),
            Err(error) => Reply::Error(error),
        }
    }

    /// Runs a command of which it is known that it may run.
    pub(super) fn apply_admitted(&self, command: &Command, keyspace: &mut Keyspace) -> Reply {
        let reply = match command {
            Command::Key(command) => command.apply(keyspace),
            Command::String(command) => command.apply(keyspace),
            Command::Bits(command) => command.apply(keyspace),
            Command::List(command) => command.apply(keyspace),
            Command::Hash(command) => command.apply(keyspace),
            Command::Set(command) => command.apply(keyspace),
            Command::SortedSet(command) => command.apply(keyspace),
            Command::Server(command) => Ok(command.apply(keyspace)),
            Command::Blocking(command) => command.apply(keyspace),
            Command::PubSub(command) => Ok(command.apply(&self.shared.registry)),
        };
        self.tell(keyspace);
        reply.unwrap_or_else(Reply::Error)
    }

    /// Whether a command may run now, for which room is made.
    pub(super) fn may_run(
        &self,
        access: Access,
        keyspace: &mut Keyspace,
    ) -> Result<(), CacheError> {
        self.follow_settings(keyspace);
        self.admitted(access)?;
        keyspace.make_room(access)
    }

    /// Whether the journal takes what a command may write.
    pub(super) fn admitted(&self, access: Access) -> Result<(), CacheError> {
        match access {
            Access::Read => Ok(()),
            Access::Grow => Ok(self.shared.journal.writable()?),
            Access::Shrink => match self.shared.journal.writable() {
                Ok(()) | Err(JournalError::DiskAlarm { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Waits until the journal takes about `bytes` more: while too much of it is not yet committed.
    /// Whoever writes for strangers waits here first; the methods that write never do.
    ///
    /// # Errors
    /// [`CacheError::Journal`] while the disk alarm is on, and when the journal takes no writes at all.
    pub async fn admit(&self, bytes: usize) -> Result<(), CacheError> {
        self.admitted(Access::Grow)?;
        Ok(self.shared.journal.admit(bytes).await?)
    }

    /// One visit to the keyspace: work, then record. The journal takes the group before the lock
    /// goes, so its order is the order of the changes.
    pub(super) fn pipeline<T>(
        &self,
        urgency: Option<Urgency>,
        work: impl FnOnce(&mut Keyspace) -> T,
    ) -> (T, Option<Commit>) {
        self.visit(|keyspace| {
            let result = work(keyspace);
            keyspace.serve_waiters();
            let urgency = urgency.unwrap_or_else(|| self.fsync().urgency());
            (result, keyspace.record(&self.shared.journal, urgency))
        })
    }

    /// Takes the lock and looks at the clock. Whatever `work` changes it records itself.
    pub(super) fn visit<T>(&self, work: impl FnOnce(&mut Keyspace) -> T) -> T {
        self.visit_at(self.now_ms(), work)
    }

    /// As [`Cache::visit`], at a time of its own.
    pub(super) fn visit_at<T>(&self, now_ms: UnixMs, work: impl FnOnce(&mut Keyspace) -> T) -> T {
        let shared = &*self.shared;
        let mut keyspace = shared.keyspace.lock();
        keyspace.begin(now_ms);
        self.follow_settings(&mut keyspace);
        let result = work(&mut keyspace);
        // What a transaction across engines made ready, or evicted before it was refused.
        if keyspace.waiters.are_ready() {
            keyspace.serve_waiters();
        }
        if keyspace.has_changes() {
            let _ = keyspace.record(&shared.journal, self.fsync().urgency());
        }
        self.tell(&keyspace);
        let driver_must_wake = keyspace.take_driver_must_wake();
        drop(keyspace);
        if driver_must_wake {
            shared.earlier_deadline.notify_one();
        }
        result
    }

    /// A subscriber that listens to nothing yet.
    pub fn subscriber(&self, limits: SubscriberLimits) -> Subscriber {
        self.shared.registry.subscriber(limits)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// When changes have to be on disk.
    pub fn fsync(&self) -> AppendFsync {
        self.settings().appendfsync
    }

    pub(super) fn now_ms(&self) -> UnixMs {
        self.shared.clock.now_ms()
    }

    pub(super) fn scripts(&self) -> &Scripts {
        &self.shared.scripts
    }

    pub(super) async fn deadline_came_up(&self) {
        self.shared.earlier_deadline.notified().await;
    }

    /// The journal that it records in.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Bytes of memory that the keys take, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.shared.keyspace.lock().bytes()
    }

    /// Keys that were removed because their time was over, and because memory ran out.
    pub fn removals(&self) -> (u64, u64) {
        self.shared.keyspace.lock().removals()
    }

    /// Keys of all databases.
    pub fn key_count(&self) -> usize {
        self.shared.keyspace.lock().len_of_all()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.registry.close();
    }
}
