//! Any bytes of a client after the handshake: messages within their bound, then an error.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use leveret::gateway::websocket::{Incoming, Limits, Reader};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { message_bytes_max: 300 };

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(data, LIMITS);
    // Every frame has a head and a mask.
    let frames_max = data.len() / 6 + 1;
    let ended = (0..frames_max).find_map(|_| match now(reader.next()) {
        Ok(Incoming::Text(text)) => {
            assert!(text.len() <= LIMITS.message_bytes_max);
            None
        }
        Ok(Incoming::Binary(bytes)) => {
            assert!(bytes.len() <= LIMITS.message_bytes_max);
            None
        }
        Ok(Incoming::Ping(payload) | Incoming::Pong(payload)) => {
            assert!(payload.len() <= 125);
            None
        }
        Ok(Incoming::Close { .. }) => Some(()),
        Err(error) => {
            assert!(matches!(error.close_code(), None | Some(1002 | 1007 | 1009)));
            Some(())
        }
    });
    assert!(ended.is_some(), "more messages than frames");
});

/// Reading from memory never waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("reading from memory waited"),
    }
}
