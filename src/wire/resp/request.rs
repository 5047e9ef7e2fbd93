//! Requests as they come in: multibulk and inline, split anywhere.

use std::ops::Range;

use bytes::{Buf, BufMut, BytesMut};
use smallvec::SmallVec;

use super::inline;
use crate::model::text::Text;

/// A command's name and its arguments. Longer ones share the buffer that they were read into.
pub type Request = Vec<Text>;

/// A line that says a count or a length, or an inline command, is no longer; Redis's
/// `PROTO_INLINE_MAX_SIZE`.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// An argument from this size on gets a buffer of its own; Redis's `PROTO_MBULK_BIG_ARG`.
const LARGE_BYTES: usize = 32 * 1024;

/// A request of no more arguments leaves its room to the next one: a connection that waits keeps it.
const REUSED_ARGS_MAX: usize = 32;

/// What one read brings at the most, but for the rest of a large argument.
const READ_BYTES: usize = 16 * 1024;
const LARGE_READ_BYTES: usize = 1024 * 1024;

/// What one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Name included.
    pub args_max: usize,
    /// Redis's `proto-max-bulk-len`.
    pub arg_bytes_max: usize,
    /// All of it together; Redis's `client-query-buffer-limit`.
    pub request_bytes_max: usize,
    /// A stranger's: refused with other words.
    pub unauthenticated: bool,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        args_max: 1024 * 1024,
        arg_bytes_max: 512 * 1024 * 1024,
        request_bytes_max: 1024 * 1024 * 1024,
        unauthenticated: false,
    };

    /// Of a client that still has to show its password: Redis's own.
    pub const UNAUTHENTICATED: Self =
        Self { args_max: 10, arg_bytes_max: 16 * 1024, unauthenticated: true, ..Self::DEFAULT };
}

/// Why a stream of requests can't be read on. The text is Redis's, behind `ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("Protocol error: too big mbulk count string")]
    CountTooLong,
    #[error("Protocol error: invalid multibulk length")]
    Count,
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedCount,
    #[error("Protocol error: too big bulk count string")]
    LengthTooLong,
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("Protocol error: invalid bulk length")]
    Length,
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedLength,
    /// Redis skips two bytes, whatever they are.
    #[error("Protocol error: expected a line break after a bulk")]
    ExpectedLineBreak,
    /// Redis closes without a word.
    #[error("Protocol error: too big request")]
    RequestTooLong,
}

/// Reads requests out of a stream of bytes. After an error it must not be asked again.
///
/// ```
/// use leveret::wire::resp::{Decoder, Limits};
///
/// let mut decoder = Decoder::default();
/// decoder.feed(b"*2\r\n$3\r\nGET\r\n$1\r\nk");
/// assert_eq!(decoder.next(&Limits::DEFAULT), Ok(None));
/// decoder.feed(b"\r\nPING\r\n");
/// assert_eq!(decoder.next(&Limits::DEFAULT).unwrap().unwrap(), ["GET", "k"]);
/// assert_eq!(decoder.next(&Limits::DEFAULT).unwrap().unwrap(), ["PING"]);
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was read and belongs to no finished request.
    buffer: BytesMut,
    /// Up to here `buffer` is read; behind it comes the next token.
    at: usize,
    /// From `at` to here there is no line break.
    searched: usize,
    state: State,
    /// Of the running request: the arguments that were moved out of `buffer`, and their bytes.
    moved: Request,
    moved_bytes: usize,
    /// Those that still lie in `buffer`.
    ranges: SmallVec<[Range<usize>; 8]>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// So many arguments are missing, the one whose length comes next included.
    Length { missing: usize },
    /// The next argument's bytes and a line break come next.
    Argument { missing: usize, bytes: usize },
    /// As before, but they go into a buffer of their own.
    Large { missing: usize, bytes: usize, large: BytesMut },
}

impl Decoder {
    /// Where the next read goes: room for at least a byte.
    pub fn room(&mut self) -> impl BufMut + '_ {
        match &mut self.state {
            State::Large { bytes, large, .. } => {
                let rest = (*bytes + 2).saturating_sub(large.len()).max(1);
                // Twice what is there, so that a length alone takes no memory.
                let more = rest.min(large.len().clamp(READ_BYTES, LARGE_READ_BYTES));
                large.reserve(more);
                large.limit(rest.min(LARGE_READ_BYTES))
            }
            _ => {
                self.buffer.reserve(READ_BYTES);
                (&mut self.buffer).limit(READ_BYTES)
            }
        }
    }

    /// Takes what was read.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if matches!(&self.state, State::Large { bytes, large, .. } if large.len() >= *bytes + 2)
            {
                // It is whole: what follows belongs to the next.
                self.buffer.extend_from_slice(bytes);
                return;
            }
            let mut room = self.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.remaining_mut()));
            room.put_slice(now);
            bytes = later;
        }
    }

    /// Takes the room of a request that was answered, for the next one.
    pub fn reuse(&mut self, mut request: Request) {
        if self.moved.capacity() == 0 && request.capacity() <= REUSED_ARGS_MAX {
            request.clear();
            self.moved = request;
        }
    }

    /// The bytes that it holds of requests that are not finished.
    pub fn held_bytes(&self) -> usize {
        let large = if let State::Large { large, .. } = &self.state { large.len() } else { 0 };
        self.buffer.len() + self.moved_bytes + large
    }

    /// The next request that is here as a whole; `None`: read on.
    ///
    /// # Errors
    /// [`ProtocolError`]: nothing behind it can be understood.
    pub fn next(&mut self, limits: &Limits) -> Result<Option<Request>, ProtocolError> {
        loop {
            let step = match std::mem::take(&mut self.state) {
                State::Start => self.start(limits)?,
                State::Length { missing } => self.length(missing, limits)?,
                State::Argument { missing, bytes } => self.argument(missing, bytes)?,
                State::Large { missing, bytes, large } => self.large(missing, bytes, large)?,
            };
            match step {
                Step::To(state) => self.state = state,
                Step::Done(request) => return Ok(Some(request)),
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(None);
                }
            }
        }
    }

    fn start(&mut self, limits: &Limits) -> Result<Step, ProtocolError> {
        match self.buffer.get(self.at) {
            None => Ok(Step::Wait(State::Start)),
            Some(b'*') => self.count(limits),
            Some(_) => self.inline(),
        }
    }

    fn count(&mut self, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(line) = self.line(b'\r', ProtocolError::CountTooLong)? else {
            return Ok(Step::Wait(State::Start));
        };
        let digits = self.buffer.get(line.start + 1..line.end).unwrap_or_default();
        let count = integer(digits).ok_or(ProtocolError::Count)?;
        let Ok(missing @ 1..) = usize::try_from(count) else {
            // None, or fewer: nothing was asked.
            self.forget();
            return Ok(Step::To(State::Start));
        };
        if missing > limits.args_max {
            return Err(match limits.unauthenticated && missing <= Limits::DEFAULT.args_max {
                true => ProtocolError::UnauthenticatedCount,
                false => ProtocolError::Count,
            });
        }
        Ok(Step::To(State::Length { missing }))
    }

    fn inline(&mut self) -> Result<Step, ProtocolError> {
        let Some(line) = self.line(b'\n', ProtocolError::InlineTooLong)? else {
            return Ok(Step::Wait(State::Start));
        };
        let text = self.buffer.get(line).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let words = inline::split(text).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.forget();
        Ok(if words.is_empty() { Step::To(State::Start) } else { Step::Done(words) })
    }

    /// Takes the arguments that are short and here as a whole: nearly all are. `None`: the last one was
    /// among them; else so many are missing.
    fn short_arguments(&mut self, mut missing: usize, limits: &Limits) -> Option<usize> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let (start, bytes) = match rest {
                [b'$', ones @ b'0'..=b'9', b'\r', b'\n', ..] => (4, usize::from(ones - b'0')),
                [b'$', tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
                    (5, usize::from(tens - b'0') * 10 + usize::from(ones - b'0'))
                }
                _ => return Some(missing),
            };
            let (start, end) = (self.at + start, self.at + start + bytes);
            let is_whole = self.buffer.get(end..end + 2) == Some(b"\r\n");
            let fits =
                bytes <= limits.arg_bytes_max && self.moved_bytes + end <= limits.request_bytes_max;
            if !is_whole || !fits {
                return Some(missing);
            }
            self.ranges.push(start..end);
            self.at = end + 2;
            self.searched = self.at;
            missing = missing.checked_sub(1).filter(|missing| *missing > 0)?;
        }
    }

    fn length(&mut self, missing: usize, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(missing) = self.short_arguments(missing, limits) else {
            return Ok(Step::Done(self.finish()));
        };
        let Some(line) = self.line(b'\r', ProtocolError::LengthTooLong)? else {
            return Ok(Step::Wait(State::Length { missing }));
        };
        let digits = match self.buffer.get(line.clone()) {
            Some([b'$', digits @ ..]) => digits,
            // An empty line: its own end is what was found.
            line => {
                let found = line.and_then(|line| line.first()).copied().unwrap_or(b'\r');
                return Err(ProtocolError::ExpectedBulk(found));
            }
        };
        let bytes = integer(digits).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes
            .filter(|bytes| *bytes <= Limits::DEFAULT.arg_bytes_max.max(limits.arg_bytes_max))
            .ok_or(ProtocolError::Length)?;
        if bytes > limits.arg_bytes_max {
            return Err(match limits.unauthenticated {
                true => ProtocolError::UnauthenticatedLength,
                false => ProtocolError::Length,
            });
        }
        if self.moved_bytes + self.at + bytes > limits.request_bytes_max {
            return Err(ProtocolError::RequestTooLong);
        }
        Ok(Step::To(State::Argument { missing, bytes }))
    }

    fn argument(&mut self, missing: usize, bytes: usize) -> Result<Step, ProtocolError> {
        let end = self.at + bytes;
        let Some(line_break) = self.buffer.get(end..end + 2) else {
            if bytes < LARGE_BYTES {
                return Ok(Step::Wait(State::Argument { missing, bytes }));
            }
            let large = self.move_out();
            return Ok(Step::Wait(State::Large { missing, bytes, large }));
        };
        if line_break != b"\r\n" {
            return Err(ProtocolError::ExpectedLineBreak);
        }
        self.ranges.push(self.at..end);
        self.at = end + 2;
        self.searched = self.at;
        Ok(match missing {
            1 => Step::Done(self.finish()),
            _ => Step::To(State::Length { missing: missing - 1 }),
        })
    }

    fn large(
        &mut self,
        missing: usize,
        bytes: usize,
        mut large: BytesMut,
    ) -> Result<Step, ProtocolError> {
        if large.len() < bytes + 2 {
            return Ok(Step::Wait(State::Large { missing, bytes, large }));
        }
        if large.get(bytes..) != Some(b"\r\n") {
            return Err(ProtocolError::ExpectedLineBreak);
        }
        large.truncate(bytes);
        self.moved.push(large.freeze().into());
        self.moved_bytes += bytes;
        Ok(match missing {
            1 => Step::Done(self.finish()),
            _ => Step::To(State::Length { missing: missing - 1 }),
        })
    }

    /// The running request's arguments leave the buffer; what is behind them, the start of a large
    /// one, is handed out.
    fn move_out(&mut self) -> BytesMut {
        let front = self.buffer.split_to(self.at).freeze();
        self.moved_bytes += front.len();
        self.moved.extend(self.ranges.drain(..).map(|range| Text::slice_of(&front, range)));
        (self.at, self.searched) = (0, 0);
        // Its own allocation, as small as what is there of it.
        let large = BytesMut::from(&self.buffer[..]);
        self.buffer.clear();
        large
    }

    fn finish(&mut self) -> Request {
        let mut request = std::mem::take(&mut self.moved);
        request.reserve_exact(self.ranges.len());
        if self.ranges.iter().all(|range| range.len() <= Text::SHORT_BYTES_MAX) {
            let short = |range| Text::copy_from_slice(self.buffer.get(range).unwrap_or_default());
            request.extend(self.ranges.drain(..).map(short));
            self.buffer.advance(self.at);
        } else {
            let front = self.buffer.split_to(self.at).freeze();
            request.extend(self.ranges.drain(..).map(|range| Text::slice_of(&front, range)));
        }
        (self.at, self.searched, self.moved_bytes) = (0, 0, 0);
        request
    }

    /// What was read asked nothing.
    fn forget(&mut self) {
        self.buffer.advance(self.at);
        (self.at, self.searched) = (0, 0);
    }

    /// The line at `at`, without what ends it; `at` moves behind that. A line that ends with a
    /// carriage return has one more byte.
    fn line(
        &mut self,
        end: u8,
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let end_bytes = if end == b'\r' { 2 } else { 1 };
        let found = self.buffer.get(self.searched..).and_then(|rest| memchr::memchr(end, rest));
        let Some(found) = found.map(|found| self.searched + found) else {
            self.searched = self.buffer.len();
            return if self.searched - self.at > LINE_BYTES_MAX { Err(too_long) } else { Ok(None) };
        };
        if found + end_bytes > self.buffer.len() {
            self.searched = found;
            return Ok(None);
        }
        let line = self.at..found;
        self.at = found + end_bytes;
        self.searched = self.at;
        Ok(Some(line))
    }
}

enum Step {
    To(State),
    Done(Request),
    Wait(State),
}

/// A decimal integer as Redis's `string2ll` takes it: no plus, no blank, no leading zero, no `-0`.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(if negative { -value } else { value })
}
