//! The sending side of a session: one queue of ready frames, drained by the transport of the moment.
//!
//! It is bounded in bytes. What others send to a session that does not read fast enough ends that
//! session, and nobody waits for it. What a session asked for itself is never refused: its reader
//! stops taking requests while the queue is half full ([`Outbound::has_room`]), so that a client can
//! only ever be one answer ahead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::close_reason::CloseReason;
use super::websocket::Frame;
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
}

struct State {
    frames: Batch,
    /// Of the queue, and of what the WebSocket is writing at this moment.
    bytes: usize,
    transport: Transport,
    closed: Option<CloseReason>,
    /// Somebody waits for room.
    room_wanted: bool,
    sign: Sign,
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
            sign: Sign::Given,
        };
        Self {
            state: Mutex::new(state),
            queue_bytes_max,
            ready: Notify::new(),
            eased: Notify::new(),
            closing: Notify::new(),
            joined: AtomicBool::new(false),
            held: AtomicBool::new(false),
        }
    }

    /// Queues what somebody else sent. Past the bound the session is closed as a slow consumer.
    pub fn push(&self, frame: &Frame) {
        self.push_all(std::slice::from_ref(frame), false);
    }

    /// As [`Self::push`], of frames that nothing comes between. False: nothing was queued, because the
    /// session is closed, or because what is volatile found something that waits already.
    pub fn push_all(&self, frames: &[Frame], is_volatile: bool) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() || is_volatile && state.bytes > 0 {
            return false;
        }
        let weight: usize = frames.iter().map(weight).sum();
        // What is above the bound by itself passes when nothing else is queued, or it never could.
        if state.bytes + weight > self.queue_bytes_max && state.bytes > 0 {
            state.frames = Batch::new();
            drop(state);
            self.close(CloseReason::SlowConsumer);
            return false;
        }
        let is_first = state.enqueue(frames, weight);
        drop(state);
        if is_first {
            self.ready.notify_one();
        }
        true
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
        let is_first = state.enqueue(frames, frames.iter().map(weight).sum());
        drop(state);
        if is_first {
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
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        let wakes = state.room_wanted && state.bytes <= self.queue_bytes_max / 2;
        state.room_wanted &= !wakes;
        drop(state);
        if wakes {
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
    /// Whether nothing was queued before.
    fn enqueue(&mut self, frames: &[Frame], weight: usize) -> bool {
        let is_first = self.frames.is_empty();
        self.bytes += weight;
        self.frames.extend(frames.iter().cloned());
        is_first
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Frame {
        Frame::text(text.as_bytes())
    }

    fn polled(outbound: &Outbound, payload_bytes_max: usize) -> Option<String> {
        match outbound.poll(payload_bytes_max) {
            Polled::Payload(bytes) | Polled::Last(bytes) => {
                Some(String::from_utf8(bytes.to_vec()).unwrap())
            }
            Polled::Nothing => None,
        }
    }

    #[test]
    fn a_poll_takes_what_fits_and_leaves_the_rest_in_order() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        for packet in ["4aa", "4bb", "4cc"] {
            outbound.push(&text(packet));
        }
        assert_eq!(polled(&outbound, 7).as_deref(), Some("4aa\u{1e}4bb"));
        assert_eq!(polled(&outbound, 1).as_deref(), Some("4cc"));
        assert_eq!(polled(&outbound, 7), None);
    }

    #[test]
    fn frames_in_a_row_are_polled_one_by_one() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        let frames = [text("4aa"), text(&format!("4{}", "b".repeat(200))), text("4cc")];
        outbound.push(&Frame::joined(&frames));
        outbound.push(&text("4dd"));
        assert_eq!(polled(&outbound, 7).as_deref(), Some("4aa"));
        assert_eq!(polled(&outbound, 203).unwrap().len(), 201);
        assert_eq!(polled(&outbound, 7).as_deref(), Some("4cc\u{1e}4dd"));
        assert_eq!(polled(&outbound, 7), None);
        assert_eq!(outbound.state.lock().bytes, 0);
    }

    #[test]
    fn a_consumer_past_its_bound_is_cut_and_its_queue_freed() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        let frame = text(&"x".repeat(400));
        outbound.push(&frame);
        outbound.push(&frame);
        assert_eq!(outbound.close_reason(), None);
        outbound.push(&frame);
        assert_eq!(outbound.close_reason(), Some(CloseReason::SlowConsumer));
        assert_eq!(polled(&outbound, 10_000).as_deref(), Some("1"));
    }

    #[test]
    fn what_is_being_written_counts_against_the_bound() {
        let outbound = Outbound::new(Transport::WebSocket, 1_000);
        let frame = text(&"x".repeat(800));
        outbound.push(&frame);
        let mut batch = Batch::new();
        outbound.take(&mut batch);
        assert_eq!(batch.len(), 1);
        outbound.push(&frame);
        assert_eq!(outbound.close_reason(), Some(CloseReason::SlowConsumer));

        let outbound = Outbound::new(Transport::WebSocket, 1_000);
        outbound.push(&frame);
        let mut batch = Batch::new();
        outbound.take(&mut batch);
        outbound.written(&mut batch);
        outbound.push(&frame);
        assert_eq!(outbound.close_reason(), None);
    }

    #[test]
    fn a_frame_above_the_bound_passes_alone() {
        let outbound = Outbound::new(Transport::Polling, 100);
        outbound.push(&text(&"x".repeat(500)));
        assert_eq!(outbound.close_reason(), None);
    }

    #[test]
    fn what_was_queued_before_the_close_still_goes_out() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        outbound.push(&text("4last"));
        outbound.close(CloseReason::ShuttingDown);
        outbound.close(CloseReason::PingTimeout);
        assert_eq!(polled(&outbound, 100).as_deref(), Some("4last"));
        assert_eq!(outbound.close_reason(), Some(CloseReason::ShuttingDown));
        outbound.push(&text("4late"));
        assert_eq!(polled(&outbound, 100).as_deref(), Some("1"));
    }

    #[tokio::test]
    async fn the_reader_waits_for_room_and_for_nothing_else() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        outbound.has_room().await;
        outbound.reply(text(&"x".repeat(600)));
        let waiting = outbound.has_room();
        tokio::pin!(waiting);
        assert!(futures_poll(waiting.as_mut()).await.is_pending());
        assert!(polled(&outbound, 10_000).is_some());
        waiting.await;
    }

    #[tokio::test]
    async fn after_the_switch_a_poll_gets_only_a_noop() {
        let outbound = Outbound::new(Transport::Polling, 1_000);
        outbound.push(&text("4mine"));
        outbound.switch_to_websocket();
        assert_eq!(polled(&outbound, 100).as_deref(), Some("6"));
        let mut batch = Batch::new();
        outbound.take(&mut batch);
        assert_eq!(batch[0].payload(), "4mine");
    }

    async fn futures_poll<F: Future>(
        mut future: std::pin::Pin<&mut F>,
    ) -> std::task::Poll<F::Output> {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
    }
}
