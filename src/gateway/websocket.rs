//! WebSocket (RFC 6455), the server's side, over any stream: the handshake, a reader of messages, and
//! a writer of frames that were made once and are shared.
//!
//! The only module that names fastwebsockets. That parses and unmasks frames; the rules of the
//! protocol that it leaves to its caller are kept here. Not enforced, because it does not show them:
//! that a client writes a length in as few bytes as possible.

mod echo;
mod frame;
mod handshake;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as ready_or_return};

use bytes::{Bytes, BytesMut};
use fastwebsockets::{OpCode, Payload, Role, WebSocketRead, after_handshake_split};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

pub use echo::echo;
pub use frame::{AtOnce, Frame, Writer};
pub use handshake::{UpgradeError, VERSION, accept};

/// The most bytes of a control frame's payload (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What is read before a parser is made: a whole frame, when it is a short one, as most of a client's are.
/// With the rest of a source it fills 160 bytes, a size in which allocators give memory.
const AHEAD_BYTES: usize = 112;
const _: () = assert!(AHEAD_BYTES <= u8::MAX as usize);

/// Bounds on what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one message, all its fragments together.
    pub message_bytes_max: usize,
}

/// What a client sent: a whole message, or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// The client closes. Nothing is to be read after it.
    Close {
        code: Option<u16>,
        reason: String,
    },
}

impl Incoming {
    /// What has to be sent in answer to a control frame: the pong of a ping (RFC 6455 section 5.5.3), and
    /// the close frame of a close, with the same code (section 5.5.1).
    pub fn answer(&self) -> Option<Frame> {
        match self {
            Self::Ping(payload) => Some(Frame::pong(payload)),
            Self::Close { code, .. } => Some(Frame::close(*code, "")),
            Self::Text(_) | Self::Binary(_) | Self::Pong(_) => None,
        }
    }
}

/// Why reading ended. Nothing is to be read after it.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    #[error("connection ended without a close frame")]
    Eof,
    #[error("connection failed")]
    Io(#[source] io::Error),
    #[error("frame is not masked")]
    Unmasked,
    #[error("reserved bits are set, and no extension was agreed on")]
    ReservedBits,
    #[error("unknown opcode")]
    Opcode,
    #[error("control frame is fragmented")]
    ControlFragmented,
    #[error("control frame has more than {CONTROL_BYTES_MAX} bytes")]
    ControlTooLarge,
    #[error("new message inside a fragmented one")]
    Interleaved,
    #[error("continuation of no message")]
    Continuation,
    #[error("close frame with an invalid code")]
    CloseCode,
    #[error("text is not UTF-8")]
    Utf8,
    #[error("message has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

impl WebSocketError {
    /// The code of the close frame to answer with (RFC 6455 section 7.4.1); None when no answer can
    /// reach the client.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Eof | Self::Io(_) => None,
            Self::Unmasked
            | Self::ReservedBits
            | Self::Opcode
            | Self::ControlFragmented
            | Self::ControlTooLarge
            | Self::Interleaved
            | Self::Continuation
            | Self::CloseCode => Some(1002),
            Self::Utf8 => Some(1007),
            Self::TooLarge { .. } => Some(1009),
        }
    }

    /// The close frame of that code, with this error as its reason.
    pub fn close_frame(&self) -> Option<Frame> {
        self.close_code().map(|code| Frame::close(Some(code), &self.to_string()))
    }
}

/// Splits a stream on which the handshake is done.
pub fn split<IO>(io: IO, limits: Limits) -> (Reader<ReadHalf<IO>>, Writer<WriteHalf<IO>>)
where
    IO: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(io);
    (Reader::new(read, limits), Writer::new(write))
}

/// Reads messages.
///
/// The parser keeps a buffer of 8 KiB, and after a large message one of its size. So it lives only from
/// the first byte of a frame to the moment when all that was read is used up: an idle connection holds
/// 112 bytes. What is only there while a frame is read is boxed, as idle connections are many.
#[derive(Debug)]
pub struct Reader<R> {
    source: Arc<Mutex<Source<R>>>,
    parser: Option<Box<Parser<R>>>,
    /// The message whose first fragments are here.
    partial: Option<Box<Partial>>,
    limits: Limits,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(io: R, limits: Limits) -> Self {
        let source = Source { io, ahead: [0; AHEAD_BYTES], handed: 0, start: 0, end: 0 };
        Self { source: Arc::new(Mutex::new(source)), parser: None, partial: None, limits }
    }

    /// The next message or control frame; control frames may come between the fragments of a message.
    ///
    /// Not cancel safe: a frame that was begun is lost. Give it a task of its own.
    ///
    /// # Errors
    /// A [`WebSocketError`], with the code to close with.
    pub async fn next(&mut self) -> Result<Incoming, WebSocketError> {
        loop {
            if self.parser.is_none() {
                if poll_fn(|cx| self.source.lock().poll_fill(cx)).await? == 0 {
                    return Err(WebSocketError::Eof);
                }
                self.parser = Some(Box::new(Parser::new(&self.source)));
            }
            let frame = Box::pin(self.frame()).await?;
            let message = match frame.opcode {
                OpCode::Close | OpCode::Ping | OpCode::Pong => return control(frame),
                OpCode::Text | OpCode::Binary => self.begin(frame)?,
                OpCode::Continuation => self.go_on(frame)?,
            };
            if let Some(message) = message {
                return Ok(message);
            }
        }
    }

    async fn frame(&mut self) -> Result<RawFrame, WebSocketError> {
        let bytes_max = self.limits.message_bytes_max;
        let Some(parser) = &mut self.parser else { return Err(WebSocketError::Eof) };
        let partial_bytes = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        let frame_bytes_max = (bytes_max.saturating_sub(partial_bytes)).max(CONTROL_BYTES_MAX);
        let frame =
            parser.read(frame_bytes_max).await.map_err(|error| checked(error, bytes_max))?;
        if self.source.lock().is_used_up(parser.parsed) {
            self.parser = None;
        }
        if !frame.masked {
            return Err(WebSocketError::Unmasked);
        }
        Ok(frame)
    }

    fn begin(&mut self, frame: RawFrame) -> Result<Option<Incoming>, WebSocketError> {
        if self.partial.is_some() {
            return Err(WebSocketError::Interleaved);
        }
        let is_text = frame.opcode == OpCode::Text;
        self.add(Partial { is_text, bytes: Vec::new(), valid_utf8: 0 }, frame)
    }

    fn go_on(&mut self, frame: RawFrame) -> Result<Option<Incoming>, WebSocketError> {
        let partial = self.partial.take().ok_or(WebSocketError::Continuation)?;
        self.add(*partial, frame)
    }

    fn add(
        &mut self,
        mut partial: Partial,
        frame: RawFrame,
    ) -> Result<Option<Incoming>, WebSocketError> {
        let bytes_max = self.limits.message_bytes_max;
        if partial.bytes.len() + frame.payload.len() > bytes_max {
            return Err(WebSocketError::TooLarge { bytes_max });
        }
        // Copied, so that a short message does not hold the parser's buffer.
        partial.bytes.extend_from_slice(&frame.payload);
        if frame.fin {
            return partial.finish().map(Some);
        }
        partial.check_utf8()?;
        self.partial = Some(Box::new(partial));
        Ok(None)
    }
}

/// The fragments of a message so far.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be UTF-8.
    valid_utf8: usize,
}

impl Partial {
    /// Refuses text as soon as it can't become UTF-8 any more; a character may be split over fragments.
    fn check_utf8(&mut self) -> Result<(), WebSocketError> {
        if !self.is_text {
            return Ok(());
        }
        let unchecked = self.bytes.get(self.valid_utf8..).unwrap_or_default();
        match std::str::from_utf8(unchecked) {
            Ok(text) => self.valid_utf8 += text.len(),
            Err(error) if error.error_len().is_none() => self.valid_utf8 += error.valid_up_to(),
            Err(_) => return Err(WebSocketError::Utf8),
        }
        Ok(())
    }

    fn finish(self) -> Result<Incoming, WebSocketError> {
        if self.is_text {
            String::from_utf8(self.bytes).map(Incoming::Text).map_err(|_| WebSocketError::Utf8)
        } else {
            Ok(Incoming::Binary(Bytes::from(self.bytes)))
        }
    }
}

fn control(frame: RawFrame) -> Result<Incoming, WebSocketError> {
    let payload = frame.payload;
    if payload.len() > CONTROL_BYTES_MAX {
        return Err(WebSocketError::ControlTooLarge);
    }
    match frame.opcode {
        OpCode::Ping => Ok(Incoming::Ping(Bytes::copy_from_slice(&payload))),
        OpCode::Pong => Ok(Incoming::Pong(Bytes::copy_from_slice(&payload))),
        _ => close(&payload),
    }
}

/// RFC 6455 section 5.5.1: nothing, or a code and a reason.
fn close(payload: &[u8]) -> Result<Incoming, WebSocketError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Incoming::Close { code: None, reason: String::new() }),
            _ => Err(WebSocketError::CloseCode),
        };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 to 1006 and 1015 never travel; the rest below 3000 is reserved (section 7.4).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WebSocketError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::Utf8)?.to_owned();
    Ok(Incoming::Close { code: Some(code), reason })
}

/// One frame as it came, unmasked.
struct RawFrame {
    opcode: OpCode,
    fin: bool,
    masked: bool,
    payload: BytesMut,
}

/// fastwebsockets' reader, and how far it has got.
struct Parser<R> {
    frames: WebSocketRead<Shared<R>>,
    /// The bytes of the whole frames that it gave, at least: a length that a client wrote longer than
    /// needed makes it too small, and then the parser lives on.
    parsed: usize,
}

impl<R> std::fmt::Debug for Parser<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").field("parsed", &self.parsed).finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin> Parser<R> {
    fn new(source: &Arc<Mutex<Source<R>>>) -> Self {
        source.lock().handed = 0;
        let shared = Shared(Arc::clone(source));
        let (mut frames, _) = after_handshake_split(shared, tokio::io::sink(), Role::Server);
        // Answering is the writer's: what this reader would send could cut into another frame.
        frames.set_auto_close(false);
        frames.set_auto_pong(false);
        Self { frames, parsed: 0 }
    }

    async fn read(
        &mut self,
        frame_bytes_max: usize,
    ) -> Result<RawFrame, fastwebsockets::WebSocketError> {
        // It refuses a frame of this size already.
        self.frames.set_max_message_size(frame_bytes_max.saturating_add(1));
        let mut send_nothing = |_| ready(Ok::<(), Infallible>(()));
        let mut frame = self.frames.read_frame(&mut send_nothing).await?;
        // The mask is private; the head that would be written for this frame tells it.
        let mut head = [0; 16];
        let head_bytes = frame.fmt_head(&mut head);
        self.parsed += head_bytes + frame.payload.len();
        Ok(RawFrame {
            opcode: frame.opcode,
            fin: frame.fin,
            masked: head[1] & 0x80 != 0,
            payload: match frame.payload {
                Payload::Bytes(payload) => payload,
                other => BytesMut::from(&*other),
            },
        })
    }
}

fn checked(error: fastwebsockets::WebSocketError, bytes_max: usize) -> WebSocketError {
    use fastwebsockets::WebSocketError as Theirs;
    match error {
        Theirs::UnexpectedEOF => WebSocketError::Eof,
        Theirs::IoError(error) => WebSocketError::Io(error),
        Theirs::ReservedBitsNotZero => WebSocketError::ReservedBits,
        Theirs::InvalidValue => WebSocketError::Opcode,
        Theirs::ControlFrameFragmented => WebSocketError::ControlFragmented,
        Theirs::PingFrameTooLarge => WebSocketError::ControlTooLarge,
        Theirs::FrameTooLarge => WebSocketError::TooLarge { bytes_max },
        Theirs::InvalidUTF8 => WebSocketError::Utf8,
        // None of the others is made by reading frames with automatic answers off.
        other => WebSocketError::Io(io::Error::other(other)),
    }
}

/// The stream, with the bytes read before there was a parser for them.
#[derive(Debug)]
struct Source<R> {
    io: R,
    ahead: [u8; AHEAD_BYTES],
    /// Bytes that the present parser was handed.
    handed: usize,
    /// What of `ahead` was read and not handed over.
    start: u8,
    end: u8,
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Reads what there is, up to [`AHEAD_BYTES`]; 0 at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WebSocketError>> {
        let mut buffer = ReadBuf::new(&mut self.ahead);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        ready_or_return!(read).map_err(WebSocketError::Io)?;
        let filled = buffer.filled().len();
        (self.start, self.end) = (0, filled as u8);
        Poll::Ready(Ok(filled))
    }

    fn poll_hand(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        if self.start < self.end {
            let (start, end) = (usize::from(self.start), usize::from(self.end));
            let bytes = out.remaining().min(end - start);
            out.put_slice(&self.ahead[start..start + bytes]);
            self.start += bytes as u8;
        } else {
            ready_or_return!(Pin::new(&mut self.io).poll_read(cx, out))?;
        }
        self.handed += out.filled().len() - before;
        Poll::Ready(Ok(()))
    }

    fn is_used_up(&self, parsed: usize) -> bool {
        self.start == self.end && self.handed == parsed
    }
}

/// The parser's access to the stream. Both are driven by the one task that calls [`Reader::next`], so
/// the lock is never waited for.
struct Shared<R>(Arc<Mutex<Source<R>>>);

impl<R: AsyncRead + Unpin> AsyncRead for Shared<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_hand(cx, out)
    }
}
