//! The sending side of a session: one queue of ready frames, drained by the transport of the moment.
//!
//! It is bounded in bytes. What others send to a session that does not read fast enough ends that
//! session, and nobody waits for it. What a session asked for itself is never refused: its reader
//! stops taking requests while the queue is half full ([`Outbound::has_room`]), so that a client can
//! only ever be one answer ahead.
//!
//! Frames wake the session's own task, which writes them. What several are sent is written by one task for
//! many of those whose queue was empty ([`Flush`]), as far as their streams take it without waiting.

mod idle;
mod members;
#[cfg(test)]
mod tests;

pub use idle::{Flush, TOGETHER_MAX};
pub use members::Member;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::WriteHalf;
use tokio::sync::Notify;

use self::idle::Pen;
use self::members::Members;
use super::close_reason::CloseReason;
use super::websocket::{Frame, Writer};
use crate::wire::engine_io::{Packet, Payload};

/// Who drains the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
}

/// Counted for each frame beside its bytes, so that a bound in bytes also bounds the frames.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Frames on their way. A single one needs no place of its own: most sockets have none or one, and are many.
pub type Batch = SmallVec<[Frame; 1]>;

/// Writes to the session's WebSocket.
pub type SessionWriter = Writer<WriteHalf<TokioIo<Upgraded>>>;

pub struct Outbound {
    state: Mutex<State>,
    queue_bytes_max: usize,
    /// Wakes the one who drains: there are frames, or the session was closed or changed its transport.
    ready: Notify,
    /// Wakes the reader that waits for room, and everybody who waits for the close.
    eased: Notify,
    closing: Notify,
    /// Whether a namespace was joined; a session that joins none is closed after a while.
    joined: AtomicBool,
    /// The gateway itself keeps the session's reader waiting; that no pong was read says nothing then.
    held: AtomicBool,
    members: Members,
}

struct State {
    frames: Batch,
    /// Of the queue, and of what the WebSocket is writing at this moment.
    bytes: usize,
    transport: Transport,
    closed: Option<CloseReason>,
    /// Somebody waits for room.
    room_wanted: bool,
    /// Of the first frame a part is written: it goes out whatever becomes of the session.
    is_cut: bool,
    sign: Sign,
    pen: Pen,
}

/// Who writes frames that were queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// Whoever was to write those before them.
    Same,
    /// The transport, which is to be woken.
    Transport,
    /// Nobody as yet: whoever takes the pen.
    Anybody,
}

/// Of a client that was asked whether it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It was not asked, or has answered.
    Given,
    Asked,
    /// It did not answer in time.
    Missed,
}

/// What a poll gets at this moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    Payload(Bytes),
    /// The session is closed, and this is all that is left to say.
    Last(Bytes),
    Nothing,
}

impl Outbound {
    pub fn new(transport: Transport, queue_bytes_max: usize) -> Self {
        let state = State {
            frames: Batch::new(),
            bytes: 0,
            transport,
            closed: None,
            room_wanted: false,
            is_cut: false,
            sign: Sign::Given,
            pen: Pen::Held,
        };
        Self {
            state: Mutex::new(state),
            queue_bytes_max,
            ready: Notify::new(),
            eased: Notify::new(),
            closing: Notify::new(),
            joined: AtomicBool::new(false),
            held: AtomicBool::new(false),
            members: Members::default(),
        }
    }

    /// Queues what somebody else sent. Past the bound the session is closed as a slow consumer.
    pub fn push(&self, frame: &Frame) {
        self.push_all(std::slice::from_ref(frame), false);
    }

    /// As [`Self::push`], of frames that nothing comes between. False: nothing was queued, because the
    /// session is closed, or because what is volatile found something that waits already.
    pub fn push_all(&self, frames: &[Frame], is_volatile: bool) -> bool {
        let drain = self.queue(frames, is_volatile);
        if drain.is_some_and(|drain| drain != Drain::Same) {
            self.ready.notify_one();
        }
        drain.is_some()
    }

    /// As [`Self::push_all`], of what many are sent: when nobody is writing, `flush` is to.
    pub fn push_with(
        self: &Arc<Self>,
        flush: &mut Flush,
        frames: &[Frame],
        is_volatile: bool,
    ) -> bool {
        let drain = self.queue(frames, is_volatile);
        match drain {
            Some(Drain::Transport) => self.ready.notify_one(),
            Some(Drain::Anybody) => flush.add(self, frames.iter().map(weight).sum()),
            Some(Drain::Same) | None => {}
        }
        drain.is_some()
    }

    fn queue(&self, frames: &[Frame], is_volatile: bool) -> Option<Drain> {
        let mut state = self.state.lock();
        if state.closed.is_some() || is_volatile && state.bytes > 0 {
            return None;
        }
        let weight: usize = frames.iter().map(weight).sum();
        // What is above the bound by itself passes when nothing else is queued, or it never could.
        if state.bytes + weight > self.queue_bytes_max && state.bytes > 0 {
            let kept = usize::from(state.is_cut);
            state.frames.truncate(kept);
            state.frames.shrink_to_fit();
            // Before anybody else has the lock: what came behind the gap would hide it from who comes back.
            state.closed = Some(CloseReason::SlowConsumer);
            drop(state);
            self.tell_closed();
            return None;
        }
        Some(state.enqueue(frames, weight))
    }

    /// Queues an answer to a request of the session itself, whatever is queued already.
    pub fn reply(&self, frame: Frame) {
        self.reply_all(&[frame]);
    }

    /// As [`Self::reply`], of frames that nothing comes between.
    pub fn reply_all(&self, frames: &[Frame]) {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return;
        }
        let drain = state.enqueue(frames, frames.iter().map(weight).sum());
        drop(state);
        if drain != Drain::Same {
            self.ready.notify_one();
        }
    }

    /// Ends the session; the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(reason);
        drop(state);
        self.tell_closed();
    }

    fn tell_closed(&self) {
        self.ready.notify_one();
        self.eased.notify_waiters();
        self.closing.notify_waiters();
    }

    pub fn close_reason(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    /// Waits until the session is closed. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        loop {
            // Made before the look, so that a close in between is not missed.
            let closing = self.closing.notified();
            if let Some(reason) = self.close_reason() {
                return reason;
            }
            closing.await;
        }
    }

    /// Waits until at most half of the bound is queued, or the session is closed. Cancel safe.
    pub async fn has_room(&self) {
        loop {
            let eased = self.eased.notified();
            if self.is_eased() {
                return;
            }
            eased.await;
        }
    }

    fn is_eased(&self) -> bool {
        let mut state = self.state.lock();
        let is_eased = state.bytes <= self.queue_bytes_max / 2 || state.closed.is_some();
        state.room_wanted |= !is_eased;
        is_eased
    }

    /// Asks the client for a sign of life by a ping that is not due, and waits until it answers, the
    /// session is closed, or `patience` has passed; then [`Self::is_deserted`] tells. A client whose
    /// messages the gateway keeps waiting is taken to be there. Cancel safe.
    pub async fn ask(&self, patience: Duration) {
        self.state.lock().sign = Sign::Asked;
        let mut ping = Vec::with_capacity(1);
        Packet::Ping("").encode(&mut ping);
        self.push(&Frame::text(&ping));
        let answered = async {
            loop {
                let eased = self.eased.notified();
                if !self.owes_sign() {
                    return;
                }
                eased.await;
            }
        };
        if tokio::time::timeout(patience, answered).await.is_err() && !self.is_held() {
            let mut state = self.state.lock();
            if state.sign == Sign::Asked {
                state.sign = Sign::Missed;
            }
        }
    }

    fn owes_sign(&self) -> bool {
        let state = self.state.lock();
        state.sign == Sign::Asked && state.closed.is_none()
    }

    /// The client answered a ping.
    pub fn answered(&self) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.sign, Sign::Given) == Sign::Asked {
            drop(state);
            self.eased.notify_waiters();
        }
    }

    /// Whether the session is closed, or its client was asked in vain whether it is there.
    pub fn is_deserted(&self) -> bool {
        let state = self.state.lock();
        state.closed.is_some() || state.sign == Sign::Missed
    }

    /// Waits until there may be something to drain. Cancel safe. For one waiter at a time.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Moves the queue into `batch`, which is empty. They count until [`Self::written`] is called.
    /// Who takes has to come back for more until there is none, and then wait: only the first frame of
    /// an empty queue wakes. When there is none, what a burst made the two grow to is given back.
    pub fn take(&self, batch: &mut Batch) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.frames, batch);
        state.is_cut = false;
        if batch.is_empty() {
            batch.shrink_to_fit();
            state.frames.shrink_to_fit();
        }
    }

    /// The frames of the last [`Self::take`] are on their way; `batch` may be kept as the next one.
    pub fn written(&self, batch: &mut Batch) {
        let bytes: usize = batch.iter().map(weight).sum();
        batch.clear();
        self.ease(bytes);
    }

    fn ease(&self, bytes: usize) {
        let eases = self.state.lock().ease(bytes, self.queue_bytes_max);
        if eases {
            self.eased.notify_waiters();
        }
    }

    /// The answer of a poll: as much of the queue as fits into `payload_bytes_max`. What is queued
    /// when the session is closed still goes out, and a close packet after it; a client that closed it
    /// itself gets a noop there, as the stock server's does.
    pub fn poll(&self, payload_bytes_max: usize) -> Polled {
        let mut state = self.state.lock();
        if state.transport == Transport::WebSocket {
            // The queue is not this poll's any more.
            return Polled::Payload(single(&Packet::Noop));
        }
        let mut payload = Payload::new(payload_bytes_max);
        let (mut taken, mut bytes) = (0, 0);
        while let Some(frame) = state.frames.get_mut(taken) {
            let (first, others) = frame.split_first();
            let message = first.payload();
            let fits = match first.is_binary() {
                true => payload.push_binary(&message),
                false => payload.push_text(&message),
            };
            if !fits {
                break;
            }
            match others {
                Some(others) => {
                    bytes += first.wire_bytes();
                    *frame = others;
                }
                None => {
                    bytes += weight(frame);
                    taken += 1;
                }
            }
        }
        state.frames.drain(..taken);
        if state.frames.is_empty() {
            state.frames.shrink_to_fit();
        }
        let closed = state.closed.filter(|_| state.frames.is_empty());
        drop(state);
        self.ease(bytes);
        if let Some(reason) = closed
            && (payload.is_empty() || reason.is_peer_gone())
        {
            // Beside other packets only where no further poll is waited for: the stock client does what a
            // close packet says before what the Socket.IO packets of its payload say.
            let by_client = reason == CloseReason::TransportClose;
            let last = if by_client { Packet::Noop } else { Packet::Close };
            // Past the bound by one byte at most, which no client counts.
            let _ = payload.push_text(&single(&last));
            return Polled::Last(payload.into_bytes());
        }
        if payload.is_empty() { Polled::Nothing } else { Polled::Payload(payload.into_bytes()) }
    }

    /// The queue is the WebSocket's from now on; a poll that still waits is released.
    pub fn switch_to_websocket(&self) {
        self.state.lock().transport = Transport::WebSocket;
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    /// Wakes a waiting poll, so that it looks at its session again.
    pub fn wake(&self) {
        self.ready.notify_one();
    }

    pub fn transport(&self) -> Transport {
        self.state.lock().transport
    }

    pub fn mark_joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    pub fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

impl State {
    fn enqueue(&mut self, frames: &[Frame], weight: usize) -> Drain {
        let drain = match self.frames.is_empty() {
            false => Drain::Same,
            true if self.pen.is_down() => Drain::Anybody,
            true => Drain::Transport,
        };
        self.bytes += weight;
        self.frames.extend(frames.iter().cloned());
        drain
    }

    /// Whether who waits for room is to be woken.
    fn ease(&mut self, bytes: usize, queue_bytes_max: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        let eases = self.room_wanted && self.bytes <= queue_bytes_max / 2;
        self.room_wanted &= !eases;
        eases
    }
}

fn weight(frame: &Frame) -> usize {
    frame.wire_bytes() + FRAME_OVERHEAD_BYTES
}

fn single(packet: &Packet<'_>) -> Bytes {
    let mut bytes = Vec::with_capacity(1);
    packet.encode(&mut bytes);
    Bytes::from(bytes)
}
