//! Waits for the disk while the writer prepares the next commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::JournalError;
use super::batch::Taken;
use super::segment::UnfinishedSync;
use super::shared::Shared;

/// Batches that were written to a segment, and are on their way to the disk.
pub(super) struct Unsynced {
    pub batch: Taken,
    pub sync: UnfinishedSync,
}

/// A thread that settles what the disk took. It ends with its handle.
pub(super) struct Syncer {
    unsynced: Option<flume::Sender<Unsynced>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        // One more is written meanwhile, and counts once this one is on disk; that may wait to be settled.
        let (unsynced, work) = flume::bounded(1);
        let thread =
            std::thread::Builder::new().name("journal-sync".to_owned()).spawn(move || {
                run_soon();
                settle_all(&work, &shared);
            })?;
        Ok(Self { unsynced: Some(unsynced), thread: Some(thread) })
    }

    /// Returns at once, or when the commit before the last is settled.
    pub(super) fn settle(&self, unsynced: Unsynced) {
        let Some(channel) = &self.unsynced else { return };
        // Its thread ends with its handle, not before: it catches panics.
        let _ = channel.send(unsynced);
    }

    /// Returns when everything is settled that was handed over.
    pub(super) fn stop(&mut self) {
        self.unsynced = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks for this thread to run as soon as it is woken, before others have used up their slice of the
/// processor, and not to be put aside meanwhile: it needs some microseconds at a time, and until it has them
/// the disk has nothing to do. See sched_setattr(2); kernels before 6.12 take no notice of the slice. To be
/// nicer to it than to others takes a right (`RLIMIT_NICE`, or `CAP_SYS_NICE`), without which it has the slice
/// alone.
fn run_soon() {
    const SLICE_NS: u64 = 100_000;
    const NICE_BY: i32 = -10;
    const NICE_MIN: i32 = -20;
    const THIS_THREAD: i32 = 0;
    let asked = uapi::sched_getattr(THIS_THREAD, 0).and_then(|mut attributes| {
        attributes.sched_runtime = SLICE_NS;
        let nice = attributes.sched_nice;
        attributes.sched_nice = (nice + NICE_BY).max(NICE_MIN);
        uapi::sched_setattr(THIS_THREAD, &attributes, 0).or_else(|_no_right| {
            attributes.sched_nice = nice;
            uapi::sched_setattr(THIS_THREAD, &attributes, 0)
        })
    });
    if let Err(error) = asked {
        tracing::debug!(%error, "the thread that waits for the disk runs as any other");
    }
}

fn settle_all(work: &flume::Receiver<Unsynced>, shared: &Shared) {
    for Unsynced { batch, sync } in work {
        let settle = || sync.finish().map(|()| shared.synced(batch));
        let reason = match catch_unwind(AssertUnwindSafe(settle)) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("a commit did not reach the disk: {error}"),
            Err(_) => "settling a commit panicked".to_owned(),
        };
        tracing::error!(%reason, "the journal failed and takes no more writes");
        shared.fail(JournalError::Poisoned { reason: reason.into() });
    }
}
