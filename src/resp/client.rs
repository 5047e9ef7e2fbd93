//! One client: what it has said of itself, and how each of its requests is answered.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::clients::{Handle, Info, Peer, Unblocked};
use super::command::Row;
use super::command::pubsub::WHILE_LISTENING;
use super::command::script::has_own_turn;
use super::command::transaction::Transaction;
use super::reply;
use super::scripted::Scripted;
use super::shared::Shared;
use crate::cache::{
    CacheError, Command, Flags, ListCommand, Reply, Spec, Subscriber, Visit, Waiting, Watch,
    unknown_command,
};
use crate::model::text::Text;
use crate::wire::resp::{Limits, Version, Writer};

/// What a request leaves to be done.
pub(super) enum Outcome {
    Answered,
    /// The answer comes when the wait is over; until then nothing more is run.
    Waits(Box<Waiting>),
    /// The answer comes from a turn of its own; until then nothing more is run.
    Scripted(Box<Scripted>),
    /// CLIENT PAUSE or DEBUG SLEEP holds it: to be run later.
    Held {
        writes: bool,
    },
    /// Close when the answer is written.
    Close,
}

/// Whether replies are sent: CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// SKIP was said: the next one is not sent, nor this one.
    Skip,
    SkipNext,
}

pub(super) struct Client {
    pub shared: Arc<Shared>,
    pub handle: Arc<Handle>,
    pub info: Info,
    pub replies: Replies,
    /// Between MULTI and EXEC.
    pub transaction: Option<Transaction>,
    pub watch: Watch,
    pub subscriber: Option<Subscriber>,
    /// More is unread than the soft limit says, since then.
    pub behind_since: Option<Instant>,
    /// Up to here the output is sent whatever CLIENT REPLY says.
    pub pushed_bytes: usize,
    /// The answer to the last request is not sent.
    pub is_mute: bool,
    /// Until then nothing is written.
    pub answers_at: Option<tokio::time::Instant>,
    /// A script runs that is over its time: most requests are told so.
    pub is_busy: bool,
    /// Microseconds from which on a command is slow; `None`: none is.
    pub slow_us: Option<u64>,
    /// What one request may take.
    pub request_bytes_max: usize,
    /// The last request was a command that ran here, so that its time is the command's.
    pub is_timed: bool,
    /// What is to be written.
    pub out: Vec<u8>,
}

impl Client {
    /// A client that has just come, and what resolves when it has to go.
    pub(super) fn new(shared: Arc<Shared>, peer: Peer) -> (Self, oneshot::Receiver<()>) {
        let info = Self::first_info(&shared);
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        let (handle, killed) = shared.clients.join(peer, info.clone());
        (Self::with(shared, handle, info), killed)
    }

    /// What a script has for a client while it asks about the server.
    pub(super) fn of_script(shared: Arc<Shared>) -> Self {
        let info = Self::first_info(&shared);
        Self::with(shared, Arc::new(Handle::of_script(info.clone())), info)
    }

    fn first_info(shared: &Shared) -> Info {
        Info {
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            db: 0,
            version: Version::Resp2,
            authenticated: shared.config.lock().password.is_none(),
            last_command: "NULL",
            last_at: Instant::now(),
            channels: 0,
            patterns: 0,
            shard_channels: 0,
            queued: None,
            blocked: false,
            no_evict: false,
            closing: false,
            query_bytes: 0,
            queued_bytes: 0,
            output_bytes: 0,
        }
    }

    fn with(shared: Arc<Shared>, handle: Arc<Handle>, info: Info) -> Self {
        let watch = Watch::new(shared.cache.clone());
        let request_bytes_max = shared.config.lock().request_bytes_max;
        Self {
            shared,
            handle,
            info,
            replies: Replies::On,
            transaction: None,
            watch,
            subscriber: None,
            behind_since: None,
            pushed_bytes: 0,
            is_mute: false,
            answers_at: None,
            is_busy: false,
            request_bytes_max,
            slow_us: None,
            is_timed: false,
            out: Vec::new(),
        }
    }

    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer { out: &mut self.out, version: self.info.version }
    }

    /// What it may send.
    pub(super) fn limits(&self) -> Limits {
        let limits =
            if self.info.authenticated { Limits::DEFAULT } else { Limits::UNAUTHENTICATED };
        Limits { request_bytes_max: self.request_bytes_max, ..limits }
    }

    /// Shows the others what it is now.
    pub(super) fn publish_info(&mut self) {
        self.info.queued = self.transaction.as_ref().map(Transaction::len);
        self.info.queued_bytes = self.transaction.as_ref().map_or(0, Transaction::bytes);
        *self.handle.info.lock() = self.info.clone();
    }

    /// Notes a command that ran, if it took long.
    pub(super) fn log_slow(&self, request: &[Text], took: Duration) {
        let client = (&*self.handle.peer.address, &self.info.name);
        self.shared.log_slow(self.slow_us, request, took, client);
    }

    pub(super) fn error(&mut self, text: impl AsRef<[u8]>) {
        self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.writer().error(text);
    }

    pub(super) fn ok(&mut self) {
        self.writer().status("OK");
    }

    pub(super) fn reply(&mut self, answer: &Reply) {
        self.count_error(answer);
        reply::write(&mut self.writer(), answer);
    }

    pub(super) fn count_error(&self, answer: &Reply) {
        if matches!(answer, Reply::Error(_) | Reply::ErrorText(_)) {
            self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing is run until what it waits for comes, or another client says so.
    pub(super) fn begin_wait(&mut self) -> oneshot::Receiver<Unblocked> {
        self.set_blocked(true);
        self.handle.begin_wait()
    }

    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.info.blocked = blocked;
        self.publish_info();
    }

    pub(super) fn end_wait(&mut self, answer: &Reply) {
        self.handle.end_wait();
        self.set_blocked(false);
        self.take_messages();
        if !self.is_mute {
            self.reply(answer);
        }
    }

    /// Answers one request.
    pub(super) fn answer(&mut self, request: &[Text], visit: &mut Visit<'_>) -> Outcome {
        self.take_messages();
        let answer = self.begin_answer();
        let outcome = self.run(request, visit);
        // What has a turn of its own is answered then, as is what is held.
        if !matches!(outcome, Outcome::Scripted(_) | Outcome::Held { .. }) {
            self.end_answer(answer);
        }
        outcome
    }

    pub(super) fn begin_answer(&self) -> Answer {
        Answer { written: self.out.len(), replies: self.replies }
    }

    /// Takes what was written back if it is not to be sent.
    pub(super) fn end_answer(&mut self, Answer { written, replies }: Answer) {
        self.is_mute = false;
        match (replies, self.replies) {
            (Replies::On, Replies::On) => return,
            (_, Replies::Skip) => self.replies = Replies::SkipNext,
            (Replies::SkipNext, Replies::SkipNext) => self.replies = Replies::On,
            // ON itself is answered.
            (_, Replies::On) => return,
            _ => {}
        }
        self.is_mute = true;
        self.out.truncate(written.max(self.pushed_bytes));
    }

    fn run(&mut self, request: &[Text], visit: &mut Visit<'_>) -> Outcome {
        self.is_timed = false;
        let Some((name, rest)) = request.split_first() else { return Outcome::Answered };
        match Target::find(name, rest) {
            Ok(target) => {
                self.info.last_command = target.name();
                match self.admit(&target) {
                    Ok(()) if !self.is_busy || target.is_for_the_busy() => {
                        if self.shared.pause.is_on() {
                            let writes = self.may_be_heard_of(&target);
                            if self.shared.pause.holds(writes).is_some() {
                                return Outcome::Held { writes };
                            }
                        }
                        self.queue_or_execute(target, request, visit)
                    }
                    Ok(()) if target.name() == "exec" => self.abort(visit, CacheError::Busy),
                    Ok(()) => self.refuse(CacheError::Busy.to_string()),
                    Err(text) => self.refuse(text),
                }
            }
            Err(Missing::Peer) => Outcome::Close,
            Err(Missing::Error(CacheError::WrongArity { command: "exec" })) => {
                self.abort(visit, "wrong number of arguments for 'exec' command")
            }
            Err(Missing::Error(error)) => self.refuse(error.to_string()),
        }
    }

    /// Whether a request stops the script that runs, and nothing else.
    pub(super) fn kills(&self, request: &[Text]) -> bool {
        let [name, sub] = request else { return false };
        self.transaction.is_none()
            && name.eq_ignore_ascii_case(b"script")
            && sub.eq_ignore_ascii_case(b"kill")
    }

    /// A request that is not even run: one of those spoils its transaction.
    fn refuse(&mut self, text: impl AsRef<[u8]>) -> Outcome {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused = true;
        }
        self.error(text);
        Outcome::Answered
    }

    /// EXEC itself is not run.
    pub(super) fn abort(&mut self, visit: &mut Visit<'_>, why: impl Display) -> Outcome {
        self.transaction = None;
        visit.unwatch(&mut self.watch);
        self.error(format!("EXECABORT Transaction discarded because of: {why}"));
        Outcome::Answered
    }

    /// Whether a command may be run now.
    fn admit(&self, target: &Target<'_>) -> Result<(), String> {
        if !self.info.authenticated && !target.is_for_strangers() {
            return Err("NOAUTH Authentication required.".to_owned());
        }
        let name = target.name();
        if self.only_listens() && !WHILE_LISTENING.contains(&name) {
            return Err(format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                 RESET are allowed in this context"
            ));
        }
        Ok(())
    }

    /// Whether CLIENT PAUSE WRITE holds it: Redis's replicas would hear of it.
    fn may_be_heard_of(&self, target: &Target<'_>) -> bool {
        match target.name() {
            "exec" => self.transaction.as_ref().is_some_and(|transaction| transaction.writes),
            _ => target.writes(),
        }
    }

    fn queue_or_execute(
        &mut self,
        target: Target<'_>,
        request: &[Text],
        visit: &mut Visit<'_>,
    ) -> Outcome {
        let takes = |transaction: &Transaction| transaction.takes(target.name());
        if self.transaction.as_ref().is_some_and(takes)
            && let Err(error) = visit.may_queue(target.flags())
        {
            return self.refuse(error.to_string());
        }
        if let Some(transaction) = &mut self.transaction
            && transaction.takes(target.name())
        {
            let has_room = transaction.queue(request);
            transaction.has_scripts |= has_own_turn(target.name());
            transaction.writes |= target.writes();
            transaction.flags = transaction.flags.and(target.flags());
            self.writer().status("QUEUED");
            return if has_room { Outcome::Answered } else { Outcome::Close };
        }
        self.execute(target, request, visit)
    }

    /// Runs a request whose time has come with EXEC. What could be queued has a target.
    pub(super) fn run_queued(&mut self, request: &[Text], visit: &mut Visit<'_>) -> Outcome {
        let Some((name, rest)) = request.split_first() else { return Outcome::Answered };
        let begun = self.slow_us.map(|_| Instant::now());
        match Target::find(name, rest) {
            Ok(target) => {
                let outcome = self.execute(target, request, visit);
                if let Some(begun) = begun.filter(|_| self.is_timed) {
                    self.log_slow(request, begun.elapsed());
                }
                outcome
            }
            Err(_) => Outcome::Answered,
        }
    }

    fn execute(&mut self, target: Target<'_>, request: &[Text], visit: &mut Visit<'_>) -> Outcome {
        let is_logged = !target.flags().has(Flags::SKIP_SLOWLOG);
        let outcome = self.execute_target(target, request, visit);
        // What waits, or has a turn of its own, has not run yet.
        self.is_timed = is_logged && matches!(outcome, Outcome::Answered | Outcome::Close);
        outcome
    }

    fn execute_target(
        &mut self,
        target: Target<'_>,
        request: &[Text],
        visit: &mut Visit<'_>,
    ) -> Outcome {
        match target {
            Target::Cache(spec, rest) => {
                let db = self.info.db;
                let answer = match Command::parse_resolved(spec, request, rest) {
                    // Nothing has to be written between what it does and its answer.
                    Ok(Command::List(ListCommand::Range { key, start, stop }))
                        if self.subscriber.is_none() =>
                    {
                        let mut writer = self.writer();
                        let shown = visit.list_range(db, (&key, start, stop), |len, values| {
                            writer.array(len);
                            values.for_each(|value| writer.bulk(value));
                        });
                        match shown {
                            Ok(()) => return Outcome::Answered,
                            Err(error) => Reply::Error(error),
                        }
                    }
                    Ok(Command::Blocking(command)) if !visit.is_in_transaction() => {
                        match visit.run_or_wait(db, &command) {
                            Ok(answer) => answer,
                            Err(waiting) => return Outcome::Waits(Box::new(waiting)),
                        }
                    }
                    Ok(command) => visit.run(db, &command),
                    Err(error) => Reply::Error(error),
                };
                // Its own message comes before the answer to its PUBLISH.
                self.take_messages();
                match spec.name {
                    "ping" if self.only_listens() && rest.len() < 2 => self.pong(rest),
                    _ => self.reply(&answer),
                }
                Outcome::Answered
            }
            Target::Own(row) => (row.run)(self, visit, request),
        }
    }
}

impl Client {
    /// PING of a listener in RESP2, in the form of a message.
    fn pong(&mut self, rest: &[Text]) {
        let mut writer = self.writer();
        writer.array(2);
        writer.bulk(b"pong");
        writer.bulk(rest.first().map_or(&b""[..], |text| text));
    }

    /// A number of things.
    pub(super) fn count(&mut self, count: usize) {
        self.writer().integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.clients.leave(self.handle.id);
    }
}

/// Where an answer begins, and whether answers were sent then.
pub(super) struct Answer {
    written: usize,
    replies: Replies,
}

/// What a request is for: the row, and for the cache the arguments behind the names.
pub(super) enum Target<'a> {
    Cache(&'static Spec, &'a [Text]),
    Own(&'static Row),
}

/// Why there is no target.
pub(super) enum Missing {
    Error(CacheError),
    /// Someone made a browser send this: there is no answer that it should see.
    Peer,
}

impl<'a> Target<'a> {
    pub(super) fn find(name: &[u8], rest: &'a [Text]) -> Result<Self, Missing> {
        if let Some(spec) = Spec::find(name) {
            let (spec, rest) = spec.resolve(rest).map_err(Missing::Error)?;
            return Ok(Self::Cache(spec, rest));
        }
        if let Some(row) = Row::find(name) {
            let (row, _) = row.resolve(rest).map_err(Missing::Error)?;
            return Ok(Self::Own(row));
        }
        let of_http = name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:");
        Err(if of_http { Missing::Peer } else { Missing::Error(unknown_command(name, rest)) })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cache(spec, _) => spec.name,
            Self::Own(row) => row.name,
        }
    }

    fn flags(&self) -> Flags {
        match self {
            Self::Cache(spec, _) => spec.flags,
            Self::Own(row) => row.flags,
        }
    }

    /// It may change something, or others may hear of it.
    fn writes(&self) -> bool {
        self.flags().has(Flags::WRITE)
            || matches!(self.name(), "publish" | "spublish" | "eval" | "evalsha")
    }

    fn is_for_the_busy(&self) -> bool {
        matches!(self, Self::Own(row) if row.flags.has(Flags::ALLOW_BUSY))
    }

    fn is_for_strangers(&self) -> bool {
        matches!(self, Self::Own(row) if row.flags.has(Flags::NO_AUTH))
    }
}
