//! Frames that the server sends: made once, shared by all who get them, written many at a time.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::CONTROL_BYTES_MAX;

/// How many frames go into one vectored write.
const SLICES_MAX: usize = 64;

/// How many bytes are put together for a stream without vectored writes, such as TLS.
const COALESCED_BYTES_MAX: usize = 16 * 1024;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// One whole message or control frame, with its head, or several in a row. A clone shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// `text` must be UTF-8, or the client closes the connection.
    pub fn text(text: &[u8]) -> Self {
        Self::new(TEXT, text)
    }

    pub fn binary(bytes: &[u8]) -> Self {
        Self::new(BINARY, bytes)
    }

    /// A payload is cut at 125 bytes, which a pong to a ping that was read never needs.
    pub fn ping(payload: &[u8]) -> Self {
        Self::control(PING, payload)
    }

    /// As [`Frame::ping`].
    pub fn pong(payload: &[u8]) -> Self {
        Self::control(PONG, payload)
    }

    /// A reason is cut, between characters, at 123 bytes; without a code there is none.
    pub fn close(code: Option<u16>, reason: &str) -> Self {
        let Some(code) = code else { return Self::control(CLOSE, &[]) };
        let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
        let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        Self::control(CLOSE, &payload)
    }

    fn control(opcode: u8, payload: &[u8]) -> Self {
        Self::new(opcode, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
    }

    /// RFC 6455 section 5.2; a server's frames have no mask.
    fn new(opcode: u8, payload: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(10 + payload.len());
        bytes.put_u8(FIN | opcode);
        match payload.len() {
            short @ 0..=125 => bytes.put_u8(short as u8),
            medium @ 126..=0xFFFF => {
                bytes.put_u8(126);
                bytes.put_u16(medium as u16);
            }
            long => {
                bytes.put_u8(127);
                bytes.put_u64(long as u64);
            }
        }
        bytes.put_slice(payload);
        Self(bytes.freeze())
    }

    /// Frames in a row as one, which is shared, queued and written as one.
    pub fn joined(frames: &[Frame]) -> Self {
        if let [frame] = frames {
            return frame.clone();
        }
        let mut bytes = BytesMut::with_capacity(frames.iter().map(Frame::wire_bytes).sum());
        frames.iter().for_each(|frame| bytes.put_slice(&frame.0));
        Self(bytes.freeze())
    }

    /// The first of the frames in a row, and the others if there are any. They share the bytes.
    pub fn split_first(&self) -> (Frame, Option<Frame>) {
        let (head, payload) = self.first_lengths();
        let end = (head + payload).min(self.0.len());
        let others = (end < self.0.len()).then(|| Self(self.0.slice(end..)));
        (Self(self.0.slice(..end)), others)
    }

    /// The message of the first frame, without the head; it shares the frame's bytes.
    pub fn payload(&self) -> Bytes {
        let (head, payload) = self.first_lengths();
        let end = (head + payload).min(self.0.len());
        self.0.slice(head.min(end)..end)
    }

    /// Bytes of the first frame's head, and of its payload.
    fn first_lengths(&self) -> (usize, usize) {
        let length = |bytes: &[u8]| {
            bytes.iter().fold(0, |length: usize, byte| (length << 8) | usize::from(*byte))
        };
        match self.0.get(1) {
            Some(127) => (10, self.0.get(2..10).map_or(0, length)),
            Some(126) => (4, self.0.get(2..4).map_or(0, length)),
            Some(short) => (2, usize::from(*short)),
            None => (0, 0),
        }
    }

    pub fn is_binary(&self) -> bool {
        self.0.first() == Some(&(FIN | BINARY))
    }

    #[cfg(test)]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Bytes on the wire, the heads counted.
    pub fn wire_bytes(&self) -> usize {
        self.0.len()
    }
}

/// How much of some frames was written without waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum AtOnce {
    All,
    /// So many bytes. The rest is to be written, at least one frame: a cut one, or an empty one that has
    /// the stream flushed.
    Part {
        bytes: usize,
        rest: SmallVec<[Frame; 1]>,
    },
}

impl AtOnce {
    fn part(bytes: usize, left: &[Frame], written: usize) -> Self {
        let mut rest: SmallVec<[Frame; 1]> = left.into();
        if let Some(first) = rest.first_mut() {
            first.0.advance(written.min(first.wire_bytes()));
        }
        Self::Part { bytes, rest }
    }
}

/// The frames that are left when so many bytes are written, and how many of these are the first one's.
fn behind(mut frames: &[Frame], mut written: usize) -> (&[Frame], usize) {
    while let [first, rest @ ..] = frames
        && written >= first.0.len()
    {
        written -= first.0.len();
        frames = rest;
    }
    (frames, written)
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub fn new(io: W) -> Self {
        Self { io }
    }

    /// Writes all the frames in order, in as few writes as the stream takes, and flushes.
    ///
    /// Not cancel safe: a frame may be left half written, and then nothing may be written after it.
    ///
    /// # Errors
    /// The stream's; the connection is of no more use.
    pub async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        match frames {
            // The kernel takes a plain write for less than a vectored one.
            [Frame(frame)] => self.io.write_all(frame).await?,
            _ if self.io.is_write_vectored() => self.write_vectored(frames).await?,
            _ => self.write_coalesced(frames).await?,
        }
        self.io.flush().await
    }

    async fn write_vectored(&mut self, frames: &[Frame]) -> io::Result<()> {
        let (mut left, mut of_first) = behind(frames, 0);
        while !left.is_empty() {
            let bytes = poll_fn(|cx| self.poll_write(cx, left, of_first)).await?;
            (left, of_first) = behind(left, of_first + bytes);
        }
        Ok(())
    }

    /// Writes some of the frames, of the first of which so many bytes are written, and not all. Never none.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        frames: &[Frame],
        written: usize,
    ) -> Poll<io::Result<usize>> {
        let Some((first, others)) = frames.split_first() else { return Poll::Ready(Ok(0)) };
        let first = first.0.get(written..).unwrap_or_default();
        let bytes = if others.is_empty() {
            // The kernel takes a plain write for less than a vectored one.
            ready!(Pin::new(&mut self.io).poll_write(cx, first))?
        } else {
            // On the stack only while polled, so a waiting writer stays small.
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, frame) in slices.iter_mut().zip(frames) {
                *slice = IoSlice::new(&frame.0);
            }
            slices[0] = IoSlice::new(first);
            let slices = &slices[..frames.len().min(SLICES_MAX)];
            ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?
        };
        Poll::Ready(if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) })
    }

    /// Writes as much as the stream takes without waiting. Several frames are left to [`Self::write`]
    /// where the stream takes them one by one.
    ///
    /// # Errors
    /// The stream's; the connection is of no more use.
    pub fn try_write(&mut self, frames: &[Frame]) -> io::Result<AtOnce> {
        if frames.len() > 1 && !self.io.is_write_vectored() {
            return Ok(AtOnce::part(0, frames, 0));
        }
        let (mut left, mut of_first) = behind(frames, 0);
        let mut written = 0;
        // Nobody is woken by the stream: who writes the rest asks it again.
        let mut cx = Context::from_waker(Waker::noop());
        while !left.is_empty() {
            match self.poll_write(&mut cx, left, of_first) {
                Poll::Ready(bytes) => {
                    let bytes = bytes?;
                    written += bytes;
                    (left, of_first) = behind(left, of_first + bytes);
                }
                Poll::Pending => return Ok(AtOnce::part(written, left, of_first)),
            }
        }
        match Pin::new(&mut self.io).poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed.map(|()| AtOnce::All),
            Poll::Pending => Ok(AtOnce::part(written, &[Frame(Bytes::new())], 0)),
        }
    }

    async fn write_coalesced(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut together = Vec::new();
        for Frame(frame) in frames {
            if !together.is_empty() && together.len() + frame.len() > COALESCED_BYTES_MAX {
                self.io.write_all(&together).await?;
                together.clear();
            }
            together.extend_from_slice(frame);
        }
        self.io.write_all(&together).await
    }

    /// Ends the stream: nothing is written after it.
    ///
    /// # Errors
    /// The stream's.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}
