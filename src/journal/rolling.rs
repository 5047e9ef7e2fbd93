//! From one segment to the next: the next one is created, and the last one closed, beside the writer,
//! which else would wait for the disk six times over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::JournalError;
use super::reading::Reader;
use super::segment::{ActiveSegment, Head, SegmentError};
use super::shared::Shared;
use super::store::SegmentStore;

type Created = Result<ActiveSegment, SegmentError>;

pub(super) struct Rolling {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    store: Arc<dyn SegmentStore>,
    /// What will be the active segment.
    next: Option<JoinHandle<Created>>,
    /// What was it before.
    sealing: Option<(u64, JoinHandle<()>)>,
}

impl Rolling {
    pub(super) fn new(
        shared: Arc<Shared>,
        reader: Arc<Reader>,
        store: Arc<dyn SegmentStore>,
    ) -> Self {
        Self { shared, reader, store, next: None, sealing: None }
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.next.is_some()
    }

    /// Begins to create the segment of `head` for about `bytes` of rows.
    pub(super) fn prepare(&mut self, head: Head, bytes: u64) {
        let store = self.store.clone();
        let create = move || create(store.as_ref(), &head, bytes);
        // Without a thread it is created when it is needed.
        self.next = std::thread::Builder::new().name("journal-next".to_owned()).spawn(create).ok();
    }

    /// The segment of `head`, which was prepared or is created now.
    pub(super) fn next(&mut self, head: &Head, bytes: u64) -> Created {
        let prepared = self.next.take().and_then(|thread| thread.join().ok());
        match prepared {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                tracing::warn!(%error, "the next segment could not be created beforehand");
                create(self.store.as_ref(), head, bytes)
            }
            None => create(self.store.as_ref(), head, bytes),
        }
    }

    /// Closes a segment for good. Nobody has its handle any more.
    pub(super) fn seal(&mut self, segment: ActiveSegment) {
        self.finish_sealing();
        let id = segment.id;
        let (shared, reader, store) =
            (self.shared.clone(), self.reader.clone(), self.store.clone());
        let segment = Arc::new(Mutex::new(Some(segment)));
        let given = segment.clone();
        let seal_given = move || {
            if let Some(segment) = given.lock().take() {
                seal(segment, &shared, &reader, store.as_ref());
            }
        };
        match std::thread::Builder::new().name("journal-seal".to_owned()).spawn(seal_given) {
            Ok(thread) => self.sealing = Some((id, thread)),
            // Without a thread the writer closes it.
            Err(_) => {
                if let Some(segment) = segment.lock().take() {
                    seal(segment, &self.shared, &self.reader, self.store.as_ref());
                }
            }
        }
    }

    /// Returns when no segment is being closed that is `segment`.
    pub(super) fn finish_sealing_of(&mut self, segment: u64) {
        if self.sealing.as_ref().is_some_and(|(sealing, _)| *sealing == segment) {
            self.finish_sealing();
        }
    }

    fn finish_sealing(&mut self) {
        if let Some((_, thread)) = self.sealing.take() {
            // It catches panics.
            let _ = thread.join();
        }
    }

    /// Returns when nothing more is being done. What was prepared for nothing is removed; the next start
    /// does it where that fails.
    pub(super) fn stop(&mut self) {
        self.finish_sealing();
        let Some(Ok(Ok(unused))) = self.next.take().map(JoinHandle::join) else { return };
        let id = unused.id;
        let remove = || {
            drop(unused);
            self.store.remove(id).map_err(|error| error.to_string())
        };
        let removed = catch_unwind(AssertUnwindSafe(remove))
            .unwrap_or_else(|_| Err("closing it panicked".to_owned()));
        if let Err(error) = removed {
            tracing::warn!(%error, segment = id, "an empty segment was not removed");
        }
    }
}

/// Published, so that the writer has no name to wait for; a crash leaves a segment without rows, which
/// the next start deletes.
fn create(store: &dyn SegmentStore, head: &Head, bytes: u64) -> Created {
    catch_unwind(AssertUnwindSafe(|| ActiveSegment::create(store, head, bytes)))
        .unwrap_or_else(|_| Err(SegmentError::damaged(None, "creating a segment panicked")))
}

fn seal(segment: ActiveSegment, shared: &Shared, reader: &Reader, store: &dyn SegmentStore) {
    let name = store.name(segment.id);
    let reason = match catch_unwind(AssertUnwindSafe(|| reader.closing(|| segment.seal()))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{name}: {error}"),
        Err(_) => format!("{name}: closing it panicked"),
    };
    tracing::error!(%reason, "the journal failed and takes no more writes");
    shared.fail(JournalError::Poisoned { reason: reason.into() });
}
