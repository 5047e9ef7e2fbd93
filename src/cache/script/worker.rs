//! The thread that scripts run on.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Step;
use super::call::Run;
use super::gate::ScriptTurn;
use super::host::Host;
use super::library::Library;
use crate::cache::engine::Cache;
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::journal::Commit;

/// What the thread is to do in one turn.
pub(super) struct Job {
    pub cache: Cache,
    pub turn: ScriptTurn,
    pub steps: Vec<(u8, Step)>,
    pub host: Option<Arc<dyn Host>>,
    pub done: oneshot::Sender<Done>,
}

pub(super) struct Done {
    /// One for each step.
    pub replies: Vec<Reply>,
    /// `None` when nothing was changed.
    pub commit: Option<Commit>,
}

/// Room for the nesting that codecs and answers are allowed.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Starts the thread when it is first needed. It ends with the last [`Cache`].
#[derive(Default)]
pub(super) struct Worker(Mutex<Option<flume::Sender<Job>>>);

impl Worker {
    /// Hands a job over. Whoever has it has the only turn, so there is room for it.
    pub(super) fn send(&self, job: Job) -> Result<(), CacheError> {
        let mut sender = self.0.lock();
        let job = match &*sender {
            Some(sender) => match sender.try_send(job) {
                Ok(()) => return Ok(()),
                // The thread has come to an end; its scripts are gone with it.
                Err(error) => error.into_inner(),
            },
            None => job,
        };
        let (jobs, receiver) = flume::bounded(1);
        std::thread::Builder::new()
            .name("scripts".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&receiver))
            .map_err(|error| CacheError::ScriptThread(error.to_string()))?;
        // The channel is new and has room.
        let _ = jobs.try_send(job);
        *sender = Some(jobs);
        Ok(())
    }
}

fn work(jobs: &flume::Receiver<Job>) {
    let mut library = Library::default();
    while let Ok(job) = jobs.recv() {
        run(&mut library, job);
    }
}

/// What the steps have changed by now. It is recorded whatever ends them.
struct Changes<'a>(Option<&'a Cache>);

impl Changes<'_> {
    fn record(mut self) -> Option<Commit> {
        self.0.take().and_then(Cache::record_script)
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        if let Some(cache) = self.0 {
            // Nobody is left to be told.
            let _ = cache.record_script();
        }
    }
}

fn run(library: &mut Library, job: Job) {
    let Job { cache, turn, steps, host, done } = job;
    let turn = Rc::new(turn);
    let changes = Changes(Some(&cache));
    let now_ms = cache.now_ms();
    let mut replies = Vec::with_capacity(steps.len());
    for (at, (db, step)) in steps.into_iter().enumerate() {
        let begun = Instant::now();
        replies.push(match step {
            Step::Command(command) => {
                // The transaction was admitted as a whole.
                let access = command.access().once_begun();
                cache.run_for_script((now_ms, db), &command, (access, access))
            }
            Step::Script(command) => {
                turn.begin();
                let reply = library.execute(&command, |rights| {
                    if rights.grows {
                        cache.make_room_for_script()?;
                    }
                    Ok(Run {
                        cache: cache.clone(),
                        turn: Rc::clone(&turn),
                        now_ms,
                        db,
                        rights,
                        wrote: false,
                        resp3: false,
                        host: host.clone(),
                    })
                });
                turn.end();
                reply
            }
        });
        if let Some(host) = &host {
            host.ran(at, begun.elapsed());
        }
    }
    let commit = changes.record();
    // The others go on before the answer is known, as far as it matters to its client.
    drop(turn);
    // Who asked may be gone; what was done stays done.
    let _ = done.send(Done { replies, commit });
}
