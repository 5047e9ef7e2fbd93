//! Sessions that nobody writes to at the moment, and how one task writes to many of them.
//!
//! Waking a task for one short write costs a good part of what the write does, and waking many brings
//! another processor's thread into it. So the session's task lays its writer down while it has nothing
//! to write, and whoever sends to many takes it up for as long as a write lasts that does not wait. What
//! always holds: one writes at a time, and what is written is the queue from its front.

#[cfg(test)]
mod tests;

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use super::{Batch, Outbound, SessionWriter, State, weight};
use crate::gateway::close_reason::CloseReason;
use crate::gateway::websocket::AtOnce;

/// How many sessions one task writes to without a pause: at 5 us each, less than a millisecond.
pub const TOGETHER_MAX: usize = 128;

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

/// Who was sent something and is to be written to: by tasks of their own, which begin when it is dropped, so
/// that no lock of whoever sends is held over a system call; or by [`Self::write`].
#[derive(Default)]
pub struct Flush {
    /// What one task writes, each.
    turns: SmallVec<[Turn; 1]>,
}

/// As many as one task writes to without a pause.
#[derive(Default)]
struct Turn {
    idle: Idle,
    bytes: usize,
}

impl Turn {
    fn add(&mut self, outbound: &Arc<Outbound>, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.idle.0.push(Arc::clone(outbound));
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.idle.0.len() < TOGETHER_MAX && self.bytes.saturating_add(bytes) <= TOGETHER_BYTES_MAX
    }
}

impl Flush {
    /// `bytes`: what it has to write.
    pub fn add(&mut self, outbound: &Arc<Outbound>, bytes: usize) {
        if bytes > TOGETHER_BYTES_MAX / 2 {
            // No task could write to two of them.
            return outbound.wake();
        }
        match self.turns.last_mut() {
            Some(turn) if turn.has_room(bytes) => turn.add(outbound, bytes),
            _ => {
                let mut turn = Turn::default();
                turn.add(outbound, bytes);
                self.turns.push(turn);
            }
        }
    }

    /// Writes at once and in place as much as one task does, and leaves the rest to others: no task is made and
    /// no other thread woken for few. For who holds no lock.
    pub fn write(mut self) {
        if self.turns.is_empty() {
            return;
        }
        let first = self.turns.remove(0);
        drop(self);
        // No stream is to plead a budget that others have used up.
        let write = pin!(unconstrained(async { first.idle.write() }));
        let _ = write.poll(&mut Context::from_waker(Waker::noop()));
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        for Turn { idle, .. } in self.turns.drain(..) {
            // One that is woken alone costs no more than a new task does.
            if idle.0.len() > 1 {
                runtime.spawn(unconstrained(async move { idle.write() }));
            }
        }
    }
}

/// Wakes, when it is dropped, the tasks of those that were not written to.
#[derive(Default)]
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
