//! A redrive of many messages: paced, watched, and ended when somebody asks for it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Broker;
use super::super::error::BrokerError;
use super::super::queue::{Held, Queue};
use super::{Edit, Pages, Selection, Stuck, Tally};
use crate::journal::{Commit, JournalError};
use crate::model::clock::{SharedClock, UnixMs};
use crate::model::names::{QueueName, VhostName};

/// Runs that are remembered, those that have ended for their figures.
const RUNS_MAX: usize = 64;
/// How often a run looks whether a full queue has room again.
const FULL_LOOK: Duration = Duration::from_millis(100);
/// A run that fell behind its pace catches up so much of it at once.
const CATCH_UP_MAX: Duration = Duration::from_millis(20);

/// What a run does.
#[derive(Debug, Clone)]
pub struct Redrive {
    pub selection: Selection,
    /// Messages a second at most; `None`: as fast as they go.
    pub per_second: Option<NonZeroU32>,
}

/// A redrive that is under way or has ended.
pub struct Run {
    vhost: VhostName,
    queue: QueueName,
    progress: Mutex<Progress>,
    cancelled: watch::Sender<bool>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub state: RunState,
    pub tally: Tally,
    /// What holds it up at this moment.
    pub waits_for: Option<String>,
    pub started_ms: UnixMs,
    pub ended_ms: Option<UnixMs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    Running,
    /// Every message that was meant is settled in its new place or counted as staying.
    Done,
    Cancelled,
    /// The journal takes no more: what was moved before may be lost or not, as its reason says.
    Failed(String),
}

impl Run {
    pub fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// Ends it after the message in hand; one that has ended stays as it ended.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Resolves when it has ended, with how it did.
    pub async fn ended(&self) -> Progress {
        self.cancelled.closed().await;
        self.progress()
    }

    /// A run that begins now, with what its work holds.
    pub(crate) fn begin(vhost: VhostName, queue: QueueName, clock: SharedClock) -> RunWork {
        let (cancelled, asked) = watch::channel(false);
        let run = Arc::new(Self {
            vhost,
            queue,
            progress: Mutex::new(Progress {
                state: RunState::Running,
                tally: Tally::default(),
                waits_for: None,
                started_ms: clock.now_ms(),
                ended_ms: None,
            }),
            cancelled,
        });
        RunWork { run, asked, clock }
    }

    fn is_running(&self) -> bool {
        self.progress.lock().state == RunState::Running
    }

    pub(crate) fn waits_for(&self, what: Option<String>) {
        self.progress.lock().waits_for = what;
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.progress.lock().tally);
    }
}

/// The runs of a broker, the latest last.
#[derive(Default)]
pub(crate) struct Runs(Mutex<Vec<Arc<Run>>>);

impl Runs {
    /// # Errors
    /// The queue is being redriven, or too many are.
    pub(crate) fn add(&self, run: &Arc<Run>) -> Result<(), BrokerError> {
        let mut runs = self.0.lock();
        let same = |other: &Run| other.vhost == run.vhost && other.queue == run.queue;
        if runs.iter().any(|other| same(other) && other.is_running()) {
            return Err(BrokerError::Redriving { queue: run.queue.to_string() });
        }
        runs.retain(|other| !same(other));
        if runs.len() == RUNS_MAX {
            let ended = runs.iter().position(|other| !other.is_running());
            let Some(ended) = ended else { return Err(BrokerError::RedrivesMax(RUNS_MAX)) };
            runs.remove(ended);
        }
        runs.push(run.clone());
        Ok(())
    }

    pub(crate) fn latest(&self, vhost: &VhostName, queue: &QueueName) -> Option<Arc<Run>> {
        let runs = self.0.lock();
        runs.iter().rfind(|run| run.vhost == *vhost && run.queue == *queue).cloned()
    }

    pub(crate) fn cancel_all(&self) {
        self.0.lock().iter().for_each(|run| run.cancel());
    }
}

impl Broker {
    /// Starts sending dead letters of `queue` back, each as [`Broker::redrive`] does. The future is the
    /// work, for the caller to spawn; dropping it ends the run. Messages that come into the queue after
    /// the start are left alone, so one that dies again at once does not keep the run going. A target
    /// that is full is waited for.
    ///
    /// # Errors
    /// An unknown queue; one that is being redriven already.
    pub fn start_redrive(
        &self,
        queue: &QueueName,
        redrive: Redrive,
    ) -> Result<(Arc<Run>, impl Future<Output = ()> + Send + 'static), BrokerError> {
        let queue = self.readable_queue(queue)?;
        let work =
            Run::begin(queue.vhost.clone(), queue.spec.name.clone(), self.inner.clock.clone());
        let run = work.run.clone();
        self.inner.runs.add(&run)?;
        let mut worker = Worker {
            broker: self.clone(),
            queue,
            run: run.clone(),
            pace: redrive.per_second.map(Pace::new),
            last_commit: None,
        };
        let work = async move { work.finish(worker.work(redrive.selection)).await };
        Ok((run, work))
    }

    /// The run over `queue`, or else the last one that ended.
    pub fn redrive_run(&self, queue: &QueueName) -> Option<Arc<Run>> {
        self.inner.runs.latest(&self.vhost.name, queue)
    }
}

/// What a run holds while it works. Dropped early, it leaves the run cancelled.
pub(crate) struct RunWork {
    pub(crate) run: Arc<Run>,
    /// Its end is what [`Run::ended`] waits for.
    asked: watch::Receiver<bool>,
    clock: SharedClock,
}

impl Drop for RunWork {
    fn drop(&mut self) {
        self.end(RunState::Cancelled);
    }
}

impl RunWork {
    /// Works until the work is done or somebody cancels the run; an error is what it failed with.
    pub(crate) async fn finish<E: std::fmt::Display>(
        self,
        work: impl Future<Output = Result<(), E>>,
    ) {
        let mut asked = self.asked.clone();
        let state = tokio::select! {
            biased;
            // An error means that the run is forgotten, which it can't be while it is held here.
            _ = asked.wait_for(|asked| *asked) => RunState::Cancelled,
            outcome = work => match outcome {
                Ok(()) => RunState::Done,
                Err(error) => RunState::Failed(error.to_string()),
            },
        };
        self.end(state);
    }

    fn end(&self, state: RunState) {
        let mut progress = self.run.progress.lock();
        if progress.state == RunState::Running {
            progress.state = state;
            progress.waits_for = None;
            progress.ended_ms = Some(self.clock.now_ms());
        }
    }
}

/// Moves dead letters within the journal.
struct Worker {
    broker: Broker,
    queue: Arc<Queue>,
    run: Arc<Run>,
    pace: Option<Pace>,
    last_commit: Option<Commit>,
}

impl Worker {
    async fn work(&mut self, selection: Selection) -> Result<(), BrokerError> {
        match selection {
            Selection::Ids(ids) => {
                for id in ids {
                    match self.queue.ready_at(id) {
                        Some(held) => self.move_one(&held).await?,
                        None => self.run.count(|tally| tally.missing += 1),
                    }
                }
            }
            Selection::Matching(filter) => {
                let mut pages = Pages::up_to(self.broker.inner.journal.next_position());
                while let Some(page) = pages.next(&self.queue) {
                    for held in page.iter().filter(|held| filter.matches(&held.stored.message)) {
                        self.move_one(held).await?;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        // What can't be read was passed over.
        self.broker.inner.pager.readable()?;
        // Commits are in order: when the last is on disk, all are.
        if let Some(commit) = self.last_commit.take() {
            commit.await?;
        }
        Ok(())
    }

    async fn move_one(&mut self, held: &Held) -> Result<(), BrokerError> {
        if let Some(pace) = &mut self.pace {
            pace.next().await;
        }
        loop {
            if held.stored.message.properties.persistent {
                self.admit(held.stored.message.weight()).await?;
            }
            let why = match self.broker.move_back(&self.queue, held, Edit::default()) {
                Ok(Some(moved)) => {
                    self.run.count(|tally| tally.count_moved(&moved.queues));
                    self.last_commit = moved.commit.or(self.last_commit.take());
                    return Ok(());
                }
                // Taken by somebody else meanwhile.
                Ok(None) => {
                    self.run.count(|tally| tally.missing += 1);
                    return Ok(());
                }
                Err(BrokerError::NotRedrivable { why, .. }) => why,
                // It came between the admission and the move: the next admission waits.
                Err(BrokerError::Journal(JournalError::DiskAlarm { .. })) => continue,
                Err(error) => return Err(error),
            };
            if !matches!(why, Stuck::QueueFull(_)) {
                self.run.count(|tally| tally.count_kept(why));
                return Ok(());
            }
            self.run.waits_for(Some(why.to_string()));
            tokio::time::sleep(FULL_LOOK).await;
            self.run.waits_for(None);
        }
    }

    /// Not for memory: what fills it may be what is to move, and would wait for itself.
    async fn admit(&self, bytes: usize) -> Result<(), BrokerError> {
        let journal = &self.broker.inner.journal;
        if let Err(error) = journal.writable() {
            self.run.waits_for(Some(error.to_string()));
        }
        // One that the disk has no room for waits until it has.
        while let Err(error) = journal.admit(bytes).await {
            if !matches!(error, JournalError::DiskAlarm { .. }) {
                self.run.waits_for(None);
                return Err(error.into());
            }
            self.run.waits_for(Some(error.to_string()));
            tokio::time::sleep(FULL_LOOK).await;
        }
        self.run.waits_for(None);
        Ok(())
    }
}

/// So many messages a second, without a burst after a pause.
pub(crate) struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self { every: Duration::from_secs(1) / per_second.get(), next: Instant::now() }
    }

    pub(crate) async fn next(&mut self) {
        let now = Instant::now();
        let earliest = now.checked_sub(CATCH_UP_MAX).unwrap_or(now);
        let due = self.next.max(earliest);
        self.next = due + self.every;
        tokio::time::sleep_until(due).await;
    }
}
