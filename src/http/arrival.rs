//! How much of a request has come: whoever drains waits for what is served, not for what a peer does not send.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The mark of a request that has come whole.
const WHOLE: u64 = u64::MAX;

/// Of the request that a connection is at; before the first, of its head. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Arrival(Arc<AtomicU64>);

impl Arrival {
    /// The body of a request whose head has come.
    pub(super) fn body(&self, body: Incoming) -> Arriving {
        self.0.store(if body.is_end_stream() { WHOLE } else { 1 }, Ordering::Relaxed);
        Arriving { body, arrival: self.clone() }
    }

    /// `None`: it is whole. Two marks that are equal: nothing has come in between.
    pub(super) fn mark(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&mark| mark != WHOLE)
    }
}

/// A body on its way. One that is dropped is waited for by nobody, as if it were whole.
pub(super) struct Arriving {
    body: Incoming,
    arrival: Arrival,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match frame {
            Some(Ok(_)) if !self.body.is_end_stream() => {
                self.arrival.0.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.arrival.0.store(WHOLE, Ordering::Relaxed),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.arrival.0.store(WHOLE, Ordering::Relaxed);
    }
}
