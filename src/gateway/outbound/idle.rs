//! Sessions that nobody writes to at the moment, and how one task writes to many of them.
//!
//! Waking a task for one short write costs a good part of what the write does, and waking many brings
//! another processor's thread into it. So the session's task lays its writer down while it has nothing
//! to write, and whoever sends to many takes it up for as long as a write lasts that does not wait. What
//! always holds: one writes at a time, and what is written is the queue from its front.

#[cfg(test)]
mod tests;

use std::mem;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use super::{Batch, Outbound, SessionWriter, State, weight};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::websocket::AtOnce;

/// How many sessions one task writes to, without a pause: at 5 us each, less than a millisecond. Of more
/// the rest are woken: other threads have enough to do then, and frames that come meanwhile join theirs.
const TOGETHER_MAX: usize = 128;

/// How many bytes one task writes so: what the kernel copies in less than a millisecond.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;

/// The writer of a session, and who has it.
pub enum Pen {
    /// The session's task, or nobody as there is no WebSocket.
    Held,
    /// Whoever takes it.
    Down(SessionWriter),
    /// Somebody who brings it back at once.
    Lent,
    /// A write failed.
    Lost,
}

impl Pen {
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Down(_))
    }

    /// Takes what lies there.
    fn take(&mut self, taken: Self) -> Option<SessionWriter> {
        match mem::replace(self, taken) {
            Self::Down(writer) => Some(writer),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Outbound {
    /// The session's task has nothing to write, and waits by [`Self::pick_up`].
    pub fn lay_down(&self, writer: SessionWriter) {
        self.state.lock().pen = Pen::Down(writer);
    }

    /// Waits until the session's task has something to do, and gives its writer back. `None`: a write
    /// failed, and the session is closed. Cancel safe. For one waiter.
    pub async fn pick_up(&self) -> Option<SessionWriter> {
        loop {
            self.ready().await;
            let mut state = self.state.lock();
            match state.pen.take(Pen::Held) {
                Some(writer) => return Some(writer),
                None if matches!(state.pen, Pen::Lent) => {}
                None => return None,
            }
        }
    }

    /// Writes what waits, as far as the stream takes it at once, unless somebody else has the writer. The
    /// rest is left to the session's task.
    fn write_at_once(&self) {
        let mut batch = Batch::new();
        let mut state = self.state.lock();
        if state.frames.is_empty() || state.closed.is_some() {
            return;
        }
        let Some(mut writer) = state.pen.take(Pen::Lent) else { return };
        mem::swap(&mut state.frames, &mut batch);
        let was_cut = mem::take(&mut state.is_cut);
        drop(state);

        let written = writer.try_write(&batch);
        let before: usize = batch.iter().map(weight).sum();
        let mut state = self.state.lock();
        let failed = written.is_err();
        state.pen = match written {
            Ok(AtOnce::All) => {
                batch.clear();
                Pen::Down(writer)
            }
            Ok(AtOnce::Part { bytes, rest }) => {
                batch = rest;
                state.is_cut = bytes > 0 || was_cut;
                Pen::Down(writer)
            }
            Err(_) => Pen::Lost,
        };
        let left: usize = batch.iter().map(weight).sum();
        state.put_back(batch);
        let eases = state.ease(before.saturating_sub(left), self.queue_bytes_max);
        let is_over = failed || state.closed.is_some() || !state.frames.is_empty();
        drop(state);
        if failed {
            self.close(CloseReason::TransportError);
        }
        if is_over {
            self.ready.notify_one();
        }
        if eases {
            self.eased.notify_waiters();
        }
    }
}

impl State {
    /// In front of what was queued meanwhile.
    fn put_back(&mut self, mut batch: Batch) {
        if !batch.is_empty() {
            batch.append(&mut self.frames);
            self.frames = batch;
        }
    }
}

/// Who was sent something and is to be written to, which begins when it is dropped.
#[derive(Default)]
pub struct Flush {
    idle: Vec<Arc<Outbound>>,
    bytes: usize,
}

impl Flush {
    /// `bytes`: what it has to write.
    pub fn add(&mut self, outbound: &Arc<Outbound>, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.idle.len() < TOGETHER_MAX && self.bytes <= TOGETHER_BYTES_MAX {
            true => self.idle.push(Arc::clone(outbound)),
            false => outbound.wake(),
        }
    }
}

impl Drop for Flush {
    /// In a task of its own, so that no lock of whoever sends is held over a system call.
    fn drop(&mut self) {
        let idle = Idle(mem::take(&mut self.idle));
        // One that is woken alone costs no more than a new task does.
        if idle.0.len() > 1
            && let Ok(runtime) = Handle::try_current()
        {
            // No stream is to plead a budget that others have used up.
            runtime.spawn(unconstrained(async move { idle.write() }));
        }
    }
}

/// Wakes, when it is dropped, the tasks of those that were not written to.
struct Idle(Vec<Arc<Outbound>>);

impl Idle {
    fn write(mut self) {
        while let Some(outbound) = self.0.pop() {
            outbound.write_at_once();
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.iter().for_each(|outbound| outbound.wake());
    }
}
