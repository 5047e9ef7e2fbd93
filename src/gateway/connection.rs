//! A TCP connection, its end, and its two halves after a WebSocket has taken it over.
//!
//! hyper gives an upgraded connection back as a stream behind a pointer, whose halves share a lock. Where the
//! server below accepted a [`Connection`], the halves are the TCP stream's own: a broadcast is little else than
//! their writes.

#[cfg(test)]
pub mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

/// How long a closed connection waits for its peer to end as well.
const LINGER_MAX: Duration = Duration::from_millis(500);

/// An accepted TCP connection. It counts for as long as it lives, also after an upgrade took it over.
pub struct Connection {
    stream: TcpStream,
    linger: Linger,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    pub fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, linger: Linger::default(), permit }
    }

    fn into_split(self, ahead: Bytes) -> (ReadHalf, WriteHalf) {
        let (read, write) = self.stream.into_split();
        let permit = Arc::new(self.permit);
        let ahead = (!ahead.is_empty()).then(|| Box::new(ahead));
        let read = TcpRead { stream: read, ahead, _permit: Arc::clone(&permit) };
        let write = TcpWrite { stream: write, linger: self.linger, _permit: permit };
        (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.linger.has_begun() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        let Self { stream, linger, .. } = &mut *self;
        linger.poll(stream, context).map(Ok)
    }
}

/// What follows the end of our direction: what the peer still sends is read and forgotten, until it ends its
/// own or [`LINGER_MAX`] is over. A socket that is closed over unread bytes is reset, and a reset takes the
/// last answer from the peer: a body that is refused unread would never learn why (RFC 9112, 9.6).
#[derive(Default)]
struct Linger(Option<Pin<Box<Sleep>>>);

impl Linger {
    fn has_begun(&self) -> bool {
        self.0.is_some()
    }

    fn poll(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let over = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_MAX)));
        let mut forgotten = [0; 8 * 1024];
        while over.as_mut().poll(context).is_pending() {
            let is_ready = ready!(stream.poll_read_ready(context));
            match is_ready.and_then(|()| stream.try_read(&mut forgotten)) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer ended as well, or is gone.
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

/// The halves of a connection that an upgrade took over, whatever server accepted it.
pub fn split(upgraded: Upgraded) -> (ReadHalf, WriteHalf) {
    match upgraded.downcast::<TokioIo<Connection>>() {
        Ok(parts) => parts.io.into_inner().into_split(parts.read_buf),
        Err(upgraded) => {
            let (read, write) = tokio::io::split(TokioIo::new(upgraded));
            (ReadHalf::Other(read), WriteHalf::Other(write))
        }
    }
}

pub enum ReadHalf {
    Tcp(TcpRead),
    Other(tokio::io::ReadHalf<TokioIo<Upgraded>>),
}

pub struct TcpRead {
    stream: OwnedReadHalf,
    /// What was read with the request's head.
    ahead: Option<Box<Bytes>>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl AsyncRead for TcpRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(ahead) = &mut self.ahead else {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        };
        let bytes = ahead.len().min(buffer.remaining());
        buffer.put_slice(&ahead.split_to(bytes));
        if ahead.is_empty() {
            self.ahead = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(context, buffer),
            Self::Other(half) => Pin::new(half).poll_read(context, buffer),
        }
    }
}

pub enum WriteHalf {
    Tcp(TcpWrite),
    Other(tokio::io::WriteHalf<TokioIo<Upgraded>>),
}

pub struct TcpWrite {
    stream: OwnedWriteHalf,
    linger: Linger,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl TcpWrite {
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.linger.has_begun() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        self.linger.poll(self.stream.as_ref(), context).map(Ok)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(&mut half.stream).poll_write(context, bytes),
            Self::Other(half) => Pin::new(half).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(&mut half.stream).poll_write_vectored(context, slices),
            Self::Other(half) => Pin::new(half).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(half) => half.stream.is_write_vectored(),
            Self::Other(half) => half.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(&mut half.stream).poll_flush(context),
            Self::Other(half) => Pin::new(half).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => half.poll_shutdown(context),
            Self::Other(half) => Pin::new(half).poll_shutdown(context),
        }
    }
}
