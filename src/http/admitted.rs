//! The stream of an accepted connection, and its end.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

/// How long a closed connection waits for its peer to end as well.
const LINGER_MAX: Duration = Duration::from_millis(500);

/// Counts as a connection for as long as it lives, also after an upgrade took it over.
pub(super) struct Admitted {
    stream: TcpStream,
    /// Set by the first call for a shutdown: when to stop waiting for the peer's.
    linger: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Admitted {
    pub(super) fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, linger: None, _permit: permit }
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends our direction, then reads and forgets what the peer still sends, until it ends its own or
    /// [`LINGER_MAX`] is over. A socket that is closed over unread bytes is reset, and a reset takes the
    /// last answer from the peer: a body that is refused unread would never learn why (RFC 9112, 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        let Self { stream, linger, .. } = &mut *self;
        let linger = linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_MAX)));
        let mut forgotten = [MaybeUninit::uninit(); 8 * 1024];
        while linger.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut forgotten);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The peer ended as well, or is gone.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
